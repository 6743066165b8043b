//! One method of a route as a document tells of it.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::errors::Group;
use super::examples::EXAMPLES;

/// What is read or written, by its media type.
pub type Content = BTreeMap<&'static str, Value>;

/// How callers of a document show who they are: one of these.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Security {
    /// `Authorization: Bearer`, or a client certificate.
    Bearer,
    /// The same, or a key in a header of its own.
    BearerOrKey,
}

impl Security {
    /// Names of the schemes.
    fn names(self) -> &'static [&'static str] {
        match self {
            Self::Bearer => &["bearer"],
            Self::BearerOrKey => &["bearer", "x-api-key", "api-key"],
        }
    }

    pub(super) fn alternatives(self) -> Value {
        let alternative = |name: &&str| json!({*name: []});
        self.names().iter().map(alternative).collect()
    }

    pub(super) fn schemes(self) -> Value {
        let scheme = |name: &&str| {
            let scheme = match *name {
                "bearer" => json!({
                    "type": "http", "scheme": "bearer",
                    "description": "An API key (`tc_live_…`; `tc_test_…` in sandboxes), or a JWT of the \
                        configured issuer. Services of the platform may be known by a client certificate instead.",
                }),
                name => json!({"type": "apiKey", "in": "header", "name": name, "description": "An API key."}),
            };
            ((*name).to_owned(), scheme)
        };
        Value::Object(self.names().iter().map(scheme).collect())
    }
}

/// What a method of a route does.
pub struct Operation {
    pub(super) method: &'static str,
    pub(super) path: String,
    pub(super) errors: Vec<Group>,
    id: String,
    tag: &'static str,
    summary: String,
    description: String,
    is_open: bool,
    parameters: Vec<Value>,
    body: Option<(Content, bool)>,
    answers: BTreeMap<u16, Value>,
    links: BTreeMap<String, Value>,
}

impl Operation {
    /// A method (in lower case) of a route, and what it does.
    pub fn new(method: &'static str, path: impl Into<String>, tag: &'static str, summary: &str) -> Self {
        let path = path.into();
        let words = path.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
        let id = std::iter::once(method).chain(words).collect::<Vec<_>>().join("_");
        let mut operation = Self {
            method,
            errors: Vec::new(),
            id,
            tag,
            summary: summary.to_owned(),
            description: String::new(),
            is_open: false,
            parameters: Vec::new(),
            body: None,
            answers: BTreeMap::new(),
            links: BTreeMap::new(),
            path,
        };
        for name in operation.path.clone().split('{').skip(1).filter_map(|part| part.split('}').next()) {
            let name = name.trim_start_matches('*');
            let schema = json!({"type": "string", "minLength": 1});
            operation
                .parameters
                .push(json!({"name": name, "in": "path", "required": true, "schema": schema}));
        }
        operation
    }

    /// Says more.
    pub fn described(mut self, description: impl Into<String>) -> Self {
        self.description = description.into();
        self
    }

    /// Needs no credentials.
    pub fn open(mut self) -> Self {
        self.is_open = true;
        self
    }

    /// Takes a header.
    pub fn header(mut self, name: &str, description: &str, schema: &Value) -> Self {
        self.parameters
            .push(json!({"name": name, "in": "header", "description": description, "schema": schema}));
        self
    }

    /// Says what a part of the path is.
    pub fn path_part(mut self, name: &str, schema: &Value, example: &str) -> Self {
        for parameter in self.parameters.iter_mut().filter(|parameter| parameter["name"] == name) {
            parameter["schema"] = schema.clone();
            parameter["example"] = example.into();
        }
        self
    }

    /// Takes the fields of an object in the query.
    pub fn query(mut self, schema: &Value) -> Self {
        for (name, schema) in schema["properties"].as_object().into_iter().flatten() {
            let mut schema = schema.clone();
            let description = schema.as_object_mut().and_then(|schema| schema.remove("description"));
            let mut parameter = json!({"name": name, "in": "query", "schema": schema});
            if let Some(description) = description {
                parameter["description"] = description;
            }
            self.parameters.push(parameter);
        }
        self
    }

    /// The headers of every call: its deadline, its key, its id.
    pub fn call_headers(self) -> Self {
        let ms = json!({"type": "integer", "minimum": 1, "maximum": u64::MAX});
        self.header("X-Request-Timeout", "The caller's deadline, in milliseconds.", &ms).change_headers()
    }

    /// The headers of every change.
    pub fn change_headers(self) -> Self {
        let key = json!({"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]+$"});
        let description =
            "The same request under the same key within a day gets the same answer, and is charged once.";
        self.header("Idempotency-Key", description, &key)
    }

