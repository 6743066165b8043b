//! Dependencies between our crates, and between the files of each, point one way. The tables are the
//! architecture; what is not in them fails here.

#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use cargo_metadata::{DependencyKind, MetadataCommand};

#[path = "architecture/circles.rs"]
mod circles;

const ALLOWED: [(&str, &[&str]); 17] = [
    ("units", &[]),
    ("batching", &["units"]),
    ("models-core", &["units"]),
    // What is learnt from examples is numbers alone.
    ("models-learn", &[]),
    // Runtimes know what they compute, and nobody knows another.
    ("runtime-candle", &["models-core"]),
    ("runtime-cuda", &["models-core"]),
    ("runtime-fused", &["models-core"]),
    ("runtime-onnx", &["models-core"]),
    ("models", &["units", "batching", "models-core", "runtime-candle", "runtime-fused", "runtime-onnx"]),
    ("router", &["units", "batching"]),
    ("proto", &[]),
    // What protocols speak of knows the tasks, and nothing that does them.
    ("api", &["units", "models-core"]),
    ("protocols", &["api", "proto"]),
    // A client of the server, which knows cards and what is learnt.
    ("classifiers", &["models-core", "models-learn"]),
    ("serving", &["units", "batching", "models", "router", "proto", "api", "protocols", "classifiers"]),
    // What is optional in a build, the binary brings.
    ("ml-inference", &["models", "router", "runtime-cuda", "serving"]),
    ("benches", &["units", "batching", "models", "router", "runtime-cuda", "serving"]),
];

/// Where our crates are.
const FOLDERS: [&str; 5] = ["batching", "models", "router", "serving", "benches"];

/// Crates that may not be among all that a crate of ours needs, directly or not, and why.
const FORBIDDEN: [(&str, &[&str]); 12] = [
    ("units", &["serde_json", "tokio"]),
    // The scheduler is told the time and does no I/O.
    ("batching", &["tokio", "axum", "tonic", "serde_json", "candle-core"]),
    // What runtimes share knows none of them, and neither text nor networks.
    (
        "models-core",
        &["tokenizers", "hf-hub", "ort", "candle-core", "cudarc", "tokio", "reqwest", "rayon", "tracing"],
    ),
    // A runtime brings its own library and no other's.
    ("runtime-candle", &["ort", "cudarc", "hf-hub", "tokio", "reqwest"]),
    ("runtime-cuda", &["candle-core", "ort", "tokenizers", "hf-hub", "tokio", "reqwest", "rayon"]),
    ("runtime-fused", &["candle-core", "ort", "cudarc", "tokenizers", "hf-hub", "tokio", "reqwest", "rayon"]),
    ("runtime-onnx", &["candle-core", "cudarc", "tokenizers", "hf-hub", "tokio", "reqwest", "rayon"]),
    // Models and the router know no transport, and not each other.
    ("models", &["axum", "tonic", "redis", "router", "cudarc"]),
    // The server is the same whatever a build has.
    ("serving", &["cudarc", "rdkafka"]),
    ("router", &["axum", "tonic", "candle-core", "models", "models-core"]),
    // What protocols speak of is of no transport and of no store.
    (
        "api",
        &[
            "axum",
            "hyper",
            "tonic",
            "prost",
            "tokio",
            "router",
            "redis",
            "redb",
            "models",
            "tokenizers",
            "batching",
        ],
    ),
    // A protocol knows nothing of what answers it: no tenant, no store, no scheduler, no model.
    (
        "protocols",
        &["router", "redis", "redb", "models", "tokenizers", "candle-core", "batching", "prometheus-client"],
    ),
];

#[test]
fn edges_between_our_crates() {
    let allowed: BTreeMap<_, BTreeSet<_>> =
        ALLOWED.iter().map(|(name, edges)| (*name, edges.iter().copied().collect())).collect();
    let metadata = MetadataCommand::new().no_deps().exec().unwrap();
    let ours: BTreeSet<_> = metadata.packages.iter().map(|package| package.name.as_str()).collect();
    assert_eq!(ours, allowed.keys().copied().collect(), "every crate of ours is in the table");
    for package in &metadata.packages {
        // Tests may look down from above.
        let normal = package.dependencies.iter().filter(|one| one.kind != DependencyKind::Development);
        for dependency in normal.filter(|one| ours.contains(one.name.as_str())) {
            assert!(
                allowed[package.name.as_str()].contains(dependency.name.as_str()),
                "{} -> {} is not in the table",
                package.name,
                dependency.name
            );
        }
    }
}

