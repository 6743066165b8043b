//! A window of a block as UAX #29 reads it: without line breaks, and short of what decides nothing.
//!
//! What is looked at from one place is bounded by that: the library looks from every space behind a full stop for the next letter,
//! which takes the square of the length of `. # # # # …`. So of a run of characters that are neither letters nor digits nor ends of
//! sentences only the first and the last few are kept, and of a long word too; and a window ends behind a word.

use std::collections::VecDeque;

/// Bytes after which a window ends behind the next word, behind the next one without white space, and anywhere.
const WINDOW_BYTES: [usize; 3] = [8 << 10, 16 << 10, 32 << 10];
/// Characters kept at each end of a run of neither letters, digits nor ends of sentences.
const NEUTRAL_KEPT: usize = 8;
/// Characters kept at each end of a word.
const WORD_KEPT: usize = 128;

/// A window of a text, with the way back.
pub(super) struct Flat {
    pub(super) text: String,
    /// Where something was left out: an offset into `text`, and what it is in the original.
    jumps: Vec<(usize, usize)>,
    /// Bytes of the original that it stands for.
    pub(super) read: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Word,
    Neutral,
    /// May end a sentence; all are kept.
    Stop,
}

/// The characters of the run that is being read which are not in the text yet: the last few.
struct Tail {
    kept: VecDeque<(usize, char)>,
    has_dropped: bool,
}

impl Flat {
    /// The window at the start of a text.
    pub(super) fn of(original: &str) -> Self {
        let mut flat = Self { text: String::new(), jumps: Vec::new(), read: original.len() };
        let mut tail = Tail { kept: VecDeque::new(), has_dropped: false };
        let (mut run, mut length) = (Kind::Stop, 0);
        for (at, c) in original.char_indices() {
            let kind = kind(c);
            if kind != run || kind == Kind::Stop {
                flat.take(&mut tail);
                if flat.ends_before(run, kind, c) {
                    flat.read = at;
                    return flat;
                }
                (run, length) = (kind, 0);
            }
            length += 1;
            let kept = match kind {
                Kind::Word => WORD_KEPT,
                Kind::Neutral => NEUTRAL_KEPT,
                Kind::Stop => usize::MAX,
            };
            if length <= kept {
                flat.text.push(flatten(c));
                continue;
            }
            tail.kept.push_back((at, c));
            if tail.kept.len() > kept {
                tail.kept.pop_front();
                tail.has_dropped = true;
            }
        }
        flat.take(&mut tail);
        flat
    }

    /// The offset into the original that one into the text stands for.
    pub(super) fn original(&self, offset: usize) -> usize {
        // What was left out before an end belongs to what is before it.
        if offset == self.text.len() {
            return self.read;
        }
        let index = self.jumps.partition_point(|(flat, _)| *flat <= offset);
        let (flat, original) = index.checked_sub(1).map_or((0, 0), |index| self.jumps[index]);
        original + (offset - flat)
    }

    /// Ends a run.
    fn take(&mut self, tail: &mut Tail) {
        if std::mem::take(&mut tail.has_dropped)
            && let Some((original, _)) = tail.kept.front()
        {
            self.jumps.push((self.text.len(), *original));
        }
        self.text.extend(tail.kept.drain(..).map(|(_, c)| flatten(c)));
    }

    /// Whether the window ends between two runs, of which the second begins with `c`.
    fn ends_before(&self, before: Kind, after: Kind, c: char) -> bool {
        let is_quiet = before == Kind::Word && after == Kind::Neutral;
        let [first, second, last] = WINDOW_BYTES;
        let length = self.text.len();
        (length >= first && is_quiet && c.is_whitespace()) || (length >= second && is_quiet) || length >= last
    }
}

fn kind(c: char) -> Kind {
    match c {
        '.' | '!' | '?' | '…' | '。' | '！' | '？' | '．' | '｡' => Kind::Stop,
        c if c.is_alphanumeric() => Kind::Word,
        _ => Kind::Neutral,
    }
}

/// A space for a line break that is as long; longer ones do not end a sentence for UAX #29 if they are kept.
fn flatten(c: char) -> char {
    if matches!(c, '\n' | '\r' | '\u{c}') { ' ' } else { c }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Every character of a window is the original's at the place it is said to be from; short texts are whole.
        #[test]
        fn the_way_back_holds(text in "([ #]{1,40}|[a-zé]{1,5}|a{300,400}|[.!]{1,3}|\u{301}{1,30}){0,60}") {
            let flat = Flat::of(&text);
            prop_assert_eq!(flat.read, text.len());
            for (at, c) in flat.text.char_indices() {
                prop_assert_eq!(text[flat.original(at)..].chars().next(), Some(c));
            }
            prop_assert_eq!(flat.original(flat.text.len()), text.len());
        }
    }

    #[test]
    fn runs_and_windows_are_bounded() {
        for unit in ["#", " ", "a", ". ", "... # ", "a b ", "\u{301}", "a.", ".) ", "é,", "。", "a\u{301}"]
        {
            let text = unit.repeat(400_000 / unit.len());
            let mut rest = text.as_str();
            while !rest.is_empty() {
                let flat = Flat::of(rest);
                assert!(flat.read > 0 && flat.text.len() <= WINDOW_BYTES[2] + 4, "{unit:?}");
                let neutral = flat.text.split(|c| kind(c) != Kind::Neutral).map(|run| run.chars().count());
                assert!(neutral.max() <= Some(2 * NEUTRAL_KEPT), "{unit:?}");
                rest = &rest[flat.read..];
            }
        }
    }
}
