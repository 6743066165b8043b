//! Configuration: a TOML file, environment variables and flags, parsed once into validated types.
//!
//! Precedence: flag, then environment, then file, then default. Every bound of the server is a named
//! field here. Units are in the names.

mod batching;
mod connections;
mod device;
mod listen;
mod log;
mod model;
mod protocols;
mod renamed;
mod scaling;
mod tenancy;
mod tls;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use garde::Validate;
use models::{Task, Wanted};
use serde::Deserialize;

use renamed::renamed;
use tenancy::is_web_address;

use crate::error::DOCS_PATH;
use crate::secrets::SecretText;

pub use batching::{Batching, Policy};
pub use connections::Connections;
pub(crate) use connections::HTTP1_FIELDS_MAX;
pub use device::Device;
pub use listen::resolve;
pub use log::{Log, LogFormat};
pub use model::Model;
pub use protocols::Protocols;
pub use scaling::Scaling;
pub use tenancy::{Jwt, Redis, Sink, Store, Tenancy, TestKeys, Usage};
pub use tls::{ClientCertificates, Identity, Tls, TlsVersion};

/// Everything the server can be told.
#[derive(Debug, Clone, Deserialize, Validate)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Address of the API, REST and gRPC on one port. Of a host name its first IPv4 address, or its first.
    #[garde(skip)]
    #[serde(deserialize_with = "listen::address")]
    pub listen: SocketAddr,
    /// Address of operations: metrics and health. Not for the public. Host names as for `listen`.
    #[garde(skip)]
    #[serde(deserialize_with = "listen::address")]
    pub ops_listen: SocketAddr,
    /// Folder for weights and state.
    #[garde(skip)]
    pub data_dir: PathBuf,
    /// Folder of what must outlast a restart: tenants, keys, what was used. None: `state` in the data folder.
    #[garde(skip)]
    pub state_dir: Option<PathBuf>,
    /// Folder of the model cards.
    #[garde(skip)]
    pub cards_dir: PathBuf,
    /// Whether the models of these cards are served. Others: `models.<name>.folder` or `repository`.
    #[garde(skip)]
    pub serve_cards: bool,
    /// Whether to stay away from model hubs and package registries: use what is in `data_dir`.
    #[garde(skip)]
    pub offline: bool,
    /// Page that explains the error codes: what `docs_url` in errors leads to. None: the one that this server
    /// serves at `/docs/errors`, by the address of `listen`; by its path alone where that is every address of
    /// the machine.
    #[garde(inner(custom(is_web_address)))]
    pub docs_url: Option<String>,
    /// Whether the development tenant, with its public key, is let in. On loopback only.
    #[garde(skip)]
    pub development_tenant: bool,
    /// TLS of the API. None: plain HTTP.
    #[garde(dive)]
    pub tls: Option<Tls>,
    /// Tenants, their keys and limits.
    #[garde(dive)]
    pub tenancy: Tenancy,
    /// The journal of what tenants use.
    #[garde(dive)]
    pub usage: Usage,
    /// How many servers there should be.
    #[garde(dive)]
    pub scaling: Scaling,
    /// Bounds of a call.
    #[garde(dive)]
    pub limits: Limits,
    /// Dialects of other servers.
    #[garde(dive)]
    pub protocols: Protocols,
    /// Bounds of connections.
    #[garde(dive)]
    pub connections: Connections,
    /// The scheduler's bounds, the same for every model.
    #[garde(dive)]
    pub batching: Batching,
    /// What computes: `auto`, `cpu`, `cuda:<number>` or a list of GPUs.
    #[garde(skip)]
    pub device: Device,
    /// Threads.
    #[garde(dive)]
    pub threads: Threads,
    /// ONNX Runtime, for models that it computes.
    #[garde(skip)]
    pub onnx: Onnx,
    /// What differs from a model's card, by the model's name: `models.ner-v2 = { runtime = "onnx" }`.
    #[garde(skip)]
    pub models: BTreeMap<String, Model>,
    /// Which model answers where the caller names none, by task: `defaults.embeddings = "embeddings-v2"`.
    /// Where a task is not named, the card that says `default: true` does, and if none does, callers have to
    /// name one.
    #[garde(skip)]
    pub defaults: BTreeMap<Task, String>,
    /// The end.
    #[garde(dive)]
    pub shutdown: Shutdown,
    /// Logs.
    #[garde(dive)]
    pub log: Log,
}

