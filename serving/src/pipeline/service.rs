//! The pipeline as protocols have it.

use std::sync::Arc;

use api::exchange::{AnyExchange, ProtocolAnswer};
use api::{CallStream, Inference};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use models::tasks::Operation;

use super::stream::Stream;
use super::{Caller, infer};
use crate::app::App;
use crate::error::ApiError;

#[derive(Clone)]
pub(crate) struct Pipeline(pub(super) Arc<App>);

impl Pipeline {
    /// Over all that it takes.
    pub(crate) fn new(app: Arc<App>) -> Self {
        Self(app)
    }
}

impl Inference for Pipeline {
    fn infer(
        &self,
        caller: api::Caller,
        operation: Option<Operation>,
        exchange: Box<dyn AnyExchange>,
    ) -> BoxFuture<'_, Result<ProtocolAnswer, ApiError>> {
        async move { infer(&self.0, &Caller::from(caller), operation, None, exchange).await }.boxed()
    }

    fn open_stream(&self, caller: api::Caller) -> BoxFuture<'_, Result<Arc<dyn CallStream>, ApiError>> {
        async move {
            let stream = Stream::open(Arc::clone(&self.0), caller.into()).await?;
            Ok(Arc::new(stream) as Arc<dyn CallStream>)
        }
        .boxed()
    }
}
