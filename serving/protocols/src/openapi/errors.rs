//! Errors in documents: which kinds a route may answer with, each in the form of its protocol.

use std::collections::BTreeMap;

use api::ErrorKind;
use serde_json::{Map, Value, json};

use super::{ErrorForm, REQUEST_ID, sample};

/// Kinds of errors that routes have together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Group {
    /// Of every request.
    Connection,
    /// Who calls, and what for.
    Caller,
    /// How much at once.
    Place,
    /// How much of the plan.
    Limits,
    /// A body that cannot be read.
    Body,
    /// A field of a body, a query, a path or a header.
    Field,
    /// Inputs and parameters.
    Inputs,
    /// A model by its name.
    Model,
    /// A model that answers.
    Choice,
    /// A model that is to be loaded.
    Loading,
    /// The deadline.
    Time,
    /// `Idempotency-Key`.
    Idempotency,
    /// Keys of tenants.
    Keys,
    /// No such page or document.
    Page,
    /// Of no route in a document: of gRPC and of the operator.
    Elsewhere,
}

/// Of every route.
pub const ALWAYS: &[Group] = &[Group::Connection];
/// Of routes that show documents.
pub const DOCUMENTS: &[Group] = &[Group::Connection, Group::Page];
/// Of routes with credentials.
pub const CALLER: &[Group] = &[Group::Connection, Group::Caller, Group::Field];
/// Of routes that show models.
pub const MODELS: &[Group] = &[Group::Connection, Group::Caller, Group::Field, Group::Model];
/// Of routes that load and unload models.
pub const LOADING: &[Group] =
    &[Group::Connection, Group::Caller, Group::Body, Group::Field, Group::Model, Group::Loading];
/// Of routes that manage keys.
pub const KEYS: &[Group] = &[Group::Connection, Group::Caller, Group::Field, Group::Keys];
/// Of routes that change keys.
pub const CHANGE: &[Group] = &[
    Group::Connection,
    Group::Caller,
    Group::Place,
    Group::Body,
    Group::Field,
    Group::Keys,
    Group::Idempotency,
];
/// Of routes that are calls.
pub const CALL: &[Group] = &[
    Group::Connection,
    Group::Caller,
    Group::Place,
    Group::Limits,
    Group::Body,
    Group::Field,
    Group::Inputs,
    Group::Model,
    Group::Choice,
    Group::Time,
    Group::Idempotency,
];

/// The group of a kind; a new kind does not compile before it has one.
fn group(kind: ErrorKind) -> Group {
    use ErrorKind as Kind;
    match kind {
        Kind::HeadersTooLarge
        | Kind::UriTooLong
        | Kind::MalformedRequest
        | Kind::Starting
        | Kind::ShuttingDown
        | Kind::Internal => Group::Connection,
        Kind::MissingCredentials
        | Kind::MalformedCredentials
        | Kind::InvalidCredentials
        | Kind::TestKeyRefused
        | Kind::InvalidToken
        | Kind::IssuerUnavailable
        | Kind::UnknownTenant
        | Kind::AccountSuspended
        | Kind::Forbidden
        | Kind::StoreUnavailable => Group::Caller,
        Kind::ConcurrencyLimitExceeded | Kind::Overloaded | Kind::AnswersUnread => Group::Place,
        Kind::RateLimitExceeded | Kind::OverPlanLimit | Kind::LimitsUnavailable => Group::Limits,
        Kind::UnsupportedMediaType
        | Kind::UnsupportedContentEncoding
        | Kind::InvalidContentEncoding
        | Kind::BodyTooLarge
        | Kind::BodyIncomplete
        | Kind::InvalidUtf8
        | Kind::InvalidJson => Group::Body,
        Kind::InvalidRequest => Group::Field,
        Kind::NoInputs
        | Kind::TooManyInputs
        | Kind::EmptyInput
        | Kind::NulCharacter
        | Kind::InputTooLong
        | Kind::InvalidParameter
        | Kind::UnreadableInput => Group::Inputs,
        Kind::ModelNotFound => Group::Model,
        Kind::ModelRequired | Kind::WrongTask | Kind::ModelUnavailable => Group::Choice,
        Kind::ModelNotLoadable | Kind::ModelDoesNotFit => Group::Loading,
        Kind::DeadlineInfeasible | Kind::DeadlineExceeded => Group::Time,
        Kind::IdempotencyKeyReused
        | Kind::IdempotencyInProgress
        | Kind::IdempotencyAnswerTooLarge
        | Kind::IdempotencyFull => Group::Idempotency,
        Kind::TenantNotManaged
        | Kind::KeyNotFound
        | Kind::KeyNotActive
        | Kind::TooManyKeys
        | Kind::Conflict => Group::Keys,
        Kind::NotFound => Group::Page,
        Kind::MethodNotAllowed
        | Kind::UnsupportedCompression
        | Kind::ServiceNotFound
        | Kind::TenantNotFound
        | Kind::TenantExists
        | Kind::SecretShownOnce => Group::Elsewhere,
    }
}

