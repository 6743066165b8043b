//! `grpc.health.v1.Health`: one status for the server, one for the service and one for each model.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;

use api::{ApiError, request_id};
use tokio::sync::watch;
use tokio_stream::Stream;
use tokio_util::sync::CancellationToken;
use tonic::codec::CompressionEncoding;
use tonic::{Request, Response, Status};
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_server::{self, HealthServer};
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};

/// Longest request, in bytes: a name.
pub(super) const REQUEST_BYTES_MAX: usize = 4096;

type Statuses = BTreeMap<String, ServingStatus>;

/// What of the server serves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Serving {
    /// Whether calls should be sent here.
    pub is_ready: bool,
    /// The services that are spoken.
    pub services: Vec<&'static str>,
    /// Models by name, and whether each of them answers.
    pub models: Vec<(String, bool)>,
}

/// Reports the server's state to health clients. Not serving until told otherwise. Cheap to clone.
#[derive(Clone)]
pub struct Health(Arc<watch::Sender<Statuses>>);

impl Health {
    /// A reporter of the server's present state.
    pub fn new(serving: &Serving) -> Self {
        Self(Arc::new(watch::Sender::new(statuses(serving))))
    }

    /// Reports the server's present state.
    pub fn update(&self, serving: &Serving) {
        let statuses = statuses(serving);
        self.0.send_if_modified(|before| {
            let is_changed = *before != statuses;
            *before = statuses;
            is_changed
        });
    }

    /// Whether a service or a model serves; the whole server if there is no name.
    pub fn is_serving(&self, name: &str) -> bool {
        self.0.borrow().get(name) == Some(&ServingStatus::Serving)
    }

    pub(super) fn service(&self, stopping: CancellationToken) -> HealthServer<HealthService> {
        let service = HealthService { statuses: Arc::clone(&self.0), stopping };
        HealthServer::new(service)
            .accept_compressed(CompressionEncoding::Gzip)
            .accept_compressed(CompressionEncoding::Deflate)
            .max_decoding_message_size(REQUEST_BYTES_MAX)
    }
}

fn statuses(serving: &Serving) -> Statuses {
    let status = |is_serving| if is_serving { ServingStatus::Serving } else { ServingStatus::NotServing };
    let services = [""].iter().chain(&serving.services);
    let server = services.map(|name| ((*name).to_owned(), status(serving.is_ready)));
    let models = serving.models.iter().map(|(name, is_serving)| (name.clone(), status(*is_serving)));
    server.chain(models).collect()
}

pub(super) struct HealthService {
    statuses: Arc<watch::Sender<Statuses>>,
    stopping: CancellationToken,
}

/// One watch: what it looks at, and what it said last.
struct Watch {
    name: String,
    statuses: watch::Receiver<Statuses>,
    said: Option<ServingStatus>,
    stopping: CancellationToken,
    request_id: Arc<str>,
    is_over: bool,
}

impl Watch {
    /// The next status. It is said before the watch ends with the server, which would wait for it otherwise.
    async fn next(mut self) -> Option<(Result<HealthCheckResponse, Status>, Self)> {
        if self.is_over {
            return None;
        }
        loop {
            // Unknown names may become known: the watch stays (health checking protocol, `Watch`).
            let status = self.statuses.borrow_and_update().get(&self.name).copied();
            let status = status.unwrap_or(ServingStatus::ServiceUnknown);
            if self.said.replace(status) != Some(status) {
                return Some((Ok(HealthCheckResponse { status: status.into() }), self));
            }
            tokio::select! {
                biased;
                Ok(()) = self.statuses.changed() => {}
                () = self.stopping.cancelled() => {
                    self.is_over = true;
                    return Some((Err(super::status(&ApiError::ShuttingDown, &self.request_id)), self));
                }
            }
        }
    }
}

#[tonic::async_trait]
impl health_server::Health for HealthService {
    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        let status = self.statuses.borrow().get(&request.get_ref().service).copied();
        let request_id = request_id(request.extensions());
        let status = status.ok_or_else(|| super::status(&ApiError::ServiceNotFound, &request_id))?;
        Ok(Response::new(HealthCheckResponse { status: status.into() }))
    }

    type WatchStream = Pin<Box<dyn Stream<Item = Result<HealthCheckResponse, Status>> + Send>>;

    async fn watch(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let watch = Watch {
            request_id: request_id(request.extensions()),
            name: request.into_inner().service,
            statuses: self.statuses.subscribe(),
            said: None,
            stopping: self.stopping.clone(),
            is_over: false,
        };
        Ok(Response::new(Box::pin(futures_util::stream::unfold(watch, Watch::next))))
    }
}
