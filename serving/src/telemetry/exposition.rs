//! The forms of `/metrics`: OpenMetrics 1.0 and Prometheus's text format 0.0.4, as the scraper's `Accept`
//! asks.
//!
//! Sources: <https://prometheus.io/docs/specs/om/open_metrics_spec/>,
//! <https://prometheus.io/docs/instrumenting/exposition_formats/>, and RFC 9110, section 12.5.1.

use std::fmt::{self, Write};

use axum::http::HeaderMap;
use axum::http::header::{ACCEPT, CONTENT_TYPE, VARY};
use axum::response::{IntoResponse, Response};
use prometheus_client::encoding::text::{encode_eof, encode_registry};
use prometheus_client::registry::Registry;

/// A form of the metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    /// Prometheus's text format, version 0.0.4: what everything reads, and what is sent if nothing else is
    /// asked for.
    Plain,
    /// OpenMetrics text, version 1.0.0.
    OpenMetrics,
}

impl Format {
    /// What the scraper likes best of what there is. It gets the plain format if it takes neither: better
    /// than nothing.
    pub(crate) fn negotiate(headers: &HeaderMap) -> Self {
        let ranges = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
        let mut best = (Self::Plain, 0.0);
        for (format, quality) in ranges.flat_map(|value| value.split(',')).filter_map(range) {
            // Of equals the first one.
            if quality > best.1 {
                best = (format, quality);
            }
        }
        best.0
    }

