//! The tasks with the real tokenizer and made-up outputs: what becomes of tensors, and what is refused.

mod common;

#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use std::future::Future;
    use std::sync::LazyLock;

    use models::card::{Calibration, MultiLabel};
    use models::tasks::{
        Aggregation, ClassifyParameters, DecodeError, EmbedParameters, EntitiesParameters, Entity,
        InputError, LengthUnit, OffsetUnit, OnError, Output, Parameters, Prepared, Refusals, Remedy,
        SentimentParameters, SummarizeParameters, SummaryMethod, Truncation,
    };
    use models::{Catalog, Pace, SequenceOutput, Task};
    use proptest::prelude::*;

    use super::common::{Shown, config};

    static CATALOG: LazyLock<Catalog> = LazyLock::new(|| Catalog::load(&config(), &Shown).unwrap());

    /// Tags of the entity card, in its order.
    const TAGS: [&str; 9] = ["O", "B-PER", "I-PER", "B-ORG", "I-ORG", "B-LOC", "I-LOC", "B-MISC", "I-MISC"];

    fn prepare(task: Task, inputs: &[&str], parameters: &Parameters) -> Result<Prepared, InputError> {
        let inputs: Vec<String> = inputs.iter().map(|text| (*text).to_owned()).collect();
        CATALOG.prepare(CATALOG.default_for(task).unwrap().id, &inputs, parameters)
    }

    fn row(values: &[f32]) -> SequenceOutput {
        SequenceOutput { values: values.to_vec(), columns: values.len() }
    }

    fn embed(truncation: Truncation) -> Parameters {
        Parameters::Embed(EmbedParameters { truncation, ..EmbedParameters::default() })
    }

    #[test]
    fn inputs_are_checked() {
        let long = "word ".repeat(600);
        let check = |task, inputs: &[&str], parameters: &Parameters, expected: InputError| {
            assert_eq!(prepare(task, inputs, parameters).err(), Some(expected));
        };
        let at_least = |length, unit, remedy| {
            let (index, is_counted, limit) = (0, false, 20_000);
            InputError::TooLong { index, length, is_counted, limit, unit, remedy }
        };
        let sentiment = Parameters::Sentiment(SentimentParameters::default());
        check(Task::Sentiment, &[], &sentiment, InputError::None);
        check(Task::Sentiment, &["a"; 129], &sentiment, InputError::TooMany { inputs: 129, limit: 128 });
        check(Task::Sentiment, &["a", "é\0"], &sentiment, InputError::Nul { index: 1, offset: 1 });
        let summarize = Parameters::Summarize(SummarizeParameters::default());
        let all = [
            (Task::Sentiment, &sentiment),
            (Task::Embed, &embed(Truncation::Error)),
            (Task::Summarize, &summarize),
        ];
        for (task, parameters) in all {
            for empty in ["", " \n\t", "\u{a0}\u{2028}\u{85}\u{3000}"] {
                check(task, &["a", empty], parameters, InputError::Empty { index: 1 });
            }
            for invisible in
                ["\u{200b}", "\u{feff}", " \u{ad}\n", "\u{1}\u{2}\u{1e}", "\u{200e}\u{fe0f}\u{e0020}"]
            {
                check(task, &["a", invisible], parameters, InputError::Invisible { index: 1 });
            }
        }
        check(
            Task::Embed,
            &["a", &long],
            &embed(Truncation::Error),
            InputError::TooLong {
                index: 1,
                length: 602,
                is_counted: true,
                limit: 512,
                unit: LengthUnit::Tokens,
                remedy: Remedy::Windows { limit: 20_000 },
            },
        );
        check(
            Task::Embed,
            &["word ".repeat(20_001).as_str()],
            &embed(Truncation::Error),
            InputError::TooLong {
                index: 0,
                length: 20_001,
                is_counted: false,
                limit: 512,
                unit: LengthUnit::Tokens,
                remedy: Remedy::Part,
            },
        );
        check(
            Task::Sentiment,
            &["word ".repeat(20_001).as_str()],
            &sentiment,
            at_least(20_001, LengthUnit::Tokens, Remedy::Part),
        );
        check(
            Task::Summarize,
            &["word ".repeat(20_001).as_str()],
            &Parameters::Summarize(SummarizeParameters::default()),
            at_least(20_001, LengthUnit::Words, Remedy::Inputs),
        );
    }

    #[test]
    fn parameters_are_checked() {
        let check = |task, parameters: Parameters, expected: &str| match prepare(
            task,
            &["Some text. More."],
            &parameters,
        ) {
            Err(InputError::Parameter { name, .. }) => assert_eq!(name, expected),
            other => panic!("{expected}: {:?}", other.err()),
        };
        let classify = |top_k, labels: Option<&[&str]>, multi_label| {
            let labels = labels.map(|labels| labels.iter().map(|label| (*label).to_owned()).collect());
            Parameters::Classify(ClassifyParameters {
                top_k,
                labels,
                multi_label,
                ..ClassifyParameters::default()
            })
        };
        check(Task::Classify, classify(Some(0), None, false), "top_k");
        check(Task::Classify, classify(Some(12), None, false), "top_k");
        check(Task::Classify, classify(Some(3), Some(&["a", "b"]), false), "top_k");
        check(Task::Classify, classify(None, Some(&[]), true), "labels");
        check(Task::Classify, classify(None, Some(&["a"]), false), "labels");
        check(Task::Classify, classify(None, Some(&["a", "a"]), false), "labels");
        check(Task::Classify, classify(None, Some(&["a", " "]), false), "labels");
        check(Task::Classify, classify(None, Some(&["a", "\u{200b}"]), false), "labels");
        check(Task::Classify, classify(None, Some(&["a", "b\0"]), false), "labels");
        check(Task::Classify, classify(None, Some(&["a", &"b".repeat(101)]), false), "labels");
        let dimensions =
            |n| Parameters::Embed(EmbedParameters { dimensions: Some(n), ..EmbedParameters::default() });
        check(Task::Embed, dimensions(0), "dimensions");
        check(Task::Embed, dimensions(385), "dimensions");
        let summarize = |max_sentences, max_tokens, method| {
            Parameters::Summarize(SummarizeParameters {
                max_sentences,
                max_tokens,
                method,
                ..SummarizeParameters::default()
            })
        };
        check(Task::Summarize, summarize(0, None, SummaryMethod::Auto), "max_sentences");
        check(Task::Summarize, summarize(51, None, SummaryMethod::Auto), "max_sentences");
        check(Task::Summarize, summarize(3, Some(1), SummaryMethod::Auto), "max_tokens");
        check(Task::Summarize, summarize(3, None, SummaryMethod::Abstractive), "method");
    }

    /// Labels that look, or read, the same share the probability of one, and neither wins.
    #[test]
    fn labels_can_be_told_apart() {
        let check = |labels: &[&str], expected: Option<(usize, usize)>| {
            let labels = Some(labels.iter().map(|label| (*label).to_owned()).collect());
            let parameters = ClassifyParameters { labels, ..ClassifyParameters::default() };
            let found = prepare(Task::Classify, &["A comet."], &Parameters::Classify(parameters)).err();
            let message =
                expected.map(|(second, first)| format!("label {second} cannot be told from label {first}: "));
            match (&found, &message) {
                (None, None) => {}
                (Some(InputError::Parameter { name: "labels", message: found }), Some(message)) => {
                    assert!(found.starts_with(message), "{found}");
                }
                _ => panic!("{found:?}, expected {message:?}"),
            }
        };
        check(&["astronomy", "astronomy "], Some((1, 0)));
        check(&["astronomy", "cooking", "ASTRONOMY"], Some((2, 0)));
        check(&["tax law", "tax  law"], Some((1, 0)));
        check(&["tax law", "tax\u{a0}law"], Some((1, 0)));
        check(&["tax\nlaw", "tax law"], Some((1, 0)));
        check(&["cooking", "coo\u{200b}king"], Some((1, 0)));
        check(&["cooking", "\u{feff}cooking\u{fe0f}"], Some((1, 0)));
        check(&["office", "o\u{fb03}ce"], Some((1, 0)));
        check(&["ｆｕｌｌ", "full"], Some((1, 0)));
        check(&["STRASSE", "Straße"], Some((1, 0)));
        check(&["é", "e\u{301}"], Some((1, 0)));
        // Read as the same tokens.
        check(&["cafe", "café"], Some((1, 0)));
        check(&["cat", "my 🐱", "my 🚗"], Some((2, 1)));
        check(&["cat", "cats"], None);
        check(&["a", "A b"], None);
        check(&["C", "C++"], None);
    }

    /// A label of which nothing is known had the score of the words around it.
    #[test]
    fn labels_say_something() {
        let check = |labels: &[&str], expected: Option<usize>| {
            let brought = Some(labels.iter().map(|label| (*label).to_owned()).collect());
            let parameters = ClassifyParameters { labels: brought, ..ClassifyParameters::default() };
            let found = prepare(Task::Classify, &["A comet."], &Parameters::Classify(parameters)).err();
            let expected = expected.map(|place| InputError::Parameter {
                name: "labels",
                message: format!("label {place} has nothing that the model knows"),
            });
            assert_eq!(found, expected, "{labels:?}");
        };
        check(&["cat", "🐱"], Some(1));
        check(&["🚗", "cat"], Some(0));
        check(&["cat", "\u{e000}"], Some(1));
        check(&["cat", "ᚠᚢᚦ"], Some(1));
        check(&["cat", "🐱 cats", "[SEP]", "№ 5", "!"], None);
    }

    /// Texts of which nothing is known had equal answers, and nothing said so.
    #[test]
    fn what_is_not_known_is_said() {
        let check = |task, parameters: &Parameters, text: &str, expected: (usize, usize, bool)| {
            let mut prepared = prepare(task, &[text], parameters).unwrap();
            assert_eq!(prepared.tokens(), expected.0, "{task} {text:?}");
            let columns = match task {
                Task::Embed | Task::Summarize => 384,
                Task::Sentiment => 3,
                Task::Entities => TAGS.len(),
                Task::Classify => 11,
            };
            let outputs = prepared.take_jobs().into_iter().map(|job| {
                let rows = if task == Task::Entities { job.sequence.len() } else { 1 };
                SequenceOutput { values: vec![0.5; rows * columns], columns }
            });
            let result = prepared.decode(outputs.collect()).unwrap().results.remove(0);
            let result = result.as_ref().unwrap();
            let found = (result.tokens, result.unknown_tokens, result.nothing_recognized);
            assert_eq!(found, expected, "{task} {text:?}");
        };
        for (task, parameters) in [
            (Task::Classify, Parameters::Classify(ClassifyParameters::default())),
            (Task::Sentiment, Parameters::Sentiment(SentimentParameters::default())),
            (Task::Entities, Parameters::Entities(EntitiesParameters::default())),
            (Task::Summarize, Parameters::Summarize(SummarizeParameters::default())),
            (Task::Embed, embed(Truncation::Error)),
        ] {
            let check = |text: &str, expected| check(task, &parameters, text, expected);
            check("Known words.", (5, 0, false));
            check("🦖", (3, 1, true));
            check("🦖 🚗", (4, 2, true));
            check("🦖 known", (4, 1, false));
            check("ᚠᚢᚦ", (3, 1, true));
            check("\u{e000}\u{e001}", (2, 0, true));
            check("x [SEP] y", (7, 0, false));
        }
        // Glued to a word, a symbol hid it; not where the reference's tokens are promised and nothing else is asked.
        let normalized = |normalize_text| {
            Parameters::Embed(EmbedParameters { normalize_text, ..EmbedParameters::default() })
        };
        check(Task::Embed, &normalized(None), "awful😡", (3, 1, true));
        check(Task::Embed, &normalized(Some(false)), "awful😡", (3, 1, true));
        check(Task::Embed, &normalized(Some(true)), "awful😡", (4, 1, false));
        let sentiment = Parameters::Sentiment(SentimentParameters::default());
        check(Task::Sentiment, &sentiment, "awful😡", (4, 1, false));
        // Of what was cut off nothing was read.
        let cut = |truncation| Parameters::Sentiment(SentimentParameters { truncation });
        let text = format!("{} known", "🦖 ".repeat(600));
        check(Task::Sentiment, &cut(Truncation::End), &text, (603, 600, true));
        check(Task::Sentiment, &cut(Truncation::Start), &text, (603, 600, false));
        check(Task::Sentiment, &cut(Truncation::Stride), &text, (603, 600, false));
    }

    #[test]
    fn truncation_says_what_happened() {
        let long: String = (0..600).map(|n| if n < 300 { "one " } else { "two " }).collect();
        let check = |truncation, jobs: usize, truncated: bool, first: Option<&str>| {
            let mut prepared = prepare(Task::Embed, &[&long], &embed(truncation)).unwrap();
            assert_eq!(prepared.tokens(), 602);
            let sequences = prepared.take_jobs();
            assert_eq!(sequences.len(), jobs);
            assert!(sequences.iter().all(|job| job.sequence.len() <= 512));
            if let Some(word) = first {
                let tokenizer = CATALOG.tokenizer(CATALOG.default_for(Task::Embed).unwrap().id).unwrap();
                let id = tokenizer.encode(word).unwrap().ids[0];
                let found = sequences[0].sequence.input_ids.iter().filter(|other| **other == id).count();
                assert_eq!(found, 300, "all of {word} was kept");
            }
            let outputs = vec![row(&[1.0; 384]); jobs];
            let result = prepared.decode(outputs).unwrap().results.remove(0).unwrap();
            assert_eq!((result.truncated, result.windows, result.tokens), (truncated, jobs, 602));
        };
        check(Truncation::Stride, 2, false, None);
        check(Truncation::End, 1, true, Some("one"));
        check(Truncation::Start, 1, true, Some("two"));
    }

    /// What cannot be read leaves nothing behind: no job, no token, and nothing where the next one's outputs are looked for.
    #[test]
    fn inputs_that_cannot_be_read_have_errors_of_their_own() {
        let sentences = "One two three four five six seven eight nine ten. ".repeat(3);
        let check = |task, parameters: Parameters, bad: &[(&str, InputError)], refusals: (usize, usize)| {
            let model = CATALOG.default_for(task).unwrap().id;
            let run = |texts: &[&str]| {
                let texts: Vec<String> = texts.iter().map(|text| (*text).to_owned()).collect();
                let pace = Pace::at_once();
                let prepared = CATALOG.prepare_paced(model, &texts, &parameters, OnError::Partial, &pace);
                let mut prepared = futures(prepared).unwrap();
                let jobs = prepared.take_jobs();
                // A row that says whose it is, by its tokens.
                let output = |job: &models::tasks::Job| row(&[job.sequence.len() as f32; 384]);
                let (tokens, inputs, refusals) = (prepared.tokens(), prepared.inputs(), prepared.refusals());
                let outputs = jobs.iter().map(output).collect();
                (jobs, tokens, inputs, refusals, prepared.decode(outputs).unwrap().results)
            };
            let (good, other) = ("Just a few words here.", "And more than a few of them there.");
            let mut texts = vec![good];
            texts.extend(bad.iter().map(|(text, _)| *text));
            texts.push(other);
            let (jobs, tokens, inputs, found, results) = run(&texts);
            let (alone, alone_tokens, .., expected) = run(&[good, other]);
            assert_eq!((jobs, tokens, inputs), (alone, alone_tokens, 2), "{task}");
            assert_eq!(found, Refusals { before_work: refusals.0, after_work: refusals.1 }, "{task}");
            assert_eq!([&results[0], &results[texts.len() - 1]], [&expected[0], &expected[1]], "{task}");
            for (result, (_, error)) in results[1..].iter().zip(bad) {
                assert_eq!(result.as_ref().err(), Some(error), "{task}");
            }
            let (jobs, tokens, inputs, _, results) = run(&texts[1..texts.len() - 1]);
            assert_eq!((jobs.len(), tokens, inputs), (0, 0, 0), "{task}");
            assert!(results.iter().all(Result::is_err) && results.len() == bad.len(), "{task}");
        };
        let long = "word ".repeat(600);
        let too_long = |index, length, is_counted, limit, unit, remedy| InputError::TooLong {
            index,
            length,
            is_counted,
            limit,
            unit,
            remedy,
        };
        let windows = Remedy::Windows { limit: 20_000 };
        check(
            Task::Embed,
            embed(Truncation::Error),
            &[
                ("a\0", InputError::Nul { index: 1, offset: 1 }),
                (&long, too_long(2, 602, true, 512, LengthUnit::Tokens, windows)),
            ],
            (1, 1),
        );
        // After all of its sentences had jobs.
        let message = "the shortest sentence of inputs[1] has 11 tokens".to_owned();
        check(
            Task::Summarize,
            Parameters::Summarize(SummarizeParameters {
                max_tokens: Some(10),
                ..SummarizeParameters::default()
            }),
            &[(&sentences, InputError::Parameter { name: "max_tokens", message })],
            (0, 1),
        );
    }

    /// The result of a future that waits for nothing.
    fn futures<T>(future: impl Future<Output = T>) -> T {
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        match std::pin::pin!(future).poll(&mut context) {
            std::task::Poll::Ready(result) => result,
            std::task::Poll::Pending => panic!("it waits"),
        }
    }

    #[test]
    fn windows_are_merged_by_their_tokens() {
        let long = "word ".repeat(600);
        let mut prepared =
            prepare(Task::Sentiment, &[&long], &Parameters::Sentiment(SentimentParameters::default()))
                .unwrap();
        assert_eq!(prepared.take_jobs().len(), 2);
        let outputs = vec![row(&[2.0, 0.0, 0.0]), row(&[0.0, 0.0, 2.0])];
        let answer = prepared.decode(outputs).unwrap();
        let Output::Sentiment(sentiment) = &answer.results[0].as_ref().unwrap().output else {
            panic!("a sentiment was asked for")
        };
        let scores: Vec<f32> = sentiment.scores.iter().map(|label| label.score).collect();
        assert!((scores[0] - scores[2]).abs() < 1e-3, "windows of equal size weigh the same: {scores:?}");
        assert!((scores.iter().sum::<f32>() - 1.0).abs() < 1e-6);
    }

    #[test]
    fn classes_best_first() {
        let logits: Vec<f32> = (0..11).map(|n| n as f32).collect();
        let check = |multi_label: bool, top_k: usize| {
            let parameters =
                ClassifyParameters { top_k: Some(top_k), multi_label, ..ClassifyParameters::default() };
            let mut prepared = prepare(Task::Classify, &["text"], &Parameters::Classify(parameters)).unwrap();
            prepared.take_jobs();
            let answer = prepared.decode(vec![row(&logits)]).unwrap();
            let Output::Labels(labels) = answer.results[0].clone().unwrap().output else {
                panic!("labels were asked for")
            };
            labels.into_iter().map(|label| (label.label.to_string(), label.score)).collect::<Vec<_>>()
        };
        let exclusive = check(false, 11);
        assert_eq!((exclusive[0].0.as_str(), exclusive[10].0.as_str()), ("news", "invoice"));
        assert!((exclusive.iter().map(|(_, score)| score).sum::<f32>() - 1.0).abs() < 1e-5);
        // One by one, by the card's numbers.
        let card = &CATALOG.default_for(Task::Classify).unwrap().card;
        let Some(MultiLabel::Calibrated(Calibration { weights, biases })) = &card.multi_label else {
            panic!("the card has a calibration")
        };
        let mut expected: Vec<(String, f64)> = Vec::new();
        for ((label, row), bias) in card.labels.iter().zip(weights).zip(biases) {
            let sum: f64 = row.iter().zip(&logits).map(|(w, z)| f64::from(*w) * f64::from(*z)).sum();
            expected.push((label.clone(), 1.0 / (1.0 + (-sum - f64::from(*bias)).exp())));
        }
        expected.sort_by(|left, right| right.1.total_cmp(&left.1));
        for ((label, score), (other, value)) in check(true, 3).iter().zip(&expected[..3]) {
            assert!(
                label == other && (f64::from(*score) - value).abs() < 1e-4,
                "{label} {score} {other} {value}"
            );
        }
    }

    #[test]
    fn zero_shot_runs_on_the_embedding_model() {
        let labels = Some(vec!["cats".to_owned(), "tax law".to_owned()]);
        let parameters = Parameters::Classify(ClassifyParameters { labels, ..ClassifyParameters::default() });
        let mut prepared = prepare(Task::Classify, &["a text", "another"], &parameters).unwrap();
        let embeddings = CATALOG.default_for(Task::Embed).unwrap().id;
        let jobs = prepared.take_jobs();
        assert_eq!(jobs.len(), 4, "two texts and two labels");
        assert!(jobs.iter().all(|job| job.model == embeddings));
        // "This text is about cats." and "… tax law." have 8 and 9 tokens: read once for all texts, they count once.
        assert_eq!(prepared.tokens(), 4 + 3 + 8 + 9);
        let axis = |n: usize| row(&std::array::from_fn::<f32, 384, _>(|i| if i == n { 2.0 } else { 0.0 }));
        let answer = prepared.decode(vec![axis(0), axis(1), axis(0), axis(1)]).unwrap();
        let best: Vec<_> = answer
            .results
            .iter()
            .map(|result| match &result.as_ref().unwrap().output {
                Output::Labels(labels) => labels[0].label.to_string(),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(best, ["cats", "tax law"]);
    }

    /// Outputs of the entity model in which each token has the tag that `tag` gives for its text.
    fn tagged(
        text: &str,
        parameters: EntitiesParameters,
        tag: impl Fn(usize, &str) -> &'static str,
    ) -> Vec<Entity> {
        let model = CATALOG.default_for(Task::Entities).unwrap();
        let tokenizer = CATALOG.tokenizer(model.id).unwrap().normalizing(model.card.normalize_text);
        let encoded = tokenizer.encode(text).unwrap();
        let comma = tokenizer.encode(",").unwrap().ids[0];
        let logits = |name: &str| TAGS.map(|other| if other == name { 10.0 } else { 0.0 });
        let mut prepared = prepare(Task::Entities, &[text], &Parameters::Entities(parameters)).unwrap();
        let jobs = prepared.take_jobs();
        assert_eq!(jobs.len(), 1);
        let read = &jobs[0].sequence.input_ids;
        let mut values = logits("O").to_vec();
        let mut place = 0;
        // What was read has commas where lines end, and no marks of items.
        for (index, id) in read[1..read.len() - 1].iter().enumerate() {
            if *id != comma {
                place += encoded.ids[place..].iter().position(|other| other == id).unwrap_or(0);
            }
            let is_text = encoded.ids.get(place) == Some(id);
            let (start, end) = if is_text { encoded.offsets[place] } else { (0, 0) };
            values.extend(logits(tag(index, if is_text { &text[start..end] } else { "," })));
            place = (place + usize::from(is_text)).min(encoded.ids.len());
        }
        values.extend(logits("O"));
        let answer = prepared.decode(vec![SequenceOutput { values, columns: TAGS.len() }]).unwrap();
        match answer.results.into_iter().next().unwrap().unwrap().output {
            Output::Entities(entities) => entities,
            other => panic!("{other:?}"),
        }
    }

    fn names(entities: &[Entity]) -> Vec<(&str, &str)> {
        entities.iter().map(|entity| (entity.text.as_str(), &*entity.label)).collect()
    }

    #[test]
    fn aggregations() {
        // zygmunt -> zy ##gm ##unt; the others are one token each.
        let text = "Zygmunt Smith met Anna in Oslo.";
        let check = |aggregation, expected: &[(&str, &str)]| {
            let parameters = EntitiesParameters { aggregation, ..EntitiesParameters::default() };
            let found = tagged(text, parameters, |index, token| match (index, token) {
                (0, _) => "B-PER",
                (_, "Smith") => "I-PER",
                (_, "Anna") => "B-PER",
                (_, "Oslo") => "B-LOC",
                (2, _) => "I-PER",
                _ => "O",
            });
            assert_eq!(names(&found), expected, "{aggregation:?}");
        };
        let words: &[_] = &[("Zygmunt Smith", "PER"), ("Anna", "PER"), ("Oslo", "LOC")];
        check(Aggregation::First, words);
        check(Aggregation::Max, words);
        let tokens = tagged(
            text,
            EntitiesParameters { aggregation: Aggregation::None, ..Default::default() },
            |_, _| "B-ORG",
        );
        assert!(tokens.len() > 7, "every token by itself, even inside a word");
        assert!(tokens.iter().all(|token| &*token.label == "B-ORG"), "with the label of the model");
        let simple = tagged(
            text,
            EntitiesParameters { aggregation: Aggregation::Simple, ..Default::default() },
            |_, _| "I-ORG",
        );
        assert_eq!(names(&simple), [("Zygmunt Smith met Anna in Oslo.", "ORG")]);
    }

    #[test]
    fn names_split_at_punctuation_are_put_together() {
        let check = |text: &str, outside: &[&str], expected: &[(&str, &str)]| {
            let found = tagged(text, EntitiesParameters::default(), |_, token| {
                if outside.contains(&token) { "O" } else { "B-PER" }
            });
            assert_eq!(names(&found), expected, "{text}");
        };
        check("O'Brien", &["'"], &[("O'Brien", "PER")]);
        check("Anna-Lena", &["-"], &[("Anna-Lena", "PER")]);
        check("Anna, Lena", &[","], &[("Anna", "PER"), ("Lena", "PER")]);
        check("Anna and Lena", &["and"], &[("Anna", "PER"), ("Lena", "PER")]);
        check("(Anna)", &[], &[("Anna", "PER")]);
        // A dot alone was a person; the last dot of an abbreviation and a combining accent were lost.
        check("Yes . No", &["Yes", "No"], &[]);
        check("U.S. troops", &[".", "troops"], &[("U.S.", "PER")]);
        check("Anna.", &["."], &[("Anna", "PER")]);
        check("Andre\u{301} left", &["left"], &[("Andre\u{301}", "PER")]);
    }

    /// Whatever the model says of symbols, they are at no end of a name, and pictures in none.
    #[test]
    fn names_have_no_symbols_at_their_ends() {
        for aggregation in [Aggregation::Simple, Aggregation::First, Aggregation::Average, Aggregation::Max] {
            let check = |text: &str, expected: &[&str]| {
                let parameters = EntitiesParameters { aggregation, ..EntitiesParameters::default() };
                let found = tagged(text, parameters, |_, _| "I-PER");
                let names: Vec<_> = found.iter().map(|entity| entity.text.as_str()).collect();
                assert_eq!(names, expected, "{aggregation:?} {text:?}");
            };
            check("Anna Schmidt 👨\u{200d}👩\u{200d}👧", &["Anna Schmidt"]);
            check("📷🚀 Anna Schmidt", &["Anna Schmidt"]);
            check("Anna🎉Peter", &["Anna", "Peter"]);
            check("Anna 👍🏽 Peter ❤\u{fe0f}", &["Anna", "Peter"]);
            check("🇩🇪Berlin🇩🇪", &["Berlin"]);
            check("1\u{fe0f}\u{20e3} Anna 2\u{fe0f}\u{20e3} Peter", &["Anna", "Peter"]);
            check("Acme® Corp™", &["Acme® Corp"]);
            check("®Acme", &["Acme"]);
            check("★Anna★", &["Anna"]);
            check("🎉", &[]);
            check("®", &[]);
            check("So\u{fb01}a", &["So\u{fb01}a"]);
            check("Am\u{ad}ster\u{ad}dam", &["Am\u{ad}ster\u{ad}dam"]);
            check("Ｂｅｒｌｉｎ！", &["Ｂｅｒｌｉｎ"]);
        }
    }

    /// The model may read on over the end of a line; a name does not.
    #[test]
    fn names_end_at_lines_items_and_cells() {
        let names_of = |text: &str, aggregation| {
            let parameters = EntitiesParameters { aggregation, ..EntitiesParameters::default() };
            let found = tagged(text, parameters, |index, _| if index == 0 { "B-PER" } else { "I-PER" });
            found.into_iter().map(|entity| entity.text).collect::<Vec<_>>()
        };
        let names = ["Anna Schmidt", "Peter Jones", "Maria Lopez"];
        let separators = [
            "\n", "\r\n", "\n\n", "\r\n\r\n", "\t", "\t\t", " | ", "\n- ", "\n* ", "\n• ", " • ", "; ",
            "\n\t", "    ", "\n> ", "\n2. ", "\u{2028}", "\u{c}", "\n\n\n", " · ",
        ];
        for aggregation in [Aggregation::Simple, Aggregation::First, Aggregation::Average, Aggregation::Max] {
            for separator in separators {
                let text = names.join(separator);
                let found = names_of(&text, aggregation);
                let bare: Vec<&str> = found.iter().map(|name| name.trim_start_matches("2. ")).collect();
                assert_eq!(bare, names, "{aggregation:?} {separator:?}");
            }
            // In a sentence that was wrapped a name reads on.
            let text = "Peter Alexander Maria Johann Sebastian\nSchmidt of the old town met us.";
            assert_eq!(names_of(text, aggregation).len(), 1, "{aggregation:?}");
        }
    }

    /// A text was cut within a name, and the first letters of it were a name.
    #[test]
    fn a_part_of_a_word_is_no_name() {
        let model = CATALOG.default_for(Task::Entities).unwrap();
        let tokenizer = CATALOG.tokenizer(model.id).unwrap();
        let check = |name: &str, truncation: Truncation| {
            let pieces = tokenizer.encode(name).unwrap().ids.len();
            for words in 510 - pieces..=511 {
                let fill = "word ".repeat(words);
                let text = match truncation {
                    Truncation::End => format!("{fill}{name} in the park, and so on."),
                    _ => format!("In the old park, {name} {fill}"),
                };
                let parameters = EntitiesParameters { truncation, ..EntitiesParameters::default() };
                let mut prepared =
                    prepare(Task::Entities, &[&text], &Parameters::Entities(parameters)).unwrap();
                let word = tokenizer.encode("word").unwrap().ids[0];
                let outputs = prepared.take_jobs().into_iter().map(|job| {
                    let tags = job.sequence.input_ids.iter().enumerate();
                    let values = tags.flat_map(|(row, id)| {
                        let is_special = row == 0 || row + 1 == job.sequence.len();
                        let tag = if *id == word || is_special { "O" } else { "I-PER" };
                        TAGS.map(|other| if other == tag { 9.0 } else { 0.0 })
                    });
                    SequenceOutput { values: values.collect(), columns: TAGS.len() }
                });
                let answer = prepared.decode(outputs.collect()).unwrap();
                let Output::Entities(entities) = &answer.results[0].as_ref().unwrap().output else {
                    panic!("entities")
                };
                for entity in entities {
                    let whole = text.split([' ', ',']).collect::<Vec<_>>();
                    for part in entity.text.split([' ', ',']).filter(|part| !part.is_empty()) {
                        assert!(
                            whole.contains(&part.trim_end_matches('.')) || whole.contains(&part),
                            "{part} of {name}"
                        );
                    }
                }
            }
        };
        for name in
            ["Brzeszczykiewicz", "Ouagadougou", "O'Shaughnessy", "Jean-Baptiste", "J.P.Morgan", "Oslo"]
        {
            check(name, Truncation::End);
            check(name, Truncation::Start);
        }
    }

    #[test]
    fn entities_of_long_texts_keep_their_places() {
        let text = format!("{}Oslo {}", "word ".repeat(700), "word ".repeat(300));
        let model = CATALOG.default_for(Task::Entities).unwrap();
        let oslo = CATALOG.tokenizer(model.id).unwrap().encode("oslo").unwrap().ids[0];
        let mut prepared =
            prepare(Task::Entities, &[&text], &Parameters::Entities(EntitiesParameters::default())).unwrap();
        let outputs = prepared.take_jobs().into_iter().map(|job| {
            let row = |id: &u32| {
                TAGS.map(|tag| {
                    if (tag == "B-LOC") == (*id == oslo) && (tag == "O" || tag == "B-LOC") {
                        9.0
                    } else {
                        0.0
                    }
                })
            };
            let values = job.sequence.input_ids.iter().flat_map(row).collect();
            SequenceOutput { values, columns: TAGS.len() }
        });
        let answer = prepared.decode(outputs.collect()).unwrap();
        let Output::Entities(entities) = &answer.results[0].as_ref().unwrap().output else {
            panic!("entities were asked for")
        };
        assert_eq!(entities.len(), 1, "an overlap is read once");
        assert_eq!((entities[0].start, entities[0].end), (3500, 3504));
    }

    proptest! {
        /// Whatever the text and the tags: the slice at the offsets is the entity's text, in every unit, in order.
        #[test]
        fn slices_are_the_text(
            text in "[a-zA-Z]{1,4}([a-zA-Z0-9 ,.'é漢🎉®ﬁｆß\u{301}\u{ad}\u{200d}\n-]|\\PC){0,40}",
            seed in any::<u64>(),
            aggregation in 0usize..5,
        ) {
            use Aggregation as A;
            let aggregation = [A::None, A::Simple, A::First, A::Average, A::Max][aggregation];
            for unit in [OffsetUnit::Codepoint, OffsetUnit::Byte, OffsetUnit::Utf16] {
                let parameters = EntitiesParameters { aggregation, offset_unit: unit, ..EntitiesParameters::default() };
                let found = tagged(&text, parameters, |index, _| TAGS[(seed.rotate_left(index as u32 * 5) % 9) as usize]);
                let mut end = 0;
                for entity in found {
                    let slice = match unit {
                        OffsetUnit::Codepoint => text.chars().skip(entity.start).take(entity.end - entity.start).collect(),
                        OffsetUnit::Byte => text[entity.start..entity.end].to_owned(),
                        OffsetUnit::Utf16 => {
                            let units: Vec<u16> = text.encode_utf16().collect();
                            String::from_utf16(&units[entity.start..entity.end]).unwrap()
                        }
                    };
                    prop_assert_eq!(slice, entity.text);
                    prop_assert!(entity.start >= end || aggregation == A::None);
                    prop_assert!((0.0..=1.0).contains(&entity.score));
                    end = entity.end;
                }
            }
        }
    }

    fn summarize(
        text: &str,
        parameters: SummarizeParameters,
        vectors: &[[f32; 2]],
    ) -> models::tasks::Summary {
        let mut prepared = prepare(Task::Summarize, &[text], &Parameters::Summarize(parameters)).unwrap();
        assert_eq!(prepared.take_jobs().len(), vectors.len());
        let outputs = vectors.iter().map(|vector| {
            let mut values = vec![0.0; 384];
            values[..2].copy_from_slice(vector);
            row(&values)
        });
        match prepared.decode(outputs.collect()).unwrap().results.remove(0).unwrap().output {
            Output::Summary(summary) => summary,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn summaries_cover_without_repeating_and_keep_the_order() {
        let text = "The harbour é opened a new dock today. A new dock was opened in the harbour.\n\nTwo ferries will sail from there each night.";
        let vectors = [[1.0, 0.1], [1.0, 0.0], [0.3, 1.0]];
        let summary =
            summarize(text, SummarizeParameters { max_sentences: 2, ..Default::default() }, &vectors);
        let chars: Vec<char> = text.chars().collect();
        for sentence in &summary.sentences {
            assert_eq!(chars[sentence.start..sentence.end].iter().collect::<String>(), sentence.text);
        }
        assert_eq!(summary.sentences.len(), 2);
        assert!(
            summary.sentences[1].text.starts_with("Two ferries"),
            "the repetition is passed over: {summary:?}"
        );
        assert_eq!(summary.method, SummaryMethod::Extractive);
        let joined: Vec<_> = summary.sentences.iter().map(|sentence| sentence.text.as_str()).collect();
        assert_eq!(summary.summary, joined.join(" "));
    }

    #[test]
    fn summaries_keep_to_their_tokens() {
        let text =
            "The very long first sentence has a great many words in it, more than fit. A short one is here.";
        let vectors = [[1.0, 0.0], [0.9, 0.1]];
        let summary =
            summarize(text, SummarizeParameters { max_tokens: Some(8), ..Default::default() }, &vectors);
        assert_eq!(summary.summary, "A short one is here.");
    }

    /// A footer, a signature and a line of dashes were chosen, because they are as central as any other sentence.
    #[test]
    fn boilerplate_is_passed_over() {
        let check = |text: &str, sentences: usize, expected: &str| {
            let units = segments(text);
            let parameters = SummarizeParameters { max_sentences: sentences, ..Default::default() };
            assert_eq!(summarize(text, parameters, &vec![[1.0, 0.0]; units]).summary, expected, "{text:?}");
        };
        let footer =
            "This e-mail and any attachments are confidential and intended solely for the addressee.";
        check(
            &format!("{footer}\n\nThe shipment of pumps has left the port."),
            1,
            "The shipment of pumps has left the port.",
        );
        check("--\nRoof repairs begin on Monday at eight.", 1, "Roof repairs begin on Monday at eight.");
        check(
            "The meeting was moved to Friday at ten.\n--\nAnn Lee leads the whole sales team.",
            1,
            "The meeting was moved to Friday at ten.",
        );
        check("--", 1, "--");
    }

    fn segments(text: &str) -> usize {
        let parameters = Parameters::Summarize(SummarizeParameters::default());
        prepare(Task::Summarize, &[text], &parameters).unwrap().take_jobs().len()
    }

    #[test]
    fn bad_outputs_are_errors() {
        let check = |outputs: Vec<SequenceOutput>, is_expected: fn(&DecodeError) -> bool| {
            let mut prepared = prepare(Task::Embed, &["text"], &embed(Truncation::Error)).unwrap();
            prepared.take_jobs();
            let error = prepared.decode(outputs).unwrap_err();
            assert!(is_expected(&error), "{error:?}");
        };
        check(vec![], |e| matches!(e, DecodeError::Count { found: 0, expected: 1 }));
        check(vec![row(&[0.0; 3])], |e| matches!(e, DecodeError::Shape { job: 0, .. }));
        check(vec![SequenceOutput { values: vec![0.0; 768], columns: 384 }], |e| {
            matches!(e, DecodeError::Shape { .. })
        });
        check(vec![row(&[f32::NAN; 384])], |e| matches!(e, DecodeError::NotFinite { job: 0 }));
    }
}
