//! Tags, comments and references of HTML and XML: marks around a text, and no part of it.

use std::borrow::Cow;
use std::collections::HashSet;
use std::ops::Range;

use super::count;
use super::lines::is_line_break;

/// Longest tag, in bytes.
const TAG_MAX: usize = 4096;
/// Longest reference such as `&nbsp;`, in bytes.
const REFERENCE_MAX: usize = 12;
/// Stands inside a word where a tag or the rest of a reference was: tokenizers drop it.
const NOTHING: u8 = 1;

/// Elements within a line: names go on over their tags. All others end one.
const INLINE: &str = " a abbr acronym b bdi bdo big cite code data del dfn em font i ins kbd mark q rp rt ruby s samp small \
    span strike strong sub sup time tt u var wbr ";
/// The other elements of HTML.
const BLOCKS: &str = " address applet area article aside audio base blockquote body br button canvas caption center col \
    colgroup datalist dd details dialog dir div dl dt embed fieldset figcaption figure footer form frame frameset h1 h2 h3 h4 \
    h5 h6 head header hgroup hr html iframe img input label legend li link main map menu meta meter nav noscript object ol \
    optgroup option output p param picture pre progress script search section select slot source style summary svg table \
    tbody td template textarea tfoot th thead title tr track ul video ";

/// A text without its markup: it has as many bytes, and characters begin at the same ones.
pub(super) struct Plain<'a> {
    pub(super) text: Cow<'a, str>,
    /// Where tags begin that end what they stand behind, ascending.
    pub(super) ends: Vec<usize>,
    /// Tags with blanks in them, which part nothing, ascending.
    pub(super) blanks: Vec<Range<usize>>,
    /// References for which a character stands now, ascending.
    pub(super) references: Vec<Range<usize>>,
}

enum Mark {
    /// To which byte; whether a name goes on over it.
    Tag {
        end: usize,
        is_inline: bool,
    },
    Reference {
        end: usize,
        text: String,
    },
}

/// Looks for markup, and remembers what it looked for in vain, so that nothing is looked for twice.
struct Scanner<'a> {
    text: &'a str,
    /// Names of elements that are closed somewhere; found once they are asked for.
    closed: Option<HashSet<&'a str>>,
    /// What never ends behind the place at hand.
    unended: Vec<&'static str>,
}

/// Puts blanks for the markup of a text, and characters for references.
pub(super) fn plain(text: &str) -> Plain<'_> {
    let mut scanner = Scanner { text, closed: None, unended: Vec::new() };
    let (mut ends, mut blanks, mut references) = (Vec::new(), Vec::new(), Vec::new());
    let mut written: Option<Vec<u8>> = None;
    let mut at = 0;
    count(text.len());
    while let Some(offset) = text[at..].find(['<', '&', '\\']) {
        let start = at + offset;
        let Some(mark) = scanner.mark(start) else {
            at = start + 1;
            continue;
        };
        let bytes = written.get_or_insert_with(|| text.as_bytes().to_vec());
        let end = match mark {
            Mark::Tag { end, is_inline } => {
                // A line that is broken in HTML and in the text, too: the lines tell whether it reads on.
                let is_line_end =
                    text[start..end].get(1..3).is_some_and(|name| name.eq_ignore_ascii_case("br"))
                        && text[end..].starts_with(is_line_break);
                if !is_inline && !is_line_end {
                    ends.push(start);
                }
                let is_within = is_inline && is_within_word(text, start, end);
                if bytes[start..end].contains(&b' ') {
                    blanks.push(start..end);
                }
                bytes[start..end].fill(if is_within { NOTHING } else { b' ' });
                end
            }
            Mark::Reference { end, text: character } => {
                let rest = start + character.len();
                bytes[start..rest].copy_from_slice(character.as_bytes());
                let is_within = text[..start].ends_with(char::is_alphanumeric)
                    && text[end..].starts_with(char::is_alphanumeric);
                let is_letter = character.starts_with(char::is_alphabetic);
                let is_space = character.starts_with(char::is_whitespace);
                let is_nothing = is_letter || (is_within && !is_space);
                bytes[rest..end].fill(if is_nothing { NOTHING } else { b' ' });
                references.push(start..end);
                end
            }
        };
        at = end;
    }
    // Whole characters were replaced by whole ones.
    let text = match written.map(String::from_utf8) {
        Some(Ok(written)) => Cow::Owned(written),
        _ => Cow::Borrowed(text),
    };
    Plain { text, ends, blanks, references }
}

