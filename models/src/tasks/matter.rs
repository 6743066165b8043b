//! Which sentences of a document are of its matter.
//!
//! Headers and footers of pages, lines of logs, code, tables and disclaimers are not: they say nothing of what the document
//! says, and what repeats is most central of all. A summary has none of them, unless a document has nothing else.

use std::collections::HashMap;
use std::ops::Range;

use crate::segment::{is_line_break, is_stamped};

/// How often a line that has no end mark stands in a document, numbers aside, to be a header or footer of its pages.
const HEADERS_MIN: usize = 3;
/// The most words of a line that gives the number of a page.
const PAGE_WORDS_MAX: usize = 14;
/// Share of its marks in a line of code.
const CODE_SHARE: f32 = 0.12;
/// Share of numbers in a row of figures.
const FIGURES_SHARE: f32 = 0.6;
/// Bytes of a sentence that are looked at for phrases.
const PHRASE_MAX: usize = 1000;

/// Phrases of disclaimers and of what goes along with a message, in lower case.
const BOILERPLATE: &[&str] = &[
    "all rights reserved",
    "any attachments are confidential",
    "attachments may contain confidential",
    "before printing this",
    "confidential and intended solely",
    "confidentiality notice",
    "consider the environment before",
    "do not print this",
    "do not reply to this",
    "if you are not the intended recipient",
    "if you have received this",
    "intended only for the",
    "please delete it immediately",
    "privileged and confidential",
    "sent from my ",
    "this e-mail and any",
    "this e-mail is confidential",
    "this e-mail was sent",
    "this email and any",
    "this email is confidential",
    "this email was sent",
    "this message and any",
    "this message is confidential",
    "this message is intended",
    "this message was sent automatically",
    "to stop receiving",
    "unsubscribe",
    "view this email in your browser",
    "you are receiving this",
];

/// What a sentence is to a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Role {
    /// It says what the document says.
    Matter,
    /// A greeting, the end of a letter or what stands below it: taken after all that says something.
    Frame,
    /// A header, a log line, code, a table or a disclaimer: taken only if there is nothing else.
    Apart,
}

/// The role of each sentence; sentences ascend and do not overlap.
pub(super) fn roles(text: &str, sentences: &[Range<usize>]) -> Vec<Role> {
    let lines = Lines::of(text);
    let mut counts: HashMap<String, usize> = HashMap::new();
    let mut alone = Vec::with_capacity(sentences.len());
    let mut place = 0;
    for sentence in sentences {
        place = lines.place(place, sentence.start);
        let is_line = lines.is_line(place, sentence);
        let header = is_line.then(|| header(&text[sentence.clone()])).flatten();
        if let Some(header) = &header {
            *counts.entry(header.clone()).or_default() += 1;
        }
        alone.push((place, is_line, header));
    }
    let mut letter = Letter::default();
    let role = |(sentence, (place, is_line, header)): (&Range<usize>, (usize, bool, Option<String>))| {
        let words = &text[sentence.clone()];
        let repeats = header.as_ref().and_then(|header| counts.get(header)).copied().unwrap_or(0);
        let is_frame = letter.is_frame(words, is_line, place);
        if repeats >= HEADERS_MIN
            || lines.are_apart(place, sentence)
            || is_page(words)
            || is_boilerplate(words)
        {
            Role::Apart
        } else if is_frame {
            Role::Frame
        } else {
            Role::Matter
        }
    };
    sentences.iter().zip(alone).map(role).collect()
}

/// The lines of a text that are not blank, and whether they are of logs, code or tables.
struct Lines(Vec<Line>);

struct Line {
    bytes: Range<usize>,
    is_apart: bool,
}

impl Lines {
    fn of(text: &str) -> Self {
        let mut lines = Vec::new();
        let mut start = 0;
        // Between lines of ``` everything is code.
        let mut is_fenced = false;
        for raw in text.split_inclusive(is_line_break) {
            let line = raw.trim();
            let from = start + (raw.len() - raw.trim_start().len());
            start += raw.len();
            if line.is_empty() {
                continue;
            }
            let is_fence = line.starts_with("```") || line.starts_with("~~~");
            is_fenced ^= is_fence;
            let is_apart = is_fence || is_fenced || is_log(line) || is_row(line) || is_code(line);
            lines.push(Line { bytes: from..from + line.len(), is_apart });
        }
        Self(lines)
    }

    /// The line, at or behind a place, in which a byte is.
    fn place(&self, from: usize, byte: usize) -> usize {
        let mut place = from;
        while self.0.get(place + 1).is_some_and(|next| next.bytes.start <= byte) {
            place += 1;
        }
        place
    }