    /// Value of `Content-Type`.
    pub(crate) fn content_type(self) -> &'static str {
        match self {
            Self::Plain => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// The format that a media range takes, and how much it is liked.
fn range(text: &str) -> Option<(Format, f32)> {
    let mut parts = text.split(';').map(str::trim);
    let media = parts.next()?.to_ascii_lowercase();
    let (mut quality, mut version) = (1.0, None);
    for (name, value) in parts.filter_map(|part| part.split_once('=')) {
        let value = value.trim().trim_matches('"');
        match name.trim().to_ascii_lowercase().as_str() {
            "q" => quality = value.parse().ok().filter(|q| (0.0..=1.0).contains(q))?,
            "version" => version = Some(value),
            _ => {}
        }
    }
    let format = match media.as_str() {
        "application/openmetrics-text" if matches!(version, None | Some("1.0.0" | "0.0.1")) => {
            Format::OpenMetrics
        }
        "application/*" => Format::OpenMetrics,
        "text/plain" if matches!(version, None | Some("0.0.4")) => Format::Plain,
        "text/*" | "*/*" => Format::Plain,
        _ => return None,
    };
    Some((format, quality))
}

/// The metrics of these registries, and what `more` writes of its own behind them.
///
/// # Errors
/// Only if writing to a string fails.
pub(super) fn encode(
    registries: &[&Registry],
    more: impl FnOnce(&mut String) -> fmt::Result,
    format: Format,
) -> Result<String, fmt::Error> {
    let mut text = String::with_capacity(16 * 1024);
    for registry in registries {
        encode_registry(&mut text, registry)?;
    }
    more(&mut text)?;
    encode_eof(&mut text)?;
    Ok(match format {
        Format::OpenMetrics => text,
        Format::Plain => plain(&text),
    })
}

/// Metrics as a scraper is answered with them.
pub(crate) fn answer(format: Format, text: String) -> Response {
    ([(CONTENT_TYPE, format.content_type()), (VARY, "Accept")], text).into_response()
}

/// Metrics in OpenMetrics text, in the plain format: a counter is named as its sample is, what it has no type
/// for is a gauge or untyped, and it has no units, exemplars and end.
fn plain(metrics: &str) -> String {
    let mut text = String::with_capacity(metrics.len());
    let mut help = "";
    for line in metrics.lines() {
        if let Some(described) = line.strip_prefix("# HELP ") {
            help = described.split_once(' ').map_or("", |(_, help)| help);
        } else if let Some((name, kind)) =
            line.strip_prefix("# TYPE ").and_then(|typed| typed.split_once(' '))
        {
            let (suffix, kind) = match kind {
                "counter" => ("_total", "counter"),
                "info" => ("_info", "gauge"),
                "stateset" => ("", "gauge"),
                "unknown" => ("", "untyped"),
                other => ("", other),
            };
            // Writing to a string does not fail.
            let _ = writeln!(text, "# HELP {name}{suffix} {help}\n# TYPE {name}{suffix} {kind}");
        } else if !line.starts_with('#') {
            text.push_str(without_exemplar(line));
            text.push('\n');
        }
    }
    text
}

/// A sample without its exemplar: ` # {…} …` behind the value, which a label's value may contain too.
pub(super) fn without_exemplar(line: &str) -> &str {
    let (mut is_quoted, mut is_escaped) = (false, false);
    for (index, byte) in line.bytes().enumerate() {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' if is_quoted => is_escaped = true,
            b'"' => is_quoted = !is_quoted,
            b'#' if !is_quoted => return line[..index].trim_end(),
            _ => {}
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn what_is_asked_for() {
        use Format::{OpenMetrics, Plain};
        let check = |accept: &[&'static str], expected: Format| {
            let mut headers = HeaderMap::new();
            for value in accept {
                headers.append(ACCEPT, HeaderValue::from_static(value));
            }
            assert_eq!(Format::negotiate(&headers), expected, "{accept:?}");
        };
        check(&[], Plain);
        check(&["*/*"], Plain);
        check(&["text/html"], Plain);
        check(&["text/plain;version=0.0.4"], Plain);
        check(&["application/openmetrics-text"], OpenMetrics);
        check(&["application/openmetrics-text; version=1.0.0; charset=utf-8"], OpenMetrics);
        check(&["Application/OpenMetrics-Text;Version=\"1.0.0\";Q=0.1"], OpenMetrics);
        check(&["application/openmetrics-text;version=2.0.0"], Plain);
        check(&["application/openmetrics-text;q=0, */*;q=0.1"], Plain);
        check(&["application/openmetrics-text;q=7"], Plain);
        // Prometheus 2, Prometheus 3, and one that likes the plain format better.
        let two = "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,\
                   text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
        check(&[two], OpenMetrics);
        let three = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,\
                     application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=1.0.0;q=0.3,\
                     text/plain;version=0.0.4;q=0.2,*/*;q=0.1";
        check(&[three], OpenMetrics);
        check(&["text/plain;version=0.0.4;q=0.9,application/openmetrics-text;version=1.0.0;q=0.8"], Plain);
        check(&["application/openmetrics-text;q=0.8", "text/plain;q=0.7"], OpenMetrics);
        // Telegraf.
        let telegraf = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;\
                        encoding=delimited;q=0.7,text/plain;version=0.0.4;q=0.3,*/*;q=0.1";
        check(&[telegraf], Plain);
    }

    #[test]
    fn the_plain_format() {
        let metrics = "# HELP calls Calls.\n# TYPE calls counter\ncalls_total{a=\"x # {\\\"\"} 1 # {id=\"7\"} 0.5\n\
                       # HELP build The build.\n# TYPE build info\nbuild_info{version=\"1\"} 1\n\
                       # HELP wait_seconds Waits.\n# TYPE wait_seconds gauge\n# UNIT wait_seconds seconds\nwait_seconds 2.0\n\
                       # HELP what What.\n# TYPE what unknown\nwhat 3\n\
                       # EOF\n";
        let expected = "# HELP calls_total Calls.\n# TYPE calls_total counter\ncalls_total{a=\"x # {\\\"\"} 1\n\
                        # HELP build_info The build.\n# TYPE build_info gauge\nbuild_info{version=\"1\"} 1\n\
                        # HELP wait_seconds Waits.\n# TYPE wait_seconds gauge\nwait_seconds 2.0\n\
                        # HELP what What.\n# TYPE what untyped\nwhat 3\n";
        assert_eq!(plain(metrics), expected);
    }
}
