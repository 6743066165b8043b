#!/usr/bin/env bash
# Everything that only a GPU can answer, on a machine with neither network nor Rust: what `pack.py` made is
# unpacked, then
#
#   checks    every kernel against float64, the runtime against the reference, every architecture against its
#             authors' own classes, the five models against float32
#   engines   the card's ceilings; tokens a second and latency beside PyTorch
#   served    the server under load over REST and gRPC
#
#   benches/gpu/run.sh KIT OUT [PART…]     all parts if none is named; SMOKE=1 tries the scripts without a GPU
#
# Writes logs, JSON and OUT/report.md. A part that fails is written down, and the others go on. Needs python3
# with torch, transformers and sentence-transformers for `engines`.
set -uo pipefail
kit=$(realpath "$1") out=$2
shift 2
parts=("$@")
[[ ${#parts[@]} -gt 0 ]] || parts=(checks engines served)
root=$(realpath "$(dirname "$0")/../..")
mkdir -p "$out" && out=$(realpath "$out")
work=${WORK:-/tmp/ml-inference-gpu}
smoke=()
[[ -z ${SMOKE:-} ]] || smoke=(--smoke)

say() { echo "==> $*" >&2; }

say "unpacking"
mkdir -p "$work"
for part in "$kit"/*.tar.xz.*; do cat "$part"; done | tar -xJ -C "$work" || exit 1
export PATH="$work/bin:$PATH"
# cublasLt comes with PyTorch; the load generators' libraries with the kit, after the system's own.
cublas=$(python3 -c 'import glob, sysconfig; print(":".join(glob.glob(sysconfig.get_path("purelib") + "/nvidia/*/lib")))' 2>/dev/null)
export LD_LIBRARY_PATH="${LD_LIBRARY_PATH:+$LD_LIBRARY_PATH:}$cublas:$work/lib"
export ML_INFERENCE_DATA_DIR="$work/data"

python3 - "$root" "$work/commit" >"$out/machine.json" <<'PYTHON'
import json, os, subprocess, sys
run = lambda *command: subprocess.run(command, capture_output=True, text=True).stdout.strip()
try:
    gpu = run("nvidia-smi", "--query-gpu=name,driver_version,memory.total,clocks.max.sm", "--format=csv,noheader")
except OSError:
    gpu = "no GPU"
print(json.dumps({"gpu": gpu, "cores": os.cpu_count(), "commit": open(sys.argv[2]).read().strip()}))
PYTHON

tests() { # NAME LOG FILTER: the ignored tests of a test program, run where its crate is
  (cd "$root/models" && CARGO_MANIFEST_DIR=$PWD "$work/bin/$1" --ignored --nocapture --test-threads=1 "$3") >>"$out/$2" 2>&1
  tail -n 2 "$out/$2"
}

checks() {
  rm -f "$out"/{checks,cuda,architectures,formats}.log
  "$work/bin/checks" "$work/kernels.fatbin" "${ROUNDS:-100}" >"$out/checks.log" 2>&1
  tail -n 1 "$out/checks.log"
  tests cuda cuda.log gpu::
  tests architectures architectures.log gpu::
  tests formats formats.log "${FORMATS:-gpu::}"
  if [[ -n ${ORT_DYLIB_PATH:-} ]]; then tests onnx onnx.log onnx_provider::; fi
}

shapes() {
  [[ -e $work/shapes/bert-large/README.md ]] && return
  say "random weights of published shapes"
  python3 "$root/benches/gpu/shapes.py" "$(dirname "$(find "$work/data/weights" -name tokenizer.json | head -n 1)")" "$work/shapes"
}

engines() {
  shapes
  python3 "$root/benches/gpu/engines.py" --engine "$work/bin/engine" --shapes "$work/shapes" --out "$out/engines.json" "${smoke[@]}" \
    2>"$out/engines.log"
}

served() {
  shapes
  python3 "$root/benches/gpu/served.py" --binary "$work/bin/ml-inference" --data-dir "$work/data" --shapes "$work/shapes" \
    --out "$out/served.json" "${smoke[@]}" 2>"$out/served.log"
}

for part in "${parts[@]}"; do
  say "$part"
  "$part" || say "$part failed"
done
python3 "$root/benches/gpu/report.py" "$out" "$out/report.md"