    /// Whether most lines of a sentence that begins in this line are of logs, code or tables.
    fn are_apart(&self, place: usize, sentence: &Range<usize>) -> bool {
        let lines =
            self.0[place.min(self.0.len())..].iter().take_while(|line| line.bytes.start < sentence.end);
        let (apart, all) =
            lines.fold((0, 0), |(apart, all), line| (apart + usize::from(line.is_apart), all + 1));
        apart * 2 > all
    }

    /// Whether a sentence is a line and nothing else.
    fn is_line(&self, place: usize, sentence: &Range<usize>) -> bool {
        self.0.get(place).is_some_and(|line| line.bytes == *sentence)
    }
}

/// What headers have in common from page to page: the words of a line without an end mark, numbers left out.
fn header(line: &str) -> Option<String> {
    if line.len() > PHRASE_MAX || line.ends_with(['.', '!', '?', '。', '！', '？']) {
        return None;
    }
    let lower = line.to_lowercase();
    let same = |word| if str::contains(word, |c: char| c.is_numeric()) { "0" } else { word };
    Some(lower.split_whitespace().map(same).collect::<Vec<_>>().join(" "))
}

/// A time and a level, or what else lines of logs begin with.
fn is_log(line: &str) -> bool {
    const LEVELS: [&str; 12] = [
        "TRACE", "DEBUG", "INFO", "NOTICE", "WARN", "WARNING", "ERROR", "ERR", "FATAL", "CRITICAL", "SEVERE",
        "PANIC",
    ];
    let is_level = |word: &str| LEVELS.contains(&word.trim_matches(|c: char| !c.is_alphanumeric()));
    let mut words = line.split_whitespace();
    let first = words.next().unwrap_or("");
    let begins_with_number =
        first.trim_start_matches(['[', '(', '<']).starts_with(|c: char| c.is_ascii_digit());
    let has_level = words.clone().take(5).any(is_level);
    let is_syslog = first.len() == 3 && {
        let mut words = words.clone();
        words.next().is_some_and(|day| day.len() <= 2 && day.bytes().all(|b| b.is_ascii_digit()))
            && words.next().is_some_and(|time| time.len() == 8 && is_stamped(time))
    };
    let is_address = first.split('.').count() == 4 && first.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    let is_trace = line.starts_with("Traceback (")
        || line.starts_with("Exception in thread")
        || line.starts_with("Caused by: ")
        || (line.starts_with("File \"") && line.contains(", line "))
        || (line.starts_with("at ") && line.ends_with(')') && line.contains(':') && !line[3..].contains(' '));
    (is_level(first) && (words.clone().next().is_some() || first.ends_with(':')))
        || (begins_with_number && has_level)
        || (is_stamped(line) && !first.starts_with(|c: char| c.is_alphabetic()) && has_seconds(line))
        || is_syslog
        || (is_address && line.contains(['[', '"']))
        || is_trace
        || (line.starts_with('{') && line.ends_with('}') && line.contains("\":"))
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
    let is_figures = count >= 3 && figures as f32 >= FIGURES_SHARE * count as f32 && !line.ends_with('.');
    let is_values =
        line.matches(',').count() >= 3 && !line.contains(", ") && count <= 2 + line.matches(',').count() / 2;
    line.contains('\t')
        || line.starts_with('|')
        || line.matches(" | ").count() >= 2
        || gaps >= 3
        || is_figures
        || is_values
}

