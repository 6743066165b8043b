//! `grpc.health.v1.Health`: one status for the server, one for the service and one for each model.

use tonic::server::NamedService;
use tonic_health::ServingStatus;
use tonic_health::pb::health_server::HealthServer;
use tonic_health::server::{HealthReporter, HealthService};

use super::proto::inference_service_server::InferenceServiceServer;
use super::service::Inference;
use crate::app::App;

/// Reports the server's state to health clients. Not serving until told otherwise.
pub struct Health(HealthReporter);

impl Health {
    /// A reporter that says `NOT_SERVING` for everything of `app`, whatever its state.
    pub async fn new(app: &App) -> Self {
        let health = Self(HealthReporter::new());
        health.report(app, false, false).await;
        health
    }

    /// Reports `app`'s present state.
    pub async fn update(&self, app: &App) {
        self.report(app, app.is_ready(), app.is_serving()).await;
    }

    pub(super) fn service(&self) -> HealthServer<HealthService> {
        HealthServer::new(HealthService::from_health_reporter(self.0.clone()))
    }

    async fn report(&self, app: &App, is_ready: bool, is_serving: bool) {
        let status = |is_serving| if is_serving { ServingStatus::Serving } else { ServingStatus::NotServing };
        let service = <InferenceServiceServer<Inference> as NamedService>::NAME;
        for name in ["", service] {
            self.0.set_service_status(name, status(is_ready)).await;
        }
        for model in app.catalog.models() {
            self.0.set_service_status(&model.card.name, status(is_serving && model.is_loaded())).await;
        }
    }
}
