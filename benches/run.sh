#!/usr/bin/env bash
# Criterion benches, then the served bench. Results go to benches/results.
set -euo pipefail
cd "$(dirname "$0")/.."

if ! command -v wrk >/dev/null 2>&1; then
  echo "==> installing wrk"
  sudo=""
  [[ $(id -u) -eq 0 ]] || sudo=sudo
  $sudo apt-get update -qq
  DEBIAN_FRONTEND=noninteractive $sudo apt-get install -y --no-install-recommends wrk
fi
echo "==> criterion benches"
rm -rf target/criterion
cargo bench --locked --workspace --bench tokenizer --bench scheduler --bench router --bench kernels --bench encoder
python3 benches/criterion_table.py
echo "==> served bench"
python3 benches/served/run.py "$@"
