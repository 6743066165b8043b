//! What training has to know of how texts are read.

use serde::Serialize;

use crate::pool::{Pace, complete};
use crate::segment::{Cells, Plain};

/// A text as models that find names are given it.
#[derive(Debug, Serialize)]
pub struct TextAsRead {
    /// Commas stand for the ends of lines, items and cells, and blanks for marks of items. It has as many
    /// bytes as the text.
    pub text: String,
    /// Before which bytes a name ends whatever the model says, ascending.
    pub ends: Vec<usize>,
}

/// How a text is read when its names are asked for, with any aggregation but `none`.
pub fn text_as_read(text: &str) -> TextAsRead {
    let Cells { ends, read, .. } = complete(Cells::of(text, Plain::of(text), &Pace::at_once()));
    TextAsRead { text: read.unwrap_or_else(|| text.to_owned()), ends }
}
