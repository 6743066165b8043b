//! Parameters of a request or of a tensor: those of the protocol, and what our own API calls the task's.

use std::collections::HashMap;
use std::time::Duration;

use api::tasks::{Aggregation, OffsetUnit, Parameters, SummaryMethod, Truncation};
use api::{ApiError, Priority, Task, with_parameters};
use serde::Deserialize;
use serde::de::IntoDeserializer;
use serde::de::value::{Error as ValueError, StrDeserializer};

use super::error::invalid;

/// A parameter's value.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    Bool(bool),
    Integer(i128),
    Text(String),
    /// What no parameter is.
    Other,
}

/// Parameters by name. Names that nobody knows are ignored: clients send what other servers take.
#[derive(Debug, Default)]
pub(super) struct Values(pub(super) HashMap<String, Value>);

impl Values {
    fn get<T>(
        &self,
        name: &str,
        expected: &str,
        read: impl FnOnce(&Value) -> Option<T>,
    ) -> Result<Option<T>, ApiError> {
        let Some(value) = self.0.get(name) else { return Ok(None) };
        let wrong = || invalid(format!("parameters.{name}"), format!("expected {expected}"));
        read(value).map(Some).ok_or_else(wrong)
    }

    pub(super) fn flag(&self, name: &str) -> Result<Option<bool>, ApiError> {
        self.get(name, "true or false", |value| match value {
            Value::Bool(value) => Some(*value),
            _ => None,
        })
    }

    pub(super) fn count(&self, name: &str) -> Result<Option<u64>, ApiError> {
        self.get(name, "a whole number of at least 0", |value| match value {
            Value::Integer(value) => u64::try_from(*value).ok(),
            _ => None,
        })
    }

