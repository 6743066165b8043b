//! What formats of 16 bits cost on a GPU: with `--ignored gpu::` on one, else on an emulated one, with fewer
//! texts.
#![cfg(feature = "cuda")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../../../tests/common/mod.rs"]
mod common;
#[path = "common/emulation.rs"]
mod emulation;
#[path = "../../../tests/common/formats.rs"]
mod formats;

#[test]
fn on_an_emulated_gpu() {
    emulation::run("gpu::", &[("EMULATED_GPUS", "1"), ("STEP", "25")]);
}

mod gpu {
    use models::{CardOverride, CatalogConfig, DeviceConfig, GpuConfig, RuntimeKind, open_device};
    use runtime_cuda::Cuda;

    use crate::common;
    use crate::formats::{COSINE_MIN, Engine, compare};

    /// `STEP` texts are one apart.
    fn step() -> usize {
        std::env::var("STEP").map_or(1, |step| step.parse().unwrap())
    }

    fn compare_on_gpu(dtype: Option<&str>, cosine_min: f64) {
        let name = dtype.unwrap_or("the default");
        let dtype = dtype.map(|dtype| dtype.parse().unwrap());
        let all = CardOverride { runtime: Some(RuntimeKind::Cuda), dtype, ..CardOverride::default() };
        let config = CatalogConfig { all, gpu_runtime: Some(&Cuda), ..common::config() };
        let gpu = Some(GpuConfig::new(&Cuda, 0));
        let device = open_device(DeviceConfig { threads: 1, gpu, ..DeviceConfig::default() }).unwrap();
        let engine = Engine::new(&format!("cuda, {name}"), &config, &device);
        let differs = compare(engine, step(), cosine_min, |_| false);
        assert!(differs, "a format of 16 bits must have been used");
    }

    /// What a server computes in if it is not told otherwise.
    #[test]
    #[ignore = "needs a GPU"]
    fn the_default_keeps_embeddings_and_labels() {
        compare_on_gpu(None, COSINE_MIN);
    }

    /// Here what is between the products is rounded too, unlike on the CPU.
    #[test]
    #[ignore = "needs a GPU"]
    fn bfloat16_keeps_labels_and_nearly_embeddings() {
        compare_on_gpu(Some("bfloat16"), 0.9998);
    }
}
