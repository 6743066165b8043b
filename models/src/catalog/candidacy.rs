//! What a card that cannot be read still says of itself: whose default it may be. Who answers for a task must
//! not depend on whether a card can be read, so another card never takes over what this one may have claimed.

use models_core::card::Task;

/// What a card says of being a default, as far as its front matter can be made out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Candidacy {
    /// Tasks that it may do: never none.
    pub(super) tasks: Vec<Task>,
    /// Whether it says its task, which then is the only one.
    pub(super) is_exact: bool,
    /// Whether it is the default.
    pub(super) stated: StatedDefault,
}

/// Whether a card says that it is a default.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StatedDefault {
    Yes,
    No,
    /// The line is lost or cannot be understood.
    Unknown,
}

/// Values this alike are taken for misspelt.
const EDITS_MAX: usize = 2;
/// Shorter parts of a name are in too many.
const PART_LENGTH_MIN: usize = 5;

impl Candidacy {
    /// Of a model that claims nothing, and does this if it is known.
    pub(super) fn none(task: Option<Task>) -> Self {
        let tasks = task.map_or_else(|| Task::ALL.to_vec(), |task| vec![task]);
        Self { tasks, is_exact: task.is_some(), stated: StatedDefault::No }
    }

    /// Of the text of a card, whatever is wrong with it.
    pub(super) fn of(text: &str) -> Self {
        let (lines, is_closed) = front_matter(text);
        let ours = section(&lines, "ml_inference").unwrap_or_else(|| lines.clone());
        let stated = match scalar(&ours, "default") {
            Some("true") => StatedDefault::Yes,
            Some("false") => StatedDefault::No,
            None if is_closed && !has_key_like(&ours, "default") => StatedDefault::No,
            _ => StatedDefault::Unknown,
        };
        let task = scalar(&ours, "task").unwrap_or_default();
        if let Some(task) = Task::ALL.into_iter().find(|known| known.as_str() == task) {
            return Self { tasks: vec![task], is_exact: true, stated };
        }
        let near = Task::ALL.into_iter().filter(|known| is_like(task, known.as_str())).collect();
        let (head, tag) = (scalar(&ours, "kind"), scalar(&lines, "pipeline_tag"));
        let by_kind =
            Task::ALL.into_iter().filter(|known| fits(*known, head, heads) && fits(*known, tag, hub_tags));
        let found = [near, by_kind.collect(), Task::ALL.to_vec()];
        let tasks = found.into_iter().find(|tasks: &Vec<Task>| !tasks.is_empty()).unwrap_or_default();
        Self { tasks, is_exact: false, stated }
    }
}

/// Whether a task fits a sign that a card has: one that no task is known by says nothing.
fn fits(task: Task, sign: Option<&str>, signs_of: fn(Task) -> &'static [&'static str]) -> bool {
    sign.is_none_or(|sign| {
        let is_sign_of = |task| signs_of(task).contains(&sign);
        is_sign_of(task) || !Task::ALL.into_iter().any(is_sign_of)
    })
}

/// Kinds of head that a task can have.
const fn heads(task: Task) -> &'static [&'static str] {
    match task {
        Task::Embed => &["mean_pooling", "pooling"],
        Task::Summarize => &["mean_pooling"],
        Task::Classify | Task::Sentiment | Task::Rerank => &["sequence_classification"],
        Task::Entities => &["token_classification"],
    }
}

/// Tags that the hub gives models of a task (`pipeline_tag`).
const fn hub_tags(task: Task) -> &'static [&'static str] {
    match task {
        Task::Embed => &["sentence-similarity", "feature-extraction"],
        Task::Summarize => &["summarization"],
        Task::Classify | Task::Sentiment => &["text-classification"],
        Task::Rerank => &["text-ranking"],
        Task::Entities => &["token-classification"],
    }
}

/// The lines of the front matter, without comments, and whether its end is there.
fn front_matter(text: &str) -> (Vec<&str>, bool) {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let is_border = |line: &&str| line.trim_end() == "---";
    let mut lines = text.lines().peekable();
    let has_start = lines.next_if(is_border).is_some();
    let mut is_closed = false;
    let lines = lines.take_while(|line| {
        is_closed = is_border(line);
        !is_closed
    });
    let lines = lines.map(without_comment).collect();
    (lines, has_start && is_closed)
}

