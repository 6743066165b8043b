//! The body of an answer on its way out: counted while it waits, in pieces so small that whoever does not
//! read them is noticed.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use axum::body::{Body, Bytes, HttpBody};
use http_body::{Frame, SizeHint};
use tokio::time::Instant;

use super::account::{Account, WaitingBytes};
use super::activity::{Activity, AnswerId};

/// Largest piece that is handed out at once. HTTP/2 takes the next one only when the peer's window has room
/// again.
const PIECE_BYTES_MAX: usize = 16 << 10;

/// A request on a connection, until its answer has gone or it was given up.
pub(super) struct InFlight {
    activity: Arc<Activity>,
    answer: AnswerId,
    waiting: WaitingBytes,
}

impl InFlight {
    pub(super) fn new(activity: &Arc<Activity>) -> Self {
        activity.request_began(Instant::now());
        let answer = activity.answer();
        Self { activity: Arc::clone(activity), answer, waiting: WaitingBytes::default() }
    }

    fn wait(&mut self, bytes: usize) {
        self.waiting.add(bytes);
        self.activity.unread(bytes, 0);
    }

    fn leave(&mut self, bytes: usize) {
        let bytes = self.waiting.remove(bytes);
        self.activity.unread(0, bytes);
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.leave(usize::MAX);
        self.activity.piece_left(self.answer);
        self.activity.request_ended(Instant::now());
    }
}

pub(super) struct AnswerBody {
    body: Body,
    /// What is left of the chunk that is being handed out.
    chunk: Bytes,
    in_flight: InFlight,
}

impl AnswerBody {
    /// An answer that waits in the name of whom its request belongs to.
    pub(super) fn new(body: Body, account: &Account, mut in_flight: InFlight) -> Self {
        in_flight.waiting = account.waiting();
        // It is there already, whoever asks for it when.
        let bytes = body.size_hint().exact().unwrap_or(0);
        in_flight.wait(usize::try_from(bytes).unwrap_or(usize::MAX));
        Self { body, chunk: Bytes::new(), in_flight }
    }

    fn piece(&mut self) -> Frame<Bytes> {
        let piece = self.chunk.split_to(self.chunk.len().min(PIECE_BYTES_MAX));
        self.in_flight.leave(piece.len());
        self.in_flight.activity.piece_waits(self.in_flight.answer, Instant::now());
        Frame::data(piece)
    }
}

impl HttpBody for AnswerBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let this = &mut *self;
        this.in_flight.activity.piece_left(this.in_flight.answer);
        if !this.chunk.is_empty() {
            return Poll::Ready(Some(Ok(this.piece())));
        }
        let Some(frame) = ready!(Pin::new(&mut this.body).poll_frame(context)) else {
            return Poll::Ready(None);
        };
        match frame?.into_data() {
            Ok(chunk) => {
                let uncounted = chunk.len().saturating_sub(this.in_flight.waiting.bytes());
                this.in_flight.wait(uncounted);
                this.chunk = chunk;
                Poll::Ready(Some(Ok(this.piece())))
            }
            Err(trailers) => Poll::Ready(Some(Ok(trailers))),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.chunk.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let left = self.chunk.len() as u64;
        let body = self.body.size_hint();
        let mut hint = SizeHint::new();
        hint.set_lower(body.lower() + left);
        if let Some(upper) = body.upper() {
            hint.set_upper(upper + left);
        }
        hint
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::net::{IpAddr, Ipv4Addr};
    use std::sync::atomic::Ordering;
    use std::time::Duration;

    use http_body_util::BodyExt;
    use units::TenantId;

    use super::*;
    use crate::server::activity::{Patience, Verdict};
    use crate::server::seats::{Seat, SeatBounds, Seats};
    use crate::server::unread::{UnreadAnswers, UnreadBounds};

    struct Connection {
        activity: Arc<Activity>,
        unread: Arc<UnreadAnswers>,
        account: Account,
        seat: Seat,
    }

    fn connection() -> Connection {
        let second = Duration::from_secs(1);
        let patience = Patience { header: second, keep_alive: second, write: second, half_close: second };
        let activity = Arc::new(Activity::new(patience, false, Instant::now()));
        let bounds = UnreadBounds { tenants_max: 1 << 16, tenant_share_max: 0.5, anonymous_max: 1 << 16 };
        let unread = UnreadAnswers::new(bounds);
        let bounds = SeatBounds { open_max: 10, open_per_address_max: None, tenant_share_max: 0.5 };
        let seat = Seats::new(bounds).take(IpAddr::V4(Ipv4Addr::LOCALHOST), Instant::now()).unwrap();
        Connection { activity, account: Account::new(&seat.standing, &unread), unread, seat }
    }

    impl Connection {
        fn body(&self, body: Vec<u8>) -> AnswerBody {
            AnswerBody::new(Body::from(body), &self.account, InFlight::new(&self.activity))
        }

        fn waiting(&self) -> (usize, usize) {
            (self.unread.total().load(Ordering::Relaxed), self.activity.unread_bytes())
        }
    }

    #[tokio::test]
    async fn an_answer_leaves_in_pieces_and_is_counted_until_then() {
        let connection = connection();
        let text = vec![b'x'; PIECE_BYTES_MAX * 2 + 5];
        let mut body = connection.body(text.clone());
        assert_eq!(body.size_hint().exact(), Some(text.len() as u64));
        let mut found = Vec::new();
        for expected in [PIECE_BYTES_MAX, PIECE_BYTES_MAX, 5] {
            assert!(!body.is_end_stream());
            let left = text.len() - found.len();
            assert_eq!(connection.waiting(), (left, left));
            let piece = body.frame().await.unwrap().unwrap().into_data().unwrap();
            assert_eq!(piece.len(), expected);
            found.extend_from_slice(&piece);
            assert_eq!(body.size_hint().exact(), Some((text.len() - found.len()) as u64));
        }
        assert!(body.is_end_stream() && found == text);
        // The last piece waits until it is gone.
        let late = Instant::now() + Duration::from_secs(2);
        assert_eq!(connection.activity.verdict(late), Verdict::Close("write_timeout"));
        drop(body);
        assert!(!connection.activity.is_busy());
        assert_eq!(connection.waiting(), (0, 0));
    }

    #[tokio::test]
    async fn an_answer_that_nobody_reads_is_given_back() {
        let connection = connection();
        let mut body = connection.body(vec![0; 50_000]);
        body.frame().await.unwrap().unwrap();
        drop(body);
        assert_eq!(connection.waiting(), (0, 0));
    }

    /// A tenant's answers wait in its name; what else is asked on its connection does too.
    #[tokio::test]
    async fn answers_wait_in_their_tenants_name() {
        let connection = connection();
        let (tenant, other) = (TenantId(1), TenantId(2));
        connection.account.identify(tenant).unwrap();
        let answer = connection.body(vec![0; 40_000]);
        let code = |result: Result<(), crate::error::ApiError>| result.err().map(|error| error.row().code);
        assert_eq!(code(connection.account.check()), Some("answers_unread"));
        assert_eq!(connection.unread.check(other), Ok(()));
        let account = Account::new(&connection.seat.standing, &connection.unread);
        let refusal = AnswerBody::new(Body::from("refused"), &account, InFlight::new(&connection.activity));
        drop(answer);
        assert_eq!(connection.waiting(), (7, 7));
        assert_eq!(code(connection.account.check()), None);
        let mine = connection.body(vec![0; 40_000]);
        assert!(!connection.unread.is_anonymous_over());
        drop((refusal, mine));
        assert_eq!(connection.waiting(), (0, 0));
    }
}
