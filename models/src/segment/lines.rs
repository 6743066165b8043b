//! Lines: which of them read on, and which stand by themselves.
//!
//! A line break in prose is there because the next word did not fit. So the widest line of a paragraph tells its width, and
//! a break before a word that would have fitted was meant: a heading, an address, a list.

use std::collections::VecDeque;
use std::ops::Range;

use super::count;
use super::words;

/// The narrowest column that prose is taken to be set in, in characters.
const COLUMN_MIN: usize = 30;
/// Longest word that says something about the width of a column; longer ones are addresses of pages.
const WORD_MAX: usize = 30;
/// Most lines that are looked at together.
const RUN_MAX: usize = 4096;
/// Longest name of a field at the start of a line: `Ship to: …`
const FIELD_MAX: usize = 32;

/// How a line begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Begin {
    /// With a small letter.
    Lower,
    /// With a capital, a digit, or a letter of a script that has no capitals.
    Anew,
    /// With none of these.
    Other,
}

/// A line that is not blank, with what decides whether the next goes on with it.
#[derive(Debug, Clone, Copy)]
struct Line<'a> {
    /// With its white space and its line break.
    start: usize,
    end: usize,
    first: &'a str,
    last: &'a str,
    /// In characters.
    width: usize,
    begin: Begin,
    is_ended: bool,
    is_wide: bool,
    /// `Dear all,`
    is_greeting: bool,
    kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
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
    /// `-----`, `* * *`
    Rule,
    /// Cells between tabs or bars, or a line of a log.
    Row,
}

/// The blocks of lines that read on, in order.
pub(super) struct Blocks<'a> {
    text: &'a str,
    at: usize,
    /// Lines without a blank one between them.
    run: Vec<Line<'a>>,
    ready: VecDeque<Range<usize>>,
}

impl<'a> Blocks<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self { text, at: 0, run: Vec::new(), ready: VecDeque::new() }
    }

    /// Reads lines up to a blank one, and makes blocks of them.
    fn read(&mut self) {
        let start = self.at;
        for raw in self.text[start..].split_inclusive(is_line_break) {
            let range = self.at..self.at + raw.len();
            self.at = range.end;
            count(raw.len());
            let trimmed = raw.trim();
            if !trimmed.is_empty() {
                self.run.push(Line::new(range, trimmed));
                if self.run.len() == RUN_MAX {
                    break;
                }
                continue;
            }
            // The second half of "\r\n" is no blank line.
            let is_half = raw == "\n" && range.start > 0 && self.text.as_bytes()[range.start - 1] == b'\r';
            if !is_half && !self.run.is_empty() {
                break;
            }
        }
        let column = Column::of(&self.run);
        for (index, line) in self.run.iter().enumerate() {
            let before = index.checked_sub(1).map(|before| &self.run[before]);
            match (before, self.ready.back_mut()) {
                (Some(before), Some(block)) if column.reads_on(before, line) => block.end = line.end,
                _ => self.ready.push_back(line.start..line.end),
            }
        }
        self.run.clear();
    }
}

impl Iterator for Blocks<'_> {
    type Item = Range<usize>;

    fn next(&mut self) -> Option<Range<usize>> {
        while self.ready.is_empty() && self.at < self.text.len() {
            self.read();
        }
        self.ready.pop_front()
    }
}

/// Characters that end a line.
pub(crate) fn is_line_break(c: char) -> bool {
    matches!(c, '\n' | '\r' | '\u{b}' | '\u{c}' | '\u{85}' | '\u{2028}' | '\u{2029}')
}

/// What lines that stand together tell about each other.
struct Column {
    /// Characters in the widest line of prose.
    width: usize,
    /// Each line begins anew and the last has no end: lines of a list, an address or a signature.
    is_list: bool,
    /// Most lines are fields.
    is_fields: bool,
}

