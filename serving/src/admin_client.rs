//! `ml-inference tenants|keys|usage|audit`: a client of the administration on the operations port. Prints what the server says.

use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use reqwest::Method;
use reqwest::blocking::Client;
use serde_json::{Map, Value, json};

type AnyError = Box<dyn std::error::Error + Send + Sync>;

/// Which server, and the right to manage it.
#[derive(Debug, Args)]
pub struct Server {
    /// Address of the server's operations.
    #[arg(long, env = "ML_INFERENCE_OPS_LISTEN", value_name = "ADDRESS", default_value = "127.0.0.1:9090")]
    ops: SocketAddr,
    /// File with the operator's token; the server makes it in its state folder.
    #[arg(
        long,
        env = "ML_INFERENCE_OPERATOR_TOKEN",
        value_name = "FILE",
        default_value = "data/state/operator.token"
    )]
    token: PathBuf,
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
        /// `free`, `starter`, `professional`, `enterprise`, or terms as JSON: `{"requests_per_minute": 7, …}`.
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
        let token = std::fs::read_to_string(&self.token)
            .map_err(|error| format!("cannot read the operator's token {}: {error}", self.token.display()))?;
        let mut url = reqwest::Url::parse(&format!("http://{}/admin/v1", self.ops))?;
        url.path_segments_mut().map_err(|()| "no path can follow the address")?.extend(path);
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        let mut request =
            Client::builder().no_proxy().build()?.request(method, url).bearer_auth(token.trim());
        if let Some(body) = body {
            request = request.header("content-type", "application/json").body(body.to_string());
        }
        let answer = request
            .send()
            .map_err(|error| format!("no server answers at {}: {}", self.ops, error.without_url()))?;
        let (is_success, text) = (answer.status().is_success(), answer.text()?);
        if is_success {
            return Ok(text);
        }
        let value: Option<Value> = serde_json::from_str(&text).ok();
        let message = value.as_ref().and_then(|value| value["error"]["message"].as_str());
        Err(message.unwrap_or(&text).to_owned().into())
    }
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
