//! What bfloat16 costs on the CPU, and ONNX Runtime's own way onto a GPU.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;
#[path = "common/formats.rs"]
mod formats;

use formats::{COSINE_MIN, Engine, compare};
use models::{CatalogConfig, Dtype};

#[test]
fn bfloat16_keeps_embeddings_and_labels() {
    // A card may choose bfloat16 only where it changes no answer.
    let differs = compare(Engine::fused("bfloat16"), 1, COSINE_MIN, |model| {
        common::card(model).dtype == Dtype::Float32
    });
    assert!(differs, "bfloat16 must have been used");
}

/// ONNX Runtime's own way onto a GPU; `ORT_DYLIB_PATH` names a library that has it, with its providers beside
/// it.
mod onnx_provider {
    use models::{OnnxConfig, Provider};

    use super::*;

    #[test]
    #[ignore = "needs a GPU and ONNX Runtime for it"]
    fn keeps_embeddings_and_labels() {
        let onnx = OnnxConfig { provider: Provider::Cuda { device: 0 }, ..OnnxConfig::default() };
        let config = CatalogConfig { onnx, ..common::config_with("onnx", "float32") };
        compare(Engine::new("onnx, cuda", &config, &common::device()), 1, COSINE_MIN, |_| false);
    }
}
