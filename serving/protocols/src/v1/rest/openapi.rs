//! The API of our own in a document: calls and models. What tenants manage themselves, the server adds.

use serde_json::{Value, json};

use super::errors::{EnvelopeError, form};
use super::models::{ModelList, ModelView};
use super::wire::{self, Body, ResultItem, Usage, WireOutput, WireTask};
use crate::openapi::{Api, CALL, Content, MODELS, Operation, Security};

const DESCRIPTION: &str = "Text inference: classification, sentiment, entities, summaries, embeddings, rerank. Fields that \
    are not listed are refused, by name; `null` stands for a field that is left out, and whole numbers are written without a fraction. Every error has a stable code, which \
    `docs_url` explains. A route of `GET` takes `HEAD` too.";

/// Parameters that are at least 1 where they are given; the tasks refuse 0.
const POSITIVE: [&str; 3] = ["top_k", "max_sentences", "dimensions"];

/// A document with the routes of calls and of models.
pub fn document() -> Api {
    let mut api = Api::new("ml-inference", DESCRIPTION, Security::Bearer, form, true);
    api.tag("Inference", "Calls of models.");
    api.tag("Models", "What is served.");
    add::<wire::Classify>(
        &mut api,
        "classify",
        "Sorts documents into the model's classes, or into yours",
        &["labels"],
    );
    let sentiment = ["label", "score", "scores"];
    add::<wire::Sentiment>(
        &mut api,
        "sentiment",
        "Tells negative, neutral and positive texts apart",
        &sentiment,
    );
    let entities = "Finds names of persons, organisations, places and other things";
    add::<wire::Entities>(&mut api, "entities", entities, &["entities"]);
    let summary = ["method", "sentences", "summary"];
    add::<wire::Summarize>(&mut api, "summarize", "Picks the sentences that carry a document", &summary);
    add::<wire::Embeddings>(&mut api, "embeddings", "Turns texts into vectors", &["embedding"]);
    add::<wire::Rerank>(&mut api, "rerank", "Scores documents by how well they answer a query", &["score"]);
    add::<wire::Similarity>(&mut api, "similarity", "Compares texts with another one", &["score"]);
    add::<wire::Tokenize>(&mut api, "tokenize", "Shows the model's tokens of texts; free", &["tokenization"]);
    add::<wire::Detokenize>(&mut api, "detokenize", "Makes text of tokens; free", &["text"]);
    let list = api.written::<ModelList<'_>>();
    let list = Operation::new(
        "get",
        "/v1/ml/models",
        "Models",
        "Lists models with labels, limits, prices and state",
    )
    .answers(200, "The models.", &list);
    let model = api.written::<ModelView<'_>>();
    let name = json!({"type": "string", "minLength": 1});
    let show = Operation::new("get", "/v1/ml/models/{name}", "Models", "Shows one model")
        .path_part("name", &name, "sentiment-v3")
        .answers(200, "The model.", &model);
    for operation in [list, show] {
        api.add(operation.described("Needs the role viewer.").fails(MODELS));
    }
    api
}

/// The route of a task, whose results have these fields.
fn add<W: WireTask>(api: &mut Api, route: &str, summary: &str, fields: &[&str]) {
    let mut body = api.read::<Body<W::Parameters>>();
    for name in POSITIVE {
        if let Some(field) =
            parameters(&mut body).and_then(|parameters| parameters["properties"].get_mut(name))
        {
            field["minimum"] = 1.into();
        }
    }
    for needed in ["query", "reference"] {
        if let Some(parameters) = parameters(&mut body).filter(|it| !it["properties"][needed].is_null()) {
            parameters["required"] = json!([needed]);
            parameters["type"] = "object".into();
            parameters["properties"][needed]["type"] = "string".into();
            body["required"] = json!(["inputs", "parameters"]);
        }
    }
    let title = title(route);
    let body = api.named(&format!("{title}Request"), body);
    let result = result(api, fields);
    let result = api.named(&format!("{title}Result"), result);
    let (fault, usage) = (api.written::<EnvelopeError<'_>>(), api.written::<Usage>());
    let fault = json!({"type": "object", "required": ["error"], "properties": {"error": fault},
        "description": "With `on_error` of `partial`: why there is no result of this input."});
    let answer = json!({
        "type": "object", "required": ["model", "version", "results", "usage"],
        "properties": {
            "model": {"type": "string", "description": "The model that answers."},
            "version": {"type": "string", "description": "Its version."},
            "results": {
                "type": "array", "items": {"anyOf": [result, fault]},
                "description": "One for each input, in order.",
            },
            "usage": usage,
        },
    });
    let answer = api.named(&format!("{title}Response"), answer);
    let mut content = Content::from([("application/json", json!({"schema": answer}))]);
    let mut headers = vec!["RateLimit", "RateLimit-Policy", "Idempotency-Replayed"];
    let mut operation = Operation::new("post", format!("/v1/ml/{route}"), "Inference", summary)
        .described("Needs the role editor.")
        .call_headers()
        .body(&body);
    if W::BYTES.is_some() {
        // Bytes are no JSON: the media type says what they are.
        content.insert("application/octet-stream", json!({}));
        headers.push("X-Embedding-Shape");
        let accept = json!({"type": "string", "enum": ["application/json", "application/octet-stream"]});
        operation = operation.described(format!(
            "Needs the role editor. With `Accept: {}` the answer is the vectors' bytes alone.",
            accept["enum"][1].as_str().unwrap_or_default()
        ));
    }
    api.add(operation.answers_with(200, "The results.", content).shows(&headers).fails(CALL));
}

/// The schema of `parameters` in that of a body.
fn parameters(body: &mut Value) -> Option<&mut Value> {
    let parameters = body.pointer_mut("/properties/parameters")?;
    let is_choice = parameters.get("anyOf").is_some();
    if is_choice { parameters.pointer_mut("/anyOf/0") } else { Some(parameters) }
}

/// The schema of a result: of what a task has for itself, and of what all have.
fn result(api: &mut Api, fields: &[&str]) -> Value {
    let common = api.written::<ResultItem>();
    let outputs = api.written::<WireOutput>();
    let is_own = |output: &&Value| {
        let found = output["properties"].as_object();
        found.is_some_and(|found| {
            found.len() == fields.len() && fields.iter().all(|field| found.contains_key(*field))
        })
    };
    match outputs["anyOf"].as_array().into_iter().flatten().find(is_own) {
        Some(own) => {
            let mut whole = common;
            for (name, field) in own["properties"].as_object().into_iter().flatten() {
                whole["properties"][name] = field.clone();
            }
            if let (Some(required), Some(own)) =
                (whole["required"].as_array_mut(), own["required"].as_array())
            {
                required.extend(own.iter().cloned());
            }
            whole
        }
        // What has a name of its own.
        None => {
            let named =
                outputs["anyOf"].as_array().into_iter().flatten().find(|one| one.get("$ref").is_some());
            json!({"allOf": [named, common]})
        }
    }
}

fn title(route: &str) -> String {
    let mut letters = route.chars();
    letters.next().map(|first| first.to_ascii_uppercase()).into_iter().chain(letters).collect()
}
