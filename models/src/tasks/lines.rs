//! Which lines of a text are of logs, code or tables: by themselves, and by what they stand in.

use std::collections::HashSet;
use std::ops::Range;

use super::code::{is_code, prose_words};
use crate::segment::{is_line_break, is_stamped};

/// Share of numbers in a row of figures.
const FIGURES_SHARE: f32 = 0.6;
/// Bytes of a line that are looked at.
const LOOKED_MAX: usize = 4096;
/// Lines of a paragraph that are looked at together.
const PARAGRAPH_MAX: usize = 4096;

/// The lines of a text that are not blank, and whether they are of logs, code or tables.
pub(super) struct Lines(Vec<Line>);

struct Line {
    bytes: Range<usize>,
    is_apart: bool,
}

/// What lines stand in.
#[derive(Default)]
struct Place {
    /// Between lines of ``` everything is code.
    is_fenced: bool,
    /// Within `"""`, or `/* */`: what ends it.
    until: Option<&'static str>,
    /// The indentation of a line such as `def run(x):`, which is above what is further to the right.
    body: Option<usize>,
    /// Below `Traceback`, up to the line of the error.
    is_trace: bool,
}

impl Lines {
    pub(super) fn of(text: &str) -> Self {
        let mut lines: Vec<Line> = Vec::new();
        // The line that opened what is not closed yet.
        let (mut start, mut paragraph, mut opened) = (0, 0, 0);
        let mut place = Place::default();
        for raw in text.split_inclusive(is_line_break) {
            let line = raw.trim();
            let indent = raw.len() - raw.trim_start().len();
            let from = start + indent;
            start += raw.len();
            if line.is_empty() || lines.len() - paragraph >= PARAGRAPH_MAX {
                if raw != "\n" || !text[..start - raw.len()].ends_with('\r') {
                    Self::look_at_paragraph(text, &mut lines[paragraph..]);
                    paragraph = lines.len();
                }
                if line.is_empty() {
                    continue;
                }
            }
            let head = &line[..line.floor_char_boundary(LOOKED_MAX)];
            let (was_open, was_fenced) = (place.is_open(), place.is_fenced);
            let is_apart = place.is_apart(head, indent);
            if place.is_open() && !was_open {
                opened = lines.len();
            }
            let is_of_fence = was_fenced || place.is_fenced;
            // What is fenced says nothing of the lines around it.
            if is_of_fence {
                Self::look_at_paragraph(text, &mut lines[paragraph..]);
            }
            lines.push(Line { bytes: from..from + line.len(), is_apart });
            paragraph = if is_of_fence { lines.len() } else { paragraph };
        }
        Self::look_at_paragraph(text, &mut lines[paragraph..]);
        if place.is_open() {
            // What is never closed was not opened.
            let mut place = Place::default();
            for line in lines.iter_mut().skip(opened + 1) {
                let head = &text[line.bytes.clone()];
                line.is_apart = place.is_apart(&head[..head.floor_char_boundary(LOOKED_MAX)], 0);
            }
        }
        Self(lines)
    }

    /// Lines of which most are code are all code, and so are keys with their values.
    fn look_at_paragraph(text: &str, lines: &mut [Line]) {
        let apart = lines.iter().filter(|line| line.is_apart).count();
        let texts = || lines.iter().map(|line| &text[line.bytes.clone()]);
        // Lines that begin with a level, and of which most are no sentences.
        let is_log = lines.len() > 2
            && texts().all(begins_with_level)
            && texts().filter(|line| line.ends_with(['.', '!', '?'])).count() * 2 < lines.len();
        let is_data = is_log || is_mapping(texts()) || are_values(texts());
        let is_code = is_data || (apart > 1 && apart * 2 >= lines.len() && texts().any(is_code));
        if is_code {
            let is_kept = |line: &Line| !is_data && is_prose(&text[line.bytes.clone()]);
            lines.iter_mut().for_each(|line| line.is_apart |= !is_kept(line));
        }
    }

    /// The line, at or behind a place, in which a byte is.
    pub(super) fn place(&self, from: usize, byte: usize) -> usize {
        let mut place = from;
        while self.0.get(place + 1).is_some_and(|next| next.bytes.start <= byte) {
            place += 1;
        }
        place
    }

