//! The page of error codes, made of the error table.

use std::fmt::Write;

use super::text::inline;
use crate::error::{ErrorKind, Row};

const INTRODUCTION: &str = "<p>Every failed call has one of these codes. Over REST it is in the body, as below; over gRPC it is \
    the <code>reason</code> of <code>google.rpc.ErrorInfo</code> in the status details. Codes are stable; messages are for \
    people and may change. Quote the <code>request_id</code> when you report a problem. \
    <a href=\"/docs/error-examples\">A request for each</a>.</p>\
    <pre>{\"error\": {\"code\": \"empty_input\", \"message\": \"inputs[1] is empty\",\n           \
    \"request_id\": \"req_01M7…\", \"docs_url\": \"…/docs/errors#empty_input\"}}</pre>";

pub(super) fn page() -> String {
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
        "<h1>Error codes</h1>{INTRODUCTION}<div class=\"wide\"><table class=\"codes\"><thead><tr><th>Code</th><th>HTTP</th>\
         <th>gRPC</th><th>Retry</th></tr></thead><tbody>{index}</tbody></table></div>{sections}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_its_place() {
        let page = page();
        for kind in ErrorKind::ALL {
            let anchor = format!("<section id=\"{}\">", kind.row().code);
            assert_eq!(page.matches(&anchor).count(), 1, "{anchor}");
        }
    }
}
