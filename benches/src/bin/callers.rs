//! A load generator for every protocol of one port: callers who each send a prepared body, wait for the
//! answer and send the next, over HTTP/1.1 or HTTP/2, each on a connection of its own. Over gRPC a body is a
//! framed message, and an answer is good if its status is 0.
//!
//! A line of input is an [`Order`] as JSON; a line of output is [`Found`]. Bodies are a file: each is its
//! length in four bytes, little-endian, and itself. One thread drives all callers, so that it takes one core
//! at most from a server on the same machine.
#![allow(clippy::disallowed_methods, reason = "measuring time is what it is for")]

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::error::Error;
use std::io::{BufRead, Write};
use std::path::PathBuf;
use std::rc::Rc;
use std::time::{Duration, Instant};

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::{http1, http2};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use mimalloc::MiMalloc;
use serde::{Deserialize, Serialize};
use tokio::net::TcpStream;
use tokio::task::LocalSet;

#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// What to send.
#[derive(Deserialize)]
struct Order {
    /// Host and port.
    address: String,
    /// HTTP/2, as gRPC needs; else HTTP/1.1.
    http2: bool,
    path: String,
    headers: BTreeMap<String, String>,
    /// The file of bodies, which are sent in turn.
    bodies: PathBuf,
    callers: usize,
    /// Calls before any is measured.
    warm_up: usize,
    /// Calls that are measured, at most.
    calls: usize,
    /// Seconds for which they are measured, at most.
    seconds: f64,
}

/// What came of it.
#[derive(Serialize)]
struct Found {
    calls: usize,
    seconds: f64,
    p50_us: f64,
    p90_us: f64,
    p99_us: f64,
    /// Answers that were none, of those measured and not.
    bad: usize,
}

/// What callers share.
struct Load {
    order: Order,
    bodies: Vec<Bytes>,
    sent: Cell<usize>,
    /// When the first call was sent that is measured.
    begun: Cell<Option<Instant>>,
    latencies: RefCell<Vec<Duration>>,
    bad: Cell<usize>,
}

/// A connection.
enum Sender {
    Http1(http1::SendRequest<Full<Bytes>>),
    Http2(http2::SendRequest<Full<Bytes>>),
}

type Failure = Box<dyn Error>;

fn main() -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut output = std::io::stdout().lock();
    for line in std::io::stdin().lock().lines() {
        let order: Order = serde_json::from_str(&line?)?;
        let found = LocalSet::new().block_on(&runtime, run(order))?;
        writeln!(output, "{}", serde_json::to_string(&found)?)?;
        output.flush()?;
    }
    Ok(())
}

fn read_bodies(order: &Order) -> Result<Vec<Bytes>, Failure> {
    let file = Bytes::from(std::fs::read(&order.bodies)?);
    let (mut bodies, mut at) = (Vec::new(), 0);
    while let Some(length) = file.get(at..at + 4) {
        let (start, length) = (at + 4, u32::from_le_bytes(length.try_into()?) as usize);
        at = start + length;
        if at > file.len() {
            return Err("the file of bodies breaks off".into());
        }
        bodies.push(file.slice(start..at));
    }
    if bodies.is_empty() { Err("there are no bodies".into()) } else { Ok(bodies) }
}

async fn run(order: Order) -> Result<Found, Failure> {
    let load = Rc::new(Load {
        bodies: read_bodies(&order)?,
        sent: Cell::new(0),
        begun: Cell::new(None),
        latencies: RefCell::new(Vec::new()),
        bad: Cell::new(0),
        order,
    });
    let callers: Vec<_> =
        (0..load.order.callers).map(|_| tokio::task::spawn_local(call(Rc::clone(&load)))).collect();
    for caller in callers {
        caller.await?.map_err(|problem| -> Failure { problem.into() })?;
    }
    let seconds = load.begun.get().map_or(0.0, |begun| begun.elapsed().as_secs_f64());
    let mut latencies = load.latencies.take();
    latencies.sort_unstable();
    let quantile = |share: f64| {
        let place = ((latencies.len() as f64 * share) as usize).min(latencies.len().saturating_sub(1));
        latencies.get(place).map_or(0.0, |latency| latency.as_secs_f64() * 1e6)
    };
    Ok(Found {
        calls: latencies.len(),
        seconds,
        p50_us: quantile(0.5),
        p90_us: quantile(0.9),
        p99_us: quantile(0.99),
        bad: load.bad.get(),
    })
}

/// One caller, from its connection to its last answer.
async fn call(load: Rc<Load>) -> Result<(), String> {
    let order = &load.order;
    let mut sender = Sender::connect(order).await.map_err(|problem| problem.to_string())?;
    loop {
        let number = load.sent.get();
        let is_measured = number >= order.warm_up;
        let is_over = number >= order.warm_up + order.calls
            || load.begun.get().is_some_and(|begun| begun.elapsed().as_secs_f64() >= order.seconds);
        if is_over {
            return Ok(());
        }
        load.sent.set(number + 1);
        if is_measured && load.begun.get().is_none() {
            load.begun.set(Some(Instant::now()));
        }
        let body = load.bodies[number % load.bodies.len()].clone();
        let begun = Instant::now();
        let is_good = sender.ask(order, body).await.map_err(|problem| problem.to_string())?;
        if !is_good {
            load.bad.set(load.bad.get() + 1);
        } else if is_measured {
            load.latencies.borrow_mut().push(begun.elapsed());
        }
    }
}

impl Sender {
    async fn connect(order: &Order) -> Result<Self, Failure> {
        let stream = TcpStream::connect(&order.address).await?;
        stream.set_nodelay(true)?;
        let stream = TokioIo::new(stream);
        if order.http2 {
            let (sender, connection) = http2::handshake(TokioExecutor::new(), stream).await?;
            tokio::task::spawn_local(connection);
            return Ok(Self::Http2(sender));
        }
        let (sender, connection) = http1::handshake(stream).await?;
        tokio::task::spawn_local(connection);
        Ok(Self::Http1(sender))
    }

    /// Sends a body and reads the whole answer. Returns whether it is one.
    async fn ask(&mut self, order: &Order, body: Bytes) -> Result<bool, Failure> {
        let uri = format!("http://{}{}", order.address, order.path);
        let mut request = Request::post(if order.http2 { &uri } else { &order.path });
        if !order.http2 {
            request = request.header("host", &order.address);
        }
        for (name, value) in &order.headers {
            request = request.header(name, value);
        }
        let request = request.body(Full::new(body))?;
        let answer: Response<Incoming> = match self {
            Self::Http1(sender) => {
                sender.ready().await?;
                sender.send_request(request).await?
            }
            Self::Http2(sender) => {
                sender.ready().await?;
                sender.send_request(request).await?
            }
        };
        let (head, body) = answer.into_parts();
        let trailers = body.collect().await?.trailers().cloned().unwrap_or_default();
        let status = head.headers.get("grpc-status").or_else(|| trailers.get("grpc-status"));
        Ok(head.status == StatusCode::OK && status.is_none_or(|status| status == "0"))
    }
}
