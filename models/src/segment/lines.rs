//! Lines: which of them read on, and which stand by themselves.
//!
//! A line break in prose is there because the next word did not fit. So the widest line of a paragraph tells
//! its width, and a break before a word that would have fitted was meant: a heading, an address, a list. What
//! lines are made of tells, too: prose is full of articles, pronouns and prepositions, and the entries of a
//! list have hardly any.

use std::collections::VecDeque;
use std::ops::Range;

use super::comment::Prefix;
use super::count;
use super::item::Mark;
use super::kind::Kind;
use super::line::{
    Begin, ENTRY_WORDS, Line, bare, begins_sentence, is_hyphened, is_initial, is_initialed, is_meant,
    is_numbered, is_unfinished,
};
use super::marks::{is_line_break, is_terminal};
use super::words;

/// The narrowest column that prose is taken to be set in, in characters, if nothing else says that it is
/// prose.
const COLUMN_MIN: usize = 30;
/// The narrowest column of lines of which all say so.
const NARROW_MIN: usize = 16;
/// Of so many breaks one may be where it was not needed.
const NEEDED_OF: usize = 10;
/// Share of the words of prose that are articles, pronouns, prepositions and the like: at least; and of a
/// list at most.
const GRAMMAR_MIN: f32 = 0.1;
const GRAMMAR_MAX: f32 = 0.34;
/// Most lines that are looked at together.
const RUN_MAX: usize = 4096;

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
        let prefix = Prefix::of(self.text, &self.run);
        if let Some(prefix) = &prefix {
            for line in &mut self.run {
                *line = prefix.bare(self.text, line);
            }
        }
        let column = Column::of(&self.run);
        let entries = column.entries(&self.run);
        // Whether the line before went on with a sentence of the one before it.
        let mut is_open = false;
        for (index, line) in self.run.iter().enumerate() {
            let before = index.checked_sub(1).map(|before| &self.run[before]);
            match (before, self.ready.back_mut()) {
                (Some(before), Some(block)) if column.reads_on(before, line, is_open) => {
                    block.bytes.end = line.end;
                    if column.ends_name(before, line) || entries.contains(&index) {
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
            if let Some((prefix, block)) = prefix.as_ref().zip(self.ready.back_mut()) {
                block.prefixes.push(prefix.range(self.text, line));
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
    /// In lines of one width.
    is_wrapped: bool,
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
            is_wrapped,
        }
    }

    /// Whether a line goes on with the sentence of the line before it, which may have gone on with one
    /// itself.
    fn reads_on(&self, before: &Line<'_>, line: &Line<'_>, is_open: bool) -> bool {
        if before.stands_alone() || line.stands_alone() || line.kind == Kind::Item {
            return false;
        }
        if (before.kind == Kind::Quoted) != (line.kind == Kind::Quoted) {
            return false;
        }
        // The break was not needed, because the next word would have fitted.
        let was_meant = is_meant(before, line, self.width);
        let is_numbered = is_numbered(before.last);
        let goes_on = is_unfinished(before.last)
            || is_hyphened(before.last)
            || (is_initial(before.last) && is_initial(line.first))
            || (!self.is_list && is_initialed(before, line));
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
        let is_mark = !line.first.is_empty() && line.first.chars().all(is_terminal);
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

    /// The lines before which a name ends although a sentence goes on: those of a list within it, of which
    /// one at least could have stood in the line before: "We thank Siemens", "Bosch", "Volvo", "for their
    /// help."
    fn entries(&self, lines: &[Line<'_>]) -> Vec<usize> {
        let is_entry = |line: &Line<'_>| {
            line.begin == Begin::Anew && line.is_entry() && !line.is_ended && line.grammar == 0
        };
        let is_listed = |index: usize| {
            let (Some(line), Some(next)) = (lines.get(index), lines.get(index + 1)) else { return false };
            is_entry(line)
                && is_entry(next)
                && is_meant(line, next, self.width)
                && !line.last.ends_with(',')
                && !is_unfinished(line.last)
                && !is_hyphened(line.last)
        };
        if self.is_wrapped || !self.is_prose {
            return Vec::new();
        }
        let listed = (1..lines.len()).filter(|index| is_listed(*index) || is_listed(*index - 1));
        listed.filter(|index| !is_hyphened(lines[*index - 1].last)).collect()
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
            && !is_hyphened(before.last)
            && is_meant(before, line, self.width)
    }
}

/// Whether each line is by itself, whatever its width: all begin anew and the last has no end, or none has
/// words that names and headings do not have.
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

/// Whether a line ends within a name, as it seems: "the chancellor Angela", "Merkel met". A heading before a
/// sentence that begins with a name looks so, too, if it is none of names and nouns only.
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
