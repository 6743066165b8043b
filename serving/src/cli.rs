//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use classifiers::Classifiers;

use crate::admin_client::{Keys, ModelWish, Server, Tenants, Usage};
use models::Wanted;

use crate::config::{Overrides, resolve};
use crate::secrets;

/// What to type, under the list of commands.
const EXAMPLES: &str = "\
Examples:
  ml-inference serve                                   Serve on 127.0.0.1:8080, for this machine alone
  ml-inference serve --config server.toml              Serve as a file says
  ml-inference serve --no-cards --model ./my-ner       Serve a checkpoint of yours, and nothing else
  ml-inference serve --model BAAI/bge-small-en-v1.5    Serve one of the model hub, beside those of the cards
  ml-inference models load my-ner --checkpoint ./my-ner  Load a checkpoint while the server runs
  ml-inference tenants create acme --plan starter      Create a tenant on a running server,
  ml-inference keys create acme --role editor          a key with which it can call models,
  ml-inference usage acme --by day,model --format csv  and its bill

Every command has a --help of its own. GET /docs/errors on the server explains its error codes.";

/// Text-inference server: classification, sentiment, entities, summaries and embeddings over REST and gRPC,
/// for many tenants. It serves calls, and manages the tenants of a running server with their keys, limits and
/// bills.
#[derive(Debug, Parser)]
#[command(name = "ml-inference", version, after_help = EXAMPLES)]
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
    /// Fetch models, look at them, prove that they are exact, measure them, and change those of a running
    /// server.
    Models {
        /// What to do.
        #[command(subcommand)]
        command: ModelsCommand,
    },
    /// Learn classifiers from examples, on vectors that a running server makes.
    Classifiers {
        /// What to do.
        #[command(subcommand)]
        command: Classifiers,
    },
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
    /// Show what tenants used, and what it costs; or look after its journal.
    Usage {
        /// The server.
        #[command(flatten)]
        server: Server,
        /// What to show.
        #[command(flatten)]
        usage: Usage,
        /// What else to do.
        #[command(subcommand)]
        command: Option<JournalCommand>,
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

/// What can be done with models.
#[derive(Debug, Subcommand)]
pub enum ModelsCommand {
    /// Without a server.
    #[command(flatten)]
    Here(LocalModels),
    /// By a server that runs.
    #[command(flatten)]
    Running(RunningModels),
}

/// What can be done with models, without a server. A model is named as it is served, or by its folder or
/// repository.
#[derive(Debug, Subcommand)]
pub enum LocalModels {
    /// Fetch a model's files and pin them, so that it can be served without the network. What was broken off
    /// is gone on with.
    Pull {
        /// Name, or OWNER/NAME of the model hub, perhaps with @REVISION.
        model: String,
        /// Look up again what the revision stands for, though it is pinned.
        #[arg(long)]
        update: bool,
        /// Where models are.
        #[command(flatten)]
        options: Options,
    },
    /// List the models that are configured and those that were pulled.
    List {
        /// Where models are.
        #[command(flatten)]
        options: Options,
    },
    /// Show what a model is taken for, by which of its files, and what computes it.
    Show {
        /// Name, folder or OWNER/NAME.
        model: String,
        /// Where models are.
        #[command(flatten)]
        options: Options,
    },
    /// Compare a model with its authors' library, and keep a certificate that every start is held to. Needs
    /// Python with torch, transformers and, for embeddings, sentence-transformers.
    Verify {
        /// Name, folder or OWNER/NAME.
        model: String,
        /// The interpreter that has them.
        #[arg(long, default_value = "python3")]
        python: String,
        /// Compare these runtimes too, in their usual number formats.
        #[arg(long = "runtime", value_name = "RUNTIME")]
        runtimes: Vec<models::RuntimeKind>,
        /// Where models are.
        #[command(flatten)]
        options: Options,
    },
    /// Measure tokens a second and the time of a batch, on this machine, at a few lengths and sizes of
    /// batches.
    Bench {
        /// Name, folder or OWNER/NAME.
        model: String,
        /// Where models are.
        #[command(flatten)]
        options: Options,
    },
}

impl LocalModels {
    /// Where models are.
    pub fn options(&self) -> &Options {
        match self {
            Self::Pull { options, .. }
            | Self::List { options }
            | Self::Show { options, .. }
            | Self::Verify { options, .. }
            | Self::Bench { options, .. } => options,
        }
    }
}

/// What can be done with the models of a running server.
#[derive(Debug, Subcommand)]
pub enum RunningModels {
    /// Load a model of a running server that is not loaded, or a checkpoint that it does not know.
    Load {
        /// Name of its card, or that a checkpoint is to have.
        name: String,
        /// A checkpoint without a card, where the server finds it; as the option --model of `serve`.
        #[arg(long, value_name = "FOLDER[,KEY=VALUE…]")]
        checkpoint: Option<String>,
        /// The server.
        #[command(flatten)]
        server: Server,
    },
    /// Load a model of a running server anew, as its card and files are now. Calls under way end on the
    /// version that they began with.
    Reload {
        /// The model.
        name: String,
        /// The server.
        #[command(flatten)]
        server: Server,
    },
    /// Unload a model of a running server, once the calls under way are answered.
    Unload {
        /// The model.
        name: String,
        /// The server.
        #[command(flatten)]
        server: Server,
    },
}

impl RunningModels {
    /// What is to be changed of a running server: where, of which model, and how.
    pub fn change(&self) -> (&Server, &str, ModelWish) {
        match self {
            Self::Load { name, checkpoint, server } => {
                (server, name, ModelWish::Load { checkpoint: checkpoint.clone() })
            }
            Self::Reload { name, server } => (server, name, ModelWish::Reload),
            Self::Unload { name, server } => (server, name, ModelWish::Unload),
        }
    }
}

/// What can be done with the journal in a state folder, without a server.
#[derive(Debug, Subcommand)]
pub enum JournalCommand {
    /// Compare the journal with itself and with the sums: damage, records that are not summed, positions that
    /// cannot be. Exits with 1 if anything is wrong.
    Verify(Options),
    /// Set damage aside and keep what is good, put positions right, and sum what is not summed. Not while a
    /// server runs.
    Repair(Options),
}

/// Options of every command; each can also be set by its environment variable.
#[derive(Debug, Args)]
pub struct Options {
    /// Configuration file (TOML).
    #[arg(long, env = "ML_INFERENCE_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Address of the API, REST and gRPC, such as 127.0.0.1:8080 or localhost:8080 [default: 127.0.0.1:8080].
    #[arg(long, env = "ML_INFERENCE_LISTEN", value_name = "ADDRESS", value_parser = resolve)]
    pub listen: Option<SocketAddr>,
    /// Address of metrics and health [default: 127.0.0.1:9090].
    #[arg(long, env = "ML_INFERENCE_OPS_LISTEN", value_name = "ADDRESS", value_parser = resolve)]
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
    /// A checkpoint to serve without a card: the folder of its files or its repository on the model hub, and
    /// what they do not say, such as `./my-ner`, `./folder,name=my-ner,task=entities,pooling=mean` or
    /// `BAAI/bge-small-en-v1.5,revision=main`. As often as there are models.
    #[arg(long = "model", value_name = "FOLDER|OWNER/NAME[,KEY=VALUE…]")]
    pub models: Vec<Wanted>,
    /// Serve no model of the cards.
    #[arg(long, env = "ML_INFERENCE_NO_CARDS", value_parser = switch)]
    pub no_cards: bool,
    /// Use only weights already in the data folder.
    #[arg(long, env = "ML_INFERENCE_OFFLINE", value_parser = switch)]
    pub offline: bool,
    /// Log filter, such as `info` or `serving=debug` [default: info].
    #[arg(long, env = "ML_INFERENCE_LOG", value_name = "FILTER")]
    pub log: Option<String>,
    /// Port of the API, as Vertex AI tells its containers.
    #[arg(long, env = "AIP_HTTP_PORT", hide = true)]
    pub vertex_port: Option<u16>,
    /// Path of its probes.
    #[arg(long, env = "AIP_HEALTH_ROUTE", hide = true)]
    pub vertex_health_path: Option<String>,
    /// Path of its predictions.
    #[arg(long, env = "AIP_PREDICT_ROUTE", hide = true)]
    pub vertex_predict_path: Option<String>,
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
            no_cards: self.no_cards,
            models: self.models.clone(),
            offline: self.offline,
            log_filter: self.log.clone(),
            vertex_port: self.vertex_port,
            vertex_health_path: self.vertex_health_path.clone(),
            vertex_predict_path: self.vertex_predict_path.clone(),
            operator_token: secrets::given_token(),
            operator_token_file: secrets::given_token_file(),
        }
    }
}

