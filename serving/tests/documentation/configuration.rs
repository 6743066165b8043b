//! `docs/configuration.md`, made of the configuration's types, their doc comments and their defaults.

use std::collections::BTreeMap;
use std::fmt::Write;

use serving::config::Config;

use crate::debug_tree::Tree;
use crate::source::{Definition, Field, definitions, named};
use crate::wrapped;

/// Sections that are not there by default, so that the defaults in them can be shown.
const WITH_EVERYTHING: &str = r#"
tls = { certificate_file = "c", key_file = "k", clients = { authority_file = "a", identities = [{ uri = "spiffe://a/b", tenant = "t" }] } }
tenancy.store.redis.urls = ["redis://localhost"]
tenancy.jwt = { issuer = "i", audience = "a", keys = "k" }
[usage.sinks]
File.file = { path = "p" }
Webhook.webhook = { url = "http://localhost", secret_file = "s" }
RedisStream.redis_stream = { redis = { urls = ["redis://localhost"] } }
Kafka.kafka = { brokers = "b", topic = "t" }
[models.Model]
"#;

const HEAD: &str = "<!-- Made from serving/src/config by `make docs`. -->\n# Configuration\n\n";
const INTRODUCTION: &str = "A TOML file (`ml-inference serve --config FILE`), environment variables and flags (`ml-inference serve \
    --help`). A flag comes before its variable, that before the file, that before the default. An unknown field, a value out of \
    range and a malformed file end the start; the message names the field, and line and column where it can. Units are in the \
    names. `required`: there is no default where the section is used.";

struct Writer {
    definitions: BTreeMap<String, Definition>,
    defaults: Tree,
    everything: Tree,
    /// Path, one section each.
    sections: Vec<(String, String, String)>,
}

pub(crate) fn page() -> String {
    let mut page = format!("{HEAD}{}\n", wrapped(INTRODUCTION));
    for (path, doc, rows) in sections() {
        let title = if path.is_empty() { "Top level".to_owned() } else { format!("`{path}`") };
        let doc = if doc.is_empty() { doc } else { format!("{}\n\n", wrapped(&doc)) };
        let head = "| field | value | default | meaning |\n|---|---|---|---|";
        let _ = write!(page, "\n## {title}\n{doc}{head}\n{rows}");
    }
    page
}

/// Every field that can be written in the file, by its whole path.
pub(crate) fn paths() -> Vec<String> {
    let mut paths = Vec::new();
    for (section, _, rows) in sections() {
        for row in rows.lines() {
            let name = row.split('`').nth(1).unwrap();
            paths.push(if section.is_empty() { name.to_owned() } else { format!("{section}.{name}") });
        }
        paths.push(section);
    }
    paths
}

fn sections() -> Vec<(String, String, String)> {
    let everything: Config = toml::from_str(WITH_EVERYTHING).unwrap();
    let mut writer = Writer {
        definitions: definitions(),
        defaults: Tree::parse(&format!("{:?}", Config::default())),
        everything: Tree::parse(&format!("{everything:?}")),
        sections: Vec::new(),
    };
    let fields = writer.definitions["Config"].clone();
    writer.section("", "", &fields.fields, true, &[]);
    writer.sections
}

impl Writer {
    /// Writes a section and, behind it, those within it. `keys` leads to it in a `Debug` tree.
    fn section(&mut self, path: &str, doc: &str, fields: &[Field], has_defaults: bool, keys: &[String]) {
        let place = self.sections.len();
        self.sections.push((path.to_owned(), doc.to_owned(), String::new()));
        let mut rows = String::new();
        for field in fields.iter().filter(|field| field.serde != "skip") {
            let keys = [keys, std::slice::from_ref(&field.name)].concat();
            let within = if path.is_empty() { field.name.clone() } else { format!("{path}.{}", field.name) };
            if self.within(&within, &field.ty, &keys) {
                continue;
            }
            let is_optional =
                named(&field.ty).0 == "Option" || has_defaults || field.serde.contains("default");
            let default = if is_optional { self.default(field, &keys) } else { "required".to_owned() };
            let kind = self.kind(&field.ty, &field.garde);
            let _ = writeln!(rows, "| `{}` | {kind} | {default} | {} |", field.name, field.doc);
        }
        self.sections[place].2 = rows;
        if self.sections[place].2.is_empty() {
            self.sections.remove(place);
        }
    }

    /// Writes what is a section of its own: a struct, a map or list of structs, variants with fields.
    fn within(&mut self, path: &str, ty: &syn::Type, keys: &[String]) -> bool {
        let (name, inner) = named(ty);
        match (name.as_str(), inner) {
            ("Option", Some(inner)) => return self.within(path, inner, keys),
            ("Vec", Some(inner)) => return self.within(&format!("{path}[]"), inner, keys),
            ("BTreeMap", Some(inner)) => {
                let key = named(inner).0;
                return self.within(&format!("{path}.<name>"), inner, &[keys, &[key]].concat());
            }
            _ => {}
        }
        let Some(definition) = self.definitions.get(&name).cloned() else { return false };
        if definition.fields.iter().any(|field| field.name == "0") || definition.serde.contains("from =") {
            return false;
        }
        if !definition.fields.is_empty() {
            let has_defaults = definition.serde.split(',').any(|part| part.trim() == "default");
            self.section(path, &definition.doc, &definition.fields, has_defaults, keys);
            return true;
        }
        let has_sections =
            definition.variants.iter().any(|(.., fields)| fields.iter().any(|field| !field.doc.is_empty()));
        let is_map = path.ends_with("<name>");
        for (wire, variant, doc, fields) in &definition.variants {
            let keys = match keys.split_last() {
                // A map of variants has each of them under its own name.
                Some((_, before)) if is_map => [before, std::slice::from_ref(variant)].concat(),
                _ => keys.to_vec(),
            };
            let path = format!("{path}.{wire}");
            match fields.as_slice() {
                [field] if field.name == "0" && self.definitions.contains_key(&named(&field.ty).0) => {
                    self.within(&path, &field.ty, &keys);
                }
                fields if fields.iter().any(|field| !field.doc.is_empty()) => {
                    self.section(&path, doc, fields, false, &keys);
                }
                _ => {}
            }
        }
        is_map && has_sections
    }

