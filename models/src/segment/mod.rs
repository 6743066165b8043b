//! Sentences of a text, as byte ranges.
//!
//! The base is Unicode's text segmentation (UAX #29, sentence boundaries), on top of which two kinds of rules make it fit
//! for business text. Line rules: a blank line, a list item, a heading, a mail header or a change of quoting ends a
//! sentence, while the line break of a hard-wrapped paragraph does not. Dot rules: the dot of an abbreviation or an initial
//! does not end a sentence.

mod flat;

use std::ops::Range;

use unicode_segmentation::UnicodeSegmentation;

use crate::pool::Pace;
use flat::Flat;

/// Abbreviations after which a sentence never ends: something must follow them.
const LEADING: &[&str] = &[
    "mr", "mrs", "ms", "mx", "dr", "prof", "rev", "hon", "st", "capt", "lt", "col", "gen", "sgt", "maj",
    "gov", "sen", "rep", "messrs", "vs", "cf", "e.g", "i.e", "viz", "approx", "ca", "fig", "figs", "eq",
    "eqs", "sec", "ch", "vol", "vols", "ed", "eds", "pp", "tel", "ext", "dept", "est", "incl", "excl",
    "resp", "mt", "ft",
];
/// Abbreviations after which a sentence may end; it does not if what follows is lower case or a digit.
const TRAILING: &[&str] = &[
    "inc", "ltd", "co", "corp", "llc", "plc", "gmbh", "jr", "sr", "etc", "al", "a.m", "p.m", "u.s", "u.k",
    "e.u", "u.n", "ph.d", "b.a", "m.a", "ave", "blvd", "rd", "univ", "jan", "feb", "mar", "apr", "jun",
    "jul", "aug", "sep", "sept", "oct", "nov", "dec", "mon", "tue", "wed", "thu", "fri", "sat", "sun", "min",
    "max",
];
/// Abbreviations that only go with a number: "No. 5", but "I said no. He left."
const NUMBERED: &[&str] = &["no", "nos", "p", "art", "para", "par", "item", "sect"];
/// Words on which no heading ends: the line was wrapped after them.
const UNFINISHED: &[&str] = &[
    "a", "an", "and", "are", "as", "at", "by", "for", "from", "has", "have", "in", "into", "is", "its", "of",
    "on", "or", "our", "that", "the", "their", "this", "to", "was", "were", "will", "with", "your",
];
/// Longest line that may be a heading, in bytes.
const HEADING_MAX: usize = 60;

/// Bytes that are looked through in the time that one is tokenised in: by a rough measurement.
const SEGMENTED_PER_TOKENISED: usize = 4;
/// How far is looked behind an ellipsis for what begins there, in characters.
const LOOK_AHEAD: usize = 64;

/// The sentences of a text: trimmed, not empty, in order, not overlapping; together they hold everything but white space.
///
/// Linear: lines and windows of blocks are looked at once, and what is looked at from each place is bounded, by [`Flat`] and
/// [`LOOK_AHEAD`].
pub(crate) async fn sentences(text: &str, pace: &Pace) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let mut block: Option<Range<usize>> = None;
    let mut previous: Option<&str> = None;
    let mut start = 0;
    for line in text.split_inclusive(['\n', '\r', '\u{2028}', '\u{2029}', '\u{c}']) {
        let range = start..start + line.len();
        start = range.end;
        if line.trim().is_empty() {
            // The second half of "\r\n" is no blank line.
            let is_half = line == "\n" && text[..range.start].ends_with('\r');
            if !is_half {
                previous = None;
            }
            continue;
        }
        match (previous, &mut block) {
            (Some(before), Some(block)) if reads_on(before, line) => block.end = range.end,
            _ => {
                if let Some(block) = block.replace(range) {
                    in_block(text, block, &mut found, pace).await;
                }
            }
        }
        previous = Some(line);
    }
    if let Some(block) = block {
        in_block(text, block, &mut found, pace).await;
    }
    found
}

/// Whether a line goes on with the sentence of the line before it.
fn reads_on(before: &str, line: &str) -> bool {
    let (before, line) = (before.trim(), line.trim());
    let is_quoted = |line: &str| line.starts_with('>');
    is_quoted(before) == is_quoted(line)
        && !is_item(line)
        && !is_header(line)
        && !is_header(before)
        && !before.starts_with('#')
        && !line.starts_with('#')
        && !is_rule(before)
        && !is_rule(line)
        && !is_heading(before, line)
}

