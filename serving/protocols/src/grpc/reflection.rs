//! `grpc.reflection`, in both of its versions: what services there are, for tools.
//!
//! A question that has no answer is answered with an `error_response`, and the stream goes on, as the
//! protocol says (<https://github.com/grpc/grpc/blob/master/doc/server-reflection.md>); tonic-reflection ends
//! it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use prost::{DecodeError, Message};
use prost_types::{
    DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorProto, FileDescriptorSet,
    OneofDescriptorProto,
};
use tonic::Code;

/// Longest request, in bytes: a name.
pub(super) const REQUEST_BYTES_MAX: usize = 64 << 10;

/// What is defined, by name.
#[derive(Debug, Default)]
pub(super) struct Definitions {
    services: Vec<String>,
    /// Encoded `FileDescriptorProto`s.
    files: BTreeMap<String, Arc<[u8]>>,
    /// The file of each symbol.
    symbols: BTreeMap<String, Arc<[u8]>>,
}

/// Paths of the methods that encoded `FileDescriptorSet`s define.
///
/// # Errors
/// One is not what it should be.
pub(super) fn methods(sets: &[&[u8]]) -> Result<BTreeSet<String>, DecodeError> {
    let mut paths = BTreeSet::new();
    for set in sets {
        for file in FileDescriptorSet::decode(*set)?.file {
            for service in &file.service {
                let path = |method: &str| format!("/{}.{}/{method}", file.package(), service.name());
                paths.extend(service.method.iter().map(|method| path(method.name())));
            }
        }
    }
    Ok(paths)
}

