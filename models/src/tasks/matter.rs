//! Which sentences of a document are of its matter.
//!
//! Headers and footers of pages, lines of logs, code, tables and disclaimers are not: they say nothing of
//! what the document says, and what repeats is most central of all. A summary has none of them, unless a
//! document has nothing else.

use std::ops::Range;

use super::lines::{Apart, Lines, Stretch};
use crate::segment::{count, ends_sentence, is_unfinished};

/// Most lines that a page has above its text and below that of the page before.
const FURNITURE_MAX: usize = 8;
/// The most words of a line that gives the number of a page.
const PAGE_WORDS_MAX: usize = 14;
/// Bytes of a sentence that are looked at for phrases.
const PHRASE_MAX: usize = 1000;

/// Phrases of disclaimers and of what goes along with a message, in lower case.
const BOILERPLATE: &[&str] = &[
    "all rights reserved",
    "any attachments are confidential",
    "attachments may contain confidential",
    "click here to unsubscribe",
    "confidential and intended solely",
    "confidentiality notice",
    "consider the environment before",
    "do not reply to this",
    "privileged and confidential",
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
    "view this email in your browser",
];

/// Phrases that are of a message only if the sentence speaks of it elsewhere, too.
const MAYBE_BOILERPLATE: &[&str] = &[
    "before printing this",
    "do not print this",
    "if you are not the addressee",
    "if you are not the intended recipient",
    "if you are not the recipient",
    "if you have received this",
    "intended only for the",
    "please delete it immediately",
    "please notify the sender",
    "received it in error",
    "received this in error",
    "to stop receiving",
    "unsubscribe",
    "you are receiving this",
];
/// Words of a sentence that speaks of the message it stands in.
const OF_MESSAGES: &[&str] = &[
    "attachment",
    "click",
    "delete",
    "disclos",
    "distribution",
    "e-mail",
    "email",
    "hereby notified",
    "link below",
    "newsletter",
    "our mailing list",
    "prohibited",
    "sender",
    "these messages",
    "this list",
    "this message",
];
/// What such a sentence may begin with.
const MESSAGE_STARTS: &[&str] = &["sent from my ", "unsubscribe", "to unsubscribe", "you are receiving this"];
/// Words by which somebody else speaks: it is reported, and no notice to the reader.
const REPORTS: &[&str] =
    &[" said", " says", " ruled", " told ", " according to ", " argued", " reported", " warned"];

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

/// A sentence of a document, or lines that stand beside one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Passage {
    pub(super) bytes: Range<usize>,
    pub(super) role: Role,
    /// What is none of it: the header of a page on which it goes on, ascending.
    pub(super) left_out: Vec<Range<usize>>,
}

/// A part of a sentence, before those over the end of a page are joined.
struct Part {
    stretch: Stretch,
    /// The sentence it is of.
    sentence: usize,
}

/// The sentences of a text, parted from lines that are none of its prose and joined over the ends of pages,
/// with what they are; sentences ascend and do not overlap. `text` is without markup, `raw` as it was
/// written.
pub(super) fn passages(text: &str, raw: &str, sentences: &[Range<usize>]) -> Vec<Passage> {
    let lines = Lines::of(text, raw);
    let mut parts: Vec<Part> = Vec::with_capacity(sentences.len());
    let mut place = 0;
    for (sentence, bytes) in sentences.iter().enumerate() {
        place = lines.place(place, bytes.start);
        let stretches = settled(text, lines.stretches(place, bytes));
        parts.extend(stretches.into_iter().map(|stretch| Part { stretch, sentence }));
    }
    let mut passages = Vec::with_capacity(parts.len());
    let mut letter = Letter::default();
    let mut at = 0;
    while let Some(part) = parts.get(at) {
        let mut bytes = part.stretch.bytes.clone();
        let mut left_out = Vec::new();
        let line = part.stretch.lines.start;
        at += 1;
        while let Some(next) = goes_on_at(text, &parts, at, &bytes) {
            left_out.extend(parts[at..next].iter().map(|part| part.stretch.bytes.clone()));
            bytes.end = parts[next].stretch.bytes.end;
            at = next + 1;
        }
        let words = &text[bytes.clone()];
        let is_line = lines.is_line(line, &bytes);
        let is_frame = letter.is_frame(words, is_line, line);
        let is_apart = part.stretch.apart != Apart::No
            || part.stretch.is_furniture
            || (is_line && lines.repeats(line))
            || is_page(words)
            || is_boilerplate(words);
        let role = match () {
            () if is_apart => Role::Apart,
            () if is_frame => Role::Frame,
            () => Role::Matter,
        };
        passages.push(Passage { bytes, role, left_out });
    }
    passages
}

/// The stretches of a sentence. A line that only looks as if it were of a table or a program is of the prose
/// around it, if that reads on over it: lines of prose are broken at odd places.
fn settled(text: &str, mut stretches: Vec<Stretch>) -> Vec<Stretch> {
    if stretches.len() == 1 {
        return stretches;
    }
    let (mut looks, mut kept) = (0, 0);
    for stretch in &stretches {
        match stretch.apart {
            Apart::No => kept += stretch.lines.len(),
            Apart::Looks => looks += stretch.lines.len(),
            Apart::Surely => {}
        }
    }
    for index in 0..stretches.len() {
        count(1);
        if stretches[index].apart != Apart::Looks || stretches[index].is_furniture || looks > kept {
            continue;
        }
        let (before, behind) = stretches.split_at(index);
        let is_prose = |stretch: &&Stretch| stretch.apart == Apart::No && !stretch.is_furniture;
        let here = &stretches[index];
        let follows = before.last().filter(is_prose).is_some_and(|before| reads_on(text, before, here));
        let precedes = behind.get(1).filter(is_prose).is_some_and(|next| reads_on(text, here, next));
        let is_within = before.last().is_some_and(|before| is_prose(&before))
            && behind.get(1).is_some_and(|next| is_prose(&next));
        if follows || precedes || is_within {
            stretches[index].apart = Apart::No;
        }
    }
    let mut joined: Vec<Stretch> = Vec::with_capacity(stretches.len());
    for stretch in stretches {
        match joined.last_mut() {
            Some(last) if last.apart == stretch.apart && last.is_furniture == stretch.is_furniture => {
                last.bytes.end = stretch.bytes.end;
                last.lines.end = stretch.lines.end;
            }
            _ => joined.push(stretch),
        }
    }
    joined
}

