//! References of HTML, such as `&nbsp;` and `&#252;`.

use html_escape::NAMED_ENTITIES;

/// Longest reference, in bytes: `&CounterClockwiseContourIntegral;`
const REFERENCE_MAX: usize = 34;
/// Most digits of a number.
const DIGITS_MAX: usize = 7;
/// Names that HTML reads without a semicolon, too, if they stand by themselves: "a &copy 2026".
const UNCLOSED: &str = " AMP COPY GT LT QUOT REG amp brvbar cent copy curren deg divide frac12 frac14 frac34 gt iexcl iquest \
    laquo lt macr micro middot nbsp not ordf ordm para plusmn pound quot raquo reg sect shy sup1 sup2 sup3 times uml yen ";
/// How the names end of letters with marks, which HTML reads so before other letters, too: `J&oumlrg`.
const MARKS: [&str; 9] = ["acute", "cedil", "circ", "grave", "lig", "ring", "slash", "tilde", "uml"];

/// The length of a reference that a text begins with, and what it stands for, which is no longer.
pub(super) fn reference(text: &str) -> Option<(usize, &'static str, Option<char>)> {
    let rest = text.strip_prefix('&')?;
    if let Some(number) = rest.strip_prefix('#') {
        let (prefix, radix) = if number.starts_with(['x', 'X']) { (3, 16) } else { (2, 10) };
        let digits = &number[prefix - 2..];
        let length =
            digits.bytes().take(DIGITS_MAX + 1).take_while(|b| char::from(*b).is_digit(radix)).count();
        let character = character(u32::from_str_radix(&digits[..length], radix).ok()?)?;
        let end = prefix + length;
        return Some((end + usize::from(text[end..].starts_with(';')), "", Some(character)));
    }
    let length = rest.bytes().take(REFERENCE_MAX).take_while(u8::is_ascii_alphanumeric).count();
    let (name, behind) = rest.split_at(length);
    if behind.starts_with(';') {
        return named(name).filter(|text| text.len() <= length + 2).map(|text| (length + 2, text, None));
    }
    let is_alone = !behind.starts_with(['=', '_']) && UNCLOSED.contains(&format!(" {name} "));
    if is_alone && !name.is_empty() {
        return named(name).map(|text| (length + 1, text, None));
    }
    // Of the letters of Latin-1 no name is longer.
    (4..=7.min(length)).rev().find_map(|length| {
        let name = &name[..length];
        let is_letter = MARKS.iter().any(|mark| name.len() - 1 == mark.len() && name.ends_with(mark))
            || matches!(name, "AElig" | "aelig" | "szlig");
        let text = named(name).filter(|text| is_letter && text.chars().all(|c| c <= 'ÿ'))?;
        Some((length + 1, text, None))
    })
}

fn named(name: &str) -> Option<&'static str> {
    let place = NAMED_ENTITIES.binary_search_by(|(known, _)| (*known).cmp(name.as_bytes())).ok()?;
    Some(NAMED_ENTITIES[place].1)
}

/// The character of a number. Those from 128 to 159 are read as Windows has them.
fn character(code: u32) -> Option<char> {
    const WINDOWS: [char; 32] = [
        '€', '\u{81}', '‚', 'ƒ', '„', '…', '†', '‡', 'ˆ', '‰', 'Š', '‹', 'Œ', '\u{8d}', 'Ž', '\u{8f}',
        '\u{90}', '‘', '’', '“', '”', '•', '–', '—', '˜', '™', 'š', '›', 'œ', '\u{9d}', 'ž', 'Ÿ',
    ];
    let character = match code {
        0x80..=0x9f => WINDOWS.get(code as usize - 0x80).copied(),
        _ => char::from_u32(code),
    };
    character.filter(|c| !c.is_control() || matches!(c, '\t' | '\n' | '\r'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references() {
        let check = |text: &str, expected: &str, length: usize| {
            let found = reference(text)
                .map(|(length, text, number)| (number.map_or(text.to_owned(), String::from), length));
            let expected = (length > 0).then(|| (expected.to_owned(), length));
            assert_eq!(found, expected, "{text:?}");
        };
        check("&amp;", "&", 5);
        check("&AMP;x", "&", 5);
        check("&nbsp;", "\u{a0}", 6);
        check("&nbsp", "\u{a0}", 5);
        check("&amp Sons", "&", 4);
        check("&ETH;", "Ð", 5);
        check("&eth;", "ð", 5);
        check("&thorn;", "þ", 7);
        check("&OElig;uvre", "Œ", 7);
        check("&Lstrok;ukasz", "Ł", 8);
        check("&Dstrok;", "Đ", 8);
        check("&zacute;", "ź", 8);
        check("&iexcl;", "¡", 7);
        check("&semi;", ";", 6);
        check("&comma;", ",", 7);
        check("&NewLine;", "\n", 9);
        check("&Tab;", "\t", 5);
        check("&rsquo;s", "’", 7);
        check("&oumlrg", "ö", 5);
        check("&ouml", "ö", 5);
        check("&Aring", "Å", 6);
        check("&oslash", "ø", 7);
        check("&szlige", "ß", 6);
        check("&AEliga", "Æ", 6);
        check("&#246ran", "ö", 5);
        check("&#246;", "ö", 6);
        check("&#xFCller", "ü", 5);
        check("&#XfC;", "ü", 6);
        check("&#10;", "\n", 5);
        check("&#146;", "’", 6);
        check("&#128169;", "💩", 9);
        check("&CounterClockwiseContourIntegral;", "∳", 33);
        for none in [
            "&",
            "&;",
            "&#;",
            "&#x;",
            "&#xd800;",
            "&#0;",
            "&#99999999;",
            "&#1;",
            "&foo;",
            "&copy=2",
            "&copyright",
            "&region",
            "&sect1",
            "&not_there",
            "&T",
            "& amp;",
            "&D; S&P",
            "&OEliguvre",
            "&zacutea",
            "&umla",
        ] {
            check(none, "", 0);
        }
    }

    /// Where a reference stands, there is room for what it stands for.
    #[test]
    fn every_name_has_room() {
        let mut found = 0;
        for (name, text) in NAMED_ENTITIES {
            let Ok(name) = std::str::from_utf8(name) else { continue };
            let written = format!("&{name};");
            match reference(&written) {
                Some((length, read, _)) => {
                    assert_eq!((length, read), (written.len(), text), "{name}");
                    assert!(text.len() <= length);
                    found += 1;
                }
                None => assert!(text.len() > written.len(), "{name}"),
            }
        }
        assert!(found > 2000, "{found}");
    }
}