/// Why a question has no answer.
type Refusal = (Code, &'static str);

impl Definitions {
    /// Reads encoded `FileDescriptorSet`s.
    ///
    /// # Errors
    /// One is not what it should be.
    pub(super) fn read(sets: &[&[u8]]) -> Result<Arc<Self>, DecodeError> {
        let mut definitions = Self::default();
        for set in sets {
            for file in FileDescriptorSet::decode(*set)?.file {
                definitions.add(&file);
            }
        }
        Ok(Arc::new(definitions))
    }

    fn add(&mut self, file: &FileDescriptorProto) {
        let encoded: Arc<[u8]> = Arc::from(file.encode_to_vec());
        // A set brings the files that its own ones need.
        if self.files.insert(file.name().to_owned(), Arc::clone(&encoded)).is_some() {
            return;
        }
        let package = file.package();
        for message in &file.message_type {
            self.add_message(&encoded, package, message);
        }
        for kind in &file.enum_type {
            self.add_enum(&encoded, package, kind);
        }
        for service in &file.service {
            let name = within(package, service.name());
            for method in &service.method {
                self.symbols.insert(within(&name, method.name()), Arc::clone(&encoded));
            }
            self.symbols.insert(name.clone(), Arc::clone(&encoded));
            self.services.push(name);
        }
    }

    fn add_message(&mut self, file: &Arc<[u8]>, scope: &str, message: &DescriptorProto) {
        let name = within(scope, message.name());
        let fields = message.field.iter().map(FieldDescriptorProto::name);
        for member in fields.chain(message.oneof_decl.iter().map(OneofDescriptorProto::name)) {
            self.symbols.insert(within(&name, member), Arc::clone(file));
        }
        for nested in &message.nested_type {
            self.add_message(file, &name, nested);
        }
        for kind in &message.enum_type {
            self.add_enum(file, &name, kind);
        }
        self.symbols.insert(name, Arc::clone(file));
    }

    fn add_enum(&mut self, file: &Arc<[u8]>, scope: &str, kind: &EnumDescriptorProto) {
        // Values are of the scope that their enum is in (descriptor.proto, `EnumValueDescriptorProto`).
        for value in &kind.value {
            self.symbols.insert(within(scope, value.name()), Arc::clone(file));
        }
        self.symbols.insert(within(scope, kind.name()), Arc::clone(file));
    }

    fn file(&self, name: &str) -> Result<Vec<Vec<u8>>, Refusal> {
        let file = self.files.get(name).ok_or((Code::NotFound, "no such file"))?;
        Ok(vec![file.to_vec()])
    }

    fn symbol(&self, name: &str) -> Result<Vec<Vec<u8>>, Refusal> {
        let file = self.symbols.get(name).ok_or((Code::NotFound, "no such symbol"))?;
        Ok(vec![file.to_vec()])
    }
}

fn within(scope: &str, name: &str) -> String {
    if scope.is_empty() { name.to_owned() } else { format!("{scope}.{name}") }
}

/// One version of the service; they differ in their names alone.
macro_rules! version {
    ($version:ident) => {
        pub(super) mod $version {
            use std::pin::Pin;
            use std::sync::Arc;

            pub(in crate::grpc) use server::ServerReflectionServer;
            use tokio_stream::Stream;
            use tonic::{Code, Request, Response, Status, Streaming};
            use tonic_reflection::pb::$version::server_reflection_request::MessageRequest as Asked;
            use tonic_reflection::pb::$version::server_reflection_response::MessageResponse as Answer;
            use tonic_reflection::pb::$version::server_reflection_server as server;
            use tonic_reflection::pb::$version::{
                ErrorResponse, ExtensionNumberResponse, FileDescriptorResponse, ListServiceResponse,
                ServerReflectionRequest, ServerReflectionResponse, ServiceResponse,
            };

            use super::{Definitions, REQUEST_BYTES_MAX, Refusal};
            use crate::grpc::message::unreadable;

            pub(in crate::grpc) struct Reflection(pub(in crate::grpc) Arc<Definitions>);

            impl Reflection {
                fn answer(
                    definitions: &Definitions,
                    request: ServerReflectionRequest,
                ) -> ServerReflectionResponse {
                    let files = |files: Vec<Vec<u8>>| {
                        let files = FileDescriptorResponse { file_descriptor_proto: files };
                        Answer::FileDescriptorResponse(files)
                    };
                    let answer: Result<Answer, Refusal> = match &request.message_request {
                        Some(Asked::FileByFilename(name)) => definitions.file(name).map(files),
                        Some(Asked::FileContainingSymbol(name)) => definitions.symbol(name).map(files),
                        Some(Asked::FileContainingExtension(_)) => {
                            Err((Code::NotFound, "there are no extensions"))
                        }
                        Some(Asked::AllExtensionNumbersOfType(name)) => definitions.symbol(name).map(|_| {
                            let (base_type_name, extension_number) = (name.clone(), Vec::new());
                            let numbers = ExtensionNumberResponse { base_type_name, extension_number };
                            Answer::AllExtensionNumbersResponse(numbers)
                        }),
                        Some(Asked::ListServices(_)) => {
                            let names = definitions.services.iter().cloned();
                            let service = names.map(|name| ServiceResponse { name }).collect();
                            Ok(Answer::ListServicesResponse(ListServiceResponse { service }))
                        }
                        None => Err((Code::InvalidArgument, "the request asks nothing")),
                    };
                    let answer = answer.unwrap_or_else(|(code, message)| {
                        let (error_code, error_message) = (code as i32, message.to_owned());
                        Answer::ErrorResponse(ErrorResponse { error_code, error_message })
                    });
                    ServerReflectionResponse {
                        valid_host: request.host.clone(),
                        original_request: Some(request),
                        message_response: Some(answer),
                    }
                }
            }

            #[tonic::async_trait]
            impl server::ServerReflection for Reflection {
                type ServerReflectionInfoStream =
                    Pin<Box<dyn Stream<Item = Result<ServerReflectionResponse, Status>> + Send>>;

                async fn server_reflection_info(
                    &self,
                    request: Request<Streaming<ServerReflectionRequest>>,
                ) -> Result<Response<Self::ServerReflectionInfoStream>, Status> {
                    let request_id = api::request_id(request.extensions());
                    let definitions = Arc::clone(&self.0);
                    let answers = tokio_stream::StreamExt::map(request.into_inner(), move |message| {
                        let readable = message.map_err(|status| unreadable(&status, REQUEST_BYTES_MAX));
                        let message = readable.map_err(|error| crate::grpc::status(&error, &request_id))?;
                        Ok(Self::answer(&definitions, message))
                    });
                    Ok(Response::new(Box::pin(answers)))
                }
            }
        }
    };
}

version!(v1);
version!(v1alpha);

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn symbols() {
        let sets = [proto::v1::DESCRIPTORS, tonic_health::pb::FILE_DESCRIPTOR_SET];
        let definitions = Definitions::read(&sets).unwrap();
        let services = [
            "ml.inference.v1.InferenceService",
            "ml.inference.v1.AdministrationService",
            "grpc.health.v1.Health",
        ];
        assert_eq!(definitions.services, services);
        let check = |name: &str, expected: Option<&str>| {
            let found = definitions.symbol(name).ok();
            let file = found.map(|files| FileDescriptorProto::decode(files[0].as_slice()).unwrap());
            assert_eq!(file.as_ref().map(FileDescriptorProto::name), expected, "{name}");
        };
        let ours = Some("ml/inference/v1/inference.proto");
        check("ml.inference.v1.InferenceService", ours);
        check("ml.inference.v1.InferenceService.Embed", ours);
        check("ml.inference.v1.EmbedRequest.inputs", ours);
        check("ml.inference.v1.MadeKey.secret", Some("ml/inference/v1/administration.proto"));
        check("google.protobuf.Timestamp", Some("google/protobuf/timestamp.proto"));
        check("grpc.health.v1.Health", Some("health.proto"));
        check("grpc.health.v1.HealthCheckResponse.ServingStatus", Some("health.proto"));
        check("grpc.health.v1.HealthCheckResponse.SERVING", Some("health.proto"));
        check("ml.inference.v1", None);
        check("nobody.Knows", None);
        check("", None);
    }
}
