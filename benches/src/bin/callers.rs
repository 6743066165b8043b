//! A load generator for every protocol of one port, over HTTP/1.1 or HTTP/2: callers who each send a
//! prepared body, wait for the answer and send the next, each on a connection of its own; or calls that come
//! at a rate, whatever becomes of those before. Over gRPC a body is a framed message, and an answer is good
//! if its status is 0.
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
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use rand_distr::{Distribution, Exp};
use serde::{Deserialize, Serialize};
use tokio::net::TcpStream;
use tokio::task::{JoinSet, LocalSet};

#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// What to send.
#[derive(Deserialize)]
struct Order {
    /// Host and port.
    address: String,
    /// HTTP/2, as gRPC needs; else HTTP/1.1.
    http2: bool,
    headers: BTreeMap<String, String>,
    /// What is asked, each as often as the others.
    routes: Vec<Route>,
    load: Kind,
    /// Calls before any is measured.
    #[serde(default)]
    warm_up: usize,
    /// Calls that are measured, at most.
    #[serde(default = "all")]
    calls: usize,
    /// Seconds for which they are sent and measured, at most.
    seconds: f64,
    /// Seconds for which a caller waits.
    #[serde(default = "patience")]
    patience: f64,
}

#[derive(Deserialize)]
struct Route {
    path: String,
    /// The file of bodies, which are sent in turn.
    bodies: PathBuf,
    /// When an answer is in time, in seconds.
    #[serde(default)]
    target: f64,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    /// So many callers, who ask again when they are answered.
    Callers(usize),
    /// So many calls a second, at random (Poisson), whatever becomes of them.
    Rate(f64),
}

/// What came of it, by route.
#[derive(Serialize)]
struct Found {
    seconds: f64,
    routes: Vec<RouteFound>,
}

/// Calls that were measured. Quantiles are of those answered.
#[derive(Serialize, Default)]
struct RouteFound {
    answered: usize,
    /// Of these within the target, and within a second.
    in_time: usize,
    within_second: usize,
    /// Asked to come again (429 or 503).
    refused: usize,
    /// Whose caller waited no longer.
    timed_out: usize,
    /// Anything else, whether measured or not.
    bad: usize,
    p50_us: f64,
    p90_us: f64,
    p99_us: f64,
    max_us: f64,
}

/// What callers share.
struct Load {
    order: Order,
    bodies: Vec<Vec<Bytes>>,
    sent: Cell<usize>,
    /// When the first call was sent that is measured.
    begun: Cell<Option<Instant>>,
    ends: RefCell<Vec<Vec<End>>>,
    /// Connections that nobody uses.
    idle: RefCell<Vec<Sender>>,
}

/// How a call ended.
#[derive(Clone, Copy)]
enum End {
    Answered(Duration),
    Refused,
    TimedOut,
    Bad,
}

const fn all() -> usize {
    usize::MAX / 2
}

const fn patience() -> f64 {
    60.0
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

fn read_bodies(route: &Route) -> Result<Vec<Bytes>, Failure> {
    let file = Bytes::from(std::fs::read(&route.bodies)?);
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
        bodies: order.routes.iter().map(read_bodies).collect::<Result<_, _>>()?,
        sent: Cell::new(0),
        begun: Cell::new(None),
        ends: RefCell::new(vec![Vec::new(); order.routes.len()]),
        idle: RefCell::default(),
        order,
    });
    match load.order.load {
        Kind::Callers(count) => {
            let callers: Vec<_> =
                (0..count).map(|_| tokio::task::spawn_local(caller(Rc::clone(&load)))).collect();
            for caller in callers {
                caller.await?.map_err(|problem| -> Failure { problem.into() })?;
            }
        }
        Kind::Rate(rate) => arrivals(&load, rate).await?,
    }
    let seconds = load.begun.get().map_or(0.0, |begun| begun.elapsed().as_secs_f64());
    let ends = load.ends.take();
    let routes = ends.iter().zip(&load.order.routes).map(|(ends, route)| found(ends, route)).collect();
    Ok(Found { seconds, routes })
}

