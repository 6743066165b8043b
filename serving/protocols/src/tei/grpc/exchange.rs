//! Messages as calls.

use std::time::Duration;

use api::tasks::InputError;
use api::{ApiError, Call, Exchange, InferRequest, InferResponse, Kept, Made, Quota, Repeat, Reply};
use axum::body::Bytes;
use axum::http::HeaderMap;
use prost::Message;
use proto::tei::{RerankRequest, RerankStreamRequest};
use tonic::metadata::{MetadataMap, MetadataValue};
use tonic::{Code, Response, Streaming};

use super::methods::{Asked, Method, Rerank};
use crate::grpc::{UnreadMessage, show_limits, unreadable};
use crate::http::target::Target;
use crate::idempotency::REPLAYED;
use crate::tei::facts::Facts;

/// The call of one message, which is still to come.
pub(super) struct Unary<M: Method> {
    pub(super) message: UnreadMessage<M::Question>,
    pub(super) target: Target,
    /// How long the caller waits.
    pub(super) timeout: Result<Option<Duration>, ApiError>,
    /// The key under which it may come again.
    pub(super) key: Result<Option<String>, ApiError>,
}

/// A message of a stream, which is there.
pub(super) struct Streamed<M: Method> {
    pub(super) message: M::Question,
    pub(super) target: Target,
}

/// The call of many messages, each with a text to rank.
pub(super) struct Collected {
    pub(super) messages: Streaming<RerankStreamRequest>,
    pub(super) target: Target,
    pub(super) timeout: Result<Option<Duration>, ApiError>,
    /// Bytes of all texts.
    pub(super) bytes_max: usize,
}

/// What answers a call.
pub(super) struct Told<M: Method> {
    characters: usize,
    rendering: M::Rendering,
}

/// A question as a call.
fn call<M: Method>(
    question: M::Question,
    target: Target,
    timeout: Option<Duration>,
    repeat: Option<Repeat>,
) -> Result<Call<Told<M>>, ApiError> {
    let Asked { request, characters, rendering } = M::read(question, target)?;
    let request = InferRequest { timeout, ..request };
    Ok(Call { request, repeat, reply: Told { characters, rendering } })
}

impl<M: Method> Exchange for Unary<M> {
    type Reply = Told<M>;

    async fn read(self) -> Result<Call<Told<M>>, ApiError> {
        let timeout = self.timeout?;
        let message = self.message.read().await?;
        let repeat = self.key?.map(|key| {
            let (route, body) = (format!("grpc:tei:{}", M::NAME), Bytes::from(message.encode_to_vec()));
            Repeat { key, route, body }
        });
        call(message, self.target, timeout, repeat)
    }
}

impl<M: Method> Exchange for Streamed<M> {
    type Reply = Told<M>;

    async fn read(self) -> Result<Call<Told<M>>, ApiError> {
        call(self.message, self.target, None, None)
    }
}

impl Exchange for Collected {
    type Reply = Told<Rerank>;

    async fn read(self) -> Result<Call<Told<Rerank>>, ApiError> {
        let Self { mut messages, target, timeout, bytes_max } = self;
        let timeout = timeout?;
        let mut all: Option<RerankRequest> = None;
        let (mut bytes, mut index) = (0, 0);
        while let Some(message) = messages.message().await.map_err(|status| unreadable(&status, bytes_max))? {
            let RerankStreamRequest { query, text, truncate, raw_scores, return_text, truncation_direction } =
                message;
            bytes += text.len();
            let first = |query| RerankRequest {
                query,
                texts: Vec::new(),
                truncate,
                raw_scores,
                return_text,
                truncation_direction,
            };
            let options = (truncate, raw_scores, return_text, truncation_direction);
            let all = match all {
                Some(ref mut all) => {
                    check_same(all, (&query, options), index)?;
                    all
                }
                None => all.insert(first(query)),
            };
            index += 1;
            all.texts.push(text);
            let (inputs, limit) = (all.texts.len(), target.inputs_max);
            if inputs > limit {
                return Err(InputError::TooMany { inputs, limit }.into());
            }
            if bytes > bytes_max {
                return Err(ApiError::BodyTooLarge { limit: bytes_max });
            }
        }
        call(all.unwrap_or_default(), target, timeout, None)
    }
}

/// Refuses a message that asks something else than those before it: all of them are one ranking.
fn check_same(
    all: &RerankRequest,
    (query, options): (&str, (bool, bool, bool, i32)),
    index: usize,
) -> Result<(), ApiError> {
    let of_all = (all.truncate, all.raw_scores, all.return_text, all.truncation_direction);
    let field = match (query == all.query, options == of_all) {
        (true, true) => return Ok(()),
        (false, _) => format!("query of message {index}"),
        (true, false) => format!("options of message {index}"),
    };
    let problem =
        "differs from that of the messages before, which are ranked together: rank it in another call";
    Err(ApiError::InvalidRequest { field, problem: problem.to_owned() })
}

impl<M: Method> Reply for Told<M> {
    type Answer = Response<M::Answer>;

    fn answer(self, response: InferResponse, is_kept: bool) -> Result<Made<Response<M::Answer>>, ApiError> {
        let facts = Facts::of(&response, self.characters);
        let quotas = response.quotas.clone();
        let answer = M::write(response, self.rendering, &facts)?;
        let body = if is_kept { Bytes::from(answer.encode_to_vec()) } else { Bytes::new() };
        let mut answer = Response::new(answer);
        *answer.metadata_mut() = MetadataMap::from_headers(HeaderMap::from_iter(facts.headers()));
        show_limits(&quotas, answer.metadata_mut());
        Ok(Made { answer, kept: Kept { status: Code::Ok as u16, body } })
    }

    fn again(self, kept: Kept, quotas: &[Quota]) -> Result<Response<M::Answer>, ApiError> {
        let mut answer = Response::new(M::Answer::decode(kept.body).map_err(ApiError::internal)?);
        answer.metadata_mut().insert(REPLAYED, MetadataValue::from_static("true"));
        show_limits(quotas, answer.metadata_mut());
        Ok(answer)
    }
}
