//! `/docs/errors`: the page that `docs_url` in errors leads to. Made of the error table, served by every
//! server on both ports from its first moment, and in need of nothing from the network.

use std::fmt::Write;
use std::sync::LazyLock;

use axum::Router;
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::get;

use crate::error::{DOCS_PATH, ErrorKind, Row};

const STYLE_PATH: &str = "/docs/style.css";
const STYLE: &str = include_str!("docs.css");

/// The page never changes while the process runs.
static ERRORS: LazyLock<String> = LazyLock::new(errors_page);

/// The routes of the documentation.
pub(crate) fn router<S: Clone + Send + Sync + 'static>() -> Router<S> {
    Router::new()
        .route("/docs", get(|| async { Redirect::temporary(DOCS_PATH) }))
        .route(DOCS_PATH, get(|| async { page("text/html; charset=utf-8", ERRORS.as_str()) }))
        .route(STYLE_PATH, get(|| async { page("text/css; charset=utf-8", STYLE) }))
}

fn page(content_type: &'static str, text: &'static str) -> Response {
    let headers = [
        (CONTENT_TYPE, content_type),
        // Another version of the server may have other codes.
        (CACHE_CONTROL, "max-age=300"),
        (CONTENT_SECURITY_POLICY, "default-src 'none'; style-src 'self'; frame-ancestors 'none'"),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (X_FRAME_OPTIONS, "DENY"),
    ];
    (headers, text).into_response()
}

fn errors_page() -> String {
    let (mut index, mut sections) = (String::new(), String::new());
    for kind in ErrorKind::ALL {
        let Row { code, http, grpc } = kind.row();
        let (status, grpc, retry) = (http.as_u16(), grpc.name(), kind.retry().advice());
        // Writing to a string does not fail.
        let _ = writeln!(
            index,
            "<tr><td><a href=\"#{code}\"><code>{code}</code></a></td><td>{status}</td><td><code>{grpc}</code></td><td>{}</td></tr>",
            inline(retry)
        );
        let _ = writeln!(
            sections,
            "<section id=\"{code}\"><h2><a href=\"#{code}\">{code}</a></h2>\
             <p class=\"facts\"><span>HTTP {status} {}</span><span>gRPC {grpc}</span><span>Retry: {}</span></p>\
             <p>{}</p><p><b>What to do.</b> {}</p></section>",
            http.canonical_reason().unwrap_or_default(),
            inline(retry),
            inline(kind.meaning()),
            inline(kind.remedy()),
        );
    }
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>Error codes · ml-inference</title>\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <link rel=\"stylesheet\" href=\"{STYLE_PATH}\"></head><body><main><h1>Error codes</h1>{INTRODUCTION}\
         <table><thead><tr><th>Code</th><th>HTTP</th><th>gRPC</th><th>Retry</th></tr></thead><tbody>{index}</tbody></table>\
         {sections}<footer>ml-inference {}</footer></main></body></html>\n",
        env!("CARGO_PKG_VERSION")
    )
}

const INTRODUCTION: &str = "<p>Every failed call has one of these codes. Over REST it is in the body, as below; over gRPC it is \
    the <code>reason</code> of <code>google.rpc.ErrorInfo</code> in the status details. Codes are stable; messages are for \
    people and may change. Quote the <code>request_id</code> when you report a problem.</p>\
    <pre>{\"error\": {\"code\": \"empty_input\", \"message\": \"inputs[1] is empty\",\n           \
    \"request_id\": \"req_01M7…\", \"docs_url\": \"…/docs/errors#empty_input\"}}</pre>";

/// Text as HTML, what stands in backticks as code.
fn inline(text: &str) -> String {
    let mut html = String::with_capacity(text.len());
    for (index, part) in text.split('`').enumerate() {
        let (open, close) = if index % 2 == 1 { ("<code>", "</code>") } else { ("", "") };
        html.push_str(open);
        for character in part.chars() {
            match character {
                '&' => html.push_str("&amp;"),
                '<' => html.push_str("&lt;"),
                '>' => html.push_str("&gt;"),
                '"' => html.push_str("&quot;"),
                _ => html.push(character),
            }
        }
        html.push_str(close);
    }
    html
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_become_html() {
        let check = |text: &str, expected: &str| assert_eq!(inline(text), expected);
        check("Send `Bearer <key>` & wait.", "Send <code>Bearer &lt;key&gt;</code> &amp; wait.");
        check("plain", "plain");
    }

    #[test]
    fn every_code_has_its_place() {
        for kind in ErrorKind::ALL {
            let anchor = format!("<section id=\"{}\">", kind.row().code);
            assert_eq!(ERRORS.matches(&anchor).count(), 1, "{anchor}");
        }
    }

    #[test]
    fn nothing_is_fetched_from_elsewhere() {
        for text in [ERRORS.as_str(), STYLE] {
            assert!(!text.contains("//") && !text.contains("<script") && !text.contains("url("));
        }
    }
}
