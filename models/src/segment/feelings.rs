//! Emoticons and pictures in place of a full stop: "I lost my keys :( Can you help?"

use std::collections::VecDeque;

use super::marks::is_picture;
use super::scan::{First, Word};
use super::words;

/// Whether a sentence ends behind a picture, or an emoticon, that no mark is before. It may stand for a word,
/// too: "I ❤ you", "my 🐶 is sick".
pub(super) fn ends_sentence(
    picture: &Word<'_>,
    before: &Word<'_>,
    ahead: &VecDeque<Word<'_>>,
    is_small: bool,
) -> bool {
    let Some(next) = ahead.front() else { return true };
    let last = before.bare();
    let is_word = words::is_subject(&last) && !words::is_object(&last)
        || (words::is_unfinished(&last) && !words::is_object(&last))
        || before.text.ends_with([',', ':', ';']);
    if is_word || next.first == First::None {
        return false;
    }
    let bare = next.bare();
    let is_face = !picture.text.chars().all(is_picture) && picture.text != "<3";
    match next.first {
        First::Lower if !is_small => false,
        First::Lower if words::is_preposition(&bare) || words::is_joining(&bare) => is_question(ahead),
        First::Lower => is_face || words::is_sure_starter(&bare) || is_question(ahead),
        First::Capital => is_face || words::is_starter(&bare),
        First::Digit | First::None => false,
    }
}

/// "can you", "do we", "when does", "where is": a question begins.
pub(super) fn is_question(ahead: &VecDeque<Word<'_>>) -> bool {
    let (Some(next), Some(behind)) = (ahead.front(), ahead.get(1)) else { return false };
    let (next, behind) = (next.bare(), behind.bare());
    (words::is_verb(&next) && words::is_subject(&behind))
        || (words::is_asking(&next) && (words::is_verb(&behind) || words::is_subject(&behind)))
}
