//! OpenAPI 3.1 documents of what is spoken over HTTP, made of the code: schemas are those of the types that
//! are read and written, errors are rows of the one table in the form that the protocol gives them, and
//! examples are those of `docs/api.md`, which a test runs. Each protocol describes its routes in its own
//! folder; a test holds the routes of all documents against those of the routers.

mod dialects;
mod errors;
mod examples;
mod operation;
mod tidy;

use std::collections::BTreeSet;

use api::{ApiError, ErrorKind, Refusal};
use axum::http::StatusCode;
use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, SchemaGenerator};
use serde_json::{Map, Value, json};

pub(crate) use dialects::any_object;
pub use errors::{ALWAYS, CALL, CALLER, CHANGE, DOCUMENTS, Group, KEYS, LOADING, MODELS};
pub use examples::EXAMPLES;
pub use operation::{Content, Operation, Security};

/// The id of a request in examples.
pub const REQUEST_ID: &str = "req_01M7XQTKD8KYA9P5G40HWGVDVA";

/// Where schemas with a name are.
const SCHEMAS: &str = "/components/schemas";

/// An error in the form of a protocol: its status and its body, of which some have none.
pub type ErrorForm = fn(&ApiError, &str) -> (StatusCode, Value);

/// A document that is being made.
pub struct Api {
    info: Value,
    security: Security,
    /// Of what is read: a field with a default may be left out.
    read: SchemaGenerator,
    /// Of what is written.
    written: SchemaGenerator,
    schemas: Map<String, Value>,
    form: ErrorForm,
    is_enumerated: bool,
    paths: Map<String, Value>,
    tags: Vec<Value>,
}

impl Api {
    /// A document without routes. Its errors have the codes of the table where `is_enumerated`.
    pub fn new(
        title: &str,
        description: &str,
        security: Security,
        form: ErrorForm,
        is_enumerated: bool,
    ) -> Self {
        let settings = || {
            SchemaSettings::draft2020_12().with(|settings| {
                settings.definitions_path = SCHEMAS.into();
                settings.meta_schema = None;
            })
        };
        let version = env!("CARGO_PKG_VERSION");
        Self {
            info: json!({
                "title": title, "description": description, "version": version,
                "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
            }),
            security,
            read: settings().for_deserialize().into_generator(),
            written: settings().for_serialize().into_generator(),
            schemas: Map::new(),
            form,
            is_enumerated,
            paths: Map::new(),
            tags: Vec::new(),
        }
    }

    /// The schema of what is read.
    pub fn read<T: JsonSchema>(&mut self) -> Value {
        self.read.subschema_for::<T>().to_value()
    }

    /// The same without a name: the fields of a query.
    pub fn read_whole<T: JsonSchema>(&mut self) -> Value {
        T::json_schema(&mut self.read).to_value()
    }

    /// The schema of what is written.
    pub fn written<T: JsonSchema>(&mut self) -> Value {
        self.written.subschema_for::<T>().to_value()
    }

    /// The same without a name.
    pub fn written_whole<T: JsonSchema>(&mut self) -> Value {
        T::json_schema(&mut self.written).to_value()
    }

    /// Gives a schema a name, and returns what stands for it.
    pub fn named(&mut self, name: &str, schema: Value) -> Value {
        self.schemas.insert(name.to_owned(), schema);
        json!({"$ref": format!("#{SCHEMAS}/{name}")})
    }

    /// Says what a group of routes is.
    pub fn tag(&mut self, name: &str, description: &str) {
        self.tags.push(json!({"name": name, "description": description}));
    }

    /// Adds what a method of a route does.
    pub fn add(&mut self, operation: Operation) {
        let errors = errors::answers(self.form, self.is_enumerated, &operation.errors);
        let (path, method, value) = operation.finish(errors);
        if let Some(methods) = self.paths.entry(path).or_insert_with(|| json!({})).as_object_mut() {
            methods.insert(method, value);
        }
    }

    /// The document.
    pub fn finish(mut self) -> Value {
        for (name, schema) in
            self.read.take_definitions(true).into_iter().chain(self.written.take_definitions(true))
        {
            debug_assert!(
                self.schemas.get(&name).is_none_or(|known| *known == schema),
                "{name} is two schemas"
            );
            self.schemas.insert(name, schema);
        }
        self.schemas.insert("Error".to_owned(), errors::schema(self.form, self.is_enumerated));
        let mut document = json!({
            "openapi": "3.1.1",
            "jsonSchemaDialect": "https://json-schema.org/draft/2020-12/schema",
            "info": self.info,
            "servers": [{"url": "/", "description": "This server"}],
            "security": self.security.alternatives(),
            "tags": self.tags,
            "paths": self.paths,
            "components": {
                "schemas": self.schemas,
                "securitySchemes": self.security.schemes(),
                "headers": operation::headers(),
                "examples": errors::examples(self.form),
            },
        });
        tidy::tidy(&mut document);
        sorted(document)
    }
}

/// An error of a kind, with the meaning of its row for a message.
fn sample(kind: ErrorKind) -> ApiError {
    let retry_after = (kind.retry() == api::Retry::Hinted).then(|| std::time::Duration::from_secs(1));
    Refusal { kind, message: kind.meaning().to_owned(), retry_after, limit: None }.into()
}

/// Objects by the order of their keys, whatever `serde_json` was built with.
fn sorted(value: Value) -> Value {
    match value {
        Value::Object(map) => {
            let keys: BTreeSet<String> = map.keys().cloned().collect();
            let mut map = map;
            let pairs = keys.into_iter().filter_map(|key| map.remove(&key).map(|value| (key, sorted(value))));
            Value::Object(pairs.collect())
        }
        Value::Array(list) => list.into_iter().map(sorted).collect(),
        value => value,
    }
}