fn found(ends: &[End], route: &Route) -> RouteFound {
    let mut found = RouteFound::default();
    let mut latencies = Vec::new();
    for end in ends {
        match end {
            End::Answered(latency) => latencies.push(latency.as_secs_f64()),
            End::Refused => found.refused += 1,
            End::TimedOut => found.timed_out += 1,
            End::Bad => found.bad += 1,
        }
    }
    latencies.sort_unstable_by(f64::total_cmp);
    let quantile = |share: f64| {
        let place = ((latencies.len() as f64 * share) as usize).min(latencies.len().saturating_sub(1));
        latencies.get(place).map_or(0.0, |latency| latency * 1e6)
    };
    let within = |limit: f64| latencies.partition_point(|latency| *latency <= limit);
    RouteFound {
        answered: latencies.len(),
        in_time: within(route.target),
        within_second: within(1.0),
        p50_us: quantile(0.5),
        p90_us: quantile(0.9),
        p99_us: quantile(0.99),
        max_us: quantile(1.0),
        ..found
    }
}

impl Load {
    /// Numbers a call; none if there are to be no more.
    fn next(&self) -> Option<usize> {
        let (number, order) = (self.sent.get(), &self.order);
        let is_over = number >= order.warm_up.saturating_add(order.calls)
            || self.begun.get().is_some_and(|begun| begun.elapsed().as_secs_f64() >= order.seconds);
        if is_over {
            return None;
        }
        self.sent.set(number + 1);
        if number >= order.warm_up && self.begun.get().is_none() {
            self.begun.set(Some(Instant::now()));
        }
        Some(number)
    }

    /// Makes a call; false if the connection is of no use any more.
    async fn call(&self, sender: &mut Sender, number: usize) -> bool {
        let route = number % self.bodies.len();
        let bodies = &self.bodies[route];
        let body = bodies[number / self.bodies.len() % bodies.len()].clone();
        let begun = Instant::now();
        let asked = sender.ask(&self.order, &self.order.routes[route].path, body);
        let answer = tokio::time::timeout(Duration::from_secs_f64(self.order.patience), asked).await;
        let end = match &answer {
            Ok(Ok(StatusCode::OK)) => End::Answered(begun.elapsed()),
            Ok(Ok(StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE)) => End::Refused,
            Ok(_) => End::Bad,
            Err(_) => End::TimedOut,
        };
        if number >= self.order.warm_up || matches!(end, End::Bad) {
            self.ends.borrow_mut()[route].push(end);
        }
        matches!(answer, Ok(Ok(_)))
    }
}

/// One caller, from its connection to its last answer.
async fn caller(load: Rc<Load>) -> Result<(), String> {
    let mut sender = Sender::connect(&load.order).await.map_err(|problem| problem.to_string())?;
    while let Some(number) = load.next() {
        if !load.call(&mut sender, number).await {
            sender = Sender::connect(&load.order).await.map_err(|problem| problem.to_string())?;
        }
    }
    Ok(())
}

/// Calls that come at random, each on a connection that is free.
async fn arrivals(load: &Rc<Load>, rate: f64) -> Result<(), Failure> {
    // The same arrivals for whatever is measured.
    let (mut rng, gaps) = (ChaCha8Rng::seed_from_u64(7), Exp::new(rate)?);
    let mut next = Instant::now();
    let mut calls = JoinSet::new();
    while let Some(number) = load.next() {
        let load = Rc::clone(load);
        calls.spawn_local(async move {
            let idle = load.idle.borrow_mut().pop();
            let mut sender = match idle {
                Some(sender) => sender,
                None => Sender::connect(&load.order).await.map_err(|problem| problem.to_string())?,
            };
            if load.call(&mut sender, number).await {
                load.idle.borrow_mut().push(sender);
            }
            Ok::<_, String>(())
        });
        next += Duration::from_secs_f64(gaps.sample(&mut rng));
        tokio::time::sleep_until(next.into()).await;
    }
    while let Some(call) = calls.join_next().await {
        call?.map_err(|problem| -> Failure { problem.into() })?;
    }
    Ok(())
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

    /// Sends a body and reads the whole answer. Returns its status; where that of gRPC is another than 0,
    /// an error's.
    async fn ask(&mut self, order: &Order, path: &str, body: Bytes) -> Result<StatusCode, Failure> {
        let uri = format!("http://{}{path}", order.address);
        let mut request = Request::post(if order.http2 { &uri } else { path });
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
        let is_good = status.is_none_or(|status| status == "0");
        Ok(if is_good { head.status } else { StatusCode::INTERNAL_SERVER_ERROR })
    }
}