/// A short line that begins upper case, ends without punctuation, and is followed by another that begins anew: a heading, a
/// line of an address, a greeting.
fn is_heading(before: &str, line: &str) -> bool {
    let begins_anew =
        |line: &str| line.chars().find(|c| c.is_alphanumeric()).is_some_and(|c| !c.is_lowercase());
    let is_open = before.ends_with(|c: char| c.is_alphanumeric() || matches!(c, ':' | ','));
    let limit = if before.ends_with([':', ',']) { HEADING_MAX / 2 } else { HEADING_MAX };
    let is_unfinished = before.rsplit(' ').next().is_some_and(|word| UNFINISHED.contains(&word));
    before.len() <= limit && is_open && !is_unfinished && begins_anew(before) && begins_anew(line)
}

/// `- item`, `* item`, `• item`, `1. item`, `2) item`, `a) item`.
fn is_item(line: &str) -> bool {
    let Some((mark, _)) = line.split_once(char::is_whitespace) else { return false };
    let number = mark.trim_start_matches('(').trim_end_matches(['.', ')']);
    let is_short =
        |s: &str| s.bytes().all(|b| b.is_ascii_digit()) && s.len() <= 3 || s.len() == 1 && s.is_ascii();
    let is_numbered = number.len() < mark.len() && !number.is_empty() && is_short(number);
    let is_initial = mark.ends_with('.') && number.bytes().all(|b| b.is_ascii_uppercase());
    matches!(mark, "-" | "*" | "•" | "–" | "—" | "·" | "◦" | "+" | "□" | "✓") || (is_numbered && !is_initial)
}

/// `--` before a signature, `=====` below a heading, `* * *` between parts.
fn is_rule(line: &str) -> bool {
    let marks = line.chars().filter(|c| matches!(c, '-' | '=' | '_' | '*' | '~')).count();
    marks >= 2 && line.chars().filter(|c| !c.is_whitespace()).count() == marks
}

/// `Subject: …` and its like.
fn is_header(line: &str) -> bool {
    const NAMES: [&str; 9] = ["from", "to", "cc", "bcc", "date", "sent", "subject", "reply-to", "re"];
    line.split_once(':').is_some_and(|(name, _)| NAMES.iter().any(|known| known.eq_ignore_ascii_case(name)))
}

async fn in_block(text: &str, block: Range<usize>, found: &mut Vec<Range<usize>>, pace: &Pace) {
    let (mut sentence, mut window) = (block.start, block.start);
    while window < block.end {
        let flat = Flat::of(&text[window..block.end]);
        looked(flat.read);
        let next = window + flat.read;
        in_window(text, window, &flat, next == block.end, &mut sentence, found);
        window = next;
        pace.spend(flat.read / SEGMENTED_PER_TOKENISED).await;
    }
}

/// Finds the ends of sentences in one window of a block, of which the first begins at `sentence`, maybe in a window before.
fn in_window(
    text: &str,
    window: usize,
    flat: &Flat,
    is_last_window: bool,
    sentence: &mut usize,
    found: &mut Vec<Range<usize>>,
) {
    let whole = flat.text.as_str();
    let mut start = 0;
    let mut boundaries = whole.split_sentence_bound_indices().map(|(at, piece)| at + piece.len()).peekable();
    while let Some(end) = boundaries.next() {
        let is_last = boundaries.peek().is_none();
        // A sentence goes on beyond its window.
        let is_open = is_last && !is_last_window;
        if !is_open && (is_last || is_end(&whole[start..end], &whole[end..])) {
            let to = window + flat.original(end);
            let piece = &text[*sentence..to];
            let from = *sentence + (piece.len() - piece.trim_start().len());
            let trimmed = piece.trim().len();
            if trimmed > 0 {
                found.push(from..from + trimmed);
            }
            (start, *sentence) = (end, to);
        }
    }
}

