//! KEDA's external scaler. The metric it is given by default is the number of servers desired itself, with 1
//! a server, so that the decision is made here and Kubernetes carries it out.

use std::pin::Pin;
use std::sync::Arc;

use protocols::grpc::status;
use router::scaling::Signals;
use tokio_stream::wrappers::WatchStream;
use tokio_stream::{Stream, StreamExt};
use tokio_util::sync::CancellationToken;
use tonic::codec::CompressionEncoding;
use tonic::{Request, Response, Status};

use super::Scaling;
use crate::error::ApiError;
use proto::externalscaler::external_scaler_server::{self, ExternalScalerServer};
use proto::externalscaler::{
    GetMetricSpecResponse, GetMetricsRequest, GetMetricsResponse, IsActiveResponse, MetricSpec, MetricValue,
    ScaledObjectRef,
};

pub(crate) struct ExternalScaler {
    scaling: Arc<Scaling>,
    stopping: CancellationToken,
}

/// A metric's name and where it is read.
type Metric = (&'static str, fn(&Signals) -> f64);

/// Longest request, in bytes: some names and what KEDA was told of one object.
pub(crate) const REQUEST_BYTES_MAX: usize = 64 << 10;

/// What can be scaled on.
const METRICS: [Metric; 5] = [
    ("desired_replicas", |signals| f64::from(signals.desired_replicas)),
    ("offered_device_seconds", |signals| signals.offered_expected),
    ("queued_device_seconds", |signals| signals.queued_seconds),
    ("queued_requests", |signals| signals.queued_requests as f64),
    ("queued_tokens", |signals| signals.queued_tokens as f64),
];

impl ExternalScaler {
    /// The service, whose streams end when the server stops.
    pub(crate) fn service(scaling: Arc<Scaling>, stopping: CancellationToken) -> ExternalScalerServer<Self> {
        ExternalScalerServer::new(Self { scaling, stopping })
            .accept_compressed(CompressionEncoding::Gzip)
            .accept_compressed(CompressionEncoding::Deflate)
            .max_decoding_message_size(REQUEST_BYTES_MAX)
    }
}

fn invalid(field: &str, problem: String) -> ApiError {
    ApiError::InvalidRequest { field: field.to_owned(), problem }
}

/// A metric by its name. KEDA 2.5 and 2.6 ask with the prefix that they gave it for the autoscaler, such as
/// `s0-` or `s1-external-` (kedacore/keda#2640).
fn find(name: &str) -> Result<Metric, ApiError> {
    let unprefixed =
        name.strip_prefix('s').and_then(|rest| rest.split_once('-')).and_then(|(index, rest)| {
            let is_index = !index.is_empty() && index.bytes().all(|byte| byte.is_ascii_digit());
            is_index.then(|| rest.strip_prefix("external-").unwrap_or(rest))
        });
    let name = unprefixed.unwrap_or(name);
    METRICS.into_iter().find(|(known, _)| *known == name).ok_or_else(|| {
        let known: Vec<_> = METRICS.iter().map(|(name, _)| *name).collect();
        invalid("metric", format!("no such metric; there are {}", known.join(", ")))
    })
}

/// The metric that a scaled object asks for, and its value for one server.
fn spec(object: &ScaledObjectRef) -> Result<MetricSpec, ApiError> {
    let (default, _) = METRICS[0];
    let (name, _) = find(object.scaler_metadata.get("metric").map_or(default, String::as_str))?;
    let target = match object.scaler_metadata.get("target") {
        Some(text) => text.parse().ok().filter(|target: &f64| target.is_finite() && *target > 0.0),
        None if name == default => Some(1.0),
        None => None,
    };
    let target = target.ok_or_else(|| {
        invalid("scalerMetadata.target", format!("expected the value of {name} for one server, above 0"))
    })?;
    Ok(MetricSpec {
        metric_name: name.to_owned(),
        target_size: target.ceil() as i64,
        target_size_float: target,
    })
}

#[tonic::async_trait]
impl external_scaler_server::ExternalScaler for ExternalScaler {
    async fn is_active(&self, _: Request<ScaledObjectRef>) -> Result<Response<IsActiveResponse>, Status> {
        let scaling = &self.scaling;
        let result = scaling.signals().is_some_and(|signals| scaling.is_active(&signals));
        Ok(Response::new(IsActiveResponse { result }))
    }

    type StreamIsActiveStream = Pin<Box<dyn Stream<Item = Result<IsActiveResponse, Status>> + Send>>;

    async fn stream_is_active(
        &self,
        _: Request<ScaledObjectRef>,
    ) -> Result<Response<Self::StreamIsActiveStream>, Status> {
        let scaling = Arc::clone(&self.scaling);
        let mut last = None;
        let changes = WatchStream::new(scaling.signals.subscribe()).filter_map(move |signals| {
            let is_active = scaling.is_active(&signals?);
            (last.replace(is_active) != Some(is_active)).then_some(Ok(IsActiveResponse { result: is_active }))
        });
        // Ends with the server, which would wait for it otherwise.
        let stopping = self.stopping.clone().cancelled_owned();
        Ok(Response::new(Box::pin(futures_util::StreamExt::take_until(changes, stopping))))
    }

    async fn get_metric_spec(
        &self,
        request: Request<ScaledObjectRef>,
    ) -> Result<Response<GetMetricSpecResponse>, Status> {
        let request_id = api::request_id(request.extensions());
        let spec = spec(request.get_ref()).map_err(|error| status(&error, &request_id))?;
        let metric_specs = vec![spec];
        Ok(Response::new(GetMetricSpecResponse { metric_specs }))
    }

    async fn get_metrics(
        &self,
        request: Request<GetMetricsRequest>,
    ) -> Result<Response<GetMetricsResponse>, Status> {
        let request_id = api::request_id(request.extensions());
        let metric = find(&request.get_ref().metric_name);
        let (name, of) = metric.map_err(|error| status(&error, &request_id))?;
        // The first ones come within seconds.
        let signals = self.scaling.signals();
        let value = of(&signals.ok_or_else(|| status(&ApiError::Starting, &request_id))?);
        Ok(Response::new(GetMetricsResponse {
            metric_values: vec![MetricValue {
                metric_name: name.to_owned(),
                metric_value: value.ceil() as i64,
                metric_value_float: value,
            }],
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_metrics() {
        let check = |name: &str, expected: Option<&str>| {
            assert_eq!(find(name).ok().map(|(name, _)| name), expected, "{name}");
        };
        check("desired_replicas", Some("desired_replicas"));
        check("s0-desired_replicas", Some("desired_replicas"));
        check("s12-external-queued_tokens", Some("queued_tokens"));
        check("s-desired_replicas", None);
        check("sx-desired_replicas", None);
        check("s0-nothing", None);
        check("desired", None);
    }
}
