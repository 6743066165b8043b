//! Pairs of texts, as a tokenizer's post-processor joins them: `[CLS] a [SEP] b [SEP]` for BERT, `<s> a </s>
//! </s> b </s>` for RoBERTa.

use models_core::Sequence;
use tokenizers::{Tokenizer, TruncationDirection};

use super::TextTokenizer;

/// The special tokens around and between two texts, and where the second segment begins.
pub(super) struct PairTemplate {
    before: Vec<u32>,
    between: Vec<u32>,
    behind: Vec<u32>,
    /// How many of `between` are of the first segment; `None` where all tokens are of one.
    first_of_between: Option<usize>,
    /// Whether too long texts lose their start.
    cuts_start: bool,
}

/// Which of two texts is cut where both are too long together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PairCut {
    /// The longer one, and then both alike: `longest_first`.
    Longest,
    /// The first alone: `only_first`.
    First,
}

impl PairTemplate {
    /// Found by joining two probes, which holds for every post-processor that joins by fixed special tokens.
    /// `cuts_start`: as the tokenizer's file says it of its truncation.
    pub(super) fn of(tokenizer: &Tokenizer, cuts_start: bool) -> Option<Self> {
        let probe =
            |text: &str| tokenizer.encode(text, false).ok().map(|encoding| encoding.get_ids().to_vec());
        let (first, second) = (probe("a")?, probe("b")?);
        let joined = tokenizer.encode(("a", "b"), true).ok()?;
        let (ids, types) = (joined.get_ids(), joined.get_type_ids());
        let find = |ids: &[u32], part: &[u32]| ids.windows(part.len().max(1)).position(|ids| ids == part);
        let start = find(ids, &first)?;
        let end = start + first.len();
        let next = end + find(&ids[end..], &second)?;
        let last = next + second.len();
        let first_segment = types.iter().take_while(|kind| **kind == 0).count();
        let is_two = types[first_segment..].iter().all(|kind| *kind == 1);
        let first_of_between = match first_segment {
            all if all == types.len() => None,
            // Segments change between the texts and nowhere else.
            tokens if is_two && (end..=next).contains(&tokens) => Some(tokens - end),
            _ => return None,
        };
        let (before, between, behind) = (&ids[..start], &ids[end..next], &ids[last..]);
        let [before, between, behind] = [before, between, behind].map(<[u32]>::to_vec);
        Some(Self { before, between, behind, first_of_between, cuts_start })
    }

    fn special(&self) -> usize {
        self.before.len() + self.between.len() + self.behind.len()
    }
}

/// Whether a tokenizer's file says that too long texts lose their start.
pub(super) fn cuts_start(tokenizer: &Tokenizer) -> bool {
    tokenizer.get_truncation().is_some_and(|truncation| truncation.direction == TruncationDirection::Left)
}

impl TextTokenizer {
    /// Special tokens of a pair; `None` if the tokenizer joins no pairs.
    pub fn pair_special_tokens(&self) -> Option<usize> {
        self.inner.pairs.as_ref().map(PairTemplate::special)
    }

    /// Whether a pair that is too long loses the start of its texts, as the tokenizer's own file says it.
    pub fn cuts_start_of_pairs(&self) -> bool {
        self.inner.pairs.as_ref().is_some_and(|pairs| pairs.cuts_start)
    }

    /// Two texts as one sequence, of at most `tokens_max` tokens with the special ones; `None` if the
    /// tokenizer joins no pairs.
    pub fn pair(
        &self,
        first: &[u32],
        second: &[u32],
        (cut, cuts_start): (PairCut, bool),
        tokens_max: usize,
    ) -> Option<Sequence> {
        let pairs = self.inner.pairs.as_ref()?;
        let room = tokens_max.saturating_sub(pairs.special());
        let (one, other) = lengths(first.len(), second.len(), room, cut);
        let kept = |ids: &[u32], length: usize| match cuts_start {
            true => ids[ids.len() - length..].to_vec(),
            false => ids[..length].to_vec(),
        };
        let input_ids =
            [&pairs.before[..], &kept(first, one), &pairs.between, &kept(second, other), &pairs.behind];
        let first_of_between = pairs.first_of_between.filter(|_| self.tells_segments);
        let first_segment = first_of_between.map(|between| (pairs.before.len() + one + between) as u32);
        Some(Sequence { first_segment, ..Sequence::new(input_ids.concat()) })
    }
}

