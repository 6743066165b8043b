//! What limits count, and over which time.

use serde::{Deserialize, Serialize};

/// What a limit counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Unit {
    /// Texts of calls. Servers tell each other of them as `requests`, as plans' limits call them.
    #[serde(rename = "requests")]
    Inputs,
    /// Tokens of the inputs.
    Tokens,
}

impl Unit {
    /// Plural, lower-case, as in headers and messages.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Inputs => "inputs",
            Self::Tokens => "tokens",
        }
    }
}

/// The time that a limit is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Period {
    /// Any 60 s.
    Minute,
    /// From midnight to midnight, UTC.
    Day,
}

impl Period {
    /// As in headers and details of errors.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Minute => "minute",
            Self::Day => "day",
        }
    }

    /// How long it is, as messages say it.
    pub const fn span(self) -> &'static str {
        match self {
            Self::Minute => "60 s",
            Self::Day => "a day (UTC)",
        }
    }
}