    /// Whether most lines of a sentence that begins in this line are of logs, code or tables.
    pub(super) fn are_apart(&self, place: usize, sentence: &Range<usize>) -> bool {
        let lines =
            self.0[place.min(self.0.len())..].iter().take_while(|line| line.bytes.start < sentence.end);
        let (apart, all) =
            lines.fold((0, 0), |(apart, all), line| (apart + usize::from(line.is_apart), all + 1));
        apart * 2 > all
    }

    /// Whether a sentence is a line and nothing else.
    pub(super) fn is_line(&self, place: usize, sentence: &Range<usize>) -> bool {
        self.0.get(place).is_some_and(|line| line.bytes == *sentence)
    }
}

/// Whether a line among those of code is of prose: "It adds the numbers."
fn is_prose(line: &str) -> bool {
    let line = &line[..line.floor_char_boundary(LOOKED_MAX)];
    let is_sentence = line.ends_with(['.', '!', '?', ':'])
        && line.split_whitespace().nth(2).is_some()
        && !line[..line.len() - 1].contains(['.', '!', '?', '{', '}', '=', '<', '>', ';']);
    let is_wordy = || prose_words(&line.to_lowercase()) > 1 && !line.contains(['{', '}', '=', ';']);
    line.starts_with(|c: char| c.is_uppercase()) && (is_sentence || is_wordy())
}

impl Place {
    /// Whether something was opened that ends with a mark of its own.
    fn is_open(&self) -> bool {
        self.is_fenced || self.until.is_some()
    }

    /// Whether the next line is of a log, of code or of a table.
    fn is_apart(&mut self, line: &str, indent: usize) -> bool {
        if let Some(end) = self.until {
            if line.contains(end) {
                self.until = None;
            }
            return true;
        }
        if line.starts_with("```") || line.starts_with("~~~") {
            self.is_fenced = !self.is_fenced;
            return true;
        }
        if self.is_fenced {
            return true;
        }
        if self.is_trace {
            self.is_trace = indent > 0 && !is_error(line);
            return true;
        }
        for quote in ["\"\"\"", "'''"] {
            let quotes = line.matches(quote).count();
            if quotes % 2 == 1 {
                self.until = Some(quote);
            }
            if quotes > 0 {
                return true;
            }
        }
        if line.starts_with("/*") {
            self.until = Some("*/").filter(|end| !line.contains(end));
            return true;
        }
        self.is_trace = line.starts_with("Traceback (");
        if self.body.is_some_and(|body| indent > body) {
            return true;
        }
        let is_code = is_code(line);
        self.body = (is_code && (line.ends_with([':', '{']))).then_some(indent);
        is_code || is_log(line) || is_row(line)
    }
}

/// `ValueError: The value is bad.`, `java.lang.NullPointerException: null`.
fn is_error(line: &str) -> bool {
    // "E   AssertionError: …"
    let line = line.strip_prefix("E  ").map_or(line, str::trim_start);
    let name = line.split([':', ' ']).next().unwrap_or("");
    let is_name = name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'$'));
    is_name
        && name.starts_with(|c: char| c.is_ascii_alphabetic())
        && line[name.len()..].starts_with(':')
        && ["Error", "Exception", "Warning"].iter().any(|end| name.ends_with(end) && name.len() > end.len())
}

/// `name: Oslo`, `replicas: 3`: keys in small letters, each once, of which one at least has no sentence as
/// its value.
fn is_mapping<'a>(lines: impl Iterator<Item = &'a str>) -> bool {
    let mut keys = HashSet::new();
    let (mut count, mut values, mut indents) = (0, 0, 0);
    for line in lines {
        count += 1;
        let item = line.trim_start_matches("- ");
        let Some((key, value)) = item.split_once(':') else {
            if item.len() < line.len() && keys.len() > 1 {
                continue;
            }
            return false;
        };
        let is_key = key.starts_with(|c: char| c.is_ascii_lowercase())
            && key.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'))
            && (value.is_empty() || value.starts_with(' '));
        if !is_key || !(keys.insert(key) || item.len() < line.len() || indents > 0) {
            return false;
        }
        indents += usize::from(item.len() < line.len());
        values += usize::from(!value.trim().contains(' '));
    }
    count > 1 && values > 0
}

