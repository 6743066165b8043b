//! `ml-inference tenants|keys|usage|audit`, and `models load|reload|unload`: a client of the administration
//! on the operations port. Prints what the server says.

use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};
use reqwest::Method;
use reqwest::blocking::Client;
use reqwest::redirect::Policy;
use serde_json::{Map, Value, json};

use crate::config::{self, Config, Overrides};
use crate::secrets::{self, OperatorToken};

type AnyError = Box<dyn std::error::Error + Send + Sync>;

/// A model may have to be fetched, and calls under way to end.
const CHANGE_TIMEOUT: Duration = Duration::from_secs(3600);

/// Which server, and the right to manage it. What is not said is looked up where the server finds it: in its
/// configuration file, its state folder and the environment.
#[derive(Debug, Args)]
pub struct Server {
    /// Address of the server's operations, a host name or IP address with a port
    /// [default: the configuration's, or 127.0.0.1:9090].
    #[arg(long, env = "ML_INFERENCE_OPS_LISTEN", value_name = "HOST:PORT", global = true, value_parser = address)]
    ops: Option<String>,
    /// File with the operator's token. ML_INFERENCE_OPERATOR_TOKEN can hold the token itself
    /// [default: the configuration's, or operator.token in the state folder].
    #[arg(long, value_name = "FILE", global = true)]
    token: Option<PathBuf>,
    /// The server's configuration file (TOML).
    #[arg(long, env = "ML_INFERENCE_CONFIG", value_name = "FILE", global = true)]
    config: Option<PathBuf>,
    /// The server's folder for weights and state [default: the configuration's, or data].
    #[arg(long, env = "ML_INFERENCE_DATA_DIR", value_name = "FOLDER", global = true)]
    data_dir: Option<PathBuf>,
    /// The server's folder of tenants, keys and what was used [default: state in the data folder].
    #[arg(long, env = "ML_INFERENCE_STATE_DIR", value_name = "FOLDER", global = true)]
    state_dir: Option<PathBuf>,
}

/// A server that was found.
struct Found {
    /// Its operations' address.
    ops: String,
    token: OperatorToken,
}

/// Manage tenants.
#[derive(Debug, Subcommand)]
pub enum Tenants {
    /// List all.
    List,
    /// Make one.
    Create {
        /// Lower-case letters, digits and hyphens.
        name: String,
        /// `free`, `starter`, `professional`, `enterprise`, or terms as JSON:
        /// `{"requests_per_minute": 7, …}`.
        #[arg(long, default_value = "free")]
        plan: String,
    },
    /// Change the plan of one.
    Plan {
        /// The tenant.
        name: String,
        /// As for `create`.
        plan: String,
    },
    /// Refuse its credentials until it is resumed.
    Suspend {
        /// The tenant.
        name: String,
    },
    /// Undo a suspension.
    Resume {
        /// The tenant.
        name: String,
    },
}

/// Manage keys.
#[derive(Debug, Subcommand)]
pub enum Keys {
    /// List those of a tenant, or all.
    List {
        /// The tenant.
        tenant: Option<String>,
    },
    /// Make one. It is shown this once.
    Create {
        /// The tenant.
        tenant: String,
        /// What it is for.
        #[arg(long, default_value = "")]
        label: String,
        /// `live` or `test`.
        #[arg(long, default_value = "live")]
        mode: String,
        /// `viewer`, `editor`, `admin` or `owner`.
        #[arg(long, default_value = "editor")]
        role: String,
        /// From when on it is refused, such as 2027-01-01T00:00:00Z.
        #[arg(long)]
        expires_at: Option<String>,
    },
    /// Make another in its place; the old one stays good for a while.
    Rotate {
        /// The key's id.
        id: String,
        /// For how long, in seconds.
        #[arg(long, default_value_t = 86_400)]
        overlap_seconds: u64,
    },
    /// Refuse it from now on.
    Revoke {
        /// The key's id.
        id: String,
    },
}

/// A change of a model of a running server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ModelWish {
    /// To be there, from a checkpoint if it has no card.
    Load { checkpoint: Option<String> },
    /// To be loaded anew, as its card and files are now.
    Reload,
    /// To be gone.
    Unload,
}

/// What tenants used.
#[derive(Debug, Args)]
pub struct Usage {
    /// The tenant; all if there is none.
    tenant: Option<String>,
    /// First day, YYYY-MM-DD [default: 30 days ago].
    #[arg(long)]
    from: Option<String>,
    /// Last day [default: today].
    #[arg(long)]
    to: Option<String>,
    /// Some of `tenant`, `day`, `hour` and `model` [default: all but `hour`].
    #[arg(long)]
    by: Option<String>,
    /// `json` or `csv`.
    #[arg(long, default_value = "json")]
    format: String,
}