/// Where unsafe code is allowed, and why.
const UNSAFE: [&str; 4] = [
    // Kernels, and what feeds them.
    "models/runtimes/cuda/src/lib.rs",
    "models/runtimes/fused/src/lib.rs",
    // A global allocator that counts.
    "models/tests/allocations.rs",
    // Another library's interface, to measure against it.
    "benches/benches/kernels.rs",
];

#[test]
fn unsafe_code_is_confined() {
    fn visit(folder: &Path, found: &mut Vec<String>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                visit(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                // In two parts, so that this file does not name itself.
                if text.contains(concat!("allow(unsafe", "_code")) {
                    found.push(path.display().to_string());
                }
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut found = Vec::new();
    for folder in FOLDERS {
        visit(&root.join(folder), &mut found);
    }
    let is_allowed = |path: &String| UNSAFE.iter().any(|allowed| path.ends_with(allowed));
    assert!(found.iter().all(is_allowed), "{found:?}");
    assert_eq!(found.len(), UNSAFE.len(), "{found:?}");
}

#[test]
fn dependencies_kept_out() {
    let metadata = MetadataCommand::new().no_deps().exec().unwrap();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let lock: toml::Table = toml::from_str(&fs::read_to_string(root.join("Cargo.lock")).unwrap()).unwrap();
    // Of all versions and features of a crate together: what is kept out is kept out of each.
    let mut needs: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for package in lock["package"].as_array().unwrap() {
        let dependencies = package.get("dependencies").and_then(toml::Value::as_array);
        let names = dependencies.into_iter().flatten().filter_map(|one| one.as_str()?.split(' ').next());
        needs
            .entry(package["name"].as_str().unwrap().to_owned())
            .or_default()
            .extend(names.map(str::to_owned));
    }
    // Of ours, not what tests and builds need.
    for package in &metadata.packages {
        let normal = package.dependencies.iter().filter(|one| one.kind == DependencyKind::Normal);
        needs.insert(package.name.to_string(), normal.map(|one| one.name.clone()).collect());
    }
    for (name, forbidden) in FORBIDDEN {
        let mut below = BTreeSet::new();
        let mut next = vec![name];
        while let Some(crate_name) = next.pop() {
            for dependency in &needs[crate_name] {
                if below.insert(dependency.as_str()) {
                    next.push(dependency);
                }
            }
        }
        assert!(below.len() > 1, "{name} needs something");
        let found: Vec<_> = forbidden.iter().filter(|one| below.contains(**one)).collect();
        assert!(found.is_empty(), "{name} needs {found:?}");
    }
}

/// Files of serving that may name the `App`: what puts the parts together, and what answers calls with them.
/// All else is given the parts that it uses.
const NAME_THE_APP: [&str; 3] = ["app.rs", "server/", "pipeline/"];

#[test]
fn parts_do_not_get_the_whole_app() {
    fn visit(folder: &Path, source: &Path, found: &mut Vec<String>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                visit(&path, source, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                let code = text.lines().filter_map(|line| line.split("//").next());
                let mut words =
                    code.flat_map(|line| line.split(|c: char| !(c.is_alphanumeric() || c == '_')));
                if words.any(|word| word == "App") {
                    found.push(path.strip_prefix(source).unwrap().display().to_string());
                }
            }
        }
    }
    let mut found = Vec::new();
    for source in ["src", "api/src", "protocols/src"] {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join(source);
        visit(&source, &source, &mut found);
    }
    assert!(found.iter().any(|file| file == "app.rs"), "nothing was found: {found:?}");
    found.retain(|file| !NAME_THE_APP.iter().any(|allowed| file.starts_with(allowed)));
    assert!(found.is_empty(), "these name the whole App: {found:?}");
}

#[test]
fn files_import_each_other_in_no_circle() {
    let metadata = MetadataCommand::new().no_deps().exec().unwrap();
    let mut found = Vec::new();
    for package in &metadata.packages {
        let source = package.manifest_path.parent().unwrap().join("src");
        let circles = circles::circles(source.as_std_path());
        found.extend(circles.iter().map(|circle| format!("{}: {circle:?}", package.name)));
    }
    assert!(found.is_empty(), "these files import each other:\n{}", found.join("\n"));
}
