//! A line of the journal: the CRC-32 of the rest of it in eight hexadecimal digits, a space, and the record
//! as JSON, whose first fields are the record's number `n` and its epoch `e` (see [`Entry`]). Lines of older
//! versions may have no `n`: such a record's number is that of the line before and one; or no `e`: such a
//! record belongs to the journal's name.

use std::io::{self, BufRead, Read, Write};
use std::sync::Arc;

use super::UsageRecord;

/// A longer line is none of ours.
const LINE_BYTES_MAX: u64 = 1 << 20;
/// Digits of the sum, and the space.
const SUM: usize = 9;

/// A record and what names it. An epoch is one start of a server, random, so that no two servers ever give
/// one name to two records, whatever is copied, restored or lost; numbers are unique within it. None: an
/// older version's record, which belongs to the journal's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) number: u64,
    pub(super) epoch: Option<Arc<str>>,
    pub(super) record: UsageRecord,
}

/// Appends a record's line.
pub(super) fn write(text: &mut Vec<u8>, number: u64, epoch: &str, record: &UsageRecord) -> io::Result<()> {
    let start = text.len();
    write!(text, "00000000 {{\"n\":{number},\"e\":\"{epoch}\",")?;
    let rest = text.len();
    serde_json::to_writer(&mut *text, record)?;
    // Its own brace.
    text.remove(rest);
    seal(text, start);
    Ok(())
}

/// The same line with a number, if it has none.
pub(super) fn numbered(line: &[u8], number: u64) -> Vec<u8> {
    let json = line.get(SUM..).unwrap_or_default();
    if number_in(line).is_some() {
        return line.to_vec();
    }
    let json = json.strip_prefix(b"{").unwrap_or(json);
    let mut text = format!("00000000 {{\"n\":{number},").into_bytes();
    text.extend_from_slice(json.strip_suffix(b"\n").unwrap_or(json));
    seal(&mut text, 0);
    text
}

/// Sets the sum of the line that begins at `start`, and ends it.
fn seal(text: &mut Vec<u8>, start: usize) {
    let sum = crc32fast::hash(&text[start + SUM..]);
    text[start..start + SUM - 1].copy_from_slice(format!("{sum:08x}").as_bytes());
    text.push(b'\n');
}

/// Reads one line, with its end if it has one. Returns its bytes: 0 at the end of the file.
pub(super) fn read(reader: &mut impl BufRead, line: &mut Vec<u8>) -> io::Result<usize> {
    line.clear();
    reader.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', line)
}

/// Whether the line is whole and as it was written.
pub(super) fn is_good(line: &[u8]) -> bool {
    json(line).is_some()
}

/// Whether the line was being written when the process or the machine ended, rather than damaged later.
pub(super) fn is_torn(line: &[u8]) -> bool {
    !line.ends_with(b"\n") || line.contains(&0)
}

/// The number in a line, whether or not the line is good.
pub(super) fn number_in(line: &[u8]) -> Option<u64> {
    let rest = line.get(SUM..)?.strip_prefix(b"{\"n\":")?;
    let digits = rest.split(|byte| *byte == b',').next()?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// The epoch in a line, if it has one, whether or not the line is good.
pub(super) fn epoch_in(line: &[u8]) -> Option<&str> {
    let rest = line.get(SUM..)?.strip_prefix(b"{\"n\":")?;
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let text = rest.get(digits..)?.strip_prefix(b",\"e\":\"")?.split(|byte| *byte == b'"').next()?;
    std::str::from_utf8(text).ok()
}

/// The record of a good line.
pub(super) fn parse(line: &[u8]) -> Option<UsageRecord> {
    serde_json::from_slice(json(line)?).ok()
}

fn json(line: &[u8]) -> Option<&[u8]> {
    let (sum, json) = line.strip_suffix(b"\n")?.split_at_checked(SUM)?;
    let sum = u32::from_str_radix(std::str::from_utf8(sum.strip_suffix(b" ")?).ok()?, 16).ok()?;
    (crc32fast::hash(json) == sum).then_some(json)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::ledger::tests::record;

    #[test]
    fn written_and_read() {
        let mut text = Vec::new();
        write(&mut text, 7, "01J", &record("acme", 3)).unwrap();
        assert!(
            text[9..].starts_with(b"{\"n\":7,\"e\":\"01J\",\"at\":"),
            "{}",
            String::from_utf8_lossy(&text)
        );
        assert_eq!(epoch_in(&text), Some("01J"));
        assert_eq!(
            (number_in(&text), parse(&text), is_torn(&text)),
            (Some(7), Some(record("acme", 3)), false)
        );
        for place in 0..text.len() {
            let mut flipped = text.clone();
            flipped[place] ^= 1;
            assert!(parse(&flipped).is_none(), "bit at {place}");
        }
        assert!(is_torn(&text[..text.len() - 1]));
    }

    #[test]
    fn a_line_of_an_older_version() {
        let json = serde_json::to_vec(&record("acme", 3)).unwrap();
        let line = [format!("{:08x} ", crc32fast::hash(&json)).as_bytes(), &json, b"\n"].concat();
        assert_eq!((number_in(&line), epoch_in(&line), parse(&line)), (None, None, Some(record("acme", 3))));
        let new = numbered(&line, 9);
        assert_eq!((number_in(&new), epoch_in(&new), parse(&new)), (Some(9), None, Some(record("acme", 3))));
        assert_eq!(numbered(&new, 1), new, "a number stays");
    }
}