/// Whether what is at the ends of a tag is one word: `An<b>na`, but not `Anna</b><b>Schmidt`.
fn is_within_word(text: &str, start: usize, end: usize) -> bool {
    text[..start].ends_with(char::is_alphabetic) && text[end..].starts_with(char::is_lowercase)
}

impl<'a> Scanner<'a> {
    fn mark(&mut self, start: usize) -> Option<Mark> {
        let rest = &self.text[start..];
        if rest.starts_with('\\') {
            return self.line_break(start);
        }
        if rest.starts_with('&') {
            return reference(rest).map(|(bytes, text)| Mark::Reference { end: start + bytes, text });
        }
        if rest.starts_with("<!--") {
            let end = self.find(start + 4, "-->")?;
            return Some(Mark::Tag { end, is_inline: true });
        }
        let (name, end) = tag(rest)?;
        let end = start + end;
        let lower = name.to_ascii_lowercase();
        let is_inline = is_in(INLINE, &lower);
        if !(is_inline || is_in(BLOCKS, &lower) || self.is_element(&self.text[start..end], name)) {
            return None;
        }
        // What is between these is no text either.
        let close = match lower.as_str() {
            "script" => Some("</script>"),
            "style" => Some("</style>"),
            _ => None,
        };
        let end =
            close.filter(|_| !rest.starts_with("</")).and_then(|close| self.find(end, close)).unwrap_or(end);
        Some(Mark::Tag { end, is_inline })
    }

    /// A line break that is written out: `Anna\nPeter`, but not `C:\names`.
    fn line_break(&self, start: usize) -> Option<Mark> {
        let (before, rest) = (&self.text[..start], &self.text[start..]);
        let length = ["\\r\\n", "\\n", "\\t"].iter().find(|written| rest.starts_with(**written))?.len();
        let is_break = before
            .ends_with(|c: char| c.is_alphanumeric() || matches!(c, '.' | ',' | '!' | '?' | ')' | ':'))
            && rest[length..].starts_with(|c: char| c.is_uppercase() || c == '\\');
        let is_path = before.ends_with(':')
            && before.as_bytes().iter().rev().nth(1).is_some_and(u8::is_ascii_uppercase);
        (is_break && !is_path).then_some(Mark::Tag { end: start + length, is_inline: false })
    }

    /// Where something ends that is looked for from a place on.
    fn find(&mut self, from: usize, what: &'static str) -> Option<usize> {
        if self.unended.contains(&what) {
            return None;
        }
        let found = self.text[from..].find(what);
        count(found.unwrap_or(self.text.len() - from));
        if found.is_none() {
            self.unended.push(what);
        }
        found.map(|offset| from + offset + what.len())
    }

    /// Whether a tag that is none of HTML is one of XML: it closes, has values, or is closed somewhere.
    fn is_element(&mut self, tag: &str, name: &str) -> bool {
        let is_plain = tag.len() == name.len() + 2;
        tag.starts_with("</")
            || tag.starts_with("<!")
            || tag.starts_with("<?")
            || tag.ends_with("/>")
            || (tag.contains("=\"") || tag.contains("='"))
            || (is_plain && self.closed().contains(name))
    }

    fn closed(&mut self) -> &HashSet<&'a str> {
        let text = self.text;
        self.closed.get_or_insert_with(|| {
            count(text.len());
            let names = text.match_indices("</").map(|(at, _)| {
                let name = &text[at + 2..];
                &name[..name.bytes().take_while(|b| is_of_name(*b)).count()]
            });
            names.collect()
        })
    }
}

fn is_in(list: &str, name: &str) -> bool {
    !name.is_empty() && list.contains(&format!(" {name} "))
}

