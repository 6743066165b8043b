//! Labels of token classifiers as tags: which of them begin, go on with and end what is found.
//!
//! Models are trained with BIO (`B-PER`, `I-PER`, `O`), IO, BIOES and BILOU (`E-` or `L-` ends, `S-` or `U-`
//! is all of it), BMES, or with bare labels.

use std::collections::BTreeSet;
use std::sync::Arc;

/// A label of a card, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Tag {
    /// As it stands in the card.
    pub(super) label: Arc<str>,
    /// `None` is outside of anything.
    pub(super) kind: Option<Arc<str>>,
    /// Whether it begins something.
    pub(super) begins: bool,
    /// Whether nothing goes on behind it.
    pub(super) ends: bool,
}

/// The tags that labels are. `O` is outside. `B-` and `I-` say place and kind; the other letters do for a
/// kind that has one of these two, so that a bare label such as `E-MAIL` is left whole.
pub(super) fn tags(labels: &[String]) -> Vec<Tag> {
    let apart =
        |label: &'_ str| label.split_once('-').map(|(place, kind)| (place.to_owned(), kind.to_owned()));
    let kinds: BTreeSet<String> = labels
        .iter()
        .filter_map(|label| apart(label))
        .filter(|(place, kind)| matches!(place.as_str(), "B" | "I") && !kind.is_empty())
        .map(|(_, kind)| kind)
        .collect();
    let tag = |label: &String| {
        let (kind, begins, ends) = match apart(label) {
            _ if label == "O" => (None, false, false),
            Some((place, kind)) if kinds.contains(&kind) => match place.as_str() {
                "B" => (Some(kind), true, false),
                "I" | "M" => (Some(kind), false, false),
                "E" | "L" => (Some(kind), false, true),
                "S" | "U" => (Some(kind), true, true),
                _ => (Some(label.clone()), false, false),
            },
            _ => (Some(label.clone()), false, false),
        };
        Tag { label: Arc::from(label.as_str()), kind: kind.map(Arc::from), begins, ends }
    };
    labels.iter().map(tag).collect()
}

impl Tag {
    /// Whether it is of what the tag right before it is of.
    pub(super) fn goes_on_with(&self, last: &Self) -> bool {
        self.kind.is_some() && self.kind == last.kind && !self.begins && !last.ends
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schemes() {
        let check = |labels: &[&str], expected: &[(Option<&str>, bool, bool)]| {
            let owned: Vec<String> = labels.iter().map(|label| (*label).to_owned()).collect();
            let found = tags(&owned);
            let found: Vec<_> = found.iter().map(|tag| (tag.kind.as_deref(), tag.begins, tag.ends)).collect();
            assert_eq!(found, expected, "{labels:?}");
        };
        let (per, mail) = (Some("PER"), Some("E-MAIL"));
        check(&["O", "B-PER", "I-PER"], &[(None, false, false), (per, true, false), (per, false, false)]);
        check(&["I-PER", "O"], &[(per, false, false), (None, false, false)]);
        check(
            &["B-PER", "I-PER", "E-PER", "S-PER"],
            &[(per, true, false), (per, false, false), (per, false, true), (per, true, true)],
        );
        check(&["B-PER", "L-PER", "U-PER"], &[(per, true, false), (per, false, true), (per, true, true)]);
        check(&["B-PER", "M-PER"], &[(per, true, false), (per, false, false)]);
        check(&["O", "E-MAIL", "PER"], &[(None, false, false), (mail, false, false), (per, false, false)]);
        check(
            &["B-E-MAIL", "I-E-MAIL", "B-"],
            &[(mail, true, false), (mail, false, false), (Some("B-"), false, false)],
        );
    }
}
