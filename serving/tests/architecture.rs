//! Dependencies between our crates point one way. The table is the architecture; an edge that is not in it fails here.

#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};

use cargo_metadata::MetadataCommand;

const ALLOWED: [(&str, &[&str]); 5] = [
    ("batching", &[]),
    ("models", &["batching"]),
    ("router", &["batching"]),
    ("serving", &["batching", "models", "router"]),
    ("benches", &["batching", "models", "router", "serving"]),
];

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
