//! Examples of calls: those of `docs/api.md`, each of which a test runs against a server.

use std::sync::LazyLock;

use serde_json::Value;

const PAGE: &str = include_str!("../../../../docs/api.md");

/// A call of `docs/api.md` and its answer.
pub struct Example {
    /// The method.
    pub method: &'static str,
    /// Its path, without a query.
    pub path: String,
    /// What was sent, if anything was.
    pub request: Option<Value>,
    /// What was answered.
    pub answer: Value,
}

/// All of the page.
pub static EXAMPLES: LazyLock<Vec<Example>> = LazyLock::new(|| {
    let mut examples = Vec::new();
    let blocks = PAGE.split("```console\n").skip(1).filter_map(|block| block.split("```").next());
    for example in blocks.flat_map(|block| block.split("\n\n")) {
        let (command, answer) = example.split_once('\n').unwrap_or((example, ""));
        // Lines were broken between tokens of JSON.
        if let (Some((method, path, request)), Ok(answer)) =
            (command.strip_prefix("$ ").and_then(read), serde_json::from_str(&answer.replace('\n', "")))
        {
            examples.push(Example { method, path, request, answer });
        }
    }
    examples
});

/// Method, path and body of a command.
fn read(command: &str) -> Option<(&'static str, String, Option<Value>)> {
    let body = |text: &str| serde_json::from_str(text.split('\'').nth(1)?).ok();
    if let Some(call) = command.strip_prefix("ml ") {
        return Some(("post", format!("/v1/ml/{}", call.split(' ').next()?), body(call)));
    }
    let path = command.split("$API").nth(1)?.split([' ', '"', '?']).next()?;
    let sent = command.split(" -d ").nth(1).and_then(body);
    let method = match (&sent, command.contains("-X DELETE")) {
        (Some(_), _) => "post",
        (None, true) => "delete",
        (None, false) => "get",
    };
    Some((method, path.to_owned(), sent))
}

impl Example {
    /// Whether it calls a route.
    pub fn is_of(&self, method: &str, route: &str) -> bool {
        let (mut of, mut path) = (route.split('/'), self.path.split('/'));
        let is_path = loop {
            match (of.next(), path.next()) {
                (None, None) => break true,
                (Some(of), Some(path)) if of == path || of.starts_with('{') => {}
                _ => break false,
            }
        };
        self.method == method && is_path
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn examples_are_found() {
        let of = |method, route| EXAMPLES.iter().filter(|example| example.is_of(method, route)).count();
        assert_eq!(of("post", "/v1/ml/classify"), 2);
        assert_eq!(of("get", "/v1/ml/models/{name}"), 1);
        assert_eq!(of("post", "/v1/ml/keys/{id}/rotate"), 1);
        assert_eq!(of("delete", "/v1/ml/keys/{id}"), 1);
    }
}
