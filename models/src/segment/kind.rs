//! What a line is by how it looks: an item of a list, a heading, a row of a table.

use super::item::Mark;
use super::marks::is_bullet;
use super::words;

/// Longest name of a field at the start of a line: `Ship to: …`
const FIELD_MAX: usize = 32;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Text,
    /// `> quoted`
    Quoted,
    /// `- item`: nothing else begins like this.
    Item,
    /// `3. item`, `a) item`, `– item`: or words that a line happens to begin with.
    MaybeItem,
    /// `Subject: …`
    Header,
    /// `Ship to: …`, `Anna: …`: or words that a line happens to begin with.
    Field,
    /// `# Title`
    Title,
    /// `-----`, `* * *`, and the marks around code
    Rule,
    /// Cells between tabs or bars, or a line of a log.
    Row,
}

impl Kind {
    pub(super) fn of(line: &str) -> Self {
        if line.starts_with('>') {
            Self::Quoted
        } else if is_title(line) {
            Self::Title
        } else if is_rule(line) || is_fence(line) {
            Self::Rule
        } else if is_row(line) {
            Self::Row
        } else if let Some(kind) = item(line) {
            kind
        } else {
            field(line).unwrap_or(Self::Text)
        }
    }
}

/// `# Title`, but not `#8 was the last engine`.
fn is_title(line: &str) -> bool {
    let marks = line.bytes().take_while(|b| *b == b'#').count();
    (1..=6).contains(&marks) && line[marks..].chars().next().is_none_or(char::is_whitespace)
}

/// `- item`, `* item`, `• item`, `1. item`, `2) item`, `(a) item`.
fn item(line: &str) -> Option<Kind> {
    if line.starts_with(is_bullet) || check_box(line) > 0 {
        return Some(Kind::Item);
    }
    let (mark, _) = line.split_once(char::is_whitespace)?;
    match mark {
        "-" | "*" | "+" | "o" => return Some(Kind::Item),
        "–" | "—" => return Some(Kind::MaybeItem),
        _ => {}
    }
    Mark::of(mark).map(|_| Kind::MaybeItem)
}

/// The bytes of `[ ]` or `[x]` at the start of a line, if there are any.
pub(super) fn check_box(line: &str) -> usize {
    let is_box = ["[ ]", "[x]", "[X]"].iter().any(|mark| line.starts_with(mark));
    if is_box && line[3..].starts_with(char::is_whitespace) { 3 } else { 0 }
}

/// `--` before a signature, `=====` below a heading, `* * *` between parts.
fn is_rule(line: &str) -> bool {
    let mut marks = 0;
    line.chars().filter(|c| !c.is_whitespace()).all(|c| {
        marks += 1;
        matches!(c, '-' | '=' | '_' | '*' | '~' | '─' | '—' | '–')
    }) && marks >= 2
}

/// What is around code, and around comments in it.
fn is_fence(line: &str) -> bool {
    line.starts_with("```") || line.starts_with("~~~") || matches!(line, "/*" | "/**" | "*/")
}

/// A row of a table, or a line that begins with a time as those of logs and chats do.
fn is_row(line: &str) -> bool {
    is_stamped(line)
        || line.starts_with('|')
        || line.ends_with('|')
        || (line.contains('\t') && !is_tabbed_prose(line))
        || line.contains(" | ")
}

/// Whether a tab is a slip in a line of prose: a sentence ends in it, and it has words that no cell has.
pub(crate) fn is_tabbed_prose(line: &str) -> bool {
    const GRAMMAR_MIN: usize = 2;
    let ends =
        line.split_once(". ").is_some_and(|(_, rest)| rest.trim_start().starts_with(char::is_uppercase));
    let is_grammar = |word: &&str| {
        let word = word.trim_matches(|c: char| !c.is_alphanumeric());
        word.len() <= words::WORD_MAX && words::is_grammar(&word.to_lowercase())
    };
    ends && line.split_whitespace().filter(is_grammar).count() >= GRAMMAR_MIN
}

/// Whether a line begins with `2026-11-27 13:00`, `13:00:01` or `[13:00]`.
pub(crate) fn is_stamped(line: &str) -> bool {
    let digits = |text: &str, count: usize| {
        text.len() >= count && text.bytes().take(count).all(|b| b.is_ascii_digit())
    };
    let is_time =
        |text: &str| digits(text, 2) && text[2..].starts_with(':') && digits(text.get(3..).unwrap_or(""), 2);
    let bare = line.trim_start_matches(['[', '(', '<']);
    let is_date = digits(bare, 4)
        && bare[4..].starts_with(['-', '/'])
        && digits(bare.get(5..).unwrap_or(""), 2)
        && bare[7..].starts_with(['-', '/'])
        && digits(bare.get(8..).unwrap_or(""), 2);
    let is_dated = is_date && bare[10..].starts_with(['T', ' ']) && is_time(&bare[11..]);
    is_dated || (is_time(bare) && (bare[5..].starts_with(':') || bare.len() < line.len()))
}

/// `Subject: …`, `Ship to: …`.
fn field(line: &str) -> Option<Kind> {
    const NAMES: [&str; 10] =
        ["from", "to", "cc", "bcc", "date", "sent", "subject", "reply-to", "re", "attendees"];
    let mut end = FIELD_MAX.min(line.len());
    while !line.is_char_boundary(end) {
        end -= 1;
    }
    let (name, rest) = line[..end].split_once(':')?;
    if NAMES.iter().any(|known| known.eq_ignore_ascii_case(name)) {
        return Some(Kind::Header);
    }
    let is_spaced = rest.is_empty() || rest.starts_with(char::is_whitespace);
    let is_name = name.starts_with(char::is_uppercase)
        && name.split(' ').count() <= 4
        && !name.contains(['.', '"', ',']);
    (is_spaced && is_name).then_some(Kind::Field)
}
