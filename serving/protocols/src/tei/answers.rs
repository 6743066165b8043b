//! Tokens as it shows them, over REST and gRPC alike.

use api::tasks::{Input, Output, Token};
use api::{ApiError, InferResponse};

use crate::outputs::outputs;

/// The tokens of each text, which have the slice that they stand for as their text where it is known.
/// `inputs` are the texts.
///
/// # Errors
/// There are others.
pub(crate) fn tokens(response: InferResponse, inputs: &[Input]) -> Result<Vec<Vec<Token>>, ApiError> {
    let mut texts = outputs(response, |output| match output {
        Output::Tokens(tokens) => Some(tokens),
        _ => None,
    })?;
    for (tokens, input) in texts.iter_mut().zip(inputs) {
        if let Input::Text(text) = input {
            slice(tokens, text);
        }
    }
    Ok(texts)
}

/// Gives tokens the slices of a text. They come in the order of the text, which is walked through once.
fn slice(tokens: &mut [Token], text: &str) {
    let (mut characters, mut bytes) = (0, 0);
    for token in tokens {
        let Some((start, end)) = token.span.filter(|(start, end)| *start >= characters && end >= start)
        else {
            continue;
        };
        let Some(rest) = text.get(bytes..) else { return };
        let skipped: usize = rest.chars().take(start - characters).map(char::len_utf8).sum();
        (characters, bytes) = (start, bytes + skipped);
        token.text = text.get(bytes..).unwrap_or_default().chars().take(end - start).collect();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_of_texts() {
        let check = |text: &str, spans: &[Option<(usize, usize)>], expected: &[&str]| {
            let token = |span: &Option<(usize, usize)>| Token {
                id: 1,
                text: "vocabulary".to_owned(),
                is_special: span.is_none(),
                span: *span,
            };
            let mut tokens: Vec<_> = spans.iter().map(token).collect();
            slice(&mut tokens, text);
            assert_eq!(tokens.iter().map(|token| token.text.as_str()).collect::<Vec<_>>(), expected);
        };
        check(
            "Zürich ist",
            &[None, Some((0, 2)), Some((2, 6)), Some((7, 10))],
            &["vocabulary", "Zü", "rich", "ist"],
        );
        // Several tokens of one character, and one that goes back.
        check(
            "é!",
            &[Some((0, 1)), Some((0, 1)), Some((1, 2)), Some((0, 1))],
            &["é", "é", "!", "vocabulary"],
        );
        check("a", &[Some((0, 9)), Some((8, 9))], &["a", ""]);
    }
}
