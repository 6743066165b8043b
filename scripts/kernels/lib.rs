//! The fused kernels, what they are packed with and their tests, at the places where they expect each other.
#![allow(dead_code, unused_imports)]

// What they import of it is below.
extern crate self as models_core;

#[path = "../../models/runtimes/fused/src"]
pub mod fused {
    mod buffer;
    pub(crate) mod kernels;
    mod packing;
}

#[path = "../../models/core/src/weights"]
pub mod weights {
    mod linear;
    pub use linear::LinearWeights;
}
