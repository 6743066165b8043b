#!/usr/bin/env bash
# Criterion benches, then the served bench. Results go to benches/results.
set -euo pipefail
cd "$(dirname "$0")/.."

scripts/load_generators.sh
echo "==> criterion benches"
rm -rf target/criterion
cargo bench --profile release --locked --workspace --bench tokenizer --bench scheduler --bench router --bench kernels --bench encoder --bench encoding
python3 benches/criterion_table.py
echo "==> served bench"
python3 benches/served/run.py "$@"
