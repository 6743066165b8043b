//! Our metrics under the names of other servers, for dashboards and autoscalers that know those. They are
//! made of the text of our own when that is asked for, so that nothing is counted twice.
//!
//! Their counters have no `_total`, which OpenMetrics wants of every counter: they are exposed without a
//! type.

use std::collections::HashMap;
use std::fmt::{self, Write};

use api::Operation;

use super::exposition::without_exemplar;

/// Whose names are there beside ours.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Synonyms {
    /// Those of text-embeddings-inference.
    pub tei: bool,
    /// Those of Triton.
    pub triton: bool,
}

/// A metric of another server, made of one of ours.
#[derive(Debug, Clone, Copy)]
struct Synonym {
    name: &'static str,
    help: &'static str,
    kind: Kind,
    /// Our sample; of a histogram without the suffix.
    of: &'static str,
    /// Labels that are kept, by our name and theirs: samples that differ in others are added up.
    labels: &'static [(&'static str, &'static str)],
    /// Tasks of the calls that are taken; all that are some model's if there are none here.
    tasks: &'static [&'static str],
    end: End,
    /// How many of their units are one of ours.
    scale: f64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Counter,
    Gauge,
    Histogram,
}

/// How a call ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Any,
    Answered,
    Failed,
}

/// What is asked of a server besides what its models do.
const NO_TASKS: &[&str] = &["other", "unknown"];
const EMBEDDING: &[&str] = &[Operation::Embed.as_str(), Operation::Similarity.as_str()];
const PREDICTION: &[&str] = &[Operation::Classify.as_str(), Operation::Sentiment.as_str()];
const MODEL: &[(&str, &str)] = &[("model", "model")];
const GPU: &[(&str, &str)] = &[("uuid", "gpu_uuid")];
const MICROSECONDS: f64 = 1e6;

impl Synonym {
    const fn of(kind: Kind, name: &'static str, of: &'static str, help: &'static str) -> Self {
        Self { name, help, kind, of, labels: MODEL, tasks: &[], end: End::Any, scale: 1.0 }
    }

    const fn counter(name: &'static str, of: &'static str, help: &'static str) -> Self {
        Self::of(Kind::Counter, name, of, help)
    }

    const fn gauge(name: &'static str, of: &'static str, help: &'static str) -> Self {
        Self::of(Kind::Gauge, name, of, help)
    }

    const fn histogram(name: &'static str, of: &'static str, help: &'static str) -> Self {
        Self::of(Kind::Histogram, name, of, help)
    }

    const fn of_tasks(self, tasks: &'static [&'static str]) -> Self {
        Self { tasks, ..self }
    }

    const fn that_ended(self, end: End) -> Self {
        Self { end, ..self }
    }

    const fn by(self, labels: &'static [(&'static str, &'static str)]) -> Self {
        Self { labels, ..self }
    }

    const fn in_units(self, scale: f64) -> Self {
        Self { scale, ..self }
    }

    fn takes(&self, sample: &Sample<'_>) -> bool {
        let (task, code) = (sample.label("task"), sample.label("code"));
        let is_its_task =
            if self.tasks.is_empty() { !NO_TASKS.contains(&task) } else { self.tasks.contains(&task) };
        let has_its_end = match self.end {
            End::Any => true,
            End::Answered => code == "ok",
            End::Failed => code != "ok",
        };
        is_its_task && has_its_end
    }
}

const CALLS: &str = "ml_inference_calls_total";
const DURATION: &str = "ml_inference_call_duration_seconds";

