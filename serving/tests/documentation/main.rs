//! Documents are true of the code: pages made from it are fresh, and what others name exists.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod configuration;
mod contract;
mod debug_tree;
mod errors;
mod markdown;
mod names;
mod openapi;
mod source;

use std::path::{Path, PathBuf};

/// The top folder of the repository.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().unwrap()
}

/// Holds a page that is made from the code, or makes it where `UPDATE_DOCS` is set.
fn hold(page: &str, text: &str) {
    let path = root().join(page);
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, text).unwrap();
        return;
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    let same = found.lines().zip(text.lines()).take_while(|(left, right)| left == right).count();
    assert!(found == text, "{page} is stale from line {}: run `make docs`", same + 1);
}

/// Prose in lines of at most 110 columns.
fn wrapped(text: &str) -> String {
    let (mut lines, mut line) = (Vec::new(), String::new());
    for word in text.split_whitespace() {
        if !line.is_empty() && line.chars().count() + 1 + word.chars().count() > 110 {
            lines.push(std::mem::take(&mut line));
        }
        line.push_str(if line.is_empty() { "" } else { " " });
        line.push_str(word);
    }
    lines.push(line);
    lines.join("\n")
}

#[test]
fn the_configuration_reference_is_fresh() {
    hold("docs/configuration.md", &configuration::page());
}

#[test]
fn the_errors_page_is_fresh() {
    hold("docs/errors.md", &errors::page());
}

#[test]
fn each_openapi_document_is_fresh() {
    for (page, text) in openapi::files() {
        hold(&page, &text);
    }
}

#[test]
fn the_grpc_contract_is_fresh() {
    let (page, text) = contract::file();
    hold(page, &text);
}
