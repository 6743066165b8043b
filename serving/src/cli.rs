//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::admin_client::{Keys, Server, Tenants, Usage};
use crate::config::Overrides;
use crate::secrets;

/// Text-inference server: five models over REST and gRPC.
#[derive(Debug, Parser)]
#[command(name = "ml-inference", version, about)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Fetch missing weights, load the models and answer requests until told to stop.
    Serve(Options),
    /// Fetch and verify the weights of every model card, then exit.
    Fetch(Options),
    /// Manage the tenants of a running server.
    Tenants {
        /// The server.
        #[command(flatten)]
        server: Server,
        /// What to do.
        #[command(subcommand)]
        command: Tenants,
    },
    /// Manage their keys.
    Keys {
        /// The server.
        #[command(flatten)]
        server: Server,
        /// What to do.
        #[command(subcommand)]
        command: Keys,
    },
    /// Make a random key, for a file of tenants.
    GenerateKey {
        /// For the sandbox: `tc_test_…`.
        #[arg(long)]
        test: bool,
    },
    /// Show what tenants used, and what it costs.
    Usage {
        /// The server.
        #[command(flatten)]
        server: Server,
        /// What to show.
        #[command(flatten)]
        usage: Usage,
    },
    /// Show who changed tenants and keys, newest first.
    Audit {
        /// The server.
        #[command(flatten)]
        server: Server,
        /// Lines, at most.
        #[arg(long, default_value_t = 100)]
        limit: usize,
    },
}

/// Options of every command; each can also be set by its environment variable.
#[derive(Debug, Args)]
pub struct Options {
    /// Configuration file (TOML).
    #[arg(long, env = "ML_INFERENCE_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Address of the API, REST and gRPC [default: 127.0.0.1:8080].
    #[arg(long, env = "ML_INFERENCE_LISTEN", value_name = "ADDRESS")]
    pub listen: Option<SocketAddr>,
    /// Address of metrics and health [default: 127.0.0.1:9090].
    #[arg(long, env = "ML_INFERENCE_OPS_LISTEN", value_name = "ADDRESS")]
    pub ops_listen: Option<SocketAddr>,
    /// Folder for weights and state [default: data].
    #[arg(long, env = "ML_INFERENCE_DATA_DIR", value_name = "FOLDER")]
    pub data_dir: Option<PathBuf>,
    /// Folder of tenants, keys and what was used [default: state in the data folder].
    #[arg(long, env = "ML_INFERENCE_STATE_DIR", value_name = "FOLDER")]
    pub state_dir: Option<PathBuf>,
    /// Folder of the model cards [default: model-cards].
    #[arg(long, env = "ML_INFERENCE_CARDS_DIR", value_name = "FOLDER")]
    pub cards_dir: Option<PathBuf>,
    /// Use only weights already in the data folder.
    #[arg(long, env = "ML_INFERENCE_OFFLINE")]
    pub offline: bool,
    /// Log filter, such as `info` or `serving=debug` [default: info].
    #[arg(long, env = "ML_INFERENCE_LOG", value_name = "FILTER")]
    pub log: Option<String>,
}

impl Options {
    /// The values that replace the file's.
    pub fn overrides(&self) -> Overrides {
        Overrides {
            listen: self.listen,
            ops_listen: self.ops_listen,
            data_dir: self.data_dir.clone(),
            state_dir: self.state_dir.clone(),
            cards_dir: self.cards_dir.clone(),
            offline: self.offline,
            log_filter: self.log.clone(),
            operator_token: secrets::given_token(),
            operator_token_file: secrets::given_token_file(),
        }
    }
}
