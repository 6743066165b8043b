//! Documents for callers, in the binary: pages under `/docs`, and OpenAPI documents at `/openapi.json` and
//! `/openapi/{dialect}`. Both ports serve them from the first moment, and they need nothing from the network.
//! `/docs/errors` is the page that `docs_url` in errors leads to.

mod errors;
mod markdown;
mod openapi;
mod reference;
mod schema;
mod shell;
mod text;

use std::collections::BTreeMap;
use std::sync::LazyLock;

use axum::Router;
use axum::extract::{Path, Request};
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, IF_NONE_MATCH, X_CONTENT_TYPE_OPTIONS,
    X_FRAME_OPTIONS,
};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use protocols::Dialects;
use protocols::documents::DIALECTS;
use protocols::v1::rest;
use sha2::{Digest, Sha256};

use crate::error::{ApiError, DOCS_PATH};

pub use openapi::documents;

const INDEX_PATH: &str = "/docs";
const STYLE_PATH: &str = "/docs/style.css";
const PAGE_PATH: &str = "/docs/{page}";
const OPENAPI_PATH: &str = "/openapi.json";
const DIALECT_PATH: &str = "/openapi/{dialect}";

const HTML: &str = "text/html; charset=utf-8";

/// What is served at a path.
struct Asset {
    content_type: &'static str,
    text: String,
    etag: String,
}

/// What never changes while the process runs, by path.
static ASSETS: LazyLock<BTreeMap<String, Asset>> = LazyLock::new(|| {
    let documents = documents();
    let mut assets = BTreeMap::new();
    let mut add = |path: String, content_type, text: String| {
        let digest = Sha256::digest(text.as_bytes());
        let etag = digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect::<String>();
        assets.insert(path, Asset { content_type, text, etag: format!("\"{etag}\"") });
    };
    for (name, document) in &documents {
        let path = if name.is_empty() { OPENAPI_PATH.to_owned() } else { format!("/openapi/{name}.json") };
        add(path, "application/json", document.to_string());
        let slug = reference::slug(name);
        add(format!("{INDEX_PATH}/{slug}"), HTML, shell::page(&slug, &reference::page(document)));
    }
    for page in markdown::PAGES {
        add(format!("{INDEX_PATH}/{}", page.slug), HTML, shell::page(page.slug, &markdown::page(page)));
    }
    add(INDEX_PATH.to_owned(), HTML, shell::page("", &shell::index()));
    add(DOCS_PATH.to_owned(), HTML, shell::page("errors", &errors::page()));
    add(STYLE_PATH.to_owned(), "text/css; charset=utf-8", include_str!("style.css").to_owned());
    assets
});

/// The routes of the documentation; those of dialects that are not spoken are none.
pub(crate) fn router<S: Clone + Send + Sync + 'static>(dialects: Dialects) -> Router<S> {
    let fixed = |path: &'static str| get(move |headers: HeaderMap| async move { show(path, &headers) });
    let named = move |Path(_): Path<String>, request: Request| async move { find(dialects, &request) };
    Router::new()
        .route(INDEX_PATH, fixed(INDEX_PATH))
        .route(DOCS_PATH, fixed(DOCS_PATH))
        .route(STYLE_PATH, fixed(STYLE_PATH))
        .route(OPENAPI_PATH, fixed(OPENAPI_PATH))
        .route(PAGE_PATH, get(named))
        .route(DIALECT_PATH, get(named))
}

fn find(dialects: Dialects, request: &Request) -> Response {
    let path = request.uri().path();
    let is_of = |name: &str| {
        path.strip_prefix("/openapi/").is_some_and(|rest| rest.strip_suffix(".json") == Some(name))
            || path.strip_prefix("/docs/").is_some_and(|rest| rest == reference::slug(name))
    };
    let is_off = DIALECTS.iter().any(|dialect| is_of(dialect.name) && !(dialect.is_on)(dialects));
    if is_off || !ASSETS.contains_key(path) {
        return rest::refuse_request(&ApiError::RouteNotFound, request);
    }
    show(path, request.headers())
}

fn show(path: &str, headers: &HeaderMap) -> Response {
    let Some(asset) = ASSETS.get(path) else { return StatusCode::NOT_FOUND.into_response() };
    let known = headers.get_all(IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    let is_known = known.flat_map(|value| value.split(',')).any(|tag| {
        let tag = tag.trim();
        tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == asset.etag
    });
    let headers = [
        (CONTENT_TYPE, asset.content_type),
        // Another version of the server may say something else.
        (CACHE_CONTROL, "max-age=300"),
        (ETAG, asset.etag.as_str()),
        (CONTENT_SECURITY_POLICY, "default-src 'none'; style-src 'self'; frame-ancestors 'none'"),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (X_FRAME_OPTIONS, "DENY"),
    ];
    if is_known {
        (StatusCode::NOT_MODIFIED, headers).into_response()
    } else {
        (headers, asset.text.as_str()).into_response()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::panic)]
    use super::*;

    #[test]
    fn nothing_is_fetched_from_elsewhere() {
        for (path, asset) in ASSETS.iter().filter(|(path, _)| path.starts_with("/docs")) {
            assert!(!asset.text.contains("<script") && !asset.text.contains("url("), "{path}");
            for attribute in ["src=\"", "rel=\"stylesheet\" href=\""] {
                for target in asset.text.split(attribute).skip(1) {
                    assert!(target.starts_with("/docs/"), "{path}: {attribute}{}", &target[..20]);
                }
            }
        }
    }

    /// Links between pages lead to pages, and to places of them.
    #[test]
    fn links_lead_somewhere() {
        let mut count = 0;
        for (path, asset) in ASSETS.iter().filter(|(_, asset)| asset.content_type == HTML) {
            for link in asset.text.split("href=\"").skip(1).filter_map(|part| part.split('"').next()) {
                if link.starts_with("https://") {
                    continue;
                }
                count += 1;
                let (page, anchor) = link.split_once('#').unwrap_or((link, ""));
                let target = ASSETS.get(if page.is_empty() { path.as_str() } else { page });
                let target = target.unwrap_or_else(|| panic!("{path}: nothing is at {link}"));
                let id = format!(" id=\"{anchor}\"");
                assert!(anchor.is_empty() || target.text.contains(&id), "{path}: no place is {link}");
            }
        }
        assert!(count > 300, "only {count} links were found");
    }
}
