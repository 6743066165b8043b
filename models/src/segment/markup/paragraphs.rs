//! A text without its markup in which elements that are no part of a line are paragraphs.

use std::borrow::Cow;

use super::super::count;
use super::Plain;
use super::tag::{is_inline, tag};

impl<'a> Plain<'a> {
    /// The text, in as many bytes, with a blank line where a tag ends a line or a cell. `raw` is how it was
    /// written.
    pub(crate) fn into_paragraphs(self, raw: &str) -> Cow<'a, str> {
        let Cow::Owned(text) = self.text else { return self.text };
        let mut bytes = text.into_bytes();
        for end in self.ends {
            let parts = match raw.get(end..).map(|rest| (rest, rest.starts_with('<'))) {
                // What holds a name is a part of a line.
                Some((rest, true)) => {
                    count(1);
                    !tag(rest).is_some_and(|(name, _)| is_inline(&name.to_ascii_lowercase()))
                }
                Some((rest, false)) => rest.starts_with(['\\', '&']),
                None => false,
            };
            if parts && bytes.get(end..end + 2) == Some(b"  ") {
                bytes[end..end + 2].fill(b'\n');
            }
        }
        // Blanks were replaced by ends of lines.
        match String::from_utf8(bytes) {
            Ok(text) => Cow::Owned(text),
            Err(error) => Cow::Owned(String::from_utf8_lossy(error.as_bytes()).into_owned()),
        }
    }
}
