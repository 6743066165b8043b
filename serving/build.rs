//! Compiles the service's protocol definition in pure Rust: no `protoc` needed. Finds out which commit is built.

use std::error::Error;
use std::path::PathBuf;
use std::process::Command;

use prost::Message;

/// What the API answers, and what operations answer.
const API: &str = "proto/ml/inference/v1/inference.proto";
const SCALER: &str = "proto/externalscaler/externalscaler.proto";

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rustc-env=ML_INFERENCE_COMMIT={}", commit());
    for proto in [API, SCALER] {
        println!("cargo:rerun-if-changed={proto}");
    }
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    // What the reflection service shows: what answers on the same port.
    std::fs::write(out.join("descriptors.bin"), protox::compile([API], ["proto"])?.encode_to_vec())?;
    let mut descriptors = protox::compile([API, SCALER], ["proto"])?;
    // On the wire a call with one message and a stream of messages are the same. As a stream it is handed over when its head is
    // there, so that the caller is known before a byte of the message is read (`grpc::service`).
    let api = descriptors.file.iter_mut().filter(|file| file.package() == "ml.inference.v1");
    for method in api.flat_map(|file| &mut file.service).flat_map(|service| &mut service.method) {
        method.client_streaming = Some(true);
    }
    tonic_prost_build::configure()
        // Decoding errors are the caller's fault: the codec says INVALID_ARGUMENT where the default says INTERNAL.
        .codec_path("crate::grpc::codec::Codec")
        .compile_fds(descriptors)?;
    Ok(())
}

/// The commit that is built: what `ML_INFERENCE_COMMIT` says, for builds without a repository, or git.
fn commit() -> String {
    println!("cargo:rerun-if-env-changed=ML_INFERENCE_COMMIT");
    if let Some(commit) = std::env::var("ML_INFERENCE_COMMIT").ok().filter(|commit| !commit.trim().is_empty())
    {
        return commit.trim().to_owned();
    }
    // The log of HEAD grows with every commit and with every change of the branch.
    if let Some(log) = git(&["rev-parse", "--git-path", "logs/HEAD"]) {
        println!("cargo:rerun-if-changed={log}");
    }
    git(&["rev-parse", "HEAD"]).unwrap_or_else(|| "unknown".to_owned())
}

/// What git says, if there is a git and a repository.
fn git(arguments: &[&str]) -> Option<String> {
    let output =
        Command::new("git").args(arguments).output().ok().filter(|output| output.status.success())?;
    let text = String::from_utf8(output.stdout).ok()?;
    Some(text.trim().to_owned()).filter(|text| !text.is_empty())
}