/// Whether a line goes on with the sentence of another: that has no end, and the next begins with a small
/// letter, or something must follow.
fn reads_on(text: &str, before: &Stretch, behind: &Stretch) -> bool {
    let (before, behind) = (&text[before.bytes.clone()], &text[behind.bytes.clone()]);
    let last = before.rsplit(char::is_whitespace).next().unwrap_or("");
    count(last.len());
    let is_small = behind.chars().next().is_some_and(char::is_lowercase);
    let must_go_on = last.ends_with([',', '-']) || is_unfinished(&last.to_lowercase());
    before.split_whitespace().nth(2).is_some() && !ends_sentence(before) && (is_small || must_go_on)
}

/// The part with which the sentence before a part goes on, over the header and footer of a page or other
/// lines that stand within it.
fn goes_on_at(text: &str, parts: &[Part], at: usize, before: &Range<usize>) -> Option<usize> {
    let last = &parts[at - 1];
    if last.stretch.apart != Apart::No || last.stretch.is_furniture {
        return None;
    }
    let is_between = |part: &&Part| {
        part.stretch.is_furniture
            || is_page(&text[part.stretch.bytes.clone()])
            || (part.sentence == last.sentence && part.stretch.apart == Apart::Surely)
    };
    let between = parts[at..].iter().take(FURNITURE_MAX).take_while(is_between).count();
    count(between + 1);
    let next = parts.get(at + between).filter(|next| between > 0 && next.stretch.apart == Apart::No)?;
    let is_other_line = next.stretch.lines.start >= parts[at + between - 1].stretch.lines.end;
    let before = Stretch { bytes: before.clone(), ..last.stretch.clone() };
    (is_other_line && reads_on(text, &before, &next.stretch)).then_some(at + between)
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
    let is_roman =
        |word: &str| word.len() <= 6 && word.bytes().all(|b| matches!(b, b'i' | b'v' | b'x' | b'l'));
    let is_page =
        |pair: &[&str]| matches!(pair[0], "page" | "pg") && (is_number(pair[1]) || is_roman(pair[1]));
    let is_named = words.windows(2).any(is_page);
    let is_counted = words.len() >= 4 && {
        let last = &words[words.len() - 3..];
        is_number(last[0]) && last[1] == "of" && is_number(last[2]) && words.contains(&"page")
    };
    let is_sentence = sentence.ends_with(['.', '!', '?']) && words.len() > 2;
    // `- 3 -`, `[3]`, `3 / 9`
    let is_bare = matches!(words.len(), 1 | 2)
        && words.iter().all(|word| word.len() <= 4 && is_number(word))
        && (words.len() == 1 || lower.contains('/'))
        && !lower.contains(['%', '$', '€', '£', '.', ',', '!', '?'])
        && lower
            .starts_with(['-', '–', '—', '[', '|', '~', '0', '1', '2', '3', '4', '5', '6', '7', '8', '9']);
    if is_bare {
        return true;
    }
    words.len() <= PAGE_WORDS_MAX
        && !is_sentence
        && (is_named && (ends_with_number(&lower) || words.last().is_some_and(|word| is_roman(word)))
            || is_counted)
}

fn ends_with_number(lower: &str) -> bool {
    lower.trim_end_matches(|c: char| !c.is_alphanumeric()).ends_with(|c: char| c.is_ascii_digit())
}

/// Whether a sentence is a notice about the message or document it stands in. One that is reported is none,
/// nor is one that only has a word of it: "Customers may unsubscribe at any time."
fn is_boilerplate(sentence: &str) -> bool {
    let head = &sentence[..sentence.floor_char_boundary(PHRASE_MAX)];
    let lower = head.to_lowercase();
    let has = |phrases: &[&str]| phrases.iter().any(|phrase| lower.contains(phrase));
    let bare = lower.trim_start_matches(|c: char| !c.is_alphanumeric());
    let begins = MESSAGE_STARTS.iter().any(|start| bare.starts_with(start));
    let is_copyright = head.trim_start().starts_with('©')
        || ["copyright ©", "copyright (c)"].iter().any(|start| lower.starts_with(start));
    (begins || is_copyright || has(BOILERPLATE) || (has(MAYBE_BOILERPLATE) && has(OF_MESSAGES)))
        && !has(REPORTS)
}

/// Where a letter ends and its signature begins.
#[derive(Default)]
struct Letter {
    /// Whether a closing was read, and how many lines ago.
    since: Option<usize>,
}

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
    const NAMES: [&str; 9] = ["from", "to", "cc", "bcc", "date", "sent", "subject", "reply-to", "message-id"];
    is_line && lower.split_once(':').is_some_and(|(name, _)| NAMES.contains(&name))
}

#[cfg(test)]
mod tests;
