//! Where tags end, and which elements are within a line.

use super::super::count;

/// Longest tag, in bytes, its values aside: those may be whole pictures.
const TAG_MAX: usize = 4096;
/// Longest tag that was escaped, in bytes.
const ESCAPED_MAX: usize = 256;
/// Longest name of an element, in bytes.
const NAME_MAX: usize = 64;
/// Most `<` in the values of a tag, so that no place is looked at more often.
const OPENED_MAX: usize = 16;

/// Elements within a line: names go on over their tags. All others end one.
const INLINE: &str = " a abbr acronym b bdi bdo big cite code data del dfn em font i ins kbd mark q rp rt ruby s samp small \
    span strike strong sub sup time tt u var wbr ";
/// The other elements of HTML.
const BLOCKS: &str = " address applet area article aside audio base blockquote body br button canvas caption center col \
    colgroup datalist dd details dialog dir div dl dt embed fieldset figcaption figure footer form frame frameset h1 h2 h3 h4 \
    h5 h6 head header hgroup hr html iframe img input label legend li link main map menu meta meter nav noscript object ol \
    optgroup option output p param picture pre progress script search section select slot source style summary svg table \
    tbody td template textarea tfoot th thead title tr track ul video ";
/// Elements in which a line break is a blank.
const FLOWS: &str = " blockquote button caption dd div dt figcaption h1 h2 h3 h4 h5 h6 label legend li option p summary td th title ";

/// Whether a name goes on over the tags of an element, its name being in small letters.
pub(super) fn is_inline(name: &str) -> bool {
    is_in(INLINE, name)
}

/// Whether HTML has such an element.
pub(crate) fn is_of_html(name: &str) -> bool {
    is_in(INLINE, name) || is_in(BLOCKS, name)
}

/// Whether a line break is a blank in an element.
pub(super) fn is_flow(name: &str) -> bool {
    is_in(FLOWS, name)
}

fn is_in(list: &str, name: &str) -> bool {
    !name.is_empty() && list.contains(&format!(" {name} "))
}

pub(super) fn is_of_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b':' | b'.')
}

/// The name of a tag that a text begins with, and its length.
pub(super) fn tag(text: &str) -> Option<(&str, usize)> {
    let bytes = text.as_bytes();
    let is_closing = bytes.get(1) == Some(&b'/');
    let is_declaration = matches!(bytes.get(1), Some(b'!' | b'?'));
    let name_at = if is_closing || is_declaration { 2 } else { 1 };
    if !bytes.get(name_at)?.is_ascii_alphabetic() {
        return None;
    }
    let name_end = name_at + bytes[name_at..].iter().take(NAME_MAX).take_while(|b| is_of_name(**b)).count();
    let name = &text[name_at..name_end];
    let next = *bytes.get(name_end)?;
    if name.ends_with([':', '.', '-']) || !(matches!(next, b'>' | b'/') || next.is_ascii_whitespace()) {
        return None;
    }
    let end = end_of_tag(bytes, name_end)?;
    // "a <b and c> d" is none.
    let is_bare = name.len() == 1 && !is_declaration && end > name_end + 1;
    (!is_bare || text[name_end..end].contains(['=', '/'])).then_some((name, end))
}

/// The name, in small letters, of an escaped tag of HTML that a text begins with, and its length:
/// `&lt;br&gt;`, but not `&lt;Germany&gt;`.
pub(super) fn escaped_tag(text: &str) -> Option<(String, usize)> {
    const OPEN: &str = "&lt;";
    const CLOSE: &str = "&gt;";
    let inner = text.strip_prefix(OPEN)?;
    let inner = &inner[..inner.floor_char_boundary(ESCAPED_MAX)];
    let name: &str = inner.strip_prefix('/').unwrap_or(inner);
    let name = &name[..name.bytes().take(NAME_MAX).take_while(u8::is_ascii_alphanumeric).count()];
    let lower = name.to_ascii_lowercase();
    if !is_of_html(&lower) {
        return None;
    }
    // Up to the first that closes, or opens another.
    let mut references = inner.match_indices('&').map(|(at, _)| at);
    let end = references.find(|at| inner[*at..].starts_with(CLOSE) || inner[*at..].starts_with(OPEN));
    count(end.unwrap_or(inner.len()));
    let end = end.filter(|at| inner[*at..].starts_with(CLOSE))?;
    let from = name.len() + usize::from(inner.starts_with('/'));
    let values = inner[from..end].trim().trim_end_matches('/');
    // "&lt;b and c&gt;" is none.
    let is_tag = values.is_empty() || (inner[from..].starts_with(' ') && values.contains('='));
    is_tag.then_some((lower, OPEN.len() + end + CLOSE.len()))
}

/// Where a tag ends whose name does so at `from`: at the first `>` that is in no value, before a `<` that is
/// in none; or, if the quotes of a value are not closed, at the first `>`.
fn end_of_tag(bytes: &[u8], from: usize) -> Option<usize> {
    let (mut quote, mut is_unquoted) = (None, false);
    // The first `>` in the value at hand.
    let mut first = None;
    let (mut opened, mut outside) = (0, 0);
    let mut before = b' ';
    for (at, byte) in bytes.iter().copied().enumerate().skip(from) {
        count(1);
        if let Some(mark) = quote {
            if byte == mark {
                let is_closed = bytes
                    .get(at + 1)
                    .is_none_or(|next| matches!(next, b'>' | b'/' | b'?') || next.is_ascii_whitespace());
                if first.is_some() && !is_closed {
                    return first;
                }
                (quote, first, before) = (None, None, byte);
            } else if byte == b'<' {
                opened += 1;
                if opened > OPENED_MAX {
                    return first;
                }
            } else if byte == b'>' {
                first = first.or(Some(at + 1));
            }
            continue;
        }
        match byte {
            b'<' => return None,
            b'>' => return Some(at + 1),
            b'"' | b'\'' if before == b'=' => quote = Some(byte),
            _ => {}
        }
        let is_space = byte.is_ascii_whitespace();
        is_unquoted = !is_space && (is_unquoted || (at > from && bytes[at - 1] == b'='));
        outside += usize::from(!is_unquoted);
        if outside > TAG_MAX {
            return None;
        }
        before = if is_space { before } else { byte };
    }
    first
}