fn is_code(line: &str) -> bool {
    const KEYWORDS: [&str; 34] = [
        "import ",
        "from ",
        "def ",
        "class ",
        "function ",
        "const ",
        "let ",
        "var ",
        "public ",
        "private ",
        "protected ",
        "static ",
        "return ",
        "return;",
        "fn ",
        "pub ",
        "use ",
        "impl ",
        "struct ",
        "enum ",
        "package ",
        "#include",
        "#define",
        "if (",
        "if(",
        "for (",
        "for(",
        "while (",
        "while(",
        "} else",
        "} catch",
        "try {",
        "elif ",
        "async ",
    ];
    const QUERIES: [(&str, &str); 5] = [
        ("SELECT ", " FROM "),
        ("INSERT INTO ", "("),
        ("UPDATE ", " SET "),
        ("DELETE FROM ", ""),
        ("CREATE TABLE ", "("),
    ];
    let is_mark = |c: &char| {
        matches!(
            c,
            '{' | '}'
                | '['
                | ']'
                | '('
                | ')'
                | '='
                | '<'
                | '>'
                | ';'
                | '&'
                | '|'
                | '\\'
                | '$'
                | '_'
                | '+'
                | '*'
                | '`'
        )
    };
    let marks = line.chars().filter(is_mark).count();
    let share = marks as f32 / line.chars().count().max(1) as f32;
    let is_sentence = line.ends_with(['.', '!', '?']) && line.starts_with(|c: char| c.is_uppercase());
    let ends = line.ends_with(['{', '}', ';'])
        || line.ends_with("):")
        || line.ends_with("),")
        || line.ends_with("];")
        || line.ends_with("/>");
    let name = line.split([' ', '(']).next().unwrap_or("");
    let is_name = !name.is_empty()
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'$'));
    let assigns =
        is_name && [" = ", " := ", " += ", " == "].iter().any(|sign| line[name.len()..].starts_with(sign));
    let calls = is_name && line[name.len()..].starts_with('(') && line.ends_with(')') && !line.contains(") ");
    let has_keyword = KEYWORDS.iter().any(|word| line.starts_with(word));
    let is_statement = has_keyword
        && (ends
            || line.ends_with(':')
            || marks >= 2
            || (line.starts_with("import ") && line.split(' ').count() <= 4));
    let is_import = line.starts_with("from ") && line.contains(" import ");
    let is_query = QUERIES.iter().any(|(verb, next)| line.starts_with(verb) && line.contains(next));
    let is_comment = line.starts_with("// ")
        || line.starts_with("/*")
        || line.starts_with("*/")
        || line.starts_with("#!/");
    !is_sentence
        && (matches!(
            line,
            "{" | "}" | "};" | "});" | "]" | "];" | ")" | ");" | "end" | "else:" | "pass" | "try:"
        ) || (share >= CODE_SHARE && marks >= 4)
            || (ends && share >= 0.75 * CODE_SHARE && marks >= 2)
            || line.starts_with("$ ")
            || assigns
            || calls
            || is_statement
            || is_import
            || is_query
            || is_comment)
}

/// `Page 3 of 9`, `- 3 -`, with little else.
fn is_page(sentence: &str) -> bool {
    if sentence.len() > 200 {
        return false;
    }
    let lower = sentence.to_lowercase();
    let words: Vec<&str> =
        lower.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()).collect();
    let is_number = |word: &str| word.bytes().all(|b| b.is_ascii_digit());
    let is_named = words.windows(2).any(|pair| matches!(pair[0], "page" | "pg") && is_number(pair[1]));
    let is_counted = words.len() >= 4 && {
        let last = &words[words.len() - 3..];
        is_number(last[0]) && last[1] == "of" && is_number(last[2]) && words.contains(&"page")
    };
    let is_sentence = sentence.ends_with(['.', '!', '?']) && words.len() > 2;
    words.len() <= PAGE_WORDS_MAX && !is_sentence && (is_named && ends_with_number(&lower) || is_counted)
}

fn ends_with_number(lower: &str) -> bool {
    lower.trim_end_matches(|c: char| !c.is_alphanumeric()).ends_with(|c: char| c.is_ascii_digit())
}

fn is_boilerplate(sentence: &str) -> bool {
    let head = &sentence[..sentence.floor_char_boundary(PHRASE_MAX)];
    let lower = head.to_lowercase();
    BOILERPLATE.iter().any(|phrase| lower.contains(phrase))
}

/// Where a letter ends and its signature begins.
#[derive(Default)]
struct Letter {
    /// Whether a closing was read, and how many lines ago.
    since: Option<usize>,
}

/// Lines of a signature.
const SIGNATURE_LINES: usize = 8;
/// Words of such a line.
const SIGNATURE_WORDS: usize = 8;

impl Letter {
    /// Whether a sentence is a greeting, a closing, or a line of what stands below it.
    fn is_frame(&mut self, sentence: &str, is_line: bool, place: usize) -> bool {
        const CLOSINGS: [&str; 16] = [
            "kind regards",
            "best regards",
            "warm regards",
            "regards",
            "best wishes",
            "sincerely",
            "yours sincerely",
            "yours faithfully",
            "yours truly",
            "cheers",
            "thanks",
            "thank you",
            "many thanks",
            "with kind regards",
            "best",
            "--",
        ];
        const GREETINGS: [&str; 6] = ["dear ", "hello ", "hi ", "hey ", "good morning", "good afternoon"];
        let is_short = sentence.len() <= 120 && sentence.split_whitespace().count() <= SIGNATURE_WORDS;
        let lower = if is_short { sentence.to_lowercase() } else { String::new() };
        let bare = lower.trim_end_matches([',', '.', '!']);
        if is_line && CLOSINGS.contains(&bare) {
            self.since = Some(place);
            return true;
        }
        let is_greeting =
            is_line && sentence.ends_with(',') && GREETINGS.iter().any(|word| lower.starts_with(word));
        let is_below = self.since.is_some_and(|since| place - since <= SIGNATURE_LINES);
        is_greeting || (is_short && is_line && is_below) || is_mail_header(&lower, is_line)
    }
}

