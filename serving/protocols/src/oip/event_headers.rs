//! Headers of CloudEvents.

/// Headers of a binary event. Others, such as its time, are for whoever passes it on.
pub(super) const SPEC_VERSION: &str = "ce-specversion";
pub(super) const ID: &str = "ce-id";
pub(super) const SOURCE: &str = "ce-source";
pub(super) const TYPE: &str = "ce-type";