    /// Takes a JSON body of a schema.
    pub fn body(self, schema: &Value) -> Self {
        self.body_of(Content::from([("application/json", json!({"schema": schema}))]), true)
    }

    /// Takes a body.
    pub fn body_of(mut self, content: Content, is_required: bool) -> Self {
        self.body = Some((content, is_required));
        self
    }

    /// Answers with JSON of a schema.
    pub fn answers(self, status: u16, description: &str, schema: &Value) -> Self {
        self.answers_with(
            status,
            description,
            Content::from([("application/json", json!({"schema": schema}))]),
        )
    }

    /// Answers with a body of some media types.
    pub fn answers_with(mut self, status: u16, description: &str, content: Content) -> Self {
        let mut answer = json!({
            "description": description,
            "headers": {"X-Request-ID": {"$ref": "#/components/headers/X-Request-ID"}},
        });
        if !content.is_empty() {
            let media = content.into_iter().map(|(kind, media)| (kind.to_owned(), media));
            answer["content"] = Value::Object(media.collect());
        }
        self.answers.insert(status, answer);
        self
    }

    /// Its answers have a header.
    pub fn shows(mut self, names: &[&str]) -> Self {
        for answer in self.answers.values_mut() {
            for name in names {
                answer["headers"][*name] = json!({"$ref": format!("#/components/headers/{name}")});
            }
        }
        self
    }

    /// A field of its answers is a part of another operation's path.
    pub fn leads_to(mut self, operation: &str, parameter: &str, field: &str) -> Self {
        let parameters = json!({parameter: format!("$response.body#/{field}")});
        self.links.insert(operation.to_owned(), json!({"operationId": operation, "parameters": parameters}));
        self
    }

    /// Fails in the ways of these groups.
    pub fn fails(mut self, groups: &[Group]) -> Self {
        self.errors = groups.to_vec();
        self
    }

    /// Path, method and what the document says of it.
    pub(super) fn finish(mut self, errors: BTreeMap<String, Value>) -> (String, String, Value) {
        self.add_examples();
        if let Some(first) = self.answers.values_mut().next_back().filter(|_| !self.links.is_empty()) {
            first["links"] = json!(self.links);
        }
        let mut value = json!({
            "operationId": self.id, "summary": self.summary, "tags": [self.tag],
            "responses": self.answers.iter().map(|(status, answer)| (status.to_string(), answer.clone()))
                .chain(errors).collect::<Map<_, _>>(),
        });
        if !self.description.is_empty() {
            value["description"] = self.description.into();
        }
        if !self.parameters.is_empty() {
            value["parameters"] = self.parameters.into();
        }
        if let Some((content, is_required)) = self.body {
            value["requestBody"] = json!({"required": is_required, "content": content});
        }
        if self.is_open {
            value["security"] = json!([]);
        }
        (self.path, self.method.to_owned(), value)
    }

    /// Shows the calls of `docs/api.md` that are of this route.
    fn add_examples(&mut self) {
        const JSON: &str = "application/json";
        let mut number = 0;
        for example in EXAMPLES.iter().filter(|example| example.is_of(self.method, &self.path)) {
            number += 1;
            let name = format!("example_{number}");
            let body = self.body.as_mut().and_then(|(content, _)| content.get_mut(JSON));
            if let (Some(media), Some(request)) = (body, &example.request) {
                media["examples"][&name] = json!({"value": request});
            }
            let answer =
                self.answers.values_mut().next_back().and_then(|answer| answer.pointer_mut("/content"));
            if let Some(media) = answer.and_then(|content| content.get_mut(JSON)) {
                media["examples"][&name] = json!({"value": example.answer});
            }
        }
    }
}

/// Headers of answers.
pub(super) fn headers() -> Value {
    let text = |description: &str| json!({"description": description, "schema": {"type": "string"}});
    json!({
        "X-Request-ID": text("The request's id: the caller's, if it sent a usable one, or one that was made."),
        "RateLimit": text("What is left of each limit (draft-ietf-httpapi-ratelimit-headers-10)."),
        "RateLimit-Policy": text("The plan's limits."),
        "Idempotency-Replayed": text("`true`: the answer that was given before under the same key."),
        "X-Embedding-Shape": text("Of bytes: how many vectors there are, and how many bytes each has."),
        "WWW-Authenticate": text("`Bearer`."),
        "Retry-After": {
            "description": "When to come again, in seconds.", "schema": {"type": "integer", "minimum": 1},
        },
    })
}