/// Rows of values between commas, as many in each.
fn are_values<'a>(lines: impl Iterator<Item = &'a str>) -> bool {
    let (mut commas, mut count) = (0, 0);
    for line in lines {
        let found = line.matches(',').count();
        if found == 0 || line.contains(", ") || line.ends_with(['.', ',']) || (count > 0 && found != commas) {
            return false;
        }
        (commas, count) = (found, count + 1);
    }
    count > 1
}

const LEVELS: [&str; 12] = [
    "TRACE", "DEBUG", "INFO", "NOTICE", "WARN", "WARNING", "ERROR", "ERR", "FATAL", "CRITICAL", "SEVERE",
    "PANIC",
];

fn is_level(word: &str) -> bool {
    LEVELS.contains(&word.trim_matches(|c: char| !c.is_alphanumeric()))
}

/// Whether a line begins with a level, whatever it says: `ERROR: …`, `WARN[0003] …`.
fn begins_with_level(line: &str) -> bool {
    let first = line.split_whitespace().next().unwrap_or("");
    is_level(first) || first.split_once('[').is_some_and(|(word, _)| is_level(word))
}

/// A level and what a sentence does not have behind it: brackets, keys with values, the name of a logger. A
/// word that warns makes no log: "WARNING: the bridge is slippery."
fn is_leveled(line: &str) -> bool {
    let mut words = line.split_whitespace();
    let first = words.next().unwrap_or("");
    let Some(next) = words.next() else { return first.ends_with(':') && is_level(first) };
    if !begins_with_level(line) {
        return false;
    }
    let is_name = |word: &str| {
        let name = word.trim_end_matches([':', ']']).trim_start_matches('[');
        let is_of_name = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-' | b'/' | b':');
        // `com.acme.Main`, `pool-1`, `net::http`
        name.bytes().all(is_of_name)
            && (name.contains("::") || name.contains('_') || name.trim_end_matches('.').contains('.'))
            && name.starts_with(|c: char| c.is_ascii_alphabetic())
    };
    let is_bracketed = first.contains('[') || next.starts_with('[') || next == "-" || next == "---";
    let is_named = (is_name(next) && (next.ends_with(':') || !first.ends_with(':'))) || next.ends_with("]:");
    let is_telling = line.ends_with(['.', '!', '?']) || line.split_whitespace().skip(1).any(is_grammatical);
    is_bracketed || is_named || pairs(line) > 0 || is_stamped(next) || !is_telling
}

/// Whether a word is an article, a pronoun, or another of which sentences are full.
fn is_grammatical(word: &str) -> bool {
    let word = word.trim_matches(|c: char| !c.is_alphanumeric());
    word.len() <= 8 && crate::segment::is_grammar(&word.to_lowercase())
}

/// How many words of a line are keys with values: `level=info`.
fn pairs(line: &str) -> usize {
    let is_pair = |word: &&str| {
        word.split_once('=').is_some_and(|(key, value)| {
            let is_of_key = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-');
            key.starts_with(|c: char| c.is_ascii_alphabetic())
                && key.bytes().all(is_of_key)
                && !value.is_empty()
        })
    };
    line.split_whitespace().filter(is_pair).count()
}

