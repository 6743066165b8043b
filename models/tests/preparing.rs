//! What preparing a call costs: linear in its texts, in work that is counted, and within a multiple of their
//! bytes of memory.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::sync::LazyLock;

use common::{Shown, config};
use models::tasks::{
    EmbedParameters, EntitiesParameters, InputError, OnError, Parameters, SummarizeParameters, TaskRequest,
    Truncation,
};
use models::{Catalog, Pace, Task};

static CATALOG: LazyLock<Catalog> = LazyLock::new(|| Catalog::load(&config(), &Shown).unwrap());

/// Texts by what is repeated in them: what segmenting, tokenising or counting could be slow at, or hold too
/// much of.
const HOSTILE: [&str; 48] = [
    "#",
    "a b ",
    "... # ",
    "A. # ",
    "a",
    "é",
    "e\u{301}",
    "\u{301}",
    "\u{200b}",
    " ",
    "a.      ",
    "a.\"\"\"\"\"\"",
    "你",
    "。",
    "ไทย",
    "- a\n",
    "\n",
    "\r\n",
    "Dr. ",
    "?! ",
    "a: b\nC: d\n",
    "[SEP]",
    "😡",
    "👨\u{200d}👩\u{200d}👧 ",
    "\u{fb01}",
    "ａ",
    "x\u{ad}",
    "in-\n",
    "\u{3300}",
    "\u{fdfa}",
    "\u{fc5e}",
    "🇩🇪",
    "<p>",
    "<b>a",
    "</x>",
    "<x>",
    "<a href=\"",
    "<!--",
    "<script>",
    "&amp;",
    "&",
    "|",
    "a|",
    "a & ",
    "A: b\n",
    "a@",
    "A-",
    "anna\n",
];

fn parameters(task: Task, truncation: Truncation) -> Parameters {
    match task {
        Task::Summarize => Parameters::Summarize(SummarizeParameters::default()),
        Task::Entities => {
            Parameters::Entities(EntitiesParameters { truncation, ..EntitiesParameters::default() })
        }
        _ => Parameters::Embed(EmbedParameters { truncation, ..EmbedParameters::default() }),
    }
}

/// Prepares one text at a pace, and returns the bytes that it said it worked on.
fn prepare(task: Task, text: &str, truncation: Truncation) -> (u64, Result<usize, InputError>) {
    let (pace, model) = (Pace::at_once(), CATALOG.default_for(task).unwrap().id);
    let (inputs, parameters) = (vec![text.into()], parameters(task, truncation));
    let request = TaskRequest { inputs, parameters, on_error: OnError::Fail, inputs_max: None };
    let mut prepared = std::pin::pin!(CATALOG.prepare_paced(model, &request, &pace));
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    let std::task::Poll::Ready(prepared) = prepared.as_mut().poll(&mut context) else {
        panic!("a pace that never yields did");
    };
    (pace.spent(), prepared.map(|prepared| prepared.tokens()))
}

#[test]
fn work_grows_with_the_text_and_no_faster() {
    let truncations = [
        (Task::Embed, [Truncation::Error, Truncation::Stride, Truncation::End].as_slice()),
        (Task::Summarize, &[Truncation::Stride]),
        (Task::Entities, &[Truncation::Stride, Truncation::End]),
    ];
    for (task, truncations) in truncations {
        for &truncation in truncations {
            for unit in HOSTILE {
                let work = |bytes: usize| prepare(task, &unit.repeat(bytes / unit.len()), truncation).0;
                let (once, twice) = (work(100_000), work(200_000));
                assert!(
                    twice <= once * 21 / 10 + 8192,
                    "{task} {truncation:?} {unit:?}: {once} bytes of work became {twice}"
                );
                assert!(once <= 250_000, "{task} {truncation:?} {unit:?}: {once} bytes of work for 100,000");
            }
        }
    }
}

#[test]
fn memory_is_a_multiple_of_the_text() {
    // What is loaded and what is allocated once is not of a text.
    for task in [Task::Embed, Task::Summarize, Task::Entities] {
        prepare(task, "a first text. And another.", Truncation::Stride).1.unwrap();
    }
    let bytes = 1 << 20;
    for (task, truncation) in [
        (Task::Embed, Truncation::Stride),
        (Task::Embed, Truncation::Start),
        (Task::Summarize, Truncation::Stride),
        (Task::Entities, Truncation::Stride),
        (Task::Entities, Truncation::Start),
    ] {
        for unit in HOSTILE {
            let text = unit.repeat(bytes / unit.len());
            let counted = allocation_counter::measure(|| drop(prepare(task, &text, truncation)));
            let factor = counted.bytes_max / bytes as u64;
            assert!(factor < 16, "{task} {truncation:?} {unit:?}: {factor} times the text");
        }
    }
}
