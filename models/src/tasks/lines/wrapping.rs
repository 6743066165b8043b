//! What texts are wrapped in: headers of mails and of HTTP, armour of PGP, patches, XML.

use super::{is_telling, prose_words};
use crate::segment::is_of_html;

/// Names of headers that are ordinary words, too.
const NAMES: &str = " from to cc bcc date sent subject received references sender importance host accept \
    authorization connection cookie etag expires location origin pragma referer server upgrade vary via author \
    commit merge age allow range priority organization hash ";
/// Those that no form or list has.
const MAIL_NAMES: &str = " subject cc bcc received references cookie etag pragma referer ";
/// What the names of headers begin with that nothing else has.
const SURE_NAMES: [&str; 32] = [
    "accept-",
    "access-control-",
    "arc-",
    "authentication-results",
    "auto-submitted",
    "cache-control",
    "content-",
    "delivered-to",
    "dkim-",
    "errors-to",
    "if-",
    "in-reply-to",
    "keep-alive",
    "last-modified",
    "list-",
    "message-id",
    "mime-version",
    "proxy-",
    "received-spf",
    "reply-to",
    "resent-",
    "return-path",
    "sec-",
    "set-cookie",
    "strict-transport-security",
    "thread-",
    "transfer-encoding",
    "upgrade-",
    "user-agent",
    "www-authenticate",
    "x-",
    "feedback-id",
];
/// Other lines at the head of a patch.
const PATCH_LINES: [&str; 14] = [
    "index ",
    "--- ",
    "+++ ",
    "new file mode ",
    "deleted file mode ",
    "old mode ",
    "new mode ",
    "similarity index ",
    "dissimilarity index ",
    "rename from ",
    "rename to ",
    "copy from ",
    "copy to ",
    "Binary files ",
];

/// A line of a patch that nothing else looks like, and what it says of the lines below.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Patch {
    /// `diff --git a/x b/x`: lines with the names of files.
    Head,
    /// `@@ -1,3 +1,3 @@`: as many lines, before and after.
    Hunk(usize, usize),
}

impl Patch {
    pub(super) fn of(line: &str) -> Option<Self> {
        if line.starts_with("diff --git ") || line.starts_with("diff -") || line.starts_with("Index: ") {
            return Some(Self::Head);
        }
        let is_file =
            |name: &str| !name.is_empty() && name.split('\t').next() == name.split_whitespace().next();
        let file = line.strip_prefix("--- ").or_else(|| line.strip_prefix("+++ "));
        if file.is_some_and(|name| is_file(name) && name.contains(['/', '\t'])) {
            return Some(Self::Head);
        }
        let (places, _) = line.strip_prefix("@@ -")?.split_once(" @@")?;
        let (old, new) = places.split_once(" +")?;
        let lines = |place: &str| match place.split_once(',') {
            Some((_, lines)) => lines.parse().ok(),
            None => Some(1),
        };
        Some(Self::Hunk(lines(old)?, lines(new)?))
    }
}

pub(super) fn is_of_patch_head(line: &str) -> bool {
    PATCH_LINES.iter().any(|start| line.starts_with(start)) || line.bytes().all(|b| b == b'=')
}

/// `Content-Type: text/plain`: its name, in small letters, if a header may have it.
fn header(line: &str) -> Option<String> {
    // Programs that show what is sent put arrows before it.
    let line = line.strip_prefix("> ").or_else(|| line.strip_prefix("< ")).unwrap_or(line);
    let (name, value) = line.split_once(':')?;
    let is_name = name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name.len() <= 40
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    (is_name && (value.is_empty() || value.starts_with([' ', '\t']))).then(|| name.to_ascii_lowercase())
}

/// Whether nothing but a header has such a name: `content-type`, but not `follow-up`.
fn is_sure_name(name: &str) -> bool {
    SURE_NAMES.iter().any(|start| name.starts_with(start))
}

/// `GET / HTTP/1.1`, `HTTP/1.1 200 OK`, `commit 3f2a…`, the head of armour: headers are below.
fn begins_headers(line: &str) -> bool {
    let line = line.strip_prefix("> ").or_else(|| line.strip_prefix("< ")).unwrap_or(line);
    let is_request = line.rsplit_once(" HTTP/").is_some_and(|(request, version)| {
        version.len() <= 3
            && request.split_once(' ').is_some_and(|(verb, _)| verb.bytes().all(|b| b.is_ascii_uppercase()))
    });
    let is_status = line.strip_prefix("HTTP/").is_some_and(|rest| {
        rest.split_whitespace()
            .nth(1)
            .is_some_and(|code| code.len() == 3 && code.bytes().all(|b| b.is_ascii_digit()))
    });
    let is_commit = line
        .strip_prefix("commit ")
        .and_then(|rest| rest.split_whitespace().next())
        .is_some_and(|hash| hash.len() >= 7 && hash.bytes().all(|b| b.is_ascii_hexdigit()));
    is_request || is_status || is_commit || line.starts_with("-----BEGIN ")
}