fn is_of_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b':' | b'.')
}

/// The name of a tag that a text begins with, and its length: up to `>` before the next `<`.
fn tag(text: &str) -> Option<(&str, usize)> {
    let bytes = text.as_bytes();
    let is_closing = bytes.get(1) == Some(&b'/');
    let is_declaration = matches!(bytes.get(1), Some(b'!' | b'?'));
    let name_at = if is_closing || is_declaration { 2 } else { 1 };
    if !bytes.get(name_at)?.is_ascii_alphabetic() {
        return None;
    }
    let name_end = name_at + bytes[name_at..].iter().take(TAG_MAX).take_while(|b| is_of_name(**b)).count();
    let name = &text[name_at..name_end];
    if name.ends_with([':', '.', '-'])
        || !matches!(bytes.get(name_end)?, b'>' | b'/' | b' ' | b'\t' | b'\n' | b'\r')
    {
        return None;
    }
    let (mut quote, mut first, mut end) = (None, None, None);
    for (offset, byte) in bytes[name_end..].iter().take(TAG_MAX).enumerate() {
        count(1);
        match (*byte, quote) {
            (b'<', _) => break,
            (b'>', None) => {
                end = Some(name_end + offset + 1);
                break;
            }
            (b'>', Some(_)) => first = first.or(Some(name_end + offset + 1)),
            (mark @ (b'"' | b'\''), None) if offset > 0 => quote = Some(mark),
            (mark, Some(open)) if mark == open => quote = None,
            _ => {}
        }
    }
    let end = end.or(first)?;
    // "a <b and c> d" is none.
    let is_bare = name.len() == 1 && !is_declaration && end > name_end + 1;
    (!is_bare || text[name_end..end].contains(['=', '/'])).then_some((name, end))
}

/// The length of a reference that a text begins with, and the character that it stands for.
fn reference(text: &str) -> Option<(usize, String)> {
    let end = text.bytes().take(REFERENCE_MAX).position(|b| b == b';')?;
    let name = &text[1..end];
    let character = match name.strip_prefix('#') {
        Some(number) => {
            let code = match number.strip_prefix(['x', 'X']) {
                Some(digits) => u32::from_str_radix(digits, 16),
                None => number.parse(),
            };
            char::from_u32(code.ok()?).filter(|c| !c.is_control())?.to_string()
        }
        None => named(name)?,
    };
    (character.len() <= end).then_some((end + 1, character))
}

