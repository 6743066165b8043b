//! Its gRPC services, `tei.v1`.

mod exchange;
mod methods;
mod service;
mod stream;

use api::{ApiError, Operation};
use axum::Router;
use axum::middleware::from_fn_with_state;
use proto::tei::embed_server::EmbedServer;
use proto::tei::info_server::InfoServer;
use proto::tei::predict_server::PredictServer;
use proto::tei::rerank_server::RerankServer;
use proto::tei::tokenize_server::TokenizeServer;
use tonic::codec::CompressionEncoding;
use tonic::server::NamedService;

use crate::Services;
use crate::grpc::{Form, route, set_aside};
use service::TeiApi;

/// Names of the services.
pub const SERVICES: [&str; 5] = [
    <InfoServer<TeiApi> as NamedService>::NAME,
    <EmbedServer<TeiApi> as NamedService>::NAME,
    <PredictServer<TeiApi> as NamedService>::NAME,
    <RerankServer<TeiApi> as NamedService>::NAME,
    <TokenizeServer<TeiApi> as NamedService>::NAME,
];

/// The routes of the services; none where the dialect is switched off.
pub fn routes(services: &Services) -> Router {
    if !services.dialects.tei {
        return Router::new();
    }
    let (api, bytes_max) = (TeiApi::new(services.clone()), services.bounds.body_bytes_max);
    let form = |streams| Form { bytes_max, no_method: ApiError::RouteNotFound, streams };
    macro_rules! served {
        ($server:ident) => {
            $server::new(api.clone())
                .accept_compressed(CompressionEncoding::Gzip)
                .accept_compressed(CompressionEncoding::Deflate)
                .max_decoding_message_size(bytes_max)
                .max_encoding_message_size(usize::MAX)
        };
    }
    let aside = |router: Router, methods: &[&'static str]| {
        methods.iter().fold(router, |router, method| router.layer(from_fn_with_state(*method, set_aside)))
    };
    let embed = &["EmbedStream", "EmbedSparseStream", "EmbedAllStream"];
    let predict = &["PredictStream", "PredictPairStream"];
    let tokenize = &["TokenizeStream", "DecodeStream"];
    route(Router::new(), served!(InfoServer), form(&[]))
        .merge(aside(route(Router::new(), served!(EmbedServer), form(embed)), embed))
        .merge(aside(route(Router::new(), served!(PredictServer), form(predict)), predict))
        .merge(route(Router::new(), served!(RerankServer), form(&["RerankStream"])))
        .merge(aside(route(Router::new(), served!(TokenizeServer), form(tokenize)), tokenize))
}

/// What a method asks for.
pub(super) fn operation_of(route: &str) -> Option<Operation> {
    match route.strip_prefix("/tei.v1.")? {
        "Embed/Embed" | "Embed/EmbedAll" | "Embed/EmbedSparse" => Some(Operation::Embed),
        "Predict/Predict" | "Predict/PredictPair" => Some(Operation::Classify),
        "Rerank/Rerank" | "Rerank/RerankStream" => Some(Operation::Rerank),
        "Tokenize/Tokenize" => Some(Operation::Tokenize),
        "Tokenize/Decode" => Some(Operation::Detokenize),
        _ => None,
    }
}
