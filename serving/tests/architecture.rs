//! Dependencies between our crates point one way. The table is the architecture; an edge that is not in it fails here.

#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use cargo_metadata::MetadataCommand;

const ALLOWED: [(&str, &[&str]); 7] = [
    ("units", &[]),
    ("batching", &["units"]),
    ("models", &["units", "batching"]),
    ("router", &["units", "batching"]),
    ("proto", &[]),
    ("serving", &["units", "batching", "models", "router", "proto"]),
    ("benches", &["units", "batching", "models", "router", "serving"]),
];

/// Where our crates are.
const FOLDERS: [&str; 5] = ["batching", "models", "router", "serving", "benches"];

/// Crates that may not appear below a crate of ours, and why.
const FORBIDDEN: [(&str, &[&str]); 3] = [
    // The scheduler is told the time and does no I/O.
    ("batching", &["tokio", "axum", "tonic", "serde", "candle-core"]),
    // Models and the router know no transport.
    ("models", &["axum", "tonic"]),
    ("router", &["axum", "tonic", "candle-core"]),
];

#[test]
fn edges_between_our_crates() {
    let allowed: BTreeMap<_, BTreeSet<_>> =
        ALLOWED.iter().map(|(name, edges)| (*name, edges.iter().copied().collect())).collect();
    let metadata = MetadataCommand::new().no_deps().exec().unwrap();
    let ours: BTreeSet<_> = metadata.packages.iter().map(|package| package.name.as_str()).collect();
    assert_eq!(ours, allowed.keys().copied().collect(), "every crate of ours is in the table");
    for package in &metadata.packages {
        for dependency in package.dependencies.iter().filter(|d| ours.contains(d.name.as_str())) {
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
    "models/src/runtimes/cuda/mod.rs",
    "models/src/runtimes/fused/mod.rs",
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
fn direct_dependencies_kept_out() {
    let metadata = MetadataCommand::new().no_deps().exec().unwrap();
    for (name, forbidden) in FORBIDDEN {
        let package = metadata.packages.iter().find(|package| package.name.as_str() == name).unwrap();
        for dependency in &package.dependencies {
            let is_forbidden = forbidden.contains(&dependency.name.as_str());
            assert!(!is_forbidden, "{name} depends on {}", dependency.name);
        }
    }
}
