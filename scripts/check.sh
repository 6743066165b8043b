#!/usr/bin/env bash
# What a commit must pass: formatting, clippy, and the tests that are quick. Everything is `make lint` and `make test`.
set -euo pipefail
cd "$(dirname "$0")/.."

features=(--features serving/kafka,serving/cuda)
echo "==> formatting"
cargo fmt --all -- --check
echo "==> clippy"
cargo clippy --release --locked --workspace "${features[@]}" --all-targets -- -D warnings
echo "==> unit tests, structure and documents"
cargo test --release --locked --workspace "${features[@]}" --quiet --lib --test architecture --test documentation --test error_table