/// text-embeddings-inference's, each with the model, of which its server has one.
const TEI: &[Synonym] = &[
    Synonym::counter("te_request_count", CALLS, "Calls"),
    Synonym::counter("te_request_success", CALLS, "Calls that were answered").that_ended(End::Answered),
    Synonym::counter("te_request_failure", CALLS, "Calls that were not, by error code")
        .that_ended(End::Failed)
        .by(&[("model", "model"), ("code", "err")]),
    Synonym::histogram("te_request_duration", DURATION, "Seconds from a call's arrival to its answer"),
    Synonym::histogram(
        "te_request_tokenization_duration",
        "ml_inference_tokenization_duration_seconds",
        "Seconds to make tokens of a call's texts",
    ),
    Synonym::histogram(
        "te_request_queue_duration",
        "ml_inference_queue_delay_seconds",
        "Seconds that a sequence waited for its batch",
    ),
    Synonym::histogram(
        "te_request_inference_duration",
        "ml_inference_batch_duration_seconds",
        "Seconds that a batch took",
    ),
    Synonym::counter("te_embed_count", CALLS, "Calls for vectors").of_tasks(EMBEDDING),
    Synonym::counter("te_embed_success", CALLS, "Calls for vectors that were answered")
        .of_tasks(EMBEDDING)
        .that_ended(End::Answered),
    Synonym::histogram("te_embed_duration", DURATION, "Seconds of calls for vectors").of_tasks(EMBEDDING),
    Synonym::counter("te_predict_count", CALLS, "Calls for classes").of_tasks(PREDICTION),
    Synonym::counter("te_predict_success", CALLS, "Calls for classes that were answered")
        .of_tasks(PREDICTION)
        .that_ended(End::Answered),
    Synonym::histogram("te_predict_duration", DURATION, "Seconds of calls for classes").of_tasks(PREDICTION),
    Synonym::gauge("te_queue_size", "ml_inference_queue_sequences", "Sequences that wait"),
    Synonym::histogram("te_batch_next_size", "ml_inference_batch_sequences", "Sequences of a batch"),
    Synonym::histogram("te_batch_next_tokens", "ml_inference_batch_tokens", "Tokens of a batch"),
];

/// Triton's.
const TRITON: &[Synonym] = &[
    Synonym::counter("nv_inference_request_success", CALLS, "Calls that were answered")
        .that_ended(End::Answered),
    Synonym::counter("nv_inference_request_failure", CALLS, "Calls that were not, by error code")
        .that_ended(End::Failed)
        .by(&[("model", "model"), ("code", "reason")]),
    Synonym::counter("nv_inference_count", "ml_inference_batch_sequences_sum", "Sequences computed"),
    Synonym::counter("nv_inference_exec_count", "ml_inference_batch_sequences_count", "Batches computed"),
    Synonym::gauge(
        "nv_inference_pending_request_count",
        "ml_inference_queue_sequences",
        "Sequences that wait",
    ),
    Synonym::counter(
        "nv_inference_request_duration_us",
        "ml_inference_call_duration_seconds_sum",
        "Microseconds from calls' arrival to their answers",
    )
    .in_units(MICROSECONDS),
    Synonym::counter(
        "nv_inference_queue_duration_us",
        "ml_inference_queue_delay_seconds_sum",
        "Microseconds that sequences waited",
    )
    .in_units(MICROSECONDS),
    Synonym::counter(
        "nv_inference_compute_input_duration_us",
        "ml_inference_tokenization_duration_seconds_sum",
        "Microseconds to make tokens of texts",
    )
    .in_units(MICROSECONDS),
    Synonym::counter(
        "nv_inference_compute_infer_duration_us",
        "ml_inference_batch_duration_seconds_sum",
        "Microseconds that batches took",
    )
    .in_units(MICROSECONDS),
    Synonym::counter(
        "nv_inference_compute_output_duration_us",
        "ml_inference_decoding_duration_seconds_sum",
        "Microseconds to make answers of tensors",
    )
    .in_units(MICROSECONDS),
    Synonym::gauge("nv_gpu_utilization", "ml_inference_gpu_utilization_ratios", "Share of time, from 0 to 1")
        .by(GPU),
    Synonym::gauge("nv_gpu_memory_used_bytes", "ml_inference_gpu_memory_used_bytes", "Memory in use").by(GPU),
    Synonym::gauge("nv_gpu_memory_total_bytes", "ml_inference_gpu_memory_bytes", "Memory installed").by(GPU),
    Synonym::gauge("nv_gpu_power_usage", "ml_inference_gpu_power_watts", "Watts drawn").by(GPU),
];

