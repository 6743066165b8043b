//! Tenants from a file (`tenancy.tenants_file`), for deployments that are described by files. What is wrong
//! with it is said with line and column.

use std::collections::HashSet;
use std::ops::Range;
use std::path::{Path, PathBuf};

use router::accounts::TenantName;
use router::{ApiKey, DeclaredKey, DeclaredTenant, Plan, Role, TermsError};
use serde::Deserialize;
use toml::Spanned;

use crate::secrets;

/// Why no tenants were read.
#[derive(Debug, thiserror::Error)]
pub enum TenantsFileError {
    /// The file cannot be read.
    #[error("cannot read {path}: {source}")]
    Read { path: PathBuf, source: std::io::Error },
    /// It is not TOML of the right shape.
    #[error("{path}: {source}")]
    Parse {
        path: PathBuf,
        /// What and where, with line and column.
        source: Box<toml::de::Error>,
    },
    /// A value makes no sense.
    #[error("{path}: line {line}, column {column}: {problem}")]
    Invalid {
        path: PathBuf,
        /// From 1.
        line: usize,
        /// From 1, in characters.
        column: usize,
        problem: String,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    tenants: Vec<Tenant>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Tenant {
    name: Spanned<TenantName>,
    plan: Spanned<Plan>,
    #[serde(default)]
    is_suspended: bool,
    #[serde(default)]
    keys: Vec<Key>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Key {
    label: Spanned<String>,
    #[serde(default)]
    role: Role,
    /// File with the key, which is nowhere else.
    key_file: Spanned<PathBuf>,
}

/// What is wrong, and where in the text.
struct Problem(Range<usize>, String);

/// The tenants of a file.
///
/// # Errors
/// See [`TenantsFileError`].
pub(crate) fn read(path: &Path) -> Result<Vec<DeclaredTenant>, TenantsFileError> {
    let text = std::fs::read_to_string(path)
        .map_err(|source| TenantsFileError::Read { path: path.to_owned(), source })?;
    let file: File = toml::from_str(&text)
        .map_err(|source| TenantsFileError::Parse { path: path.to_owned(), source: Box::new(source) })?;
    check(file).map_err(|Problem(span, problem)| {
        let before = text.get(..span.start).unwrap_or_default();
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        TenantsFileError::Invalid { path: path.to_owned(), line, column, problem }
    })
}

fn check(file: File) -> Result<Vec<DeclaredTenant>, Problem> {
    let (mut names, mut keys) = (HashSet::new(), HashSet::new());
    let mut tenants = Vec::new();
    for Tenant { name, plan, is_suspended, keys: declared } in file.tenants {
        if !names.insert(name.get_ref().clone()) {
            return Err(Problem(name.span(), format!("tenant {} is declared twice", name.get_ref())));
        }
        if name.get_ref().is_reserved() {
            return Err(Problem(name.span(), "this name is reserved".to_owned()));
        }
        plan.get_ref().check().map_err(|error: TermsError| Problem(plan.span(), error.to_string()))?;
        let mut labels = HashSet::new();
        let mut tenant = DeclaredTenant {
            name: name.into_inner(),
            plan: plan.into_inner(),
            is_suspended,
            keys: Vec::new(),
        };
        for key in declared {
            check_label(&key.label, &mut labels)?;
            let span = key.key_file.span();
            let text = secrets::read(key.key_file.get_ref())
                .map_err(|error| Problem(span.clone(), format!("the key cannot be read: {error}")))?;
            let api_key = std::str::from_utf8(&text).ok().and_then(ApiKey::parse).ok_or_else(|| {
                let problem = "no key is in this file; `ml-inference generate-key` makes one";
                Problem(span.clone(), problem.to_owned())
            })?;
            if !keys.insert(api_key.expose().to_owned()) {
                return Err(Problem(span, "this key is declared twice".to_owned()));
            }
            tenant.keys.push(DeclaredKey { label: key.label.into_inner(), role: key.role, key: api_key });
        }
        tenants.push(tenant);
    }
    Ok(tenants)
}

/// Labels become part of the keys' ids.
fn check_label(label: &Spanned<String>, labels: &mut HashSet<String>) -> Result<(), Problem> {
    let text = label.get_ref();
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    if !(1..=63).contains(&text.len()) || !text.bytes().all(is_plain) {
        let problem = "expected 1 to 63 letters, digits and hyphens".to_owned();
        return Err(Problem(label.span(), problem));
    }
    if !labels.insert(text.clone()) {
        return Err(Problem(label.span(), format!("key {text} is declared twice")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use router::Mode;

    use super::*;

    fn read_text(text: &str) -> Result<Vec<DeclaredTenant>, String> {
        let folder = tempfile::tempdir().unwrap();
        let key = ApiKey::generate(Mode::Test).unwrap();
        std::fs::write(folder.path().join("good.key"), format!("{}\n", key.expose())).unwrap();
        std::fs::write(folder.path().join("bad.key"), "tc_live_secret").unwrap();
        let path = folder.path().join("tenants.toml");
        std::fs::write(&path, text.replace("FOLDER", folder.path().to_str().unwrap())).unwrap();
        read(&path).map_err(|error| error.to_string())
    }

    #[test]
    fn tenants_and_keys() {
        let text = r#"
            [[tenants]]
            name = "acme"
            plan = "starter"
            [[tenants.keys]]
            label = "ci"
            role = "owner"
            key_file = "FOLDER/good.key"

            [[tenants]]
            name = "globex"
            plan.custom = { requests_per_minute = 7, concurrency_max = 2, weight = 1 }
            is_suspended = true
        "#;
        let tenants = read_text(text).unwrap();
        assert_eq!((tenants[0].name.as_str(), tenants[0].plan), ("acme", Plan::Starter));
        assert_eq!((tenants[0].keys[0].label.as_str(), tenants[0].keys[0].role), ("ci", Role::Owner));
        assert!(tenants[1].is_suspended && tenants[1].plan.terms().requests_per_minute == 7);
        assert!(read_text("").unwrap().is_empty());
    }

    #[test]
    fn errors_say_where() {
        let check = |text: &str, expected: &[&str]| {
            let error = read_text(text).unwrap_err();
            for part in expected.iter().chain(&["tenants.toml: "]) {
                assert!(error.contains(part), "{text}: {error:?} lacks {part:?}");
            }
            assert!(!error.contains("tc_live_secret"), "{error}");
        };
        let one = "[[tenants]]\nname = \"acme\"\nplan = \"free\"\n";
        check("[[tenants]]\nname = \"Acme\"\nplan = \"free\"", &["line 2, column 8", "lower-case"]);
        check("[[tenants]]\nname = \"acme\"\nplan = \"gold\"", &["line 3, column 8", "gold"]);
        check("[[tenants]]\nname = \"acme\"", &["line 1, column 1", "plan"]);
        check("[[tenant]]", &["line 1, column 3", "tenant"]);
        check(&format!("{one}{one}"), &["line 5, column 8", "acme is declared twice"]);
        check("[[tenants]]\nplan = \"free\"\nname = \"development\"", &["line 3, column 8", "reserved"]);
        let terms = "plan.custom = { requests_per_minute = 0, concurrency_max = 2, weight = 1 }";
        check(&format!("[[tenants]]\nname = \"acme\"\n{terms}"), &["line 3", "requests_per_minute"]);
        let key = |label: &str, file: &str| {
            format!("[[tenants.keys]]\nlabel = \"{label}\"\nkey_file = \"FOLDER/{file}\"\n")
        };
        check(&format!("{one}{}", key("ci", "none.key")), &["line 6, column 12", "No such file"]);
        check(&format!("{one}{}", key("ci", "bad.key")), &["line 6, column 12", "generate-key"]);
        check(&format!("{one}{}", key("a b", "good.key")), &["line 5, column 9", "hyphens"]);
        let twice = [key("a", "good.key"), key("b", "good.key")].concat();
        check(&format!("{one}{twice}"), &["line 9, column 12", "this key is declared twice"]);
        let twice = [key("a", "good.key"), key("a", "good.key")].concat();
        check(&format!("{one}{twice}"), &["line 8, column 9", "key a is declared twice"]);
    }
}