/// A switch as environments write it; one that is set to nothing is off.
fn switch(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "1" | "true" | "yes" | "on" => Ok(true),
        "" | "0" | "false" | "no" | "off" => Ok(false),
        _ => Err("expected 1, true, yes, on, 0, false, no or off".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::expect_used)]
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn switches() {
        let check = |text: &str, expected: Option<bool>| assert_eq!(switch(text).ok(), expected, "{text:?}");
        check("1", Some(true));
        check("True", Some(true));
        check("on", Some(true));
        check("", Some(false));
        check("0", Some(false));
        check("maybe", None);
    }

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
        let help = Cli::command().render_help().to_string();
        assert!(help.starts_with("Text-inference server: classification, "), "{help}");
    }

    #[test]
    fn the_examples_are_commands() {
        let examples: Vec<_> = EXAMPLES.lines().filter_map(|line| line.strip_prefix("  ")).collect();
        assert_eq!(examples.len(), 8);
        for example in examples {
            let command = example.split("  ").next().unwrap_or_default();
            let parsed = Cli::try_parse_from(command.split(' '));
            assert!(parsed.is_ok(), "{command}: {parsed:?}");
        }
    }

    #[test]
    fn flags() {
        let check = |arguments: &[&str], offline: bool, port: Option<u16>| {
            let arguments = ["ml-inference", "serve"].iter().chain(arguments);
            let Command::Serve(options) = Cli::try_parse_from(arguments).expect("parses").command else {
                return;
            };
            assert_eq!((options.offline, options.listen.map(|address| address.port())), (offline, port));
        };
        check(&[], false, None);
        check(&["--offline", "--listen", "localhost:7"], true, Some(7));
    }
}