/// What is kept of two texts, so that they fit: as the library `tokenizers` counts it.
fn lengths(first: usize, second: usize, room: usize, cut: PairCut) -> (usize, usize) {
    if first + second <= room {
        return (first, second);
    }
    match cut {
        PairCut::First => {
            let one = room.saturating_sub(second);
            (one, second.min(room))
        }
        PairCut::Longest => {
            let (short, long) = (first.min(second), first.max(second));
            let (short, long) = if 2 * short > room {
                (room / 2, room / 2 + room % 2)
            } else {
                (short, long.min(room - short))
            };
            if first <= second { (short, long) } else { (long, short) }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use tokenizers::{TruncationParams, TruncationStrategy};

    use super::*;

    const BERT: &str = r#"{"type":"BertProcessing","sep":["[SEP]",2],"cls":["[CLS]",1]}"#;
    const ROBERTA: &str = r#"{"type":"RobertaProcessing","sep":["</s>",2],"cls":["<s>",1],"trim_offsets":true,"add_prefix_space":false}"#;
    const EOS: &str = r#"{"type":"TemplateProcessing","single":[{"Sequence":{"id":"A","type_id":0}},{"SpecialToken":{"id":"</s>","type_id":0}}],"pair":[{"Sequence":{"id":"A","type_id":0}},{"SpecialToken":{"id":"</s>","type_id":0}},{"Sequence":{"id":"B","type_id":0}},{"SpecialToken":{"id":"</s>","type_id":0}}],"special_tokens":{"</s>":{"id":"</s>","ids":[2],"tokens":["</s>"]}}}"#;

    fn tokenizer(processor: &str) -> Tokenizer {
        let text = format!(
            r#"{{"version":"1.0","truncation":null,"padding":null,"added_tokens":[],"normalizer":null,
            "pre_tokenizer":{{"type":"WhitespaceSplit"}},"post_processor":{processor},"decoder":null,
            "model":{{"type":"WordLevel","vocab":{{"x":0,"q":1,"r":2,"a":3,"b":4,"c":5,"d":6,"e":7,"f":8}},"unk_token":"x"}}}}"#
        );
        text.parse().unwrap()
    }

    #[test]
    fn templates() {
        let check = |processor, before: &[u32], between: &[u32], behind: &[u32], segments| {
            let found = PairTemplate::of(&tokenizer(processor), false).unwrap();
            let parts = (&found.before[..], &found.between[..], &found.behind[..], found.first_of_between);
            assert_eq!(parts, (before, between, behind, segments), "{processor}");
        };
        check(BERT, &[1], &[2], &[2], Some(1));
        check(ROBERTA, &[1], &[2, 2], &[2], None);
        check(EOS, &[], &[2], &[2], None);
    }

    /// What is cut is what the library cuts, for all lengths.
    #[test]
    fn cuts_are_those_of_the_library() {
        const WORDS: [&str; 6] = ["a", "b", "c", "d", "e", "f"];
        for (cut, strategy) in [
            (PairCut::Longest, TruncationStrategy::LongestFirst),
            (PairCut::First, TruncationStrategy::OnlyFirst),
        ] {
            for (one, other, max_length) in (0..=6)
                .flat_map(|one| (1..=6).map(move |other| (one, other)))
                .flat_map(|(one, other)| (5..=14).map(move |max_length| (one, other, max_length)))
            {
                let mut library = tokenizer(BERT);
                let params = TruncationParams { max_length, strategy, ..TruncationParams::default() };
                library.with_truncation(Some(params)).unwrap();
                let (first, second) = (WORDS[..one].join(" "), WORDS[..other].join(" "));
                let Ok(expected) = library.encode((first.as_str(), second.as_str()), true) else { continue };
                let kept = lengths(one, other, max_length - 3, cut);
                let kinds = expected.get_special_tokens_mask();
                let count = |kind: u32| {
                    let types = expected.get_type_ids().iter().zip(kinds);
                    types.filter(|(of, special)| **of == kind && **special == 0).count()
                };
                assert_eq!(kept, (count(0), count(1)), "{cut:?} {one} {other} of {max_length}");
            }
        }
    }
}
