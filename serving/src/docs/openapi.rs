//! The OpenAPI documents that are served.

use std::collections::BTreeMap;

use protocols::documents::DIALECTS;
use protocols::openapi::{Api, Content, DOCUMENTS, Operation};
use protocols::v1::rest;
use serde_json::{Value, json};

use super::{DIALECT_PATH, INDEX_PATH, OPENAPI_PATH, PAGE_PATH, STYLE_PATH};
use crate::administration;
use crate::error::DOCS_PATH;

/// All of them, by the dialect's name; that of our own API has none.
pub fn documents() -> BTreeMap<String, Value> {
    let mut own = rest::document();
    administration::describe(&mut own);
    describe(&mut own);
    let mut documents = BTreeMap::from([(String::new(), own.finish())]);
    documents.extend(DIALECTS.iter().map(|dialect| (dialect.name.to_owned(), dialect.build())));
    documents
}

/// Adds the routes of documents.
fn describe(api: &mut Api) {
    const TAG: &str = "Documents";
    api.tag(TAG, "For callers and their programs; without credentials.");
    let text = |kind: &'static str| Content::from([(kind, json!({"schema": {"type": "string"}}))]);
    let of = |path: &str, summary: &str| Operation::new("get", path, TAG, summary).open();
    let names: Vec<String> = DIALECTS.iter().map(|dialect| format!("{}.json", dialect.name)).collect();
    let document = json!({"type": "object"});
    for (path, summary) in [
        (INDEX_PATH, "The first page of the documentation"),
        (DOCS_PATH, "Explains the error codes"),
        (PAGE_PATH, "A page of the documentation"),
    ] {
        let page = json!({"type": "string", "minLength": 1});
        api.add(
            of(path, summary)
                .path_part("page", &page, "api")
                .answers_with(200, "The page.", text("text/html"))
                .fails(DOCUMENTS),
        );
    }
    api.add(
        of(STYLE_PATH, "The style of the pages")
            .answers_with(200, "The style.", text("text/css"))
            .fails(DOCUMENTS),
    );
    api.add(of(OPENAPI_PATH, "This document").answers(200, "The document.", &document).fails(DOCUMENTS));
    let dialect = of(DIALECT_PATH, "The document of a dialect of another server")
        .path_part("dialect", &json!({"type": "string", "enum": names}), "tei.json")
        .answers(200, "The document.", &document);
    api.add(dialect.fails(DOCUMENTS));
}
