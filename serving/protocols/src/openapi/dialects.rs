//! What the routes of dialects of other servers have together. What a caller sends beyond the fields that are
//! read is ignored there, so that schemas say what is read and no more.

use serde_json::{Value, json};

use super::errors::{CALL, Group, MODELS};
use super::{Api, Content, Operation};

impl Api {
    /// A call: a POST with a JSON body.
    pub(crate) fn call(
        &mut self,
        path: &str,
        tag: &'static str,
        summary: &str,
        (read, written): &(Value, Value),
    ) {
        let operation = Operation::new("post", path, tag, summary)
            .call_headers()
            .body(read)
            .answers(200, "The results.", written)
            .shows(&["RateLimit", "RateLimit-Policy", "Idempotency-Replayed"]);
        self.add(operation.fails(CALL));
    }

    /// A call that is always refused, once it is known whose it is.
    pub(crate) fn refused_call(&mut self, path: &str, tag: &'static str, summary: &str, read: &Value) {
        self.add(Operation::new("post", path, tag, summary).call_headers().body(read).fails(CALL));
    }

    /// What whoever may look at models is shown.
    pub(crate) fn look(&mut self, path: &str, tag: &'static str, summary: &str, written: &Value) {
        self.add(Operation::new("get", path, tag, summary).answers(200, "As asked.", written).fails(MODELS));
    }

    /// A probe of health: 200 if all is well.
    pub(crate) fn probe(&mut self, method: &'static str, path: &str, tag: &'static str, summary: &str) {
        let operation = Operation::new(method, path, tag, summary).open();
        let operation = operation.answers_with(200, "It is.", Content::new());
        self.add(operation.fails(&[Group::Connection]));
    }

    /// The same, with a body.
    pub(crate) fn told_probe(&mut self, path: &str, tag: &'static str, summary: &str, written: &Value) {
        let operation = Operation::new("get", path, tag, summary).open().answers(200, "It is.", written);
        self.add(operation.fails(&[Group::Connection]));
    }
}

/// An object of which the fields are the caller's own, or another server's.
pub(crate) fn any_object() -> Value {
    json!({"type": "object"})
}