impl Server {
    fn find(&self) -> Result<Found, AnyError> {
        let overrides = Overrides {
            data_dir: self.data_dir.clone(),
            state_dir: self.state_dir.clone(),
            operator_token: secrets::given_token(),
            operator_token_file: secrets::given_token_file(),
            ..Overrides::default()
        };
        let config = Config::read(self.config.as_deref(), overrides)?;
        let config::Tenancy { operator_token, operator_token_file, .. } = &config.tenancy;
        let token = match &self.token {
            Some(path) => OperatorToken::find(None, Some(path), path),
            None => OperatorToken::find(
                operator_token.as_ref(),
                operator_token_file.as_deref(),
                &config.state_dir(),
            ),
        };
        let token = token.map_err(|error| format!("the operator's token: {error}"))?;
        let ops = self.ops.clone().unwrap_or_else(|| config.ops_listen.to_string());
        Ok(Found { ops: reachable(&ops), token })
    }

    /// Runs a command on tenants.
    ///
    /// # Errors
    /// What the server says, or that there is none.
    pub fn tenants(&self, command: Tenants) -> Result<(), AnyError> {
        let change = |name: &str, body| self.call(Method::PATCH, &["tenants", name], &[], Some(body));
        match command {
            Tenants::List => self.list(&["tenants"], "tenants"),
            Tenants::Create { name, plan } => {
                let body = json!({ "name": name, "plan": plan_value(&plan)? });
                self.call(Method::POST, &["tenants"], &[], Some(body))
            }
            Tenants::Plan { name, plan } => change(&name, json!({ "plan": plan_value(&plan)? })),
            Tenants::Suspend { name } => change(&name, json!({ "is_suspended": true })),
            Tenants::Resume { name } => change(&name, json!({ "is_suspended": false })),
        }
    }

    /// Runs a command on keys.
    ///
    /// # Errors
    /// What the server says, or that there is none.
    pub fn keys(&self, command: Keys) -> Result<(), AnyError> {
        match command {
            Keys::List { tenant: Some(tenant) } => self.list(&["tenants", &tenant, "keys"], "keys"),
            Keys::List { tenant: None } => self.list(&["keys"], "keys"),
            Keys::Create { tenant, label, mode, role, expires_at } => {
                let mut body = Map::new();
                let fields = [("label", Some(label)), ("mode", Some(mode)), ("role", Some(role))];
                for (name, value) in fields.into_iter().chain([("expires_at", expires_at)]) {
                    body.extend(value.map(|value| (name.to_owned(), Value::String(value))));
                }
                self.call(Method::POST, &["tenants", &tenant, "keys"], &[], Some(body.into()))
            }
            Keys::Rotate { id, overlap_seconds } => {
                let body = json!({ "overlap_seconds": overlap_seconds });
                self.call(Method::POST, &["keys", &id, "rotate"], &[], Some(body))
            }
            Keys::Revoke { id } => self.call(Method::DELETE, &["keys", &id], &[], None),
        }
    }

    /// Changes a model. Takes as long as that.
    ///
    /// # Errors
    /// What the server says, or that there is none.
    pub fn change_model(&self, name: &str, wish: &ModelWish) -> Result<(), AnyError> {
        let (verb, body) = match wish {
            ModelWish::Load { checkpoint: Some(checkpoint) } => ("load", json!({ "checkpoint": checkpoint })),
            ModelWish::Load { checkpoint: None } => ("load", json!({})),
            ModelWish::Reload => ("reload", json!({})),
            ModelWish::Unload => ("unload", json!({})),
        };
        self.call(Method::POST, &["models", name, verb], &[], Some(body))
    }

    /// Shows what tenants used.
    ///
    /// # Errors
    /// What the server says, or that there is none.
    pub fn usage(&self, usage: &Usage) -> Result<(), AnyError> {
        let Usage { tenant, from, to, by, format } = usage;
        let (path, default): (&[&str], _) = match tenant {
            Some(tenant) => (&["tenants", tenant, "usage"], "day,model"),
            None => (&["usage"], "tenant,day,model"),
        };
        let mut query = vec![("by", by.as_deref().unwrap_or(default)), ("format", format.as_str())];
        query.extend(from.as_deref().map(|day| ("from", day)));
        query.extend(to.as_deref().map(|day| ("to", day)));
        self.call(Method::GET, path, &query, None)
    }

    /// Shows the newest lines of the audit log.
    ///
    /// # Errors
    /// What the server says, or that there is none.
    pub fn audit(&self, limit: usize) -> Result<(), AnyError> {
        self.call(Method::GET, &["audit"], &[("limit", &limit.to_string())], None)
    }

    /// Shows all pages of a list.
    fn list(&self, path: &[&str], name: &str) -> Result<(), AnyError> {
        let mut entries = Vec::new();
        let mut after: Option<String> = None;
        loop {
            let query: Vec<_> = after.iter().map(|after| ("after", after.as_str())).collect();
            let mut page: Value = serde_json::from_str(&self.ask(Method::GET, path, &query, None)?)?;
            if let Some(Value::Array(shown)) = page.get_mut(name).map(Value::take) {
                entries.extend(shown);
            }
            after = page["next"].as_str().map(str::to_owned);
            if after.is_none() {
                break;
            }
        }
        show(&json!({ name: entries }).to_string())
    }

