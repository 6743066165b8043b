#!/usr/bin/env bash
# The fused kernels and what feeds them under AddressSanitizer, with every instruction set that this CPU has. The sanitizer is
# still an unstable option of the compiler, so the stable compiler is told to accept it.
set -euo pipefail
cd "$(dirname "$0")/.."

target=$(rustc -vV | sed -n 's/^host: //p')
export RUSTC_BOOTSTRAP=1
export RUSTFLAGS="-Zsanitizer=address"
# The library for tests of one crate only, in a folder of its own: nothing else is compiled with the sanitizer.
export CARGO_TARGET_DIR=target/sanitize
echo "==> AddressSanitizer"
cargo test --release --locked --target "$target" -p models --lib -- fused
cargo test --release --locked --target "$target" -p models --test encoder -- random odd bfloat16 buffers
