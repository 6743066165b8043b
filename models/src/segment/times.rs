//! Times of day, and what goes on with them: "4 p.m. Eastern time", "5 p.m. tomorrow", "9 a.m. EST."

use std::collections::VecDeque;

use super::scan::{First, Stop, Word};
use super::words;

/// Words of the name of a zone before "time": "Central European Summer Time".
const NAME_MAX: usize = 4;

/// Whether words behind a time go on with it: the name of a zone or place whose time it is, a day, or a word
/// that says when.
pub(super) fn goes_on(ahead: &VecDeque<Word<'_>>, is_small: bool) -> bool {
    let Some(next) = ahead.front() else { return false };
    let bare = next.bare();
    if words::is_day_name(&bare) || words::is_month(&bare) || names_zone(ahead) {
        return true;
    }
    // "5 p.m. Mt. Hood was in sight."
    let is_short = is_small || next.stem.chars().all(|c| !c.is_lowercase());
    (is_short && words::is_zone(&bare)) || (next.first == First::Lower && says_when(ahead))
}

/// "Eastern time", "British Summer Time", "New York time", "Pacific on Monday".
fn names_zone(ahead: &VecDeque<Word<'_>>) -> bool {
    let Some(next) = ahead.front() else { return false };
    let is_known = words::is_zone_name(&next.bare());
    let is_of_name = |word: &&Word<'_>| {
        word.stop == Stop::None
            && word.text.chars().all(|c| c.is_alphabetic() || matches!(c, '-' | '/' | '’' | '\''))
            && (word.first == First::Capital || words::is_zone_name(&word.bare()))
            && word.bare() != "time"
    };
    let name = ahead.iter().take(NAME_MAX).take_while(is_of_name).count();
    let is_time = name > 0 && ahead.get(name).is_some_and(|word| word.bare() == "time");
    // "Dinner time was at six."
    let is_subject = || {
        let behind = ahead.get(name + 1);
        behind.is_some_and(|word| word.first == First::Lower && words::is_verb(&word.bare()))
    };
    if is_time && (is_known || !is_subject()) {
        return !words::is_starter(&next.bare());
    }
    // "Central Bank officials" and "Eastern customers" are none.
    let behind = ahead.get(1).map(Word::bare).unwrap_or_default();
    let is_last = next.stop != Stop::None || next.text.ends_with([',', ';', ')']);
    is_known
        && (is_last
            || words::is_preposition(&behind)
            || words::is_day_name(&behind)
            || words::is_when(&behind)
            || ahead.get(1).is_none())
}

/// "tomorrow", "today, if you can", "this Friday", "every day": the next words, in small letters.
fn says_when(ahead: &VecDeque<Word<'_>>) -> bool {
    let Some(next) = ahead.front() else { return false };
    let (bare, behind) = (next.bare(), ahead.get(1).map(Word::bare).unwrap_or_default());
    let is_last = next.stop != Stop::None || next.text.ends_with([',', ';', ')']);
    match bare.as_str() {
        "today" | "tomorrow" | "yesterday" | "tonight" | "sharp" | "daily" => {
            is_last || !words::is_subject(&behind)
        }
        "now" | "later" | "soon" | "again" | "also" | "instead" | "once" | "only" | "though" | "please"
        | "already" | "then" => is_last,
        "this" | "next" | "last" | "every" | "each" | "all" | "most" | "the" | "one" => {
            words::is_day_name(&behind) || words::is_day_part(&behind)
        }
        _ => false,
    }
}

/// Whether a word is the zone of the time before it: "10 a.m. PT", "9:30 EST", "5pm ET".
pub(super) fn is_zone_of(word: &Word<'_>, previous: Option<&Word<'_>>) -> bool {
    let is_time = |before: &Word<'_>| {
        let bare = before.bare();
        let hour = bare.trim_end_matches(|c: char| c.is_ascii_alphabetic() || c == '.');
        let end = &bare[hour.len()..];
        let is_of_day = matches!(end, "am" | "pm" | "a.m" | "p.m");
        is_of_day || (before.first == First::Digit && bare.contains(':') && end.is_empty())
    };
    words::is_zone(&word.lower()) && previous.is_some_and(is_time)
}
