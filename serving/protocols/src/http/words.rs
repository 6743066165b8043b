//! What dialects call what our own API calls otherwise, in what is said of inputs that cannot be run: a
//! caller looks for the fields that it sent, and mends a call by those that the dialect has.

use api::ApiError;
use api::tasks::{InputError, Remedy};

/// The words of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Words {
    /// The field with the texts.
    pub inputs: &'static str,
    /// Whether that field is one text and no array.
    pub is_one: bool,
    /// From which input on they are of another field, and its name.
    pub others: Option<(usize, &'static str)>,
    /// What cuts a long text off, or reads it.
    pub remedy: &'static str,
    /// Names of our parameters, and those of the fields that they come from; others have the same.
    pub parameters: &'static [(&'static str, &'static str)],
}

impl Words {
    /// Of a request with an array of texts.
    pub const fn of_array(inputs: &'static str, remedy: &'static str) -> Self {
        Self { inputs, is_one: false, others: None, remedy, parameters: &[] }
    }

    /// An error in these words.
    pub fn of(&self, error: InputError) -> ApiError {
        let (own, field) = (error.field(), self.field(&error));
        let message = error.to_string();
        let rest = message.strip_prefix(&own).unwrap_or(&message);
        let message = match &error {
            InputError::TooLong { remedy, .. } if *remedy != Remedy::Inputs => {
                let fault = rest.strip_suffix(&remedy.to_string()).unwrap_or(rest);
                format!("{field}{fault}{}", self.remedy)
            }
            _ => format!("{field}{rest}"),
        };
        ApiError::Worded { error, field, message }
    }

    fn field(&self, error: &InputError) -> String {
        match error {
            InputError::None | InputError::TooMany { .. } | InputError::TooManyVectors { .. } => {
                self.inputs.to_owned()
            }
            InputError::Parameter { name, .. } => {
                let found = self.parameters.iter().find(|(ours, _)| ours == name);
                found.map_or(*name, |(_, theirs)| *theirs).to_owned()
            }
            InputError::Empty { index }
            | InputError::Invisible { index }
            | InputError::Nul { index, .. }
            | InputError::TooLong { index, .. }
            | InputError::Tokenize { index }
            | InputError::Form { index, .. }
            | InputError::ForeignToken { index, .. }
            | InputError::Padding { index, .. } => match self.others {
                _ if self.is_one => self.inputs.to_owned(),
                Some((first, others)) if *index >= first => format!("{others}[{}]", index - first),
                _ => format!("{}[{index}]", self.inputs),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use api::tasks::LengthUnit;

    use super::*;

    #[test]
    fn errors_in_the_words_of_a_request() {
        let words = Words {
            others: Some((2, "examples")),
            parameters: &[("dimensions", "output_dimension")],
            ..Words::of_array("texts", "`truncate` \"END\" cuts it off there")
        };
        let check = |words: Words, error: InputError, field: &str, message: &str| {
            let worded = words.of(error.clone());
            assert_eq!(worded.kind(), ApiError::Input(error).kind());
            assert_eq!(worded.field_violation(), Some((field.to_owned(), message.to_owned())));
        };
        check(words, InputError::None, "texts", "texts is empty: send at least one text");
        check(
            words,
            InputError::TooMany { inputs: 3, limit: 2 },
            "texts",
            "texts has 3 texts, the limit is 2",
        );
        check(words, InputError::Empty { index: 1 }, "texts[1]", "texts[1] is empty");
        check(words, InputError::Empty { index: 6 }, "examples[4]", "examples[4] is empty");
        check(
            Words { is_one: true, ..Words::of_array("prompt", "") },
            InputError::Empty { index: 0 },
            "prompt",
            "prompt is empty",
        );
        let too_long = |remedy| InputError::TooLong {
            index: 0,
            length: 600,
            is_counted: true,
            limit: 512,
            unit: LengthUnit::Tokens,
            remedy,
        };
        let fault = "texts[0] has 600 tokens, the limit is 512 (special tokens included): ";
        for remedy in [Remedy::Part, Remedy::Windows { limit: 9 }] {
            let expected = format!("{fault}`truncate` \"END\" cuts it off there");
            check(words, too_long(remedy), "texts[0]", &expected);
        }
        let expected = format!("{fault}send it in parts, there is no parameter that cuts it");
        check(words, too_long(Remedy::Inputs), "texts[0]", &expected);
        let wrong = |name| InputError::Parameter { name, message: "must be 1".to_owned() };
        check(words, wrong("dimensions"), "output_dimension", "output_dimension: must be 1");
        check(words, wrong("labels"), "labels", "labels: must be 1");
    }
}
