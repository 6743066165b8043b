//! The server's `.proto` files, and the messages and service stubs that are generated of them.

pub mod codec;

/// `ml.inference.v1`, the API: `ml/inference/v1/inference.proto` and `ml/inference/v1/administration.proto`.
pub mod v1 {
    #![allow(missing_docs, unreachable_pub, clippy::all, clippy::pedantic, reason = "generated")]
    tonic::include_proto!("ml.inference.v1");

    /// The definition of the API's services, for reflection.
    pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
}

/// Open Inference Protocol v2, with Triton's additions: `inference/open_inference.proto`.
pub mod oip {
    #![allow(missing_docs, unreachable_pub, clippy::all, clippy::pedantic, reason = "generated")]
    tonic::include_proto!("inference");

    /// The definition of its service, for reflection.
    pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/oip_descriptors.bin"));
}

/// `tei.v1`, the gRPC API of text-embeddings-inference: `tei/v1/tei.proto`.
pub mod tei {
    #![allow(missing_docs, unreachable_pub, clippy::all, clippy::pedantic, reason = "generated")]
    tonic::include_proto!("tei.v1");

    /// The definition of its services, for reflection.
    pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/tei_descriptors.bin"));
}

/// KEDA's external scaler: `externalscaler/externalscaler.proto`.
pub mod externalscaler {
    #![allow(missing_docs, unreachable_pub, clippy::all, clippy::pedantic, reason = "generated")]
    tonic::include_proto!("externalscaler");
}
