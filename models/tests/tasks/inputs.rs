//! What is refused, and what is said of what was read.

use std::future::Future;

use models::tasks::{
    ClassifyParameters, DecodeError, EmbedParameters, EmbedTokensParameters, EntitiesParameters, Input,
    InputError, LengthUnit, OnError, Output, Parameters, Refusals, Remedy, SentimentParameters,
    SummarizeParameters, SummaryMethod, TaskRequest, Truncation,
};
use models::{Pace, SequenceOutput, Task};

use super::{CATALOG, TAGS, embed, prepare, row};

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
        (Task::Classify, &Parameters::Classify(ClassifyParameters::default())),
        (Task::Entities, &Parameters::Entities(EntitiesParameters::default())),
    ];
    for (task, parameters) in all {
        for empty in ["", " \n\t", "\u{a0}\u{2028}\u{85}\u{3000}"] {
            check(task, &["a", empty], parameters, InputError::Empty { index: 1 });
        }
        for invisible in
            // A tokenizer may take Hangul's fillers for letters.
            [
                "\u{200b}",
                "\u{feff}",
                " \u{ad}\n",
                "\u{1}\u{2}\u{1e}",
                "\u{200e}\u{fe0f}\u{e0020}",
                "\u{3164}",
                "\u{115f} \u{1160}",
                "\u{ffa0}",
            ]
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
            Task::Rerank => 1,
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
        // Dropped by the tokenizer, but not unseen.
        check("\u{e000}\u{e001}", (4, 2, true));
        check("known \u{e000}", (4, 1, false));
        check("\u{fffd} known \u{f8ff}", (5, 2, false));
        check("x [SEP] y", (7, 0, false));
    }
    // Glued to a word, a symbol hid it; not where the reference's tokens are promised and nothing else is
    // asked.
    let normalized =
        |normalize_text| Parameters::Embed(EmbedParameters { normalize_text, ..EmbedParameters::default() });
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

/// What cannot be read leaves nothing behind: no job, no token, and nothing where the next one's outputs are
/// looked for.
#[test]
fn inputs_that_cannot_be_read_have_errors_of_their_own() {
    let sentences = "One two three four five six seven eight nine ten. ".repeat(3);
    let check = |task, parameters: Parameters, bad: &[(&str, InputError)], refusals: (usize, usize)| {
        let model = CATALOG.default_for(task).unwrap().id;
        let run = |texts: &[&str]| {
            let inputs = texts.iter().map(|text| Input::from(*text)).collect();
            let (parameters, pace) = (parameters.clone(), Pace::at_once());
            let request = TaskRequest { inputs, parameters, on_error: OnError::Partial, inputs_max: None };
            let prepared = CATALOG.prepare_paced(model, &request, &pace);
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
        Parameters::Summarize(SummarizeParameters { max_tokens: Some(10), ..SummarizeParameters::default() }),
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

/// A vector for each token that is read: the text's and two special ones.
#[test]
fn vectors_of_tokens() {
    let asked = |truncation, dimensions, vectors_max| {
        let normalize = true;
        Parameters::EmbedTokens(EmbedTokensParameters {
            truncation,
            dimensions,
            normalize,
            prompt_name: None,
            vectors_max,
        })
    };
    let wide = |rows: &[f32]| {
        let values = rows.iter().flat_map(|first| [&[*first, 4.0][..], &[9.0; 382]].concat());
        SequenceOutput { values: values.collect(), columns: 384 }
    };
    let mut prepared =
        prepare(Task::Embed, &["the cat", "dog"], &asked(Truncation::Error, Some(2), 7)).unwrap();
    let jobs = prepared.take_jobs();
    assert!(jobs.iter().all(|job| job.sequence.wants_tokens));
    assert_eq!(jobs.iter().map(|job| job.sequence.len()).collect::<Vec<_>>(), [4, 3]);
    let answer = prepared.decode(vec![wide(&[3.0, -3.0, 0.0, 3.0]), wide(&[3.0; 3])]).unwrap();
    let results: Vec<_> = answer.results.into_iter().map(|result| result.unwrap().output).collect();
    let (plain, turned, upright) = (vec![0.6, 0.8], vec![-0.6, 0.8], vec![0.0, 1.0]);
    let first = vec![plain.clone(), turned, upright, plain.clone()];
    assert_eq!(results, [Output::TokenEmbeddings(first), Output::TokenEmbeddings(vec![plain; 3])]);

    let check = |inputs: &[&str], parameters: Parameters, expected: &str| {
        let error = prepare(Task::Embed, inputs, &parameters).err().unwrap().to_string();
        assert!(error.contains(expected), "{error}");
    };
    check(&["the cat", "dog"], asked(Truncation::Error, None, 6), "7 tokens or more in all, the limit");
    check(&["dog"], asked(Truncation::Stride, None, 9), "parameters.truncation");
    check(&["dog"], asked(Truncation::End, Some(385), 9), "parameters.dimensions");
    // What is cut off is not computed, and counts for nothing here.
    let long = "dog ".repeat(2000);
    assert!(prepare(Task::Embed, &[&long], &asked(Truncation::Start, None, 512)).is_ok());
    check(&[&long], asked(Truncation::Start, None, 511), "512 tokens or more");
    // An output for the text and not for its tokens.
    let mut prepared = prepare(Task::Embed, &["dog"], &asked(Truncation::Error, None, 9)).unwrap();
    prepared.take_jobs();
    assert!(matches!(prepared.decode(vec![row(&[0.5; 384])]), Err(DecodeError::Shape { job: 0, .. })));
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
