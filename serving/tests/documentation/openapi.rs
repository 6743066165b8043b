//! `docs/openapi/*.json`, and their routes, which are those of the routers.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;

use crate::root;
use crate::source::rust_files;

/// Each document as it is committed: its file, and its text.
pub(crate) fn files() -> Vec<(String, String)> {
    let documents = serving::docs::documents();
    assert!(documents.len() > 7, "documents are missing");
    let file = |(name, document): (String, Value)| {
        let name = if name.is_empty() { "own" } else { &name };
        (
            format!("docs/openapi/{name}.json"),
            format!("{}\n", serde_json::to_string_pretty(&document).unwrap()),
        )
    };
    documents.into_iter().map(file).collect()
}

const METHODS: [&str; 4] = ["get", "post", "put", "delete"];

#[test]
fn routes_of_documents_are_those_of_the_routers() {
    let mut routers = BTreeSet::new();
    for folder in ["serving/protocols/src", "serving/src/administration", "serving/src/docs"] {
        for path in rust_files(&root().join(folder)) {
            routers.extend(routes(&path));
        }
    }
    let mut documented = BTreeSet::new();
    for document in serving::docs::documents().values() {
        for (path, methods) in document["paths"].as_object().unwrap() {
            documented
                .extend(methods.as_object().unwrap().keys().map(|method| (path.clone(), method.clone())));
        }
    }
    assert!(routers.len() > 80, "the routes were not found: {routers:?}");
    let undocumented: Vec<_> = routers.difference(&documented).collect();
    let unrouted: Vec<_> = documented.difference(&routers).collect();
    assert!(
        undocumented.is_empty() && unrouted.is_empty(),
        "no document: {undocumented:?}, no route: {unrouted:?}"
    );
}

/// Paths and methods of `.route(path, get(…).post(…))` in a file; `any(…)` only refuses.
fn routes(file: &Path) -> Vec<(String, String)> {
    let text = std::fs::read_to_string(file).unwrap();
    let text = text.split("#[cfg(test)]").next().unwrap_or_default();
    let mut found = Vec::new();
    for call in text.split(".route(").skip(1) {
        let (path, handler) = call.split_once(',').unwrap();
        let path = match path.trim().strip_prefix('"') {
            Some(literal) => literal.trim_end_matches('"').to_owned(),
            None => {
                let constant = format!("const {}: &str = \"", path.trim());
                let errors = std::fs::read_to_string(root().join("serving/api/src/error.rs")).unwrap();
                let Some((_, value)) = text.split_once(&constant).or_else(|| errors.split_once(&constant))
                else {
                    continue;
                };
                value.split('"').next().unwrap().to_owned()
            }
        };
        for name in called(handler) {
            if METHODS.contains(&name.as_str()) {
                found.push((path.clone(), name));
            } else {
                // A function of the file that makes a handler, or a name for one.
                assert!(["any", "fixed", "grpc"].contains(&name.as_str()), "{}: {name}", file.display());
                found.extend((name == "fixed").then(|| (path.clone(), "get".to_owned())));
            }
        }
    }
    found
}

/// Names that are called in a row, `get(…).post(…)`, up to the parenthesis that closes before them.
fn called(text: &str) -> Vec<String> {
    let (mut depth, mut name, mut names) = (0_usize, String::new(), Vec::new());
    for letter in text.chars() {
        match letter {
            '(' if depth == 0 => {
                names.push(std::mem::take(&mut name));
                depth = 1;
            }
            '(' => depth += 1,
            ')' if depth == 0 => break,
            ')' => depth -= 1,
            // Only the last part of a path.
            ':' if depth == 0 => name.clear(),
            letter if depth == 0 && letter.is_ascii_alphanumeric() => name.push(letter),
            _ => {}
        }
    }
    names
}

#[test]
fn calls_in_a_row() {
    let check = |text: &str, expected: &[&str]| assert_eq!(called(text), expected, "{text}");
    check(" get(a::list)).route(", &["get"]);
    check(" routing::get(list).post(create))", &["get", "post"]);
    check(" get(probe()).post(probe())) rest(", &["get", "post"]);
    check("\n  post(answer::<B>),\n) x(", &["post"]);
}