/// Bounds of a call.
#[derive(Debug, Clone, Deserialize, Validate)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Largest request body or gRPC message, in bytes.
    #[garde(range(min = 1024, max = 1 << 30))]
    pub body_bytes_max: usize,
    /// Calls being worked on at once; one more is refused.
    #[garde(range(min = 1, max = 1 << 20))]
    pub calls_in_flight_max: usize,
    /// What of `calls_in_flight_max` and `body_bytes_in_flight_max` one tenant may have while nobody else has
    /// anything; with others a like share of what is free, so that nobody is shut out. 1: all.
    #[garde(range(min = 0.01, max = 1.0))]
    pub tenant_share_max: f64,
    /// Bytes of bodies, of all calls being worked on, that are held at once; a call that is over it is
    /// refused, a stream waits.
    #[garde(range(min = 65_536, max = 1 << 40))]
    pub body_bytes_in_flight_max: usize,
    /// Bytes of answers that wait on one gRPC stream for its peer; beyond that its messages are not read.
    #[garde(range(min = 1024, max = 1 << 30))]
    pub stream_answer_bytes_max: usize,
    /// Calls being worked on at once for one gRPC stream; reading stops until one is done.
    #[garde(range(min = 1, max = 65_536))]
    pub stream_calls_in_flight_max: usize,
    /// Bytes of texts that wait to be tokenised or are, of all calls; a call that is over it is refused.
    #[garde(range(min = 1024, max = 1 << 40))]
    pub text_bytes_in_flight_max: usize,
    /// The same of one tenant. Its only call is always taken.
    #[garde(range(min = 1024, max = 1 << 40))]
    pub tenant_text_bytes_in_flight_max: usize,
    /// Bytes of a text that are tokenised before it is another tenant's turn.
    #[garde(range(min = 256, max = 1 << 20))]
    pub text_slice_bytes: usize,
    /// A call is refused before any work is done for it if what is in flight is predicted to take more than
    /// this share of the time to its deadline.
    #[garde(range(min = 0.05, max = 100.0))]
    pub predicted_wait_share_max: f64,
    /// In an overload that lasts, in which not everybody can be answered, a call is refused before any work
    /// is done for it if it is predicted to take longer (milliseconds): so whoever is taken is answered soon.
    /// Callers who wait for their answers cause no overload.
    #[garde(range(min = 10, max = 600_000))]
    pub overload_wait_max_ms: u64,
    /// Refusals for want of capacity that are answered in a second; more of them wait, up to three seconds,
    /// so that callers who come again at once do not take the time of those who are answered.
    #[garde(range(min = 1, max = 1 << 20))]
    pub refusals_per_second_max: u32,
    /// Largest answer that is kept under an idempotency key, in bytes.
    #[garde(range(min = 1024, max = 1 << 30))]
    pub idempotent_answer_bytes_max: usize,
    /// Answers that are kept for a tenant under idempotency keys for a day; a call with a key is refused
    /// beyond that.
    #[garde(range(min = 1, max = 1 << 40))]
    pub idempotent_answers_per_tenant_max: u64,
    /// The same in bytes.
    #[garde(range(min = 1024, max = 1 << 50))]
    pub idempotent_bytes_per_tenant_max: u64,
    /// Deadline of a call whose caller sets none, and the longest a caller may set.
    #[garde(range(min = 1, max = 3_600_000))]
    pub request_timeout_ms: u64,
}

/// Threads.
#[derive(Debug, Clone, Default, Deserialize, Validate)]
#[serde(deny_unknown_fields, default)]
pub struct Threads {
    /// Threads that tokenise and decode. 0: one a core.
    #[garde(range(max = 1024))]
    pub tokenizer: usize,
    /// Threads that compute, for the CPU. 0: one a core.
    #[garde(range(max = 1024))]
    pub compute: usize,
    /// Whether each compute thread stays on a core of its own.
    #[garde(skip)]
    pub pin_compute: bool,
}