fn without_comment(line: &str) -> &str {
    let is_start = |(at, _): &(usize, &str)| *at == 0 || line[..*at].ends_with([' ', '\t']);
    line.match_indices('#').find(is_start).map_or(line, |(at, _)| &line[..at])
}

/// The lines of a key at the margin.
fn section<'a>(lines: &[&'a str], key: &str) -> Option<Vec<&'a str>> {
    let is_key = |line: &&str| line.strip_prefix(key).is_some_and(|rest| rest.trim_start().starts_with(':'));
    let start = lines.iter().position(is_key)?;
    let is_inside = |line: &&&str| line.is_empty() || line.starts_with([' ', '\t', '}', ']']);
    let rest = lines[start + 1..].iter().take_while(is_inside);
    Some(lines[start..=start].iter().chain(rest).copied().collect())
}

/// The first value of a key that is a word, in a block or between braces.
fn scalar<'a>(lines: &[&'a str], key: &str) -> Option<&'a str> {
    pairs(lines).find(|(found, value)| *found == key && !value.is_empty()).map(|(_, value)| value)
}

fn has_key_like(lines: &[&str], key: &str) -> bool {
    pairs(lines).any(|(found, _)| is_like(found, key))
}

/// Keys with their values, as far as a line shows them.
fn pairs<'a>(lines: &[&'a str]) -> impl Iterator<Item = (&'a str, &'a str)> {
    let parts = lines.iter().flat_map(|line| line.split([',', '{', '}', '[', ']']));
    let plain = |text: &'a str| text.trim().trim_matches(['"', '\'']);
    parts.filter_map(move |part| part.split_once(':').map(|(key, value)| (plain(key), plain(value))))
}

/// Whether a word may be meant for a name.
fn is_like(word: &str, name: &str) -> bool {
    let word = word.to_ascii_lowercase();
    let is_part = word.len() >= PART_LENGTH_MIN && (name.contains(&word) || word.contains(name));
    is_part || strsim::osa_distance(&word, name) <= EDITS_MAX
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_card_says_whatever_is_wrong_with_it() {
        let check = |text: &str, tasks: &[Task], is_exact: bool, stated: StatedDefault| {
            let expected = Candidacy { tasks: tasks.to_vec(), is_exact, stated };
            assert_eq!(Candidacy::of(text), expected, "{text:?}");
        };
        let card = |lines: &str| format!("---\nml_inference:\n  name: x\n{lines}\n---\n# default: true\n");
        let (embed, all) = ([Task::Embed], Task::ALL);
        for (line, stated) in [
            ("default: true  # ours", StatedDefault::Yes),
            ("\"default\": 'true'", StatedDefault::Yes),
            ("default: false", StatedDefault::No),
            ("# default: true", StatedDefault::No),
            ("labels: [a, b]", StatedDefault::No),
            ("default: maybe", StatedDefault::Unknown),
            ("default:", StatedDefault::Unknown),
            ("defualt: true", StatedDefault::Unknown),
        ] {
            check(&card(&format!("  task: embeddings\n  {line}\n  limits: {{")), &embed, true, stated);
        }
        check(
            "---\nml_inference: { task: embeddings, default: true, x: [ }\n---\n",
            &embed,
            true,
            StatedDefault::Yes,
        );
        check("---\nml_inference:\n  task: embeddings\n  lim", &embed, true, StatedDefault::Unknown);
        // Another's key of the same name.
        let index = "---\nmodel-index:\n- task:\n    type: x\n  default: true\nml_inference:\n  task: embeddings\n---\n";
        check(index, &embed, true, StatedDefault::No);
        for (lines, tasks) in [
            ("  task: embeddingz\n  head: { kind: mean_pooling }", &embed[..]),
            ("  task: Embeddings", &embed),
            ("  task: classification", &[Task::Classify]),
            ("  task: bananas\n  head: { kind: mean_pooling }", &[Task::Summarize, Task::Embed]),
            ("  head:\n    kind: token_classification", &[Task::Entities]),
            ("  head: { kind: sequence_classification }\npipeline_tag: summarization", &all),
            ("  head: { kind: mean_pooling }\npipeline_tag: summarization", &[Task::Summarize]),
            ("  version: 1", &all),
        ] {
            check(&card(lines), tasks, false, StatedDefault::No);
        }
        for text in ["", "# A model\n", "\u{fffd}\u{fffd}\n---\n", "---\n"] {
            check(text, &all, false, StatedDefault::Unknown);
        }
    }
}