impl Synonyms {
    /// Writes them behind our own metrics, `text`, which are in OpenMetrics text.
    ///
    /// # Errors
    /// Only if writing to a string fails.
    pub(super) fn write(self, text: &mut String) -> fmt::Result {
        let tables = [(self.tei, TEI), (self.triton, TRITON)];
        let wanted = || tables.iter().filter(|(is_on, _)| *is_on).flat_map(|(_, table)| *table);
        let mut families: Vec<Family> = wanted().map(|synonym| Family::new(*synonym)).collect();
        if families.is_empty() {
            return Ok(());
        }
        let samples = text.lines().filter(|line| !line.starts_with('#')).filter_map(Sample::parse);
        for sample in samples {
            families.iter_mut().for_each(|family| family.take(&sample));
        }
        families.iter().try_for_each(|family| family.write(text))
    }
}

/// A line of the text. Values of labels are as they stand there, escaped.
struct Sample<'a> {
    name: &'a str,
    labels: Vec<(&'a str, &'a str)>,
    value: f64,
}

impl<'a> Sample<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        let line = without_exemplar(line);
        let (name, rest) = line.split_at(line.find(['{', ' '])?);
        let (mut labels, mut rest) = (Vec::new(), rest.strip_prefix('{').unwrap_or(rest));
        while !rest.starts_with(' ') {
            if let Some(behind) = rest.strip_prefix('}') {
                rest = behind;
                continue;
            }
            let (label, value) = rest.trim_start_matches(',').split_once("=\"")?;
            let end = end_of_value(value)?;
            labels.push((label, &value[..end]));
            rest = &value[end + 1..];
        }
        Some(Self { name, labels, value: rest.trim().parse().ok()? })
    }

    fn label(&self, name: &str) -> &'a str {
        self.labels.iter().find(|(label, _)| *label == name).map_or("", |(_, value)| *value)
    }
}

/// Where a value of a label ends: at the first quotation mark that is not escaped.
fn end_of_value(text: &str) -> Option<usize> {
    let mut is_escaped = false;
    text.bytes().position(|byte| {
        let is_end = byte == b'"' && !is_escaped;
        is_escaped = byte == b'\\' && !is_escaped;
        is_end
    })
}

/// The samples of a synonym, in the order of ours.
struct Family {
    synonym: Synonym,
    places: HashMap<String, usize>,
    sums: Vec<(String, f64)>,
}

impl Family {
    fn new(synonym: Synonym) -> Self {
        Self { synonym, places: HashMap::new(), sums: Vec::new() }
    }

    /// Adds a sample of ours, if it is one of these.
    fn take(&mut self, sample: &Sample<'_>) {
        let Synonym { name, kind, of, labels, scale, .. } = self.synonym;
        let Some(suffix) = sample.name.strip_prefix(of) else { return };
        let is_its = match kind {
            Kind::Histogram => ["_bucket", "_sum", "_count"].contains(&suffix),
            Kind::Counter | Kind::Gauge => suffix.is_empty(),
        };
        if !is_its || !self.synonym.takes(sample) {
            return;
        }
        let bound = (kind == Kind::Histogram && suffix == "_bucket").then_some(("le", "le"));
        let kept = labels.iter().copied().chain(bound);
        let kept = kept.map(|(ours, theirs)| format!("{theirs}=\"{}\"", sample.label(ours)));
        let key = format!("{name}{suffix}{{{}}}", kept.collect::<Vec<_>>().join(","));
        let place = *self.places.entry(key).or_insert_with_key(|key| {
            self.sums.push((key.clone(), 0.0));
            self.sums.len() - 1
        });
        self.sums[place].1 += sample.value * scale;
    }

