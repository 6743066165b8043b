//! Summaries: which sentences are taken.

use models::Task;
use models::tasks::{Output, Parameters, SummarizeParameters, SummaryMethod};

use super::{prepare, row};

fn summarize(text: &str, parameters: SummarizeParameters, vectors: &[[f32; 2]]) -> models::tasks::Summary {
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
    let summary = summarize(text, SummarizeParameters { max_sentences: 2, ..Default::default() }, &vectors);
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
    let footer = "This e-mail and any attachments are confidential and intended solely for the addressee.";
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

/// Sentences that repeat but for the mark before them filled a summary; and of sentences that differ in a
/// number, its sign, its currency or in that one asks, all but one were lost.
#[test]
fn repeats_are_told_from_other_statements() {
    let count = |text: &str| {
        let vectors = vec![[1.0, 0.0]; segments(text)];
        let parameters = SummarizeParameters { max_sentences: 5, ..Default::default() };
        summarize(text, parameters, &vectors).sentences.len()
    };
    for mark in ["**#.** ", "§#. ", "Article #: ", "**Step #:** ", "#. ", "Section #. ", "__#)__ ", "> #. "]
    {
        for between in ["\n", "\n\n"] {
            let line = |place: usize| {
                format!("{}The invoice of the pumps is overdue.", mark.replace('#', &place.to_string()))
            };
            let text = (1..=4).map(line).collect::<Vec<_>>().join(between);
            assert_eq!(count(&text), 1, "{text:?}");
        }
    }
    for text in [
        "We won. We won?",
        "He paid $5. He paid €5.",
        "The price is 5. The price is -5.",
        "The board of the firm paid $5 million for the new plant in Oslo. The board of the firm paid €5 million for the new plant in Oslo.",
        "Sales of heat pumps to the schools of the north rose by 3 percent. Sales of heat pumps to the schools of the north rose by 4 percent.",
        "Is the invoice of the pumps for the new school overdue? The invoice of the pumps for the new school is overdue.",
    ] {
        assert_eq!(count(text), 2, "{text:?}");
    }
}

fn segments(text: &str) -> usize {
    let parameters = Parameters::Summarize(SummarizeParameters::default());
    prepare(Task::Summarize, &[text], &parameters).unwrap().take_jobs().len()
}
