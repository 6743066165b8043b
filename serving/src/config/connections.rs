//! Configuration of connections: how many, and how long one may do nothing.

use std::time::Duration;

use garde::Validate;
use serde::Deserialize;

/// What h2 charges for an unread DATA frame of five bytes, the shortest gRPC message, per byte of it: 256 - 5
/// over 5, rounded up. See [`Connections::window_bytes`].
const FRAME_COST_PER_BYTE: u64 = 51;
/// What h2 allows a connection of such costs: half of its window, which is 2^31 - 1 bytes at most.
const FRAME_COST_MAX: u64 = 1 << 30;

/// Fields of a head that hyper parses without an allocation of its own.
pub(crate) const HTTP1_FIELDS_MAX: usize = 100;

/// Bounds of connections, the same on both ports unless they say otherwise.
#[derive(Debug, Clone, Deserialize, Validate)]
#[serde(deny_unknown_fields, default)]
pub struct Connections {
    /// Connections to the API at once. For one more, the one goes that has been without a request for
    /// longest, of those that nobody with credentials has used or whose tenant has more than
    /// `limits.tenant_share_max` of what is free; if there is none, the newcomer. Fewer if the process may
    /// not open so many files.
    #[garde(range(min = 1, max = 1 << 20))]
    pub open_max: usize,
    /// Connections to the API from one address. None: no bound, as behind a proxy.
    #[garde(inner(range(min = 1)))]
    pub open_per_address_max: Option<usize>,
    /// Connections to the operations port at once, with the same order for one more. Descriptors for them are
    /// set aside.
    #[garde(range(min = 4, max = 4096))]
    pub operations_open_max: usize,
    /// From a connection, or the first byte of a later request on it, to the end of the request's head; TLS
    /// included. Over HTTP/2 to the end of the preface: after that one that asks nothing is idle.
    #[garde(range(min = 10, max = 600_000))]
    pub header_timeout_ms: u64,
    /// How long a connection may be without a request. Longer than proxies keep theirs (60 s), so that they
    /// close first.
    #[garde(range(min = 10, max = 86_400_000))]
    pub keep_alive_timeout_ms: u64,
    /// From the place of a call to the last byte of its body. A stream of messages may last as long as it
    /// likes: in it the time runs for each message, from where there is room for it to its last byte.
    #[garde(range(min = 10, max = 3_600_000))]
    pub body_timeout_ms: u64,
    /// How long an answer may wait for a peer that takes nothing; then its connection is closed.
    #[garde(range(min = 10, max = 3_600_000))]
    pub write_timeout_ms: u64,
    /// How long a call is worked on after its HTTP/1 caller has closed the sending side. Whether it has left
    /// or still reads cannot be told, so a caller who has left takes the time of others for so long.
    #[garde(range(max = 600_000))]
    pub half_close_timeout_ms: u64,
    /// Bytes of a request's head; more is `headers_too_large`. Over HTTP/2 a head of more than four times as
    /// much ends without that: its library answers 431 and nothing else, or closes the connection.
    #[garde(range(min = 4096, max = 1 << 20))]
    pub header_bytes_max: usize,
    /// Fields of a request's head; more is `headers_too_large` too.
    #[garde(range(min = 16, max = 4096))]
    pub header_fields_max: usize,
    /// Bytes of a request's path and query; more is `uri_too_long`.
    #[garde(range(min = 1024, max = 65_534))]
    pub uri_bytes_max: usize,
    /// HTTP/2 streams at once on one connection.
    #[garde(range(min = 1, max = 4096))]
    pub streams_max: u32,
    /// Bytes that may be sent ahead on one HTTP/2 stream. Times `streams_max` at most 20 MiB: see
    /// `window_bytes`.
    #[garde(range(min = 16_384, max = 1 << 24))]
    pub stream_window_bytes: u32,
    /// Bytes of answers that wait for their peers, on one connection; beyond that its new calls are refused.
    #[garde(range(min = 65_536, max = 1 << 40))]
    pub unread_answer_bytes_max: usize,
    /// Bytes of answers that wait for peers of all tenants; of it each has `limits.tenant_share_max` of what
    /// is free, and new calls of one that has more waiting are refused, and its streams are not read.
    #[garde(range(min = 65_536, max = 1 << 40))]
    pub unread_answer_bytes_total_max: usize,
    /// Bytes of answers that wait for peers without credentials, a port; beyond that the connection with most
    /// of them is closed.
    #[garde(range(min = 1 << 20, max = 1 << 40))]
    pub unread_answer_bytes_anonymous_max: usize,
}

impl Connections {
    /// Window of a whole connection: the most there is. The streams' windows are what holds senders back, so
    /// that a stream that is not read keeps no other one waiting. And h2 ends a connection whose unread DATA
    /// frames shorter than 256 bytes cost more than half of its window, each 256 bytes less its length (h2
    /// 0.4, `Counts::record_data_frame`): with this window, and all streams' windows together as
    /// [`check`](Self::check) has them, gRPC messages never get there.
    pub(crate) const fn window_bytes() -> u32 {
        (1 << 31) - 1
    }

    /// Whether small messages that wait on all streams stay within h2's bound.
    pub(crate) fn check(&self) -> Result<(), String> {
        let ahead = u64::from(self.streams_max) * u64::from(self.stream_window_bytes);
        if ahead * FRAME_COST_PER_BYTE <= FRAME_COST_MAX {
            return Ok(());
        }
        let max = FRAME_COST_MAX / FRAME_COST_PER_BYTE;
        Err(format!("connections.streams_max times stream_window_bytes is {ahead}, more than {max}"))
    }

    pub(crate) fn body_timeout(&self) -> Duration {
        Duration::from_millis(self.body_timeout_ms)
    }
}

impl Default for Connections {
    fn default() -> Self {
        Self {
            open_max: 8192,
            open_per_address_max: None,
            operations_open_max: 128,
            header_timeout_ms: 10_000,
            keep_alive_timeout_ms: 75_000,
            body_timeout_ms: 15_000,
            write_timeout_ms: 30_000,
            half_close_timeout_ms: 500,
            header_bytes_max: 64 << 10,
            header_fields_max: HTTP1_FIELDS_MAX,
            uri_bytes_max: 16 << 10,
            streams_max: 256,
            stream_window_bytes: 64 << 10,
            unread_answer_bytes_max: 32 << 20,
            unread_answer_bytes_total_max: 256 << 20,
            unread_answer_bytes_anonymous_max: 16 << 20,
        }
    }
}