    fn text(&self, name: &str) -> Result<Option<&str>, ApiError> {
        let Some(value) = self.0.get(name) else { return Ok(None) };
        match value {
            Value::Text(text) => Ok(Some(text)),
            _ => Err(invalid(format!("parameters.{name}"), "expected a string")),
        }
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// The class of service: 1 is the highest, and 0 and what is beyond the lowest are the default, as
    /// Triton's scheduler has it.
    pub(super) fn priority(&self) -> Result<Priority, ApiError> {
        Ok(match self.count("priority")?.unwrap_or_default() {
            1 => Priority::Critical,
            2 => Priority::High,
            4 => Priority::Low,
            _ => Priority::Normal,
        })
    }

    /// How long the caller waits; 0 is as long as it takes.
    pub(super) fn timeout(&self) -> Result<Option<Duration>, ApiError> {
        let timeout = self.count("timeout")?.filter(|micros| *micros > 0);
        Ok(timeout.map(Duration::from_micros))
    }
}

/// A parameter of a task.
trait Parameter: Sized {
    /// The value, or its default where there is none.
    fn of(values: &Values, name: &'static str, default: Self) -> Result<Self, ApiError>;
}

macro_rules! parameter {
    ($($type:ty: |$values:ident, $name:ident| $read:expr;)+) => {$(
        impl Parameter for $type {
            fn of($values: &Values, $name: &'static str, default: Self) -> Result<Self, ApiError> {
                Ok($read?.map_or(default, Into::into))
            }
        }
    )+};
}

parameter! {
    bool: |values, name| values.flag(name);
    usize: |values, name| size(values, name);
    String: |values, name| values.text(name);
    Option<bool>: |values, name| values.flag(name);
    Option<usize>: |values, name| size(values, name);
    Option<String>: |values, name| values.text(name).map(|text| text.map(str::to_owned));
    Option<Vec<String>>: |values, name| list(values, name);
    Truncation: |values, name| truncation(values, name);
    Aggregation: |values, name| named::<Self>(values, name);
    OffsetUnit: |values, name| named::<Self>(values, name);
    SummaryMethod: |values, name| named::<Self>(values, name);
}

fn size(values: &Values, name: &str) -> Result<Option<usize>, ApiError> {
    Ok(values.count(name)?.map(|count| usize::try_from(count).unwrap_or(usize::MAX)))
}

/// A list of strings, which a parameter can only be as the text of its JSON.
fn list(values: &Values, name: &str) -> Result<Option<Vec<String>>, ApiError> {
    let wrong =
        |_| invalid(format!("parameters.{name}"), "expected a string that is a JSON array of strings");
    values.text(name)?.map(|text| serde_json::from_str(text).map_err(wrong)).transpose()
}

/// A value of a closed set, by its name.
fn named<T: for<'de> Deserialize<'de>>(values: &Values, name: &str) -> Result<Option<T>, ApiError> {
    let Some(text) = values.text(name)? else { return Ok(None) };
    let read: StrDeserializer<'_, ValueError> = text.into_deserializer();
    T::deserialize(read).map(Some).map_err(|error| {
        // What is expected is ours and comes last; before it is what the caller wrote.
        let message = error.to_string();
        let expected = message.rsplit_once("`, expected ").map(|(_, expected)| expected);
        invalid(format!("parameters.{name}"), format!("expected {}", expected.unwrap_or("another value")))
    })
}

/// What happens to long texts: in our words, or in NIM's under its own name.
fn truncation(values: &Values, name: &str) -> Result<Option<Truncation>, ApiError> {
    if values.has(name) || !values.has("truncate") {
        return named(values, name);
    }
    let ends = [("NONE", Truncation::Error), ("START", Truncation::Start), ("END", Truncation::End)];
    values.get("truncate", "one of `NONE`, `START` and `END`", |value| {
        let Value::Text(text) = value else { return None };
        ends.iter().find(|(end, _)| end.eq_ignore_ascii_case(text)).map(|(_, truncation)| *truncation)
    })
}

macro_rules! from_values {
    (
        [$task:ident $values:ident] $(#[$doc:meta])* struct $name:ident {
            $($(#[$field_doc:meta])* $field:ident: $type:ty = $default:expr,)*
        }
    ) => {
        Parameters::$task(api::tasks::$name {
            $($field: <$type as Parameter>::of($values, stringify!($field), $default)?,)*
        })
    };
}

/// The parameters of a model's task.
pub(super) fn of_task(task: Task, values: &Values) -> Result<Parameters, ApiError> {
    Ok(match task {
        Task::Classify => with_parameters!(Classify, from_values Classify values),
        Task::Sentiment => with_parameters!(Sentiment, from_values Sentiment values),
        Task::Entities => with_parameters!(Entities, from_values Entities values),
        Task::Summarize => with_parameters!(Summarize, from_values Summarize values),
        Task::Embed => with_parameters!(Embed, from_values Embed values),
        Task::Rerank => with_parameters!(Rerank, from_values Rerank values),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use api::tasks::{ClassifyParameters, EmbedParameters};

    use super::*;

    fn values(pairs: &[(&str, Value)]) -> Values {
        Values(pairs.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect())
    }

    fn text(text: &str) -> Value {
        Value::Text(text.to_owned())
    }

    #[test]
    fn parameters_of_tasks() {
        let given = values(&[
            ("truncation", text("end")),
            ("dimensions", Value::Integer(8)),
            ("normalize", Value::Bool(false)),
            ("sequence_id", Value::Other),
        ]);
        let expected = EmbedParameters {
            dimensions: Some(8),
            normalize: false,
            truncation: Truncation::End,
            ..Default::default()
        };
        assert_eq!(of_task(Task::Embed, &given).unwrap(), Parameters::Embed(expected));
        // NIM's word, which ours goes before.
        for (given, expected) in [
            (values(&[("truncate", text("END"))]), Truncation::End),
            (values(&[("truncate", text("start"))]), Truncation::Start),
            (values(&[("truncate", text("NONE"))]), Truncation::Error),
            (values(&[("truncate", text("NONE")), ("truncation", text("stride"))]), Truncation::Stride),
        ] {
            let expected = EmbedParameters { truncation: expected, ..Default::default() };
            assert_eq!(of_task(Task::Embed, &given).unwrap(), Parameters::Embed(expected));
        }
        let given = values(&[("labels", text(r#"["a","b"]"#))]);
        let expected =
            ClassifyParameters { labels: Some(vec!["a".to_owned(), "b".to_owned()]), ..Default::default() };
        assert_eq!(of_task(Task::Classify, &given).unwrap(), Parameters::Classify(expected));
        for (name, value) in [
            ("truncation", text("secret")),
            ("truncation", Value::Integer(1)),
            ("truncate", text("secret")),
            ("truncate", Value::Bool(true)),
            ("dimensions", text("secret")),
            ("dimensions", Value::Integer(-1)),
            ("normalize", Value::Integer(1)),
        ] {
            let error = of_task(Task::Embed, &values(&[(name, value)])).unwrap_err();
            let (field, problem) = error.field_violation().unwrap();
            assert_eq!(field, format!("parameters.{name}"));
            assert!(problem.starts_with("expected ") && !problem.contains("secret"), "{problem}");
        }
    }

    #[test]
    fn priorities_and_time_outs() {
        for (given, expected) in [
            (0, Priority::Normal),
            (1, Priority::Critical),
            (2, Priority::High),
            (3, Priority::Normal),
            (4, Priority::Low),
            (5, Priority::Normal),
        ] {
            let given = values(&[("priority", Value::Integer(given))]);
            assert_eq!(given.priority().unwrap(), expected);
        }
        let timeout = |micros| values(&[("timeout", Value::Integer(micros))]).timeout();
        assert_eq!(timeout(0).unwrap(), None);
        assert_eq!(timeout(1_500).unwrap(), Some(Duration::from_micros(1_500)));
        assert!(timeout(-1).is_err() && timeout(1 << 64).is_err());
        assert_eq!(Values::default().priority().unwrap(), Priority::Normal);
    }
}
