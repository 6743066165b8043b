//! An OpenAPI document as a page.

use std::fmt::Write;

use serde_json::Value;

use super::schema::{fields, kind, members};
use super::text::{escaped, inline};

/// End of the path of a document's page, by the name of its dialect.
pub(super) fn slug(dialect: &str) -> String {
    if dialect.is_empty() { "reference".to_owned() } else { format!("reference-{dialect}") }
}

/// The page of a document.
pub(super) fn page(document: &Value) -> String {
    let text = |pointer: &str| inline(document.pointer(pointer).and_then(Value::as_str).unwrap_or_default());
    let mut html =
        format!("<h1>{} · REST reference</h1><p>{}</p>", text("/info/title"), text("/info/description"));
    let operations: Vec<(&String, &String, &Value)> = members(&document["paths"])
        .flat_map(|(path, methods)| {
            members(methods).map(move |(method, operation)| (path, method, operation))
        })
        .collect();
    for tag in document["tags"].as_array().into_iter().flatten() {
        let of_tag = || operations.iter().filter(|(.., operation)| operation["tags"][0] == tag["name"]);
        let _ = write!(
            html,
            "<h2>{}</h2><p>{}</p><div class=\"wide\"><table><tbody>",
            inline(tag["name"].as_str().unwrap_or_default()),
            inline(tag["description"].as_str().unwrap_or_default())
        );
        for (path, method, operation) in of_tag() {
            let _ = write!(
                html,
                "<tr><td><a href=\"#{}\"><code>{} {}</code></a></td><td>{}</td></tr>",
                operation["operationId"].as_str().unwrap_or_default(),
                method.to_uppercase(),
                escaped(path),
                inline(operation["summary"].as_str().unwrap_or_default())
            );
        }
        html.push_str("</tbody></table></div>");
        for (path, method, operation) in of_tag() {
            write_operation(&mut html, document, path, method, operation);
        }
    }
    html
}

fn write_operation(html: &mut String, document: &Value, path: &str, method: &str, operation: &Value) {
    let text = |field: &str| inline(operation[field].as_str().unwrap_or_default());
    let id = operation["operationId"].as_str().unwrap_or_default();
    let _ = write!(
        html,
        "<section id=\"{id}\"><h3><a href=\"#{id}\"><b>{}</b> {}</a></h3><p>{}. {}</p>",
        method.to_uppercase(),
        escaped(path),
        text("summary"),
        text("description")
    );
    write_parameters(html, document, operation);
    if let Some((_, media)) = members(&operation["requestBody"]["content"]).next() {
        write_fields(html, document, "Body", &media["schema"]);
        write_examples(html, "Request", media);
    }
    for (status, answer) in members(&operation["responses"]).filter(|(status, _)| status.starts_with('2')) {
        let description = inline(answer["description"].as_str().unwrap_or_default());
        let _ = write!(html, "<p><b>{status}</b> {description}</p>");
        if let Some(media) = answer.pointer("/content/application~1json") {
            write_fields(html, document, "Answer", &media["schema"]);
            write_examples(html, "Answer", media);
        }
    }
    write_errors(html, operation);
    html.push_str("</section>");
}

fn write_parameters(html: &mut String, document: &Value, operation: &Value) {
    let parameters = operation["parameters"].as_array().map_or(&[][..], Vec::as_slice);
    if parameters.is_empty() {
        return;
    }
    html.push_str("<div class=\"wide\"><table><thead><tr><th>Parameter</th><th>In</th><th>Value</th><th></th></tr></thead><tbody>");
    for parameter in parameters {
        let text = |field: &str| inline(parameter[field].as_str().unwrap_or_default());
        let _ = write!(
            html,
            "<tr><td><code>{}</code></td><td>{}</td><td>{}</td><td>{}</td></tr>",
            text("name"),
            text("in"),
            inline(&kind(document, &parameter["schema"])),
            text("description")
        );
    }
    html.push_str("</tbody></table></div>");
}

fn write_fields(html: &mut String, document: &Value, what: &str, schema: &Value) {
    let fields = fields(document, schema);
    if fields.is_empty() {
        let _ = write!(html, "<p>{what}: {}</p>", inline(&kind(document, schema)));
        return;
    }
    let _ = write!(
        html,
        "<details><summary>{what}: {} fields</summary><div class=\"wide\"><table><thead><tr><th>Field</th><th>Value</th>\
         <th>Default</th><th></th></tr></thead><tbody>",
        fields.len()
    );
    for field in fields {
        let needed = if field.is_required && what == "Body" { " <b>needed</b>" } else { "" };
        let default = field.default.map(|default| format!("<code>{}</code>", escaped(&default)));
        let _ = write!(
            html,
            "<tr><td><code>{}</code>{needed}</td><td>{}</td><td>{}</td><td>{}</td></tr>",
            escaped(&field.path),
            inline(&field.kind),
            default.unwrap_or_default(),
            inline(&field.description)
        );
    }
    html.push_str("</tbody></table></div></details>");
}

fn write_examples(html: &mut String, what: &str, media: &Value) {
    for (_, example) in members(&media["examples"]) {
        let value = serde_json::to_string_pretty(&example["value"]).unwrap_or_default();
        let _ = write!(
            html,
            "<details><summary>{what}, by example</summary><pre>{}</pre></details>",
            escaped(&value)
        );
    }
}

/// Statuses of refusals with the codes of each, which lead to where they are explained.
fn write_errors(html: &mut String, operation: &Value) {
    let refusals = || members(&operation["responses"]).filter(|(status, _)| status.as_str() >= "4");
    if refusals().next().is_none() {
        return;
    }
    html.push_str("<details><summary>Errors</summary><div class=\"wide\"><table><tbody>");
    for (status, answer) in refusals() {
        let description = answer["description"].as_str().unwrap_or_default();
        let codes = description.split('`').skip(1).step_by(2);
        let links = codes.map(|code| format!("<a href=\"/docs/errors#{code}\"><code>{code}</code></a>"));
        let links = links.collect::<Vec<_>>().join(", ");
        let shown = if links.is_empty() { inline(description) } else { links };
        let _ = write!(html, "<tr><td>{status}</td><td>{shown}</td></tr>");
    }
    html.push_str("</tbody></table></div></details>");
}
