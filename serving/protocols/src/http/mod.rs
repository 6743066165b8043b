//! What protocols over HTTP share: bodies, their codings, and what is wrong with a caller's JSON or query.

pub mod body;
mod coding;
pub mod explain;

pub use coding::ACCEPTED as ACCEPTED_CODINGS;
