//! What characters are, by Unicode's own tables of today; those of tokenizers are older.

use icu_properties::props::{DefaultIgnorableCodePoint, ExtendedPictographic, GeneralCategory as Category};
use icu_properties::{CodePointMapData, CodePointSetData};

pub(crate) fn category(c: char) -> Category {
    CodePointMapData::<Category>::new().get(c)
}

/// Whether a character stands between words. More than Unicode's white space by the separators of ASCII.
pub(crate) fn is_space(c: char) -> bool {
    c.is_whitespace() || matches!(c, '\u{1c}'..='\u{1f}')
}

/// Whether a character takes no place and is not seen: soft hyphens, joiners, direction marks, variation
/// selectors, controls.
pub(crate) fn is_invisible(c: char) -> bool {
    let is_ignorable = || CodePointSetData::new::<DefaultIgnorableCodePoint>().contains(c);
    !is_space(c)
        && !matches!(c, ' '..='~')
        && (is_ignorable() || matches!(category(c), Category::Control | Category::Format))
}

/// Whether a character is a picture or a sign by itself, and no part of a word: emoji, `®`, arrows, currency,
/// characters of private use. Those of ASCII are punctuation to every tokenizer.
pub(crate) fn is_symbol(c: char) -> bool {
    !c.is_ascii()
        && matches!(
            category(c),
            Category::OtherSymbol
                | Category::MathSymbol
                | Category::CurrencySymbol
                | Category::ModifierSymbol
                | Category::PrivateUse
                | Category::Unassigned
        )
}

/// The letter or digit in a circle or square. Unicode has no compatible forms for those that are white on
/// black.
pub(crate) fn enclosed(c: char) -> Option<char> {
    let (first, of) = match c {
        'Ⓐ'..='Ⓩ' => ('A', 'Ⓐ'),
        'ⓐ'..='ⓩ' => ('a', 'ⓐ'),
        '\u{1f130}'..='\u{1f149}' => ('A', '\u{1f130}'),
        '\u{1f150}'..='\u{1f169}' => ('A', '\u{1f150}'),
        '\u{1f170}'..='\u{1f189}' => ('A', '\u{1f170}'),
        '①'..='⑨' => ('1', '①'),
        '❶'..='❾' => ('1', '❶'),
        '➀'..='➈' => ('1', '➀'),
        '➊'..='➒' => ('1', '➊'),
        '⓪' | '⓿' => ('0', c),
        _ => return None,
    };
    char::from_u32(u32::from(first) + u32::from(c) - u32::from(of))
}

/// Whether a character is a picture: an emoji or a part of a flag, but not a trade mark.
pub(crate) fn is_pictograph(c: char) -> bool {
    let is_picture = || enclosed(c).is_none() && CodePointSetData::new::<ExtendedPictographic>().contains(c);
    matches!(c, '\u{1f1e6}'..='\u{1f1ff}') || (!c.is_ascii() && !matches!(c, '©' | '®' | '™') && is_picture())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_in_circles_and_squares() {
        let read: String = "Ⓢⓘ🄴🅼🅔🅽🆂 🅐🅩🅰🆉🄰🅉 ①⑨❶❾➀➈➊➒⓪⓿".chars().map(|c| enclosed(c).unwrap_or(c)).collect();
        assert_eq!(read, "SiEMENS AZAZAZ 1919191900");
        assert_eq!("aA1🆎🇩ß🄯⑩".chars().find_map(enclosed), None);
    }

    #[test]
    fn kinds_of_characters() {
        let check = |characters: &str, expected: &str| {
            for c in characters.chars() {
                let kinds = [
                    ("space", is_space(c)),
                    ("invisible", is_invisible(c)),
                    ("symbol", is_symbol(c)),
                    ("pictograph", is_pictograph(c)),
                ];
                let found: Vec<_> = kinds.iter().filter(|(_, is)| *is).map(|(name, _)| *name).collect();
                assert_eq!(found.join(" "), expected, "{c:?}");
            }
        };
        check(" \t\n\r\u{b}\u{c}\u{1c}\u{1e}\u{85}\u{a0}\u{2028}\u{2029}\u{3000}", "space");
        check(
            "\u{1}\u{7f}\u{ad}\u{200b}\u{200c}\u{200d}\u{200e}\u{202e}\u{2060}\u{feff}\u{fe0f}",
            "invisible",
        );
        check("😡🎉🦖❤🇩✔\u{1fae9}", "symbol pictograph");
        check("®™©€£°×→−■\u{e000}\u{f0b7}\u{378}", "symbol");
        check("aé漢ß1²ﬁＡ.$+…“\u{301}", "");
    }
}