/// ONNX Runtime, for models whose runtime is `onnx`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Onnx {
    /// Its shared library. If there is none, `ORT_DYLIB_PATH` says, or the one that `make setup` installs is
    /// taken.
    pub library: Option<PathBuf>,
    /// The CUDA device that computes. None: the CPU, with `threads.compute`.
    pub cuda_device: Option<i32>,
}

/// What happens between SIGTERM and the exit. A second signal ends the process at once.
#[derive(Debug, Clone, Deserialize, Validate)]
#[serde(deny_unknown_fields, default)]
pub struct Shutdown {
    /// How long to go on accepting while already reporting not ready, so that load balancers look away. If
    /// not set it is 5 s after SIGTERM if anybody but this machine has connected, and nothing otherwise, nor
    /// after SIGINT.
    #[garde(inner(range(max = 3_600_000)))]
    pub not_ready_wait_ms: Option<u64>,
    /// How long calls in flight may take to finish.
    #[garde(range(max = 3_600_000))]
    pub drain_timeout_ms: u64,
    /// How long the last usage records may take to reach their sums and sinks. What is left goes after the
    /// next start.
    #[garde(range(max = 3_600_000))]
    pub ship_timeout_ms: u64,
}

/// Values set by flags or the environment; each replaces the file's.
#[derive(Debug, Clone, Default)]
pub struct Overrides {
    /// See [`Config::listen`].
    pub listen: Option<SocketAddr>,
    /// See [`Config::ops_listen`].
    pub ops_listen: Option<SocketAddr>,
    /// See [`Config::data_dir`].
    pub data_dir: Option<PathBuf>,
    /// See [`Config::state_dir`].
    pub state_dir: Option<PathBuf>,
    /// See [`Config::cards_dir`].
    pub cards_dir: Option<PathBuf>,
    /// Not [`Config::serve_cards`].
    pub no_cards: bool,
    /// Models to serve without a card; see [`Config::models`].
    pub models: Vec<Wanted>,
    /// See [`Config::offline`].
    pub offline: bool,
    /// See [`Log::filter`].
    pub log_filter: Option<String>,
    /// Port of [`Config::listen`], as Vertex AI says it (`AIP_HTTP_PORT`).
    pub vertex_port: Option<u16>,
    /// See [`Protocols::vertex_health_path`].
    pub vertex_health_path: Option<String>,
    /// See [`Protocols::vertex_predict_path`].
    pub vertex_predict_path: Option<String>,
    /// See [`Tenancy::operator_token`].
    pub operator_token: Option<SecretText>,
    /// See [`Tenancy::operator_token_file`].
    pub operator_token_file: Option<PathBuf>,
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration file {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is not TOML of the right shape.
    #[error("{path}: {source}{hint}")]
    Parse {
        /// The file.
        path: PathBuf,
        /// What and where, with line and column.
        source: Box<toml::de::Error>,
        /// The new name of a field that has another one by now; or nothing.
        hint: String,
    },
    /// A value is out of range.
    #[error("invalid configuration: {0}")]
    Invalid(String),
    /// The public development key would be accepted from other machines.
    #[error(
        "refusing to listen on {listen}: there is a development tenant, whose key is public.\n\
         Listen on a loopback address (listen = \"127.0.0.1:8080\"), or set development_tenant = false and \
         make tenants of your own (ml-inference tenants create)."
    )]
    DevelopmentTenantExposed {
        /// The address.
        listen: SocketAddr,
    },
}

impl Config {
    /// Reads `file` if there is one, applies `overrides` and validates.
    ///
    /// # Errors
    /// The file cannot be read or parsed (with line and column), a value is out of range, or the
    /// public development key would be reachable from other machines.
    pub fn load(file: Option<&Path>, overrides: Overrides) -> Result<Self, ConfigError> {
        let config = Self::read(file, overrides)?;
        config.check()?;
        Ok(config)
    }