    fn write(&self, text: &mut String) -> fmt::Result {
        let Synonym { name, help, kind, .. } = self.synonym;
        let kind = match kind {
            Kind::Counter => "unknown",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        writeln!(text, "# HELP {name} {help}.\n# TYPE {name} {kind}")?;
        self.sums.iter().try_for_each(|(key, sum)| writeln!(text, "{key} {sum}"))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const OURS: &str = r#"# TYPE ml_inference_calls counter
ml_inference_calls_total{protocol="rest",task="embeddings",model="e",code="ok"} 3
ml_inference_calls_total{protocol="tei",task="embeddings",model="e",code="ok"} 4
ml_inference_calls_total{protocol="tei",task="embeddings",model="e",code="overloaded"} 2 # {id="}"} 1.0
ml_inference_calls_total{protocol="rest",task="document-classification",model="c\",code=\"ok",code="empty_input"} 1
ml_inference_calls_total{protocol="rest",task="other",model="",code="not_found"} 9
# TYPE ml_inference_call_duration_seconds histogram
ml_inference_call_duration_seconds_sum{protocol="rest",task="embeddings",model="e"} 1.5
ml_inference_call_duration_seconds_count{protocol="rest",task="embeddings",model="e"} 3
ml_inference_call_duration_seconds_bucket{le="2.0",protocol="rest",task="embeddings",model="e"} 2
ml_inference_call_duration_seconds_bucket{le="10.0",protocol="rest",task="embeddings",model="e"} 3
ml_inference_call_duration_seconds_bucket{le="+Inf",protocol="rest",task="embeddings",model="e"} 3
ml_inference_call_duration_seconds_sum{protocol="tei",task="embeddings",model="e"} 0.25
ml_inference_call_duration_seconds_count{protocol="tei",task="embeddings",model="e"} 4
ml_inference_call_duration_seconds_bucket{le="2.0",protocol="tei",task="embeddings",model="e"} 4
ml_inference_call_duration_seconds_bucket{le="10.0",protocol="tei",task="embeddings",model="e"} 4
ml_inference_call_duration_seconds_bucket{le="+Inf",protocol="tei",task="embeddings",model="e"} 4
ml_inference_queue_sequences{model="e"} 5
ml_inference_drain_seconds 0.0
"#;

    fn written(synonyms: Synonyms) -> String {
        let mut text = OURS.to_owned();
        synonyms.write(&mut text).unwrap();
        text.strip_prefix(OURS).unwrap().to_owned()
    }

    fn samples(text: &str, name: &str) -> Vec<String> {
        let is_its = |line: &&str| line.split(['{', ' ']).next().unwrap().starts_with(name);
        text.lines().filter(is_its).map(str::to_owned).collect()
    }

    #[test]
    fn none_by_default() {
        assert_eq!(written(Synonyms::default()), "");
    }

    #[test]
    fn those_of_text_embeddings_inference() {
        let text = written(Synonyms { tei: true, triton: false });
        let check = |name: &str, expected: &[&str]| assert_eq!(samples(&text, name), expected, "{name}");
        check(
            "te_request_count",
            &[r#"te_request_count{model="e"} 9"#, r#"te_request_count{model="c\",code=\"ok"} 1"#],
        );
        check("te_request_success", &[r#"te_request_success{model="e"} 7"#]);
        check(
            "te_request_failure",
            &[
                r#"te_request_failure{model="e",err="overloaded"} 2"#,
                r#"te_request_failure{model="c\",code=\"ok",err="empty_input"} 1"#,
            ],
        );
        check("te_embed_success", &[r#"te_embed_success{model="e"} 7"#]);
        check("te_predict_count", &[r#"te_predict_count{model="c\",code=\"ok"} 1"#]);
        // Sums over protocols, bounds in their order.
        check(
            "te_request_duration",
            &[
                r#"te_request_duration_sum{model="e"} 1.75"#,
                r#"te_request_duration_count{model="e"} 7"#,
                r#"te_request_duration_bucket{model="e",le="2.0"} 6"#,
                r#"te_request_duration_bucket{model="e",le="10.0"} 7"#,
                r#"te_request_duration_bucket{model="e",le="+Inf"} 7"#,
            ],
        );
        check("te_queue_size", &[r#"te_queue_size{model="e"} 5"#]);
        check("nv_", &[]);
    }

    #[test]
    fn those_of_triton() {
        let text = written(Synonyms { tei: false, triton: true });
        let check = |name: &str, expected: &[&str]| assert_eq!(samples(&text, name), expected, "{name}");
        check("nv_inference_request_success", &[r#"nv_inference_request_success{model="e"} 7"#]);
        check("nv_inference_pending", &[r#"nv_inference_pending_request_count{model="e"} 5"#]);
        check(
            "nv_inference_request_duration_us",
            &[r#"nv_inference_request_duration_us{model="e"} 1750000"#],
        );
        check("te_", &[]);
        assert!(text.contains("# TYPE nv_inference_request_success unknown\n"), "{text}");
    }
}