/// Which lines of a paragraph are headers: one of which nothing else has the name, two of which no form has
/// one, or below the line that
/// begins them. `lines` tells of each whether it is further to the right, as a header goes on.
pub(super) fn headers(lines: &[(&str, bool)]) -> Vec<bool> {
    let mut found = vec![false; lines.len()];
    let mut at = 0;
    while at < lines.len() {
        let start = at;
        let is_begun = begins_headers(lines[at].0);
        at += usize::from(is_begun);
        let (mut count, mut is_sure, mut is_mail, mut is_certain) = (0, is_begun, false, false);
        while let Some((line, is_indented)) = lines.get(at).copied() {
            let goes_on = is_indented && at > start && !is_telling(line);
            let name = header(line);
            let is_known =
                name.as_ref().is_some_and(|name| is_sure_name(name) || NAMES.contains(&format!(" {name} ")));
            if !goes_on && !is_known {
                break;
            }
            if let Some(name) = name.filter(|_| is_known && !goes_on) {
                count += 1;
                is_certain |= is_sure_name(&name);
                is_sure |= is_sure_name(&name) || MAIL_NAMES.contains(&format!(" {name} "));
                is_mail |= matches!(name.as_str(), "from" | "to") && line.contains('@');
            }
            at += 1;
        }
        if is_begun || is_certain || (count > 1 && (is_sure || is_mail)) {
            found[start..at].fill(true);
        }
        at = at.max(start + 1);
    }
    found
}

/// `-----BEGIN PGP SIGNATURE-----`: what ends it. What is signed is a text, and only its head is none.
pub(super) fn armour(line: &str) -> Option<&'static str> {
    let is_armour = line.starts_with("-----BEGIN ") && line.ends_with("-----");
    (is_armour && !line.contains("SIGNED MESSAGE")).then_some("-----END ")
}

/// `-----BEGIN PGP SIGNED MESSAGE-----`, and what parts the parts of a mail.
pub(super) fn is_mark(line: &str) -> bool {
    let is_of_armour =
        (line.starts_with("-----BEGIN ") || line.starts_with("-----END ")) && line.ends_with("-----");
    let is_boundary = line.starts_with("--")
        && line.len() >= 12
        && !line.contains(char::is_whitespace)
        && line.contains(|c: char| c.is_ascii_digit());
    is_of_armour || is_boundary || is_banner(line) || is_encoded(line)
}

/// `---------- Forwarded message ----------`, `=== 1 passed in 0.1s ===`
fn is_banner(line: &str) -> bool {
    const WORDS_MAX: usize = 12;
    ["--", "=="].iter().any(|mark| {
        let bare = line.strip_prefix(mark).and_then(|line| line.strip_suffix(mark));
        bare.is_some_and(|bare| bare.contains(char::is_alphanumeric))
            && line.split_whitespace().count() <= WORDS_MAX
    })
}

/// A line of base64, or of hexadecimal digits.
fn is_encoded(line: &str) -> bool {
    const ENCODED_MIN: usize = 40;
    let has = |is: fn(&u8) -> bool| line.as_bytes().iter().any(is);
    line.len() >= ENCODED_MIN
        && line.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/' | b'='))
        && has(u8::is_ascii_digit)
        && has(u8::is_ascii_alphabetic)
}

/// Tags of XML with a value between them that is no sentence: `<port>80</port>`.
pub(super) fn is_element(line: &str) -> bool {
    const WORDS_MAX: usize = 4;
    if !(line.starts_with('<') && line.ends_with('>')) {
        return false;
    }
    let name: String = line[1..].trim_start_matches('/').chars().take_while(|c| is_of_name(*c)).collect();
    if name.is_empty() || is_of_html(&name.to_ascii_lowercase()) {
        return false;
    }
    let texts = || line.split('<').filter_map(|part| part.split_once('>')).map(|(_, text)| text.trim());
    let words = texts().flat_map(str::split_whitespace).count();
    words <= WORDS_MAX && texts().all(|text| !text.ends_with(['.', '!', '?']) && prose_words(text) == 0)
}

fn is_of_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | ':' | '.')
}
