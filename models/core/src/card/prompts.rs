//! What is put before texts, as `config_sentence_transformers.json` names it.

use std::collections::BTreeMap;

/// Prompts of an embedding model by name. A prompt stands before the text, as it is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Prompts {
    /// Each by its name.
    pub texts: BTreeMap<String, String>,
    /// The one that is used where a call names none: one of `texts`.
    pub default: Option<String>,
}

/// What a text is, for which authors use one of these names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PromptKind {
    /// It is looked for.
    Query,
    /// It is looked through.
    Document,
}

impl Prompts {
    /// The prompt of a name, or the default one; nothing where there is none.
    ///
    /// # Errors
    /// There is none of that name.
    pub fn named(&self, name: Option<&str>) -> Result<&str, UnknownPrompt> {
        let Some(name) = name.or(self.default.as_deref()) else { return Ok("") };
        let known = || self.texts.keys().cloned().collect::<Vec<_>>();
        self.texts.get(name).map(String::as_str).ok_or_else(|| UnknownPrompt { known: known() })
    }

    /// The name under which the authors keep the prompt of a kind of text, if they do: the first that is
    /// there of those that sentence-transformers looks for (`encode_query`, `encode_document`).
    pub fn name_of(&self, kind: PromptKind) -> Option<&str> {
        let names: &[&str] = match kind {
            PromptKind::Query => &["query"],
            PromptKind::Document => &["document", "passage", "corpus"],
        };
        names.iter().copied().find(|name| self.texts.contains_key(*name))
    }
}

/// No prompt has the name that was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownPrompt {
    /// Names there are.
    pub known: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prompts(names: &[&str], default: Option<&str>) -> Prompts {
        let texts = names.iter().map(|name| ((*name).to_owned(), format!("{name}: "))).collect();
        Prompts { texts, default: default.map(str::to_owned) }
    }

    #[test]
    fn by_name_or_default() {
        let check = |default: Option<&str>, name: Option<&str>, expected: Result<&str, usize>| {
            let prompts = prompts(&["passage", "query"], default);
            assert_eq!(
                prompts.named(name).map_err(|error| error.known.len()),
                expected,
                "{default:?} {name:?}"
            );
        };
        check(None, None, Ok(""));
        check(None, Some("query"), Ok("query: "));
        check(Some("passage"), None, Ok("passage: "));
        check(Some("passage"), Some("query"), Ok("query: "));
        check(None, Some("Query"), Err(2));
    }

    #[test]
    fn names_of_kinds() {
        let check = |names: &[&str], query: Option<&str>, document: Option<&str>| {
            let prompts = prompts(names, None);
            let found = (prompts.name_of(PromptKind::Query), prompts.name_of(PromptKind::Document));
            assert_eq!(found, (query, document), "{names:?}");
        };
        check(&["query", "passage"], Some("query"), Some("passage"));
        check(&["document", "corpus"], None, Some("document"));
        check(&["classification"], None, None);
    }
}
