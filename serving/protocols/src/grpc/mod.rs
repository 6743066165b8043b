//! What protocols over gRPC share: health and reflection, the form of calls and of their refusals, and
//! messages that are read when their callers have a place.

mod bulk;
mod form;
mod health;
mod limits;
mod message;
mod messages;
mod reflection;
mod status;
mod until_stop;

use std::collections::BTreeSet;
use std::sync::{Arc, LazyLock};

use api::ApiError;
use axum::Router;
use axum::middleware::from_fn_with_state;
use tonic::body::Body;
use tonic::codec::CompressionEncoding;
use tonic::server::NamedService;
use tower::Service;

use crate::{Dialects, Services};
use reflection::{Definitions, v1, v1alpha};

pub use bulk::{Bulk, Conversation};
pub use form::Form;
pub use health::{Health, Serving};
pub use limits::{LastLimits, show_limits};
pub use message::{UnreadMessage, unreadable};
pub use messages::{Messages, set_aside};
pub use status::{status, status_as};

/// The definitions of the protocols' services.
const OURS: &[&[u8]] = &[proto::v1::DESCRIPTORS, proto::oip::DESCRIPTORS, proto::tei::DESCRIPTORS];

/// Their methods, as paths. If a definition cannot be read there are none, as there is no reflection.
static METHODS: LazyLock<BTreeSet<String>> = LazyLock::new(|| reflection::methods(OURS).unwrap_or_default());

/// Whether a path is that of a method of a protocol's service: then it is no caller's text.
pub fn is_method(path: &str) -> bool {
    METHODS.contains(path)
}

/// The routes of what every gRPC server has: health and reflection.
pub fn routes(services: &Services, health: &Health) -> Router {
    let no_method = ApiError::RouteNotFound;
    let form = Form { bytes_max: health::REQUEST_BYTES_MAX, no_method, streams: &[] };
    let router = route(Router::new(), health.service(services.stopping.clone()), form);
    let stopping = services.stopping.clone();
    let shown = shown(services.dialects);
    router.merge(reflection(&shown).layer(from_fn_with_state(stopping, until_stop::until_stop)))
}

/// The definitions of services that answer.
fn shown(dialects: Dialects) -> Vec<&'static [u8]> {
    let dialects = [(dialects.oip, proto::oip::DESCRIPTORS), (dialects.tei, proto::tei::DESCRIPTORS)];
    let spoken = dialects.into_iter().filter(|(is_on, _)| *is_on).map(|(_, definition)| definition);
    std::iter::once(proto::v1::DESCRIPTORS).chain(spoken).collect()
}

/// What services there are, for tools. Theirs are streams that last as long as the tool.
fn reflection(shown: &[&[u8]]) -> Router {
    use tonic_reflection::pb;
    let health = tonic_health::pb::FILE_DESCRIPTOR_SET;
    let read = |own| Definitions::read(&[shown, &[health, own]].concat());
    match (read(pb::v1::FILE_DESCRIPTOR_SET), read(pb::v1alpha::FILE_DESCRIPTOR_SET)) {
        (Ok(new), Ok(old)) => {
            let form = || Form {
                bytes_max: reflection::REQUEST_BYTES_MAX,
                no_method: ApiError::RouteNotFound,
                streams: &["ServerReflectionInfo"],
            };
            let new = v1::ServerReflectionServer::new(v1::Reflection(new))
                .accept_compressed(CompressionEncoding::Gzip)
                .accept_compressed(CompressionEncoding::Deflate)
                .max_decoding_message_size(reflection::REQUEST_BYTES_MAX);
            let old = v1alpha::ServerReflectionServer::new(v1alpha::Reflection(old))
                .accept_compressed(CompressionEncoding::Gzip)
                .accept_compressed(CompressionEncoding::Deflate)
                .max_decoding_message_size(reflection::REQUEST_BYTES_MAX);
            route(route(Router::new(), new, form()), old, form())
        }
        (Err(error), _) | (_, Err(error)) => {
            tracing::error!(%error, "no reflection: bad descriptors");
            Router::new()
        }
    }
}

/// Adds one gRPC service to a router, and holds its calls to their form.
pub fn route<S>(router: Router, service: S, form: Form) -> Router
where
    S: Service<
            http::Request<axum::body::Body>,
            Response = http::Response<Body>,
            Error = std::convert::Infallible,
        > + NamedService
        + Clone
        + Send
        + Sync
        + 'static,
    S::Future: Send + 'static,
{
    let calls = Router::new().route_service(&format!("/{}/{{*method}}", S::NAME), service);
    router.merge(calls.layer(from_fn_with_state(Arc::new(form), form::hold)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn methods_are_those_of_the_definition() {
        let rpc = |line: &'static str| line.trim().strip_prefix("rpc ")?.split('(').next();
        let services = [
            ("InferenceService", include_str!("../../../proto/ml/inference/v1/inference.proto")),
            ("AdministrationService", include_str!("../../../proto/ml/inference/v1/administration.proto")),
        ];
        let defined = services.into_iter().flat_map(|(service, definition)| {
            let names = definition.lines().filter_map(rpc);
            names.map(move |name| format!("/ml.inference.v1.{service}/{name}"))
        });
        let ours = METHODS.iter().filter(|path| path.starts_with("/ml.inference.v1.")).cloned();
        assert_eq!(defined.collect::<BTreeSet<_>>(), ours.collect());
        assert!(is_method("/inference.GRPCInferenceService/ModelInfer"));
        assert!(is_method("/tei.v1.Embed/EmbedStream"));
        assert!(!is_method("/ml.inference.v1.InferenceService/Secret"));
    }
}
