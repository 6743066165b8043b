//! The API of our own: REST under `/v1/ml`, and the gRPC service `ml.inference.v1.InferenceService`.

pub mod grpc;
pub mod rest;
