//! Lines: which of them read on, and which stand by themselves.
//!
//! A line break in prose is there because the next word did not fit. So the widest line of a paragraph tells its width, and
//! a break before a word that would have fitted was meant: a heading, an address, a list. What lines are made of tells, too:
//! prose is full of articles, pronouns and prepositions, and the entries of a list have hardly any.

use std::collections::VecDeque;
use std::ops::Range;

use super::count;
use super::kind::Kind;
use super::scan::Mark;
use super::words;

/// The narrowest column that prose is taken to be set in, in characters, if nothing else says that it is prose.
const COLUMN_MIN: usize = 30;
/// The narrowest column of lines of which all say so.
const NARROW_MIN: usize = 16;
/// Of so many breaks one may be where it was not needed.
const NEEDED_OF: usize = 10;
/// Share of the words of prose that are articles, pronouns, prepositions and the like: at least; and of a list at most.
const GRAMMAR_MIN: f32 = 0.1;
const GRAMMAR_MAX: f32 = 0.34;
/// Most words of an entry of a list.
const ENTRY_WORDS: usize = 8;
/// Longest word that says something about the width of a column; longer ones are addresses of pages.
const WORD_MAX: usize = 30;
/// Most lines that are looked at together.
const RUN_MAX: usize = 4096;

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
    words: usize,
    /// Those of them that a list of names hardly has, and of these the ones that no name has.
    grammar: usize,
    no_name: usize,
    begin: Begin,
    is_ended: bool,
    is_wide: bool,
    /// `Dear all,`
    is_greeting: bool,
    kind: Kind,
}

/// Lines that read on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Block {
    pub(super) bytes: Range<usize>,
    /// Where lines of it begin before which a name ends all the same.
    pub(super) name_ends: Vec<usize>,
    /// What its lines begin with that is none of the text: the marks of a comment.
    pub(super) prefixes: Vec<Range<usize>>,
}

/// The blocks of lines that read on, in order.
pub(super) struct Blocks<'a> {
    text: &'a str,
    at: usize,
    /// Lines without a blank one between them.
    run: Vec<Line<'a>>,
    ready: VecDeque<Block>,
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
        let prefix = comment_prefix(self.text, &self.run);
        if prefix > 0 {
            for line in &mut self.run {
                let text = self.text[line.start..line.end].trim();
                *line = Line::new(line.start..line.end, text.get(prefix..).unwrap_or("").trim_start());
            }
        }
        let column = Column::of(&self.run);
        // Whether the line before went on with a sentence of the one before it.
        let mut is_open = false;
        for (index, line) in self.run.iter().enumerate() {
            let before = index.checked_sub(1).map(|before| &self.run[before]);
            match (before, self.ready.back_mut()) {
                (Some(before), Some(block)) if column.reads_on(before, line, is_open) => {
                    block.bytes.end = line.end;
                    if column.ends_name(before, line) {
                        if column.is_joined {
                            block.name_ends.push(before.start_of_last(self.text));
                        }
                        block.name_ends.push(line.start);
                    }
                    is_open = !before.is_ended;
                }
                _ => {
                    let bytes = line.start..line.end;
                    self.ready.push_back(Block { bytes, name_ends: Vec::new(), prefixes: Vec::new() });
                    is_open = false;
                }
            }
            if let Some(block) = self.ready.back_mut().filter(|_| prefix > 0) {
                let raw = &self.text[line.start..line.end];
                let start = line.start + raw.len() - raw.trim_start().len();
                block.prefixes.push(start..start + prefix);
            }
        }
        self.run.clear();
    }
}

impl Iterator for Blocks<'_> {
    type Item = Block;

    fn next(&mut self) -> Option<Block> {
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
    /// Each line is by itself: the lines of a list, an address or a signature.
    is_list: bool,
    /// Each line but the last ends with `&`, and nothing else joins them.
    is_joined: bool,
    /// Most lines are fields.
    is_fields: bool,
    /// Sentences in lines, even or not: it ends with a mark, and has words that lists do not have.
    is_prose: bool,
}