/// `From: …` and its like.
fn is_mail_header(lower: &str, is_line: bool) -> bool {
    const NAMES: [&str; 8] = ["from", "to", "cc", "bcc", "date", "sent", "reply-to", "message-id"];
    is_line && lower.split_once(':').is_some_and(|(name, _)| NAMES.contains(&name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines() {
        let check = |line: &str, expected: bool| {
            assert_eq!(is_log(line) || is_row(line) || is_code(line), expected, "{line:?}");
        };
        for line in [
            "2026-11-27 13:00:01 INFO request 0 done in 0 ms",
            "[2026-11-27T13:00:01Z] connection closed",
            "13:00:01.234 worker started",
            "ERROR: disk full",
            "WARN [main] pool is full",
            "Nov 27 13:00:01 host sshd[123]: session opened",
            "10.0.0.1 - - [27/Nov/2026:13:00:01] \"GET / HTTP/1.1\" 200",
            "at com.example.App.main(App.java:12)",
            "Traceback (most recent call last):",
            "File \"main.py\", line 3, in <module>",
            "{\"level\":\"info\",\"msg\":\"started\"}",
            "def total(prices):",
            "return sum(prices) * 1.19",
            "let total = prices.iter().sum();",
            "for (int i = 0; i < n; i++) {",
            "}",
            "#include <stdio.h>",
            "from os import path",
            "import numpy as np",
            "x = compute(y)",
            "print(total(prices))",
            "SELECT name, price FROM pumps WHERE price > 10",
            "$ cargo build --release",
            "<div class=\"row\"><span>{name}</span></div>",
            "Region\tSales\tCosts",
            "| North | 120 | 80 |",
            "North    120    80",
            "North 120 80 40 12",
            "anna,schmidt,oslo,12",
        ] {
            check(line, true);
        }
        for line in [
            "The company sold forty heat pumps (to schools) in May.",
            "2026-11-27 was a cold day.",
            "[12:01] Ann: is it up?",
            "Error handling was the topic of the day.",
            "INFO",
            "Let us return to the plan of last year",
            "From Oslo we sail to Bergen, Narvik, and Tromso.",
            "For each ship there is a crew of 14",
            "Class A shares rose (by 3 %) and class B shares fell",
            "In 2019 sales were 120, in 2020 they were 140.",
            "See https://www.example.com/new-site/awesome_content.html for more",
            "Use plan B if the server is down",
            "Import duties rose by 3 percent",
            "If you have questions, call 555-1234.",
            "At noon the ship (the Anna) left.",
            "the Seller (Nord Ltd.) shall deliver the goods;",
        ] {
            check(line, false);
        }
    }

    #[test]
    fn pages() {
        let check = |line: &str, expected: bool| assert_eq!(is_page(line), expected, "{line:?}");
        check("Harbour Freight Ltd. - Confidential - Page 0 of 9", true);
        check("Page 3", true);
        check("Annual Report 2026 – Confidential – Page 1 of 40", true);
        check("Page 3/9", true);
        check("Please turn to page 3 of the report, which says more.", false);
        check("See page 12.", false);
        check("The rest is on p. 90.", false);
        check("The page was torn.", false);
    }

    #[test]
    fn roles_of_a_letter() {
        let text = "From: Ann\n\nDear Tom,\n\nThe ship is late. It sails on 3 May.\n\nKind regards\nAnn Lee\nNord Ltd.\n\n\
            This e-mail and any attachments are confidential.\n";
        let sentences = crate::segment::sentences_at_once(text);
        let shown: Vec<(&str, Role)> =
            sentences.iter().map(|range| &text[range.clone()]).zip(roles(text, &sentences)).collect();
        use Role::{Apart, Frame, Matter};
        let expected = [
            ("From: Ann", Frame),
            ("Dear Tom,", Frame),
            ("The ship is late.", Matter),
            ("It sails on 3 May.", Matter),
            ("Kind regards", Frame),
            ("Ann Lee", Frame),
            ("Nord Ltd.", Frame),
            ("This e-mail and any attachments are confidential.", Apart),
        ];
        assert_eq!(shown, expected);
    }
}
