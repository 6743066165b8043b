//! Marks at the starts of lines that are none of their text: those of comments in programs.

use std::ops::Range;

use super::count;
use super::line::{Begin, Line, is_meant};

/// The narrowest column that a comment with stars is taken to be set in, in characters.
const COLUMN_MIN: usize = 30;
/// Share of the words of prose that are articles, pronouns, prepositions and the like, at least.
const GRAMMAR_MIN: f32 = 0.1;
/// Of so many breaks one may be where it was not needed.
const NEEDED_OF: usize = 10;

/// What the lines of a comment begin with: `//`, `#`, `--`; `/*` and then `*`.
pub(super) struct Prefix {
    mark: &'static str,
    /// Whether the first line opens a comment, and has no such mark.
    is_framed: bool,
}

impl Prefix {
    /// What all lines begin with that stand together, if it is the mark of a comment. Lists have stars, too:
    /// these are of a comment if `/*` is before them, or if they are prose otherwise.
    pub(super) fn of(text: &str, lines: &[Line<'_>]) -> Option<Self> {
        const MARKS: [&str; 6] = ["//", "#", "--", ";;", "%", "*"];
        let raw = |line: &Line<'_>| text[line.start..line.end].trim();
        let is_framed = lines.first().is_some_and(|line| raw(line).starts_with("/*"));
        let marked = if is_framed { &lines[1..] } else { lines };
        let is_marked = |mark: &&&str| {
            marked.iter().all(|line| {
                let rest = raw(line).strip_prefix(**mark);
                rest.is_some_and(|rest| {
                    rest.is_empty() || rest.starts_with([' ', '\t']) || (is_framed && rest == "/")
                })
            })
        };
        let mark = if is_framed {
            Some("*").filter(|mark| is_marked(&mark))
        } else {
            MARKS.iter().find(is_marked).copied()
        };
        let prefix = Self { mark: mark?, is_framed };
        let is_comment =
            is_framed || marked.len() > 1 && (prefix.mark != "*" || prefix.is_prose(text, lines));
        is_comment.then_some(prefix)
    }

    /// The bytes of a line that are the mark.
    pub(super) fn range(&self, text: &str, line: &Line<'_>) -> Range<usize> {
        let raw = &text[line.start..line.end];
        let start = line.start + raw.len() - raw.trim_start().len();
        let raw = raw.trim();
        let length = match () {
            () if self.is_framed && raw.starts_with("/*") => {
                raw.len() - raw[1..].trim_start_matches('*').len()
            }
            () if self.is_framed && raw == "*/" => raw.len(),
            () if raw.starts_with(self.mark) => self.mark.len(),
            () => 0,
        };
        start..start + length
    }

    /// A line without the mark.
    pub(super) fn bare<'a>(&self, text: &'a str, line: &Line<'a>) -> Line<'a> {
        let mark = self.range(text, line);
        Line::new(line.start..line.end, text[mark.end..line.end].trim())
    }

    /// Whether lines read on without their marks: some begin with small letters and some do not, as in prose,
    /// and hardly any could have stood in the line before.
    fn is_prose(&self, text: &str, lines: &[Line<'_>]) -> bool {
        let lines: Vec<Line<'_>> = lines.iter().map(|line| self.bare(text, line)).collect();
        let small = lines.iter().filter(|line| line.begin == Begin::Lower).count();
        let widest = lines.iter().map(|line| line.width).max().unwrap_or(0);
        let (words, grammar) =
            lines.iter().fold((0, 0), |(words, grammar), line| (words + line.words, grammar + line.grammar));
        count(lines.len());
        let meant =
            lines.windows(2).filter(|pair| !pair[0].is_ended && is_meant(&pair[0], &pair[1], widest)).count();
        let is_wrapped = widest >= COLUMN_MIN
            && grammar as f32 >= GRAMMAR_MIN * words as f32
            && meant * NEEDED_OF < lines.len();
        // Items begin anew, or all small.
        small > 0 && small < lines.len() && (small * 2 >= lines.len() || is_wrapped)
    }
}
