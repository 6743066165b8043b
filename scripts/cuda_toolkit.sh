#!/usr/bin/env bash
# Installs what compiles CUDA kernels (nvcc 13.0 and its headers) from PyPI into a folder of its own; no GPU
# and no driver is needed. PTX of 13.0 runs on drivers from 580 on.
set -euo pipefail

folder=$1
if [[ -e $folder/.done ]]; then
  exit 0
fi
echo "==> installing nvcc into $folder"
python3 -m venv "$folder"
"$folder/bin/pip" install --disable-pip-version-check --progress-bar on "cuda-toolkit[nvcc,cudart,cccl,crt]==13.0.*"
touch "$folder/.done"