/// A time and a level, or what else lines of logs begin with.
fn is_log(line: &str) -> bool {
    let mut words = line.split_whitespace();
    let first = words.next().unwrap_or("");
    // "12 CRITICAL patients" begins with no time.
    let bare = first.trim_start_matches(['[', '(', '<']);
    let digits = bare.bytes().filter(u8::is_ascii_digit).count();
    let begins_with_time = bare.starts_with(|c: char| c.is_ascii_digit())
        && (digits >= 9 || (digits >= 4 && bare.contains([':', '-', '/', '.'])) || bare.len() < first.len());
    let has_level = words.clone().take(5).any(is_level);
    let is_syslog = first.len() == 3 && {
        let mut words = words.clone();
        words.next().is_some_and(|day| day.len() <= 2 && day.bytes().all(|b| b.is_ascii_digit()))
            && words.next().is_some_and(|time| time.len() == 8 && is_stamped(time))
    };
    let is_address = first.split('.').count() == 4 && first.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    let is_request = is_address && words.clone().next().is_some_and(|next| next.starts_with(['-', '[', '"']));
    let is_cause = |cause: &str| {
        is_error(cause)
            || cause.split([':', ' ']).next().is_some_and(|name| name.trim_end_matches('.').contains('.'))
    };
    let is_trace = line.starts_with("Traceback (")
        || line.starts_with("Exception in thread")
        || line.strip_prefix("Caused by: ").is_some_and(is_cause)
        || (line.starts_with("thread '") && line.contains(" panicked at "))
        || (line.starts_with("File \"") && line.contains(", line "))
        || line.starts_with("panic: ")
        || line.starts_with("fatal error: ")
        || (line.starts_with("goroutine ") && line.ends_with("]:"))
        || (line.starts_with("... ") && line.ends_with(" more"))
        || (line.starts_with("at ") && ends_with_place(line));
    // `main.c:3:5: error: …`, and the lines of glog: `I1127 13:00:01.000`.
    let mut parts = first.split(':');
    let is_diagnostic = (first.ends_with(':') || first.starts_with('/'))
        && parts.next().is_some_and(|file| file.contains('.'))
        && parts.next().is_some_and(|line| !line.is_empty() && line.bytes().all(|b| b.is_ascii_digit()));
    let is_glog = first.len() == 5
        && first.starts_with(['I', 'W', 'E', 'F'])
        && first.bytes().skip(1).all(|b| b.is_ascii_digit())
        && words.clone().next().is_some_and(is_stamped_time);
    // `level=info ts=… msg="…"`, `npm ERR! code`, `error[E0308]: …`
    let pairs = pairs(line);
    let is_paired = first.contains('=') && pairs >= 2 && (pairs >= 3 || pairs * 2 > words.clone().count());
    let is_of_tool = (matches!(first, "npm" | "yarn" | "pnpm")
        && words
            .clone()
            .next()
            .is_some_and(|next| matches!(next, "ERR!" | "WARN" | "error" | "warn" | "notice")))
        || (first.starts_with("error[") && first.ends_with("]:"));
    is_leveled(line)
        || (begins_with_time && has_level)
        || (is_stamped(line) && !first.starts_with(|c: char| c.is_alphabetic()) && has_seconds(line))
        || is_syslog
        || is_request
        || is_trace
        || is_error(line)
        || is_diagnostic
        || is_glog
        || is_paired
        || is_of_tool
        || (line.starts_with('{') && line.ends_with('}') && line.contains("\":"))
}

/// `main.go:3`, `A.java:12)`
fn ends_with_place(line: &str) -> bool {
    let place = line.trim_end_matches(')');
    place.rsplit_once(':').is_some_and(|(file, line)| {
        !line.is_empty() && line.bytes().all(|b| b.is_ascii_digit()) && !file.ends_with(' ')
    })
}

fn is_stamped_time(word: &str) -> bool {
    word.len() >= 8 && has_seconds(word)
}

/// A time to the second among the first characters: those of chats seldom have one.
fn has_seconds(line: &str) -> bool {
    let head = &line.as_bytes()[..line.len().min(32)];
    let is_digit = |at: usize| head.get(at).is_some_and(u8::is_ascii_digit);
    (0..head.len()).any(|at| {
        is_digit(at)
            && is_digit(at + 1)
            && head.get(at + 2) == Some(&b':')
            && is_digit(at + 3)
            && is_digit(at + 4)
            && head.get(at + 5) == Some(&b':')
    })
}

/// Cells between tabs or bars, values between commas, figures in a row.
fn is_row(line: &str) -> bool {
    let gaps = line.split("  ").filter(|cell| !cell.trim().is_empty()).count();
    let words = || line.split_whitespace();
    let figures = words().filter(|word| word.bytes().any(|b| b.is_ascii_digit())).count();
    let count = words().count();
    let is_figures = count >= 3
        && figures as f32 >= FIGURES_SHARE * count as f32
        && !line.ends_with('.')
        && !line.contains(", ");
    let is_values =
        line.matches(',').count() >= 3 && !line.contains(", ") && count <= 2 + line.matches(',').count() / 2;
    // "1.<tab>The ship sailed on Monday." is an item.
    let is_sentence =
        |cell: &str| cell.ends_with(['.', '!', '?']) && cell.split_whitespace().nth(3).is_some();
    let is_tabbed = match line.split_once('\t') {
        Some((_, rest)) => rest.contains('\t') || !is_sentence(rest),
        None => false,
    };
    is_tabbed
        || line.starts_with('|')
        || line.matches(" | ").count() >= 2
        || gaps >= 3
        || is_figures
        || is_values
}

#[cfg(test)]
mod tests;