/// The character of a name in HTML: the usual ones, and letters with marks.
fn named(name: &str) -> Option<String> {
    const NAMES: [(&str, &str); 42] = [
        ("nbsp", "\u{a0}"),
        ("ensp", " "),
        ("emsp", " "),
        ("thinsp", " "),
        ("amp", "&"),
        ("lt", "<"),
        ("gt", ">"),
        ("quot", "\""),
        ("apos", "'"),
        ("rsquo", "’"),
        ("lsquo", "‘"),
        ("rdquo", "”"),
        ("ldquo", "“"),
        ("bdquo", "„"),
        ("sbquo", "‚"),
        ("laquo", "«"),
        ("raquo", "»"),
        ("ndash", "–"),
        ("mdash", "—"),
        ("minus", "−"),
        ("hellip", "…"),
        ("bull", "•"),
        ("middot", "·"),
        ("rarr", "→"),
        ("larr", "←"),
        ("copy", "©"),
        ("reg", "®"),
        ("trade", "™"),
        ("euro", "€"),
        ("pound", "£"),
        ("yen", "¥"),
        ("cent", "¢"),
        ("sect", "§"),
        ("para", "¶"),
        ("deg", "°"),
        ("times", "×"),
        ("shy", "\u{ad}"),
        ("zwnj", "\u{200c}"),
        ("szlig", "ß"),
        ("aelig", "æ"),
        ("AElig", "Æ"),
        ("oelig", "œ"),
    ];
    const MARKS: [(&str, &str); 8] = [
        ("acute", "\u{301}"),
        ("grave", "\u{300}"),
        ("circ", "\u{302}"),
        ("uml", "\u{308}"),
        ("tilde", "\u{303}"),
        ("cedil", "\u{327}"),
        ("caron", "\u{30c}"),
        ("ring", "\u{30a}"),
    ];
    if let Some((_, character)) = NAMES.iter().find(|(known, _)| *known == name) {
        return Some((*character).to_owned());
    }
    let letter = name.chars().next().filter(char::is_ascii_alphabetic)?;
    match &name[1..] {
        "slash" if letter == 'o' => Some("ø".to_owned()),
        "slash" if letter == 'O' => Some("Ø".to_owned()),
        mark => MARKS.iter().find(|(known, _)| *known == mark).map(|(_, mark)| format!("{letter}{mark}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `·` stands for a byte that is blank, `¬` for one that is nothing.
    fn check(text: &str, expected: &str, ends: usize) {
        let found = plain(text);
        assert_eq!(found.text.len(), text.len(), "{text:?}");
        assert_eq!(found.text, expected.replace('·', " ").replace('¬', "\u{1}"), "{text:?}");
        assert_eq!(found.ends.len(), ends, "{text:?}");
    }

    #[test]
    fn tags() {
        check("<b>Anna</b> Schmidt", "···Anna···· Schmidt", 0);
        check("An<b>na</b>", "An¬¬¬na····", 0);
        check("<i>Anna</i><i>Schmidt</i>", "···Anna·······Schmidt····", 0);
        check("<li>Anna</li><li>Olga</li>", "····Anna·········Olga·····", 4);
        check("Anna<br>Olga<br/>Eva<BR />", "Anna····Olga·····Eva······", 3);
        check("<td class=\"a > b\">Oslo</td>", "··················Oslo·····", 2);
        check("<a href='/x'>Oslo</a>", "·············Oslo····", 0);
        check("<p\nid=x>é", "········é", 1);
        check("<Name>Oslo</Name>", "······Oslo·······", 2);
        check("<x:y a=\"é\">Oslo", "············Oslo", 1);
        check("<!-- Anna -->Oslo", "·············Oslo", 0);
        check("<!DOCTYPE html>Oslo", "···············Oslo", 1);
        check("<?xml version=\"1.0\"?>Oslo", "·····················Oslo", 1);
        check("<style>Anna</style>Oslo", "···················Oslo", 1);
        check("<td>Anna", "····Anna", 1);
        check("<p class=\"x>Anna", "············Anna", 1);
        check("Anna\\nOlga\\r\\nEva", "Anna··Olga····Eva", 2);
    }

    #[test]
    fn no_tags() {
        for text in [
            "a < b and c > d",
            "a <b and c> d",
            "Anna <anna@acme.com>",
            "Anna <Anna Schmidt>",
            "<https://acme.com>",
            "<3 Oslo",
            "<Berlin>",
            "<",
            "<>",
            "</",
            "<p",
            "<p <",
            "x<-y",
            "R&D; S&P",
            "AT&T",
            "&",
            "&;",
            "&#;",
            "&#xd800;",
            "&#0;",
            "&foo;",
            "&nbsp",
            "<!-- Anna",
            "C:\\nAnna",
            "C:\\Anna\\names",
            "\\nAnna",
            "a \\neq b",
        ] {
            check(text, text, 0);
        }
    }

    #[test]
    fn references() {
        check("Marks &amp; Spencer", "Marks &···· Spencer", 0);
        check("Anna&nbsp;Olga", "Anna\u{a0}····Olga", 0);
        check("M&uuml;ller", "Mu\u{308}¬¬¬ller", 0);
        check("Ren&eacute; left", "Rene\u{301}¬¬¬¬¬ left", 0);
        check("O&#39;Brien", "O'¬¬¬¬Brien", 0);
        check("AT&amp;T", "AT&¬¬¬¬T", 0);
        check("O&#x27;Brien", "O'¬¬¬¬¬Brien", 0);
        check("&oslash;", "ø¬¬¬¬¬¬", 0);
        check("&lt;b&gt;", "<···b>···", 0);
    }
}