impl Column {
    fn of(lines: &[Line<'_>]) -> Self {
        let run: Vec<&Line<'_>> = lines.iter().filter(|line| !line.stands_alone()).collect();
        let widest = run.iter().filter(|line| !line.is_wide).map(|line| line.width).max().unwrap_or(0);
        let fields = lines.iter().filter(|line| matches!(line.kind, Kind::Field | Kind::Header)).count();
        let (words, grammar) =
            run.iter().fold((0, 0), |(words, grammar), line| (words + line.words, grammar + line.grammar));
        let share = grammar as f32 / words.max(1) as f32;
        let is_ended = run.last().is_some_and(|line| line.is_ended);
        // What a mark is before may begin anywhere.
        let breaks = run.windows(2).filter(|pair| !pair[0].is_ended);
        let meant = breaks.clone().filter(|pair| is_meant(pair[0], pair[1], widest)).count();
        let is_wrapped = widest >= NARROW_MIN
            && share >= GRAMMAR_MIN
            && meant * NEEDED_OF <= run.len().saturating_sub(1)
            && (is_ended || run.len() > 3);
        Self {
            width: if is_wrapped { widest } else { widest.max(COLUMN_MIN) },
            is_list: is_list(&run, is_ended, share, meant > 0),
            is_joined: run.len() > 2
                && run[..run.len() - 1].iter().all(|line| line.last == "&" && line.words > 1)
                && !is_ended,
            is_fields: fields * 2 > lines.len(),
            is_prose: is_wrapped || (is_ended && share >= GRAMMAR_MIN),
        }
    }

    /// Whether a line goes on with the sentence of the line before it, which may have gone on with one itself.
    fn reads_on(&self, before: &Line<'_>, line: &Line<'_>, is_open: bool) -> bool {
        if before.stands_alone() || line.stands_alone() || line.kind == Kind::Item {
            return false;
        }
        if (before.kind == Kind::Quoted) != (line.kind == Kind::Quoted) {
            return false;
        }
        // The break was not needed, because the next word would have fitted.
        let was_meant = is_meant(before, line, self.width);
        let is_numbered = matches!(abbreviation(before.last), Some(words::Class::NumberedWord));
        let goes_on = is_unfinished(before.last) || (is_initial(before.last) && is_initial(line.first));
        let is_unended = (!before.is_ended || is_numbered || goes_on) && !before.last.ends_with(':');
        if matches!(line.kind, Kind::MaybeItem | Kind::Field) {
            let is_listed = matches!(before.kind, Kind::Item | Kind::MaybeItem)
                && line.kind == Kind::MaybeItem
                && Mark::of(before.first)
                    .zip(Mark::of(line.first))
                    .is_none_or(|(mark, next)| mark.precedes(next) || mark.repeats(next));
            let is_field = self.is_fields && line.kind == Kind::Field;
            if was_meant || !is_unended || is_listed || is_field {
                return false;
            }
        }
        if was_meant && before.is_greeting {
            return false;
        }
        let is_mark = !line.first.is_empty() && line.first.chars().all(super::scan::is_terminal);
        if goes_on || is_mark || (line.begin == Begin::Lower && !self.is_list) {
            return true;
        }
        let ends_field = self.is_fields && before.last.ends_with(':') && before.begin != Begin::Lower;
        if self.is_list || ends_field {
            return false;
        }
        // In a narrow column the next word seldom fits: "Results for Oslo", "The ship sailed."
        if self.width < COLUMN_MIN
            && !is_open
            && is_unended
            && !before.last.ends_with(')')
            && begins_sentence(line.first)
        {
            return false;
        }
        !was_meant || ((self.is_prose || is_open) && is_unended && is_name_parted(before, line, is_open))
    }

    /// Whether a name ends between lines that read on.
    fn ends_name(&self, before: &Line<'_>, line: &Line<'_>) -> bool {
        if self.is_joined {
            return true;
        }
        !self.is_prose
            && before.is_entry()
            && line.is_entry()
            && !is_unfinished(before.last)
            && is_meant(before, line, self.width)
    }
}

/// The bytes of what all lines begin with that stand together, if it is the mark of a comment: `// `, `# `, `-- `; or ` * `, if the
/// lines are prose otherwise, for a list has such marks, too.
fn comment_prefix(text: &str, lines: &[Line<'_>]) -> usize {
    const MARKS: [&str; 6] = ["//", "#", "--", ";;", "%", "*"];
    let texts = || lines.iter().map(|line| text[line.start..line.end].trim());
    let rest = |line: &'_ str, mark: &str| -> Option<bool> {
        let rest = line.strip_prefix(mark)?;
        (rest.is_empty() || rest.starts_with(' ')).then(|| rest.trim_start().starts_with(char::is_lowercase))
    };
    let is_prefix = |mark: &&&str| {
        let begins = texts().map(|line| rest(line, mark));
        let (mut small, mut all) = (0, 0);
        for begin in begins {
            let Some(is_small) = begin else { return false };
            (small, all) = (small + usize::from(is_small), all + 1);
        }
        // Items begin anew, or all small.
        all > 1 && (**mark != "*" || (small > 0 && small * 2 >= all && small < all))
    };
    MARKS.iter().find(is_prefix).map_or(0, |mark| mark.len())
}

/// Whether the first word of the second line would have fitted into the first.
fn is_meant(before: &Line<'_>, line: &Line<'_>, width: usize) -> bool {
    before.width + 1 + line.first.chars().take(width + 1).count() <= width
}

/// Whether each line is by itself, whatever its width: all begin anew and the last has no end, or none has words that names and
/// headings do not have.
fn is_list(run: &[&Line<'_>], is_ended: bool, share: f32, has_meant: bool) -> bool {
    if run.iter().all(|line| line.begin != Begin::Lower) {
        return !is_ended || run.iter().all(|line| line.is_entry());
    }
    // "Attendees:" is above a list, and is none of it.
    let listed = match run {
        [first, rest @ ..] if first.last.ends_with(':') => rest,
        _ => run,
    };
    let is_by_itself = |line: &&Line<'_>| {
        !line.is_ended
            && line.words <= ENTRY_WORDS
            && !is_unfinished(line.last)
            && !words::goes_on(&bare(line.first))
    };
    let are_entries = listed.iter().all(|line| line.is_entry());
    let is_alike = are_entries || (has_meant && share <= GRAMMAR_MAX);
    let is_even = are_entries || listed.iter().all(|line| line.begin == Begin::Lower);
    is_even && is_alike && listed.iter().all(is_by_itself)
}

/// Whether a line ends within a name, as it seems: "the chancellor Angela", "Merkel met". A heading before a sentence that begins
/// with a name looks so, too, if it is none of names and nouns only.
fn is_name_parted(before: &Line<'_>, line: &Line<'_>, is_open: bool) -> bool {
    let is_capital = |word: &str| {
        word.chars().find(|c| c.is_alphanumeric()).is_some_and(char::is_uppercase)
            && !word.ends_with([',', ';', ')', '"', '”'])
    };
    let first = line.first.trim_end_matches([',', ';', '.', ')']);
    is_capital(before.last)
        && is_capital(first)
        && !begins_sentence(line.first)
        && (is_open || before.no_name > 0)
}

/// Whether a capital of a word says that a sentence begins with it, and not a name.
fn begins_sentence(word: &str) -> bool {
    let word = word.trim_end_matches([',', ';']);
    // A letter may be a number: "Exhibit", "A."
    word.len() > 1
        && !word.ends_with('.')
        && word.starts_with(char::is_uppercase)
        && words::is_starter(&bare(word))
}

/// A word without marks at its ends, in small letters; empty if it is too long to be in a table.
fn bare(word: &str) -> String {
    let bare = word.trim_matches(|c: char| !c.is_alphanumeric());
    if bare.len() <= words::WORD_MAX { bare.to_lowercase() } else { String::new() }
}

/// Whether a line that ends with this word must go on.
fn is_unfinished(last: &str) -> bool {
    use words::Class::{Link, Numbered, Title};
    words::is_unfinished(last) || matches!(abbreviation(last), Some(Title | Link | Numbered))
}

/// `J.`
fn is_initial(word: &str) -> bool {
    word.strip_suffix('.').is_some_and(|letter| letter.len() == 1 && letter.starts_with(char::is_alphabetic))
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
        let unclosed = super::scan::without_notes(text).trim_end_matches(is_closer);
        let words = || body.split_whitespace();
        let (mut count, mut grammar, mut no_name) = (0, 0, 0);
        for word in words() {
            let word = bare(word);
            // "the Alps" is an entry, too.
            no_name += usize::from(words::is_grammar(&word) && (count > 0 || word != "the"));
            grammar += usize::from(words::is_grammar(&word) || words::is_link(&word));
            count += 1;
        }
        Self {
            start: range.start,
            end: range.end,
            first: words().next().unwrap_or(""),
            last: body.rsplit(char::is_whitespace).next().unwrap_or(""),
            width: text.chars().count(),
            words: count,
            grammar,
            no_name,
            begin,
            is_ended: unclosed.ends_with(super::scan::is_terminal),
            is_wide: words().any(|word| word.len() > WORD_MAX && word.chars().count() > WORD_MAX),
            is_greeting: text.ends_with([',', '!']) && is_greeting(body),
            kind,
        }
    }
}

impl Line<'_> {
    /// Whether no line goes on with it, nor does it with one.
    fn stands_alone(&self) -> bool {
        matches!(self.kind, Kind::Header | Kind::Title | Kind::Rule | Kind::Row)
    }

    /// Where its last word begins.
    fn start_of_last(&self, text: &str) -> usize {
        self.start + text[self.start..self.end].trim_end().len() - self.last.len()
    }

    /// Whether it could be a name, or a few: short, and without words that no name has.
    fn is_entry(&self) -> bool {
        self.no_name == 0 && self.words <= ENTRY_WORDS
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