/// Whether a boundary that UAX #29 found between two pieces ends a sentence.
fn is_end(before: &str, after: &str) -> bool {
    let trimmed = before.trim_end();
    looked(before.len() - trimmed.len());
    let ends_wide = trimmed.ends_with(['。', '！', '？', '．', '｡']);
    if trimmed.len() == before.len() && !ends_wide {
        return false;
    }
    let bare = trimmed.trim_end_matches(['"', '\'', '”', '’', ')', ']', '»']);
    looked(trimmed.len() - bare.len());
    if bare.len() < trimmed.len() && after.trim_start().starts_with(char::is_lowercase) {
        // "Stop!" she cried.
        return false;
    }
    let Some(stem) = bare.strip_suffix('.') else { return true };
    if stem.ends_with('.') {
        // An ellipsis ends a sentence if the next begins like one.
        looked(after.chars().take(LOOK_AHEAD).take_while(|c| !c.is_alphanumeric()).count());
        let next = after.chars().take(LOOK_AHEAD).find(|c| c.is_alphanumeric());
        return next.is_some_and(|c| !c.is_lowercase());
    }
    let word = stem
        .rsplit(|c: char| c.is_whitespace() || matches!(c, '(' | '[' | '"' | '“' | '/'))
        .next()
        .unwrap_or("");
    looked(word.len());
    let lower = word.to_lowercase();
    let next = after.trim_start().chars().next();
    let is_initial = word.chars().count() == 1 && word.chars().all(char::is_uppercase);
    let goes_on = next.is_some_and(|c| c.is_lowercase() || c.is_ascii_digit());
    let is_numbered = next.is_some_and(|c| c.is_ascii_digit()) && NUMBERED.contains(&lower.as_str());
    let is_item_number = !word.is_empty() && stem.trim_start() == word && is_item(&format!("{word}. x"));
    !(is_initial
        || is_item_number
        || is_numbered
        || LEADING.contains(&lower.as_str())
        || (goes_on && TRAILING.contains(&lower.as_str())))
}

