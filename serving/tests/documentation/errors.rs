//! `docs/errors.md`, made of the error table.

use std::fmt::Write;

use serving::error::{ErrorKind, Row};

use crate::wrapped;

pub(crate) fn page() -> String {
    let introduction = "Codes are stable; messages are for people and may change. A server shows this page, with an anchor for \
        each code, at `/docs/errors`. The form of an error over REST and gRPC: [api.md](api.md#errors); a request for \
        each: [error-examples.md](error-examples.md).";
    let mut page = format!(
        "<!-- Made from serving/api/src/error/kind.rs by `make docs`. -->\n# Error codes\n\n{}\n\n\
         | code | HTTP | gRPC | retry | what happened | what to do |\n|---|---|---|---|---|---|\n",
        wrapped(introduction)
    );
    for kind in ErrorKind::ALL {
        let Row { code, http, grpc } = kind.row();
        let (meaning, remedy) = (kind.meaning(), kind.remedy());
        let (grpc, retry) = (grpc.name(), kind.retry().advice());
        let _ =
            writeln!(page, "| `{code}` | {} | `{grpc}` | {retry} | {meaning} | {remedy} |", http.as_u16());
    }
    let end = "In metrics and logs, `cancelled` marks calls whose caller left before there was an answer; nobody receives it.";
    format!("{page}\n{}\n", wrapped(end))
}
