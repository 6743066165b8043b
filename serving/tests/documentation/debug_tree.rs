//! Reads what `{:?}` writes of a value, so that defaults are shown as the program has them.

/// A value as `{:?}` writes it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Tree {
    /// A number, a string without its quotes, the name of a unit variant.
    Leaf(String),
    /// A struct, a struct variant, or a map (without a name).
    Fields(String, Vec<(String, Tree)>),
    /// A tuple, a tuple variant, or a list (without a name).
    Items(String, Vec<Tree>),
}

impl Tree {
    pub(crate) fn parse(text: &str) -> Self {
        let mut rest = text;
        let tree = value(&mut rest);
        assert!(rest.trim().is_empty(), "cannot read {rest:?}");
        tree
    }

    /// The value without `Some` and newtypes around it; none if it is `None`.
    pub(crate) fn bare(&self) -> Option<&Self> {
        match self {
            Self::Leaf(name) if name == "None" => None,
            Self::Items(name, items) if name == "Some" => items.first().and_then(Self::bare),
            _ => Some(self),
        }
    }

    /// The value of a field, whatever wraps it. The name of the variant that a value is leads to the value
    /// itself.
    pub(crate) fn field(&self, name: &str) -> Option<&Self> {
        let bare = self.bare()?;
        match bare {
            Self::Fields(variant, _) | Self::Items(variant, _) if variant == name => Some(bare),
            Self::Fields(_, fields) => fields.iter().find(|(field, _)| field == name).map(|(_, value)| value),
            Self::Items(_, items) => items.iter().find_map(|item| item.field(name)),
            Self::Leaf(_) => None,
        }
    }
}

fn value(rest: &mut &str) -> Tree {
    *rest = rest.trim_start();
    if let Some(quoted) = rest.strip_prefix('"') {
        let mut is_escaped = false;
        let is_end = |letter: char| {
            let ends = letter == '"' && !is_escaped;
            is_escaped = letter == '\\' && !is_escaped;
            ends
        };
        let end = quoted.find(is_end).unwrap();
        *rest = &quoted[end + 1..];
        return Tree::Leaf(quoted[..end].to_owned());
    }
    let end = rest.find([',', '(', ')', '{', '}', '[', ']']).unwrap_or(rest.len());
    let name = rest[..end].trim().to_owned();
    *rest = &rest[end..];
    match rest.chars().next() {
        Some('{') => Tree::Fields(name, list(rest, '}', |rest| (key(rest), value(rest)))),
        Some('(') => Tree::Items(name, list(rest, ')', value)),
        Some('[') => Tree::Items(name, list(rest, ']', value)),
        _ => Tree::Leaf(name),
    }
}

fn key(rest: &mut &str) -> String {
    let (name, after) = rest.split_once(':').unwrap();
    *rest = after;
    name.trim().trim_matches('"').to_owned()
}

fn list<T>(rest: &mut &str, close: char, item: impl Fn(&mut &str) -> T) -> Vec<T> {
    *rest = &rest[1..];
    let mut items = Vec::new();
    loop {
        *rest = rest.trim_start_matches([' ', ',']);
        if let Some(after) = rest.strip_prefix(close) {
            *rest = after;
            return items;
        }
        items.push(item(rest));
    }
}

#[test]
fn values() {
    #[derive(Debug)]
    #[allow(dead_code)]
    struct Of {
        number: u32,
        text: &'static str,
        optional: Option<Vec<u8>>,
        none: Option<u8>,
        map: std::collections::BTreeMap<&'static str, (u8,)>,
    }
    let (map, optional) = (std::collections::BTreeMap::from([("k", (7,))]), Some(vec![1, 2]));
    let of = Of { number: 5, text: "a \"b\", c", optional, none: None, map };
    let tree = Tree::parse(&format!("{of:?}"));
    let leaf = |text: &str| Tree::Leaf(text.to_owned());
    assert_eq!(tree.field("number"), Some(&leaf("5")));
    assert_eq!(tree.field("text"), Some(&leaf("a \\\"b\\\", c")));
    assert_eq!(tree.field("none").unwrap().bare(), None);
    let items = Tree::Items(String::new(), vec![leaf("1"), leaf("2")]);
    assert_eq!(tree.field("optional").unwrap().bare(), Some(&items));
    assert_eq!(tree.field("map").unwrap().field("k"), Some(&Tree::Items(String::new(), vec![leaf("7")])));
}