    /// The same without validating, for whoever only looks something up, such as a client of the server.
    ///
    /// # Errors
    /// The file cannot be read or parsed.
    pub fn read(file: Option<&Path>, overrides: Overrides) -> Result<Self, ConfigError> {
        let mut config = match file {
            Some(path) => Self::parse(path)?,
            None => Self::default(),
        };
        config.apply(overrides)?;
        Ok(config)
    }

    /// Whether test keys are accepted.
    pub fn has_sandbox(&self) -> bool {
        match self.tenancy.test_keys {
            Some(test_keys) => test_keys == TestKeys::Accept,
            None => self.development_tenant,
        }
    }

    /// Folder of what must outlast a restart.
    pub fn state_dir(&self) -> PathBuf {
        self.state_dir.clone().unwrap_or_else(|| self.data_dir.join("state"))
    }

    /// Page that explains the error codes, for a server whose API listens on `api`.
    pub fn docs_url(&self, api: SocketAddr) -> String {
        match &self.docs_url {
            Some(url) => url.clone(),
            None if api.ip().is_unspecified() => DOCS_PATH.to_owned(),
            None => format!("{}://{api}{DOCS_PATH}", if self.tls.is_some() { "https" } else { "http" }),
        }
    }

    /// Longest deadline of a call.
    pub fn request_timeout(&self) -> Duration {
        Duration::from_millis(self.limits.request_timeout_ms)
    }

    fn parse(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
        toml::from_str(&text).map_err(|source: toml::de::Error| {
            let hint = renamed(source.message());
            ConfigError::Parse { path: path.to_owned(), source: Box::new(source), hint }
        })
    }

