//! The fused kernels, what they are packed with and their tests, at the places where they expect each other.
#![allow(dead_code, unused_imports)]

#[path = "../../models/src/runtimes"]
pub mod runtimes {
    #[path = "fused"]
    pub mod fused {
        mod buffer;
        pub(crate) mod kernels;
        mod packing;
    }
}

#[path = "../../models/src/weights"]
pub mod weights {
    mod linear;
    pub use linear::LinearWeights;
}