    fn default(&self, field: &Field, keys: &[String]) -> String {
        let at = |tree: &Tree| {
            let mut tree = tree.clone();
            for key in keys {
                tree = tree.field(key)?.clone();
            }
            tree.bare().cloned()
        };
        // What is there by default says it; of other sections the one that has everything.
        let is_there =
            keys.iter().try_fold(self.defaults.clone(), |tree, key| tree.field(key).cloned()).is_some();
        let tree = if is_there { &self.defaults } else { &self.everything };
        match at(tree) {
            None => "none".to_owned(),
            Some(value) => self.written(&value, field),
        }
    }

    /// A value as TOML has it.
    fn written(&self, value: &Tree, field: &Field) -> String {
        let ty = named(&field.ty);
        let ty = if ty.0 == "Option" { ty.1.map(|ty| named(ty).0).unwrap_or_default() } else { ty.0 };
        let wire = |variant: &str| {
            let variants = self
                .definitions
                .get(&ty)
                .map(|definition| definition.variants.as_slice())
                .unwrap_or_default();
            variants.iter().find(|(_, name, ..)| name == variant).map(|(wire, ..)| wire.clone())
        };
        match value {
            Tree::Leaf(text) => match (wire(text), text.parse::<f64>()) {
                (Some(wire), _) => format!("`\"{wire}\"`"),
                (None, Ok(_)) => format!("`{text}`{}", bytes(&field.name, text)),
                (None, Err(_)) if matches!(text.as_str(), "true" | "false") => format!("`{text}`"),
                (None, Err(_)) => format!("`\"{text}\"`"),
            },
            Tree::Items(name, items) => match (wire(name), items.as_slice()) {
                (Some(wire), [Tree::Leaf(value)]) => format!("`{{ {wire} = {value} }}`"),
                (None, [Tree::Leaf(_), ..]) if name.is_empty() => {
                    let quoted = |item: &Tree| match item {
                        Tree::Leaf(text) => format!("\"{text}\""),
                        _ => String::new(),
                    };
                    format!("`[{}]`", items.iter().map(quoted).collect::<Vec<_>>().join(", "))
                }
                _ => "none".to_owned(),
            },
            Tree::Fields(..) => "none".to_owned(),
        }
    }

    fn kind(&self, ty: &syn::Type, garde: &str) -> String {
        let (name, inner) = named(ty);
        let kind = match name.as_str() {
            "Option" => return inner.map(|inner| self.kind(inner, garde)).unwrap_or_default(),
            "Vec" => {
                return inner.map(|inner| format!("list of: {}", self.kind(inner, ""))).unwrap_or_default();
            }
            "BTreeMap" => {
                return inner.map(|inner| format!("by name: {}", self.kind(inner, ""))).unwrap_or_default();
            }
            "SocketAddr" => "address".to_owned(),
            "PathBuf" => "path".to_owned(),
            "String" => "text".to_owned(),
            "bool" => "`true`, `false`".to_owned(),
            "f64" => format!("number{}", range(garde)),
            "usize" | "u64" | "u32" | "u16" | "i32" => format!("integer{}", range(garde)),
            "TenantName" => "name of a tenant".to_owned(),
            _ => self.values(&name),
        };
        kind.replace('|', "\\|")
    }

    fn values(&self, name: &str) -> String {
        let Some(definition) = self.definitions.get(name) else { return name.to_owned() };
        if definition.serde.contains("from =") {
            return "see the meaning".to_owned();
        }
        let value = |(wire, _, _, fields): &(String, String, String, Vec<Field>)| match fields.as_slice() {
            [] => format!("`\"{wire}\"`"),
            _ => format!("`{{ {wire} = … }}`"),
        };
        definition.variants.iter().map(value).collect::<Vec<_>>().join(", ")
    }
}

/// The bounds in `range(min = 1, max = 1 << 20)`.
fn range(garde: &str) -> String {
    let Some((_, bounds)) = garde.split_once("range") else { return String::new() };
    let bound = |name: &str| {
        let (_, value) = bounds.split_once(&format!("{name} = "))?;
        let value = value.split([',', ')']).next()?.trim().replace('_', "");
        Some(match value.split_once("<<") {
            Some((left, right)) => {
                (left.trim().parse::<u64>().ok()? << right.trim().parse::<u32>().ok()?).to_string()
            }
            None => value,
        })
    };
    match (bound("min"), bound("max")) {
        (Some(min), Some(max)) => format!(", {min} to {max}"),
        (Some(min), None) => format!(", at least {min}"),
        (None, Some(max)) => format!(", at most {max}"),
        (None, None) => String::new(),
    }
}

/// A number of bytes for a person.
fn bytes(name: &str, number: &str) -> String {
    let Ok(number) = number.parse::<u64>() else { return String::new() };
    if !name.contains("bytes") || number < 1024 {
        return String::new();
    }
    let units = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
    let unit = units.iter().find(|(_, size)| number.is_multiple_of(*size));
    unit.map(|(unit, size)| format!(" ({} {unit})", number / size)).unwrap_or_default()
}