    fn apply(&mut self, overrides: Overrides) -> Result<(), ConfigError> {
        let Overrides { listen, ops_listen, data_dir, state_dir, cards_dir, offline, log_filter, .. } =
            overrides;
        self.serve_cards &= !overrides.no_cards;
        let mut names = BTreeSet::new();
        for wanted in overrides.models {
            let name = wanted.name();
            if !names.insert(name.clone()) {
                let message = format!("--model: two models are called {name:?}: add name=… to one of them");
                return Err(ConfigError::Invalid(message));
            }
            self.models.entry(name).or_default().ask(wanted);
        }
        self.tenancy.operator_token = overrides.operator_token;
        let token_file = overrides.operator_token_file.or(self.tenancy.operator_token_file.take());
        self.tenancy.operator_token_file = token_file;
        self.state_dir = state_dir.or(self.state_dir.take());
        self.listen = listen.unwrap_or(self.listen);
        if let Some(port) = overrides.vertex_port {
            // Its platform connects from outside the container, whatever this was for.
            let address = listen.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |listen| listen.ip());
            self.listen = SocketAddr::new(address, port);
        }
        let protocols = &mut self.protocols;
        protocols.vertex_health_path = overrides.vertex_health_path.or(protocols.vertex_health_path.take());
        protocols.vertex_predict_path =
            overrides.vertex_predict_path.or(protocols.vertex_predict_path.take());
        self.ops_listen = ops_listen.unwrap_or(self.ops_listen);
        if let Some(dir) = data_dir {
            self.data_dir = dir;
        }
        if let Some(dir) = cards_dir {
            self.cards_dir = dir;
        }
        self.offline |= offline;
        if let Some(filter) = log_filter {
            self.log.filter = filter;
        }
        Ok(())
    }

    fn check(&self) -> Result<(), ConfigError> {
        self.validate().map_err(|report| ConfigError::Invalid(report.to_string().trim().to_owned()))?;
        if let Some(batch_tokens_max) = self.batching.batch_tokens_max
            && self.batching.queue_tokens_max < batch_tokens_max
        {
            return Err(ConfigError::Invalid(format!(
                "batching.queue_tokens_max ({}) is below batching.batch_tokens_max ({})",
                self.batching.queue_tokens_max, batch_tokens_max
            )));
        }
        self.connections.check().map_err(ConfigError::Invalid)?;
        if self.scaling.replicas_max < self.scaling.replicas_min {
            return Err(ConfigError::Invalid(format!(
                "scaling.replicas_max ({}) is below scaling.replicas_min ({})",
                self.scaling.replicas_max, self.scaling.replicas_min
            )));
        }
        for (name, model) in &self.models {
            let invalid = |message| ConfigError::Invalid(format!("models.{name}: {message}"));
            model.place().map_err(invalid)?;
        }
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        if let Some(name) =
            self.usage.sinks.keys().find(|name| !name.bytes().all(is_plain) || name.is_empty())
        {
            let problem = "expected a name of letters, digits and hyphens";
            return Err(ConfigError::Invalid(format!("usage.sinks.{name:?}: {problem}")));
        }
        if self.development_tenant && !self.listen.ip().to_canonical().is_loopback() {
            return Err(ConfigError::DevelopmentTenantExposed { listen: self.listen });
        }
        Ok(())
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8080)),
            ops_listen: SocketAddr::from(([127, 0, 0, 1], 9090)),
            data_dir: PathBuf::from("data"),
            state_dir: None,
            cards_dir: PathBuf::from("model-cards"),
            serve_cards: true,
            offline: false,
            docs_url: None,
            development_tenant: true,
            tls: None,
            tenancy: Tenancy::default(),
            usage: Usage::default(),
            scaling: Scaling::default(),
            limits: Limits::default(),
            protocols: Protocols::default(),
            connections: Connections::default(),
            batching: Batching::default(),
            device: Device::default(),
            threads: Threads::default(),
            onnx: Onnx::default(),
            models: BTreeMap::new(),
            defaults: BTreeMap::new(),
            shutdown: Shutdown::default(),
            log: Log::default(),
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body_bytes_max: 8 << 20,
            idempotent_answer_bytes_max: 4 << 20,
            text_bytes_in_flight_max: 128 << 20,
            tenant_text_bytes_in_flight_max: 32 << 20,
            text_slice_bytes: 8 << 10,
            predicted_wait_share_max: 0.8,
            overload_wait_max_ms: 1_000,
            idempotent_answers_per_tenant_max: 1_000_000,
            idempotent_bytes_per_tenant_max: 128 << 20,
            refusals_per_second_max: 200,
            calls_in_flight_max: 1024,
            tenant_share_max: 0.5,
            body_bytes_in_flight_max: 256 << 20,
            stream_answer_bytes_max: 1 << 20,
            stream_calls_in_flight_max: 256,
            request_timeout_ms: 30_000,
        }
    }
}

impl Default for Shutdown {
    fn default() -> Self {
        Self { not_ready_wait_ms: None, drain_timeout_ms: 30_000, ship_timeout_ms: 5_000 }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use models::{Dtype, RuntimeKind};

    use super::*;

    fn load(text: &str, overrides: Overrides) -> Result<Config, ConfigError> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ml-inference.toml");
        std::fs::write(&path, text).unwrap();
        Config::load(Some(&path), overrides)
    }

    #[test]
    fn precedence() {
        let config =
            load("listen = \"127.0.0.1:1\"\nops_listen = \"127.0.0.1:2\"\n", Overrides::default()).unwrap();
        assert_eq!((config.listen.port(), config.ops_listen.port()), (1, 2));
        let overrides =
            Overrides { listen: Some(SocketAddr::from(([127, 0, 0, 1], 7))), ..Overrides::default() };
        let config = load("listen = \"127.0.0.1:1\"\n", overrides).unwrap();
        assert_eq!((config.listen.port(), config.ops_listen.port()), (7, 9090));
    }

