//! How the connections of a port are served.

use std::time::Duration;

use hyper_util::rt::{TokioExecutor, TokioTimer};
use hyper_util::server::conn::auto;

use super::activity::Patience;
use crate::config::{Connections, HTTP1_FIELDS_MAX};

/// What every connection of a port is served with.
pub(super) struct Protocol {
    pub(super) http1: auto::Builder<TokioExecutor>,
    pub(super) http2: auto::Builder<TokioExecutor>,
    pub(super) patience: Patience,
    pub(super) body_timeout: Duration,
    pub(super) unread_bytes_max: usize,
}

impl Protocol {
    pub(super) fn new(config: &Connections) -> Self {
        let mut http = auto::Builder::new(TokioExecutor::new());
        // The supervisor has timers of its own, which know an idle connection from a slow head.
        http.http1().timer(TokioTimer::new()).header_read_timeout(None);
        if config.header_fields_max != HTTP1_FIELDS_MAX {
            http.http1().max_headers(config.header_fields_max);
        }
        http.http2()
            .timer(TokioTimer::new())
            .max_concurrent_streams(config.streams_max)
            .initial_stream_window_size(config.stream_window_bytes)
            .initial_connection_window_size(Connections::window_bytes())
            // What is somewhat over the limit gets an answer that says so; h2 says nothing but 431.
            .max_header_list_size((config.header_bytes_max * 4).try_into().unwrap_or(u32::MAX))
            .keep_alive_interval(Duration::from_secs(30))
            .keep_alive_timeout(Duration::from_secs(20));
        Self {
            http1: http.clone().http1_only(),
            http2: http.http2_only(),
            patience: Patience::from(config),
            body_timeout: config.body_timeout(),
            unread_bytes_max: config.unread_answer_bytes_max,
        }
    }
}