    fn call(
        &self,
        method: Method,
        path: &[&str],
        query: &[(&str, &str)],
        body: Option<Value>,
    ) -> Result<(), AnyError> {
        show(&self.ask(method, path, query, body)?)
    }

    /// What the server answers.
    fn ask(
        &self,
        method: Method,
        path: &[&str],
        query: &[(&str, &str)],
        body: Option<Value>,
    ) -> Result<String, AnyError> {
        let Found { ops, token } = self.find()?;
        let mut url = reqwest::Url::parse(&format!("http://{ops}/admin/v1"))
            .map_err(|error| format!("--ops {ops}: expected a host and a port: {error}"))?;
        url.path_segments_mut().map_err(|()| "no path can follow the address")?.extend(path);
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        // The token goes to this server alone.
        let client = Client::builder().no_proxy().redirect(Policy::none()).timeout(CHANGE_TIMEOUT).build()?;
        let mut request = client.request(method, url).bearer_auth(token.expose());
        if let Some(body) = body {
            request = request.header("content-type", "application/json").body(body.to_string());
        }
        let answer =
            request.send().map_err(|error| format!("no server answers at {ops}: {}", cause(&error)))?;
        let (is_success, text) = (answer.status().is_success(), answer.text()?);
        if is_success {
            return Ok(text);
        }
        let value: Option<Value> = serde_json::from_str(&text).ok();
        let message = value.as_ref().and_then(|value| value["error"]["message"].as_str());
        Err(message.unwrap_or(&text).to_owned().into())
    }
}

/// A host and a port, also as they are in a browser's address.
fn address(text: &str) -> Result<String, String> {
    if text.starts_with("https://") {
        return Err("operations are served over http, for this machine or a private network".to_owned());
    }
    let address = text.strip_prefix("http://").unwrap_or(text).trim_end_matches('/');
    let is_host = |host: &str| {
        let is_bracketed = host.starts_with('[') && host.ends_with(']');
        !host.is_empty() && !host.contains(['/', '?', '#', '@', ' ']) && (is_bracketed || !host.contains(':'))
    };
    let named = address.rsplit_once(':').filter(|(host, port)| is_host(host) && port.parse::<u16>().is_ok());
    let example = "expected a host name or an address, and a port, such as localhost:9090 or [::1]:9090";
    named.map(|_| address.to_owned()).ok_or_else(|| example.to_owned())
}

/// What is at the bottom of an error, such as that the connection was refused.
fn cause(error: &(dyn std::error::Error + 'static)) -> String {
    let chain = std::iter::successors(Some(error), |error| error.source());
    chain.last().map_or_else(String::new, ToString::to_string)
}

/// Where a server can be reached that listens on an address: on any of this machine's it is reached by
/// loopback.
fn reachable(listen: &str) -> String {
    let any = [("0.0.0.0:", "127.0.0.1:"), ("[::]:", "[::1]:")];
    let local =
        any.iter().find_map(|(any, loopback)| Some(format!("{loopback}{}", listen.strip_prefix(any)?)));
    local.unwrap_or_else(|| listen.to_owned())
}

/// Prints an answer: JSON for a person, anything else as it is.
fn show(text: &str) -> Result<(), AnyError> {
    let shown = match serde_json::from_str::<Value>(text) {
        Ok(value) => serde_json::to_string_pretty(&value)?,
        Err(_) => text.trim_end().to_owned(),
    };
    writeln!(std::io::stdout(), "{shown}")?;
    Ok(())
}

/// A plan's name, or terms as JSON.
fn plan_value(text: &str) -> Result<Value, AnyError> {
    if text.trim_start().starts_with('{') {
        let terms: Value = serde_json::from_str(text).map_err(|error| format!("--plan: {error}"))?;
        return Ok(json!({ "custom": terms }));
    }
    Ok(Value::String(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_servers() {
        let check = |text: &str, expected: Option<&str>| {
            assert_eq!(address(text).ok().as_deref(), expected, "{text}");
        };
        check("localhost:9090", Some("localhost:9090"));
        check("[::1]:9090", Some("[::1]:9090"));
        check("http://ops.example:9090/", Some("ops.example:9090"));
        for none in [
            "",
            "localhost",
            ":9090",
            "::1:9090",
            "a:b",
            "a:99999",
            "https://a:1",
            "a/b:1",
            "u@a:1",
            "http://a",
        ] {
            check(none, None);
        }
    }

    #[test]
    fn addresses() {
        let check = |listen: &str, expected: &str| assert_eq!(reachable(listen), expected);
        check("0.0.0.0:9090", "127.0.0.1:9090");
        check("[::]:9090", "[::1]:9090");
        check("ops.example:9090", "ops.example:9090");
        check("10.0.0.0:9090", "10.0.0.0:9090");
    }
}
