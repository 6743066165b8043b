//! A port, and what all its connections share.

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};

use axum::Router;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::protocol::Protocol;
use super::seats::Seats;
use super::unread::UnreadAnswers;
use crate::telemetry::ConnectionCounts;
use crate::tls::TlsAcceptor;

/// How far the end is.
#[derive(Debug, Clone, Default)]
pub(super) struct Drain {
    /// Answers ask their callers to go elsewhere.
    pub(super) leaving: CancellationToken,
    /// Nothing is accepted, and connections end with their last answer.
    pub(super) stopping: CancellationToken,
    pub(super) kill: CancellationToken,
}

/// What a port answers with: little until the server has started, then all.
pub(super) struct Routes {
    starting: Router,
    all: OnceLock<Router>,
}

impl Routes {
    pub(super) fn new(starting: Router) -> Self {
        Self { starting, all: OnceLock::new() }
    }

    /// From here on everything is answered.
    pub(super) fn open(&self, all: Router) {
        // The server starts once.
        let _ = self.all.set(all);
    }

    pub(super) fn current(&self) -> Router {
        self.all.get().unwrap_or(&self.starting).clone()
    }
}

/// A port that is listened on.
pub(super) struct Port {
    /// `api` or `operations`.
    pub(super) name: &'static str,
    pub(super) tls: Option<TlsAcceptor>,
    pub(super) protocol: Protocol,
    pub(super) routes: Routes,
    pub(super) drain: Drain,
    /// Answers that wait, on all its connections.
    pub(super) unread: Arc<UnreadAnswers>,
    pub(super) counts: Arc<ConnectionCounts>,
    pub(super) seats: Arc<Seats>,
    pub(super) tasks: TaskTracker,
    /// Whether anybody but this machine has connected.
    pub(super) has_remote: AtomicBool,
    /// Whether it was said that there are too many connections.
    pub(super) has_warned: AtomicBool,
}