/// Counts characters that are looked at, for the test that they grow as the text does.
fn looked(_characters: usize) {
    #[cfg(test)]
    tests::LOOKED.with(|looked| looked.set(looked.get() + _characters));
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::pool;

    thread_local! {
        pub(super) static LOOKED: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
    }

    /// What the library looks at for its rule SB8, which it does from every mark and space behind a full stop up to the next letter or
    /// end of a sentence.
    fn looked_by_the_library(flat: &str) -> usize {
        let characters: Vec<char> = flat.chars().collect();
        let is_stop = |c: char| matches!(c, '.' | '!' | '?' | '…');
        let (mut total, mut is_behind) = (0, false);
        for (at, c) in characters.iter().enumerate() {
            if is_behind {
                let ahead = characters[at..].iter().take_while(|c| !c.is_alphabetic() && !is_stop(**c));
                total += ahead.count();
            }
            is_behind = *c == '.' || (is_behind && !c.is_alphanumeric() && !is_stop(*c));
        }
        total
    }

    /// Twice the text is twice the work, for shapes of text that from every place make one look at all the others.
    #[test]
    fn work_is_linear() {
        let shapes = [
            "... # ",
            ". # ",
            ".# ",
            "a. # ",
            "... ",
            ".",
            ". ",
            ".      ",
            ".\"\"\"\" ",
            ".)",
            "A. ",
            "1. ",
            "1. 11111111 ",
            "Dr. ",
            "a.b ",
            "a",
            "a ",
            "a, ",
            "# ",
            "- a\n",
            "a\n",
            "\r\n",
            "\u{301}",
            ".\u{301} ",
            "。",
            "?! ",
            "x.\u{2028}",
            "(\"a.\") ",
        ];
        for shape in shapes {
            let work = |bytes: usize| {
                let text = shape.repeat(bytes / shape.len());
                LOOKED.with(|looked| looked.set(0));
                sentences(&text);
                let (mut rest, mut library) = (text.as_str(), 0);
                while !rest.is_empty() {
                    let flat = Flat::of(rest);
                    library += looked_by_the_library(&flat.text);
                    rest = &rest[flat.read..];
                }
                LOOKED.with(std::cell::Cell::get) + library
            };
            let (once, twice) = (work(60_000), work(120_000));
            assert!(twice <= once * 21 / 10 + 4096, "{shape:?}: {once} became {twice}");
            assert!(once <= 60_000 * 32, "{shape:?}: {once} for 60,000 bytes");
        }
        // One stop, and then nothing but what has to be looked through.
        for filler in [" ", "#", "\"", "1", "\u{301}", "a", "–"] {
            let work =
                |bytes: usize| looked_by_the_library(&Flat::of(&format!("a.{}", filler.repeat(bytes))).text);
            assert!(work(20_000) <= 4096 && work(40_000) <= 4096, "{filler:?}");
        }
    }

    fn sentences(text: &str) -> Vec<Range<usize>> {
        pool::complete(super::sentences(text, &Pace::at_once()))
    }

    #[test]
    fn tables() {
        let check = |text: &str, expected: &[&str]| {
            let found: Vec<&str> = sentences(text).into_iter().map(|range| &text[range]).collect();
            assert_eq!(found, expected);
        };
        check("", &[]);
        check(" \n\t ", &[]);
        check("One. Two! Three? Four", &["One.", "Two!", "Three?", "Four"]);
        check(
            "Dr. Lee met Mrs. Ito at 5 p.m. on Monday. They left.",
            &["Dr. Lee met Mrs. Ito at 5 p.m. on Monday.", "They left."],
        );
        check(
            "It costs 3.14 euros. See e.g. page 7, i.e. the end.",
            &["It costs 3.14 euros.", "See e.g. page 7, i.e. the end."],
        );
        check("J. R. Moreno signed. I. Newton did not.", &["J. R. Moreno signed.", "I. Newton did not."]);
        check(
            "He said no. Then he left. See No. 5 and Fig. 2 there.",
            &["He said no.", "Then he left.", "See No. 5 and Fig. 2 there."],
        );
        check(
            "Acme Inc. makes tools. We buy from Acme Inc. They are good.",
            &["Acme Inc. makes tools.", "We buy from Acme Inc.", "They are good."],
        );
        check(
            "Write to a.b@example.com or see www.example.com/x.html today. Thanks.",
            &["Write to a.b@example.com or see www.example.com/x.html today.", "Thanks."],
        );
        check("Version 2.3.1 is out. Get it.", &["Version 2.3.1 is out.", "Get it."]);
        check("\"Stop!\" she cried. (He did.) Good.", &["\"Stop!\" she cried.", "(He did.)", "Good."]);
        check("Well... maybe. Well... Maybe.", &["Well... maybe.", "Well...", "Maybe."]);
        check("What?! No way!!", &["What?!", "No way!!"]);
        check("これは本です。それはペンです！", &["これは本です。", "それはペンです！"]);
    }

    #[test]
    fn lines() {
        let check = |text: &str, expected: &[&str]| {
            let found: Vec<&str> = sentences(text).into_iter().map(|range| &text[range]).collect();
            assert_eq!(found, expected);
        };
        check(
            "The plant in\nAarhus opened\nin May. It is big.",
            &["The plant in\nAarhus opened\nin May.", "It is big."],
        );
        check("wrapped by\r\nWindows lines. Yes.", &["wrapped by\r\nWindows lines.", "Yes."]);
        check("No stop here\n\nNext paragraph", &["No stop here", "Next paragraph"]);
        check(
            "Agenda:\n- budget for May\n- hiring\n1. First thing\n2) Second thing",
            &["Agenda:", "- budget for May", "- hiring", "1. First thing", "2) Second thing"],
        );
        check(
            "Quarterly Report\nSales rose in all regions.",
            &["Quarterly Report", "Sales rose in all regions."],
        );
        check(
            "Subject: Delay\nFrom: Ann\nDear all,\nWe are late.",
            &["Subject: Delay", "From: Ann", "Dear all,", "We are late."],
        );
        check(
            "Fine by me.\n> Shall we meet\n> on Monday?\nYes.",
            &["Fine by me.", "> Shall we meet\n> on Monday?", "Yes."],
        );
        check("# Title\nText follows here.", &["# Title", "Text follows here."]);
        check("Regards\n--\nAnn Lee\nSales", &["Regards", "--", "Ann Lee", "Sales"]);
        // The line below a heading, and what follows it, were one sentence with it.
        check("Section 1\n=========\nText here.", &["Section 1", "=========", "Text here."]);
        check("it ended\n* * *\nand began", &["it ended", "* * *", "and began"]);
    }

    proptest! {
        /// Whatever the text: in order, trimmed, on character boundaries, and nothing but white space is lost.
        #[test]
        fn everything_is_in_a_sentence(text in "([a-zA-Z0-9 .,!?\"'()\n\r>*#:\u{2028}。é🎉\u{301}-]|Dr\\.|\\PC){0,80}") {
            let found = sentences(&text);
            let mut end = 0;
            for range in &found {
                prop_assert!(range.start >= end && !range.is_empty());
                prop_assert!(text[end..range.start].trim().is_empty());
                prop_assert_eq!(text[range.clone()].trim(), &text[range.clone()]);
                end = range.end;
            }
            prop_assert!(text[end..].trim().is_empty());
        }
    }
}