impl Column {
    fn of(run: &[Line<'_>]) -> Self {
        let widest = run.iter().filter(|line| !line.is_wide).map(|line| line.width).max();
        let is_list = run.iter().all(|line| line.begin != Begin::Lower)
            && run.last().is_some_and(|line| !line.is_ended);
        let fields = run.iter().filter(|line| matches!(line.kind, Kind::Field | Kind::Header)).count();
        Self { width: widest.unwrap_or(0).max(COLUMN_MIN), is_list, is_fields: fields * 2 > run.len() }
    }

    /// Whether a line goes on with the sentence of the line before it.
    fn reads_on(&self, before: &Line<'_>, line: &Line<'_>) -> bool {
        let stands_alone =
            |line: &Line<'_>| matches!(line.kind, Kind::Header | Kind::Title | Kind::Rule | Kind::Row);
        if stands_alone(before) || stands_alone(line) || line.kind == Kind::Item {
            return false;
        }
        if (before.kind == Kind::Quoted) != (line.kind == Kind::Quoted) {
            return false;
        }
        // The break was not needed, because the next word would have fitted.
        let next = line.first.chars().take(self.width + 1).count();
        let was_meant = before.width + 1 + next <= self.width;
        let is_numbered = matches!(abbreviation(before.last), Some(words::Class::NumberedWord));
        let is_open =
            (!before.is_ended || is_numbered || is_unfinished(before.last)) && !before.last.ends_with(':');
        if matches!(line.kind, Kind::MaybeItem | Kind::Field) {
            let is_listed =
                matches!(before.kind, Kind::Item | Kind::MaybeItem) && line.kind == Kind::MaybeItem;
            let is_field = self.is_fields && line.kind == Kind::Field;
            if was_meant || !is_open || is_listed || is_field {
                return false;
            }
        }
        if was_meant && before.is_greeting {
            return false;
        }
        if is_unfinished(before.last) || line.begin == Begin::Lower {
            return true;
        }
        let ends_field = self.is_fields && before.last.ends_with(':') && before.begin != Begin::Lower;
        !(was_meant || self.is_list || ends_field)
    }
}

/// Whether a line that ends with this word must go on.
fn is_unfinished(last: &str) -> bool {
    use words::Class::{Link, Numbered, Title};
    words::is_unfinished(last) || matches!(abbreviation(last), Some(Title | Link | Numbered))
}

/// The class of the abbreviation that a word is.
fn abbreviation(word: &str) -> Option<words::Class> {
    let stem = word.strip_suffix('.').filter(|stem| stem.len() <= words::WORD_MAX)?;
    let stem = stem.trim_start_matches(|c: char| !c.is_alphanumeric());
    words::class(stem, &stem.to_lowercase(), false)
}

impl<'a> Line<'a> {
    fn new(range: Range<usize>, text: &'a str) -> Self {
        count(text.len());
        let kind = Kind::of(text);
        let body = if kind == Kind::Quoted { text.trim_start_matches(['>', ' ']) } else { text };
        let begin = match body.chars().find(|c| c.is_alphanumeric()) {
            Some(c) if c.is_lowercase() => Begin::Lower,
            Some(_) => Begin::Anew,
            None => Begin::Other,
        };
        let bare = text.trim_end_matches(is_closer);
        let words = || body.split_whitespace();
        Self {
            start: range.start,
            end: range.end,
            first: words().next().unwrap_or(""),
            last: body.rsplit(char::is_whitespace).next().unwrap_or(""),
            width: text.chars().count(),
            begin,
            is_ended: bare.ends_with(super::scan::is_terminal),
            is_wide: words().any(|word| word.len() > WORD_MAX && word.chars().count() > WORD_MAX),
            is_greeting: text.ends_with([',', '!']) && is_greeting(body),
            kind,
        }
    }
}

fn is_greeting(line: &str) -> bool {
    let first = line.split(|c: char| !c.is_alphabetic()).next().unwrap_or("");
    first.len() <= words::WORD_MAX && words::is_greeting(&first.to_lowercase())
}

/// Closing quotes, brackets and marks of emphasis.
pub(super) fn is_closer(c: char) -> bool {
    matches!(
        c,
        '"' | '\''
            | '”'
            | '’'
            | ')'
            | ']'
            | '}'
            | '»'
            | '›'
            | '*'
            | '_'
            | '`'
            | '~'
            | '」'
            | '』'
            | '》'
            | '】'
            | '）'
            | '〉'
    )
}

impl Kind {
    fn of(line: &str) -> Self {
        if line.starts_with('>') {
            Self::Quoted
        } else if is_title(line) {
            Self::Title
        } else if is_rule(line) {
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
    if line.starts_with(is_bullet) {
        return Some(Kind::Item);
    }
    let (mark, _) = line.split_once(char::is_whitespace)?;
    match mark {
        "-" | "*" | "+" | "o" | "[ ]" | "[x]" => return Some(Kind::Item),
        "–" | "—" => return Some(Kind::MaybeItem),
        _ => {}
    }
    super::scan::Mark::of(mark).map(|_| Kind::MaybeItem)
}

/// Bullets of lists, and arrows.
pub(super) fn is_bullet(c: char) -> bool {
    matches!(
        c,
        '•' | '◦'
            | '▪'
            | '‣'
            | '⁃'
            | '●'
            | '○'
            | '■'
            | '□'
            | '✓'
            | '✔'
            | '☐'
            | '☑'
            | '→'
            | '➢'
            | '·'
    )
}

/// `--` before a signature, `=====` below a heading, `* * *` between parts.
fn is_rule(line: &str) -> bool {
    let mut marks = 0;
    line.chars().filter(|c| !c.is_whitespace()).all(|c| {
        marks += 1;
        matches!(c, '-' | '=' | '_' | '*' | '~' | '─' | '—' | '–')
    }) && marks >= 2
}

/// A row of a table, or a line that begins with a time as those of logs and chats do.
fn is_row(line: &str) -> bool {
    is_stamped(line)
        || line.starts_with('|')
        || line.ends_with('|')
        || line.contains('\t')
        || line.contains(" | ")
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
