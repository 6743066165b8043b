//! Lists of linear layers.

use models_core::weights::Target;
use models_core::weights::layout::{Module, Name};

/// Linear layers with biases.
pub(super) fn biased(names: &[(Target, &'static str)]) -> Vec<Module> {
    names.iter().map(|(target, name)| module(*target, name, true)).collect()
}

pub(super) const fn module(target: Target, name: &'static str, has_bias: bool) -> Module {
    Module { target, name: Name { name, has_bias } }
}
