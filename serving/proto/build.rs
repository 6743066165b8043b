//! Compiles the protocol definitions in pure Rust: no `protoc` needed.

use std::error::Error;
use std::path::PathBuf;

use prost::Message;

/// What the API answers, and what operations answer.
const API: &str = "ml/inference/v1/inference.proto";
const ADMINISTRATION: &str = "ml/inference/v1/administration.proto";
const TEI: &str = "tei/v1/tei.proto";
const OIP: &str = "inference/open_inference.proto";
const SCALER: &str = "externalscaler/externalscaler.proto";

fn main() -> Result<(), Box<dyn Error>> {
    for proto in [API, ADMINISTRATION, OIP, TEI, SCALER] {
        println!("cargo:rerun-if-changed={proto}");
    }
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    // What the reflection service shows: what answers on the same port.
    let api = protox::compile([API, ADMINISTRATION], ["."])?;
    std::fs::write(out.join("descriptors.bin"), api.encode_to_vec())?;
    std::fs::write(out.join("tei_descriptors.bin"), protox::compile([TEI], ["."])?.encode_to_vec())?;
    std::fs::write(out.join("oip_descriptors.bin"), protox::compile([OIP], ["."])?.encode_to_vec())?;
    let mut descriptors = protox::compile([API, ADMINISTRATION, OIP, TEI, SCALER], ["."])?;
    // On the wire a call with one message and a stream of messages are the same. As a stream it is handed
    // over when its head is there, so that the caller is known before a byte of the message is read
    // (`serving::grpc::service`).
    let is_api = |package: &str| ["ml.inference.v1", "inference", "tei.v1"].contains(&package);
    let api = descriptors.file.iter_mut().filter(|file| is_api(file.package()));
    for method in api.flat_map(|file| &mut file.service).flat_map(|service| &mut service.method) {
        method.client_streaming = Some(true);
    }
    tonic_prost_build::configure()
        // Decoding errors are the caller's fault: the codec says INVALID_ARGUMENT where the default says
        // INTERNAL.
        .codec_path("crate::codec::Codec")
        .compile_fds(descriptors)?;
    Ok(())
}