/// Responses of a route that fails in the ways of some groups, by status.
pub(super) fn answers(form: ErrorForm, is_enumerated: bool, groups: &[Group]) -> BTreeMap<String, Value> {
    let mut by_status: BTreeMap<u16, Vec<ErrorKind>> = BTreeMap::new();
    for kind in ErrorKind::ALL.iter().copied().filter(|kind| groups.contains(&group(*kind))) {
        by_status.entry(form(&sample(kind), REQUEST_ID).0.as_u16()).or_default().push(kind);
    }
    let answer = |(status, kinds): (u16, Vec<ErrorKind>)| {
        (status.to_string(), response(form, is_enumerated, status, &kinds))
    };
    by_status.into_iter().map(answer).collect()
}

fn response(form: ErrorForm, is_enumerated: bool, status: u16, kinds: &[ErrorKind]) -> Value {
    let codes: Vec<&str> = kinds.iter().map(|kind| kind.row().code).collect();
    let mut headers = json!({"X-Request-ID": {"$ref": "#/components/headers/X-Request-ID"}});
    let is_hinted = kinds.iter().any(|kind| kind.retry() == api::Retry::Hinted);
    for (name, is_there) in [("Retry-After", is_hinted), ("WWW-Authenticate", status == 401)] {
        if is_there {
            headers[name] = json!({"$ref": format!("#/components/headers/{name}")});
        }
    }
    let mut schema = json!({"$ref": "#/components/schemas/Error"});
    if is_enumerated {
        let code = json!({"properties": {"error": {"properties": {"code": {"enum": codes}}}}});
        schema = json!({"allOf": [schema, code]});
    }
    let listed = codes.iter().map(|code| format!("`{code}`")).collect::<Vec<_>>().join(", ");
    let has_body = kinds.iter().any(|kind| !form(&sample(*kind), REQUEST_ID).1.is_null());
    let mut response = json!({"description": format!("Refused: {listed}"), "headers": headers});
    if has_body {
        let example =
            |code: &&str| (code.to_string(), json!({"$ref": format!("#/components/examples/{code}")}));
        let examples: Map<String, Value> = codes.iter().map(example).collect();
        response["content"] = json!({"application/json": {"schema": schema, "examples": examples}});
    }
    response
}

/// Each kind as it is told.
pub(super) fn examples(form: ErrorForm) -> Value {
    let told = |kind: &ErrorKind| {
        let (_, body) = form(&sample(*kind), REQUEST_ID);
        (kind.row().code.to_owned(), json!({"summary": kind.meaning(), "value": body}))
    };
    let kinds = ErrorKind::ALL.iter().filter(|kind| group(**kind) != Group::Elsewhere);
    Value::Object(kinds.map(told).filter(|(_, example)| !example["value"].is_null()).collect())
}

/// The schema of errors, as their form has them. Codes are listed where they are in it as they are in the
/// table.
pub(super) fn schema(form: ErrorForm, is_enumerated: bool) -> Value {
    let bodies: Vec<Value> = ErrorKind::ALL
        .iter()
        .map(|kind| form(&sample(*kind), REQUEST_ID).1)
        .filter(|body| !body.is_null())
        .collect();
    let mut schema = outline(&bodies);
    schema["description"] = "Why a request was not answered.".into();
    if is_enumerated {
        let code = |kind: &ErrorKind| {
            let retry = kind.retry().advice();
            let description = format!("{} {} Retry: {retry}.", kind.meaning(), kind.remedy());
            json!({"const": kind.row().code, "description": description})
        };
        let codes: Vec<Value> = ErrorKind::ALL.iter().map(code).collect();
        schema["properties"]["error"]["properties"]["code"] =
            json!({"type": "string", "description": "Stable, for programs.", "oneOf": codes});
    }
    schema
}

/// A schema that all these values have: of objects all fields, and as required those that each has.
fn outline(values: &[Value]) -> Value {
    let mut types: Vec<&str> = values.iter().map(type_of).collect();
    types.sort_unstable();
    types.dedup();
    let mut schema = match types.as_slice() {
        [] => json!({}),
        [one] => json!({"type": one}),
        several => json!({"type": several}),
    };
    let objects: Vec<&Map<String, Value>> = values.iter().filter_map(Value::as_object).collect();
    if !objects.is_empty() {
        let mut fields: BTreeMap<&str, Vec<Value>> = BTreeMap::new();
        for (name, value) in objects.iter().copied().flatten() {
            fields.entry(name).or_default().push(value.clone());
        }
        let required = fields.iter().filter(|(_, values)| values.len() == objects.len());
        schema["required"] = required.map(|(name, _)| *name).collect();
        schema["properties"] = Value::Object(
            fields.iter().map(|(name, values)| ((*name).to_owned(), outline(values))).collect(),
        );
    }
    let items: Vec<Value> = values.iter().filter_map(Value::as_array).flatten().cloned().collect();
    if types.contains(&"array") {
        schema["items"] = outline(&items);
    }
    schema
}

fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outlines() {
        let check = |values: Value, expected: Value| {
            assert_eq!(outline(values.as_array().map_or(&[], Vec::as_slice)), expected, "{values}");
        };
        check(json!([]), json!({}));
        check(json!(["a", null]), json!({"type": ["null", "string"]}));
        check(
            json!([{"a": 1, "b": "x"}, {"a": 2}]),
            json!({"type": "object", "required": ["a"],
                "properties": {"a": {"type": "integer"}, "b": {"type": "string"}}}),
        );
        check(json!([[1, 2], []]), json!({"type": "array", "items": {"type": "integer"}}));
    }
}