    #[test]
    fn errors_say_what_and_where() {
        let check = |text: &str, expected: &[&str]| {
            let message = load(text, Overrides::default()).expect_err(text).to_string();
            for part in expected {
                assert!(message.contains(part), "{message:?} lacks {part:?}");
            }
        };
        check("listen = 1", &["line 1", "ml-inference.toml"]);
        check("\n[limits]\nbody_bytes = 1", &["line 3", "body_bytes", "body_bytes_max"]);
        check("[limits]\ncalls_in_flight_max = 0", &["limits.calls_in_flight_max"]);
        check("[batching]\nbatch_tokens_max = 4096\nqueue_tokens_max = 1024", &["queue_tokens_max"]);
        check("usage.sinks.\"../x\".file.path = \"y\"", &["usage.sinks", "hyphens"]);
        check("usage.sinks.x.webhook = { url = \"ftp://y\", secret_file = \"z\" }", &["http://"]);
        check("device = \"gpu\"", &["line 1, column 10", "cuda:<number>"]);
        check("[connections]\nstreams_max = 1024", &["streams_max times stream_window_bytes is 67108864"]);
        check("[scaling]\nreplicas_min = 9", &["scaling.replicas_max (8)"]);
        check("[limits]\nrequests_in_flight_max = 9", &["line 2", "is called `calls_in_flight_max` now"]);
        check("[limits]\nstream_requests_in_flight_max = 9", &["is called `stream_calls_in_flight_max` now"]);
        check("[batching]\nqueue_requests_max = 9", &["is called `queue_sequences_max` now"]);
        check("docs_url = \"docs\"", &["docs_url", "http://"]);
        check("listen = \"0.0.0.0:8080\"", &["0.0.0.0:8080", "development_tenant"]);
        check("\nlisten = \"8080\"", &["line 2, column 10", "127.0.0.1:8080", "localhost:8080"]);
        check("ops_listen = \"nobody.invalid:1\"", &["line 1", "nobody.invalid"]);
        check("models.x.repository = \"x\"", &["models.x: repository: \"x\"", "OWNER/NAME"]);
        check("models.x = { runtime = \"onxx\" }", &["line 1, column 24", "`fused`", "`onnx`"]);
        check("\nmodels.x.dtype = \"float8\"", &["line 2, column 18", "`bfloat16`"]);
        check("[log]\nqueue_lines_max = 0", &["log.queue_lines_max"]);
        check("listen = \"[::]:8080\"", &["development_tenant = false"]);
    }

    #[test]
    fn models_are_changed_by_one_line_each() {
        let text = "models.ner-v2 = { runtime = \"onnx\" }\nmodels.embeddings-v2.dtype = \"float32\"\n";
        let config = load(text, Overrides::default()).unwrap();
        let changes: Vec<_> =
            config.models.iter().map(|(name, model)| (name.as_str(), model.runtime, model.dtype)).collect();
        let (dtype, runtime) = (Some(Dtype::Float32), Some(RuntimeKind::Onnx));
        assert_eq!(changes, [("embeddings-v2", None, dtype), ("ner-v2", runtime, None)]);
    }

    #[test]
    fn another_address_without_the_development_tenant() {
        let config = load("listen = \"0.0.0.0:8080\"\ndevelopment_tenant = false", Overrides::default());
        assert!(config.is_ok());
    }

    #[test]
    fn where_errors_are_explained() {
        let check = |text: &str, api: &str, expected: &str| {
            let config = load(text, Overrides::default()).unwrap();
            assert_eq!(config.docs_url(api.parse().unwrap()), expected);
        };
        check("", "127.0.0.1:8080", "http://127.0.0.1:8080/docs/errors");
        check("", "[::1]:8080", "http://[::1]:8080/docs/errors");
        check("", "0.0.0.0:8080", "/docs/errors");
        check(
            "tls = { certificate_file = \"c\", key_file = \"k\" }",
            "10.0.0.7:443",
            "https://10.0.0.7:443/docs/errors",
        );
        check(
            "docs_url = \"https://ml.example.com/docs/errors\"",
            "0.0.0.0:8080",
            "https://ml.example.com/docs/errors",
        );
    }

    #[test]
    fn a_missing_file_is_named() {
        let error =
            Config::load(Some(Path::new("/nowhere/x.toml")), Overrides::default()).expect_err("no file");
        assert!(error.to_string().contains("/nowhere/x.toml"));
    }
}
