//! Structs and enums of the source, with what their attributes and doc comments say.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use syn::{Attribute, Fields, GenericArgument, Item, PathArguments, Type};

use crate::root;

/// A field of a struct or of a variant.
#[derive(Clone)]
pub(crate) struct Field {
    pub(crate) name: String,
    pub(crate) ty: Type,
    pub(crate) doc: String,
    pub(crate) serde: String,
    pub(crate) garde: String,
}

/// A struct, or an enum with variants.
#[derive(Clone)]
pub(crate) struct Definition {
    pub(crate) doc: String,
    pub(crate) serde: String,
    pub(crate) fields: Vec<Field>,
    /// By wire name: the name in the source, the doc comment, and fields.
    pub(crate) variants: Vec<(String, String, String, Vec<Field>)>,
}

/// The definitions that a configuration is made of, by name. Of two with one name the first one counts: files
/// of the configuration come first.
pub(crate) fn definitions() -> BTreeMap<String, Definition> {
    let mut found = BTreeMap::new();
    for folder in ["serving/src/config", "router/src", "models/src", "models/core/src"] {
        for path in rust_files(&root().join(folder)) {
            let text = std::fs::read_to_string(&path).unwrap();
            let file = syn::parse_file(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            for item in file.items {
                if let Some((name, definition)) = definition(item) {
                    found.entry(name).or_insert(definition);
                }
            }
        }
    }
    found
}

pub(crate) fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files.sort();
    files
}

fn definition(item: Item) -> Option<(String, Definition)> {
    match item {
        Item::Struct(item) => {
            let (doc, serde) = (doc(&item.attrs), attribute(&item.attrs, "serde"));
            let definition = Definition { doc, serde, fields: fields(&item.fields), variants: Vec::new() };
            Some((item.ident.to_string(), definition))
        }
        Item::Enum(item) => {
            let serde = attribute(&item.attrs, "serde");
            let variant = |variant: &syn::Variant| {
                let name = variant.ident.to_string();
                let wire = wire_name(&name, &serde, &attribute(&variant.attrs, "serde"));
                (wire, name, doc(&variant.attrs), fields(&variant.fields))
            };
            let variants = item.variants.iter().map(variant).collect();
            Some((
                item.ident.to_string(),
                Definition { doc: doc(&item.attrs), serde, fields: Vec::new(), variants },
            ))
        }
        _ => None,
    }
}

fn fields(fields: &Fields) -> Vec<Field> {
    let field = |(index, field): (usize, &syn::Field)| Field {
        name: field.ident.as_ref().map_or_else(|| index.to_string(), ToString::to_string),
        ty: field.ty.clone(),
        doc: doc(&field.attrs),
        serde: attribute(&field.attrs, "serde"),
        garde: attribute(&field.attrs, "garde"),
    };
    fields.iter().enumerate().map(field).collect()
}

/// A doc comment as one line.
fn doc(attributes: &[Attribute]) -> String {
    let mut lines = Vec::new();
    for attribute in attributes.iter().filter(|attribute| attribute.path().is_ident("doc")) {
        if let syn::Meta::NameValue(pair) = &attribute.meta
            && let syn::Expr::Lit(syn::ExprLit { lit: syn::Lit::Str(text), .. }) = &pair.value
        {
            lines.push(text.value().trim().to_owned());
        }
    }
    lines.join(" ").trim().to_owned()
}

/// What stands in the parentheses of all attributes of a name.
fn attribute(attributes: &[Attribute], name: &str) -> String {
    let inside = |attribute: &Attribute| Some(attribute.meta.require_list().ok()?.tokens.to_string());
    attributes.iter().filter(|attribute| attribute.path().is_ident(name)).filter_map(inside).collect()
}

fn wire_name(name: &str, container: &str, own: &str) -> String {
    if let Some((_, renamed)) = own.split_once("rename = \"") {
        return renamed.split('"').next().unwrap_or_default().to_owned();
    }
    let separator = if container.contains("snake_case") { "_" } else { "" };
    let mut wire = String::new();
    for letter in name.chars() {
        if letter.is_uppercase() && !wire.is_empty() {
            wire.push_str(separator);
        }
        wire.push(letter.to_ascii_lowercase());
    }
    wire
}

/// The name of a type, and the type within `Option`, `Vec` or as the value of a map.
pub(crate) fn named(ty: &Type) -> (String, Option<&Type>) {
    let Type::Path(path) = ty else { return (String::new(), None) };
    let segment = path.path.segments.last().unwrap();
    let inner = match &segment.arguments {
        PathArguments::AngleBracketed(arguments) => {
            arguments.args.last().and_then(|argument| match argument {
                GenericArgument::Type(ty) => Some(ty),
                _ => None,
            })
        }
        _ => None,
    };
    (segment.ident.to_string(), inner)
}
