//! ONNX Runtime as a runtime: what is missing is named, and memory does not grow with the shapes of batches.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use models::card::Card;
use models::runtimes::onnx::Loader;
use models::{
    Backend, DeviceConfig, Dtype, HostTensor, ModelError, OnnxConfig, Provider, Sequence, TokenBatch,
    Weights, architectures, open_device,
};

const MODEL: &str = "ner-v2";

fn card() -> Card {
    Card { dtype: Dtype::Float32, ..common::card(MODEL) }
}

fn loader() -> Loader {
    Loader::new(OnnxConfig::default(), &common::data_dir())
}

fn load(mut loader: Loader, card: &Card, folder: &Path) -> Result<Box<dyn Weights>, ModelError> {
    let base = architectures::open(card.architecture, folder).unwrap();
    loader.load(card, folder, &Arc::new(base))
}

fn fault(loader: Loader, card: &Card, folder: &Path) -> String {
    load(loader, card, folder).err().unwrap().to_string()
}

/// One test, in this order: once the library is loaded it stays for the process.
#[test]
fn what_is_missing_is_named_and_what_is_there_is_used() {
    let folder = common::source_folder(&card());
    let elsewhere = tempfile::tempdir().unwrap();
    if std::env::var_os("ORT_DYLIB_PATH").is_none() {
        let nowhere = Loader::new(OnnxConfig::default(), elsewhere.path());
        let message = fault(nowhere, &card(), &folder);
        assert!(message.contains("make setup") && message.contains("ORT_DYLIB_PATH"), "{message}");
    }
    let with_library = |library: &Path| {
        let config = OnnxConfig { library: Some(library.to_path_buf()), ..OnnxConfig::default() };
        fault(Loader::new(config, elsewhere.path()), &card(), &folder)
    };
    let missing = elsewhere.path().join("missing.so");
    let message = with_library(&missing);
    assert!(message.contains("missing.so") && message.contains("or newer"), "{message}");
    let message = with_library(&old_library(elsewhere.path()));
    assert!(message.contains("1.9.0") && message.contains("or newer"), "{message}");

    let message = fault(loader(), &Card { dtype: Dtype::Float16, ..card() }, &folder);
    assert!(message.contains("float16"), "{message}");
    let copy = elsewhere.path().join("source");
    fs::create_dir(&copy).unwrap();
    for file in ["config.json", "model.safetensors"] {
        fs::copy(folder.join(file), copy.join(file)).unwrap();
    }
    let message = fault(loader(), &card(), &copy);
    assert!(message.contains("ner-v2.onnx") && message.contains("make onnx"), "{message}");
    fs::write(copy.join("ner-v2.onnx"), b"no graph").unwrap();
    assert!(fault(loader(), &card(), &copy).contains("ner-v2.onnx"));
    // Another model's graph, made from another adapter.
    fs::copy(folder.join("sentiment-v3.onnx"), copy.join("ner-v2.onnx")).unwrap();
    let message = fault(loader(), &card(), &copy);
    assert!(message.contains("another adapter") && message.contains("make onnx"), "{message}");

    // The library that `make setup` installs computes on the CPU only.
    let config = OnnxConfig { provider: Provider::Cuda { device: 0 }, ..OnnxConfig::default() };
    let message = fault(Loader::new(config, &common::data_dir()), &card(), &folder);
    assert!(message.contains("CUDAExecutionProvider"), "{message}");

    memory_stays(&folder);
}

/// A library as an old release would present itself.
fn old_library(folder: &Path) -> std::path::PathBuf {
    let (source, library) = (folder.join("old.c"), folder.join("old.so"));
    let text = "const char *version(void) { return \"1.9.0\"; }\n\
                const void *api(unsigned v) { (void)v; return 0; }\n\
                struct { const void *(*a)(unsigned); const char *(*v)(void); } base = { api, version };\n\
                const void *OrtGetApiBase(void) { return &base; }\n";
    fs::write(&source, text).unwrap();
    let status = Command::new("cc").args(["-shared", "-fPIC", "-o"]).arg(&library).arg(&source).status();
    assert!(status.unwrap().success());
    library
}

/// Batches of ever new shapes: what is resident after many of them is what was after some.
fn memory_stays(folder: &Path) {
    let weights = load(loader(), &card(), folder).unwrap();
    let device = open_device(DeviceConfig::default()).unwrap();
    let mut runtime = weights.runtime(&device).unwrap();
    let mut result = HostTensor::default();
    let mut state = 1_usize;
    let mut below = |end: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % end
    };
    let mut run = |batches: usize| {
        for _ in 0..batches {
            let lengths: Vec<_> = (0..1 + below(9)).map(|_| 1 + below(120)).collect();
            let sequences: Vec<_> = lengths.iter().map(|&length| Sequence::new(vec![2000; length])).collect();
            runtime.run(&TokenBatch::from_sequences(&sequences), &mut result).unwrap();
            assert_eq!(result.shape, [lengths.iter().sum::<usize>(), 9]);
        }
        resident_kib()
    };
    // The largest group first, so that the arena has its size.
    let warm = run(30);
    let after = run(150);
    assert!(after < warm + 16 * 1024, "{warm} KiB grew to {after} KiB");
}

fn resident_kib() -> usize {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}
