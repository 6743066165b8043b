#!/usr/bin/env bash
# The fused runtime under AddressSanitizer, with every instruction set that this CPU has, and its portable
# kernels under Miri where that is installed (it is a component of nightly toolchains only).
set -euo pipefail
cd "$(dirname "$0")/../.."

echo "==> AddressSanitizer"
# The sanitizer is an unstable option of the compiler, so the stable compiler is told to accept it.
host=$(rustc -vV | sed -n 's/^host: //p')
export RUSTC_BOOTSTRAP=1 RUSTFLAGS="-Zsanitizer=address" CARGO_TARGET_DIR=target/sanitize
cargo test --release --locked --target "$host" -p runtime-fused
cargo test --release --locked --target "$host" -p models --test encoder -- random odd bfloat16 buffers company
unset RUSTC_BOOTSTRAP RUSTFLAGS CARGO_TARGET_DIR

echo "==> Miri"
if cargo miri --version >/dev/null 2>&1; then
  cd scripts/kernels
  CARGO_TARGET_DIR=../../target/miri cargo miri test
else
  echo "not installed: skipped (rustup +nightly component add miri)"
fi
