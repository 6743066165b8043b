#!/usr/bin/env bash
# Builds the emulated driver, cublasLt and NVML into a folder, for a process whose LD_LIBRARY_PATH it is, and
# the kernels' checks beside them. Nothing is built that is newer than every source.
#
#   build.sh FOLDER
set -euo pipefail
folder=$1
kernels=$(realpath "$(dirname "$0")/..")
mkdir -p "$folder"

compile() { # TO SOURCES FLAGS…
  local to=$folder/$1 sources=$2
  shift 2
  if [[ -e $to && -z $(find "$kernels" -type f -newer "$to" -print -quit) ]]; then
    return
  fi
  # Put in place in one step: another test may be using the one there is.
  local made
  made=$(mktemp "$to.XXXXXX")
  c++ -std=c++20 -O2 -fopenmp-simd -Wall -Wextra -Werror -Wno-unknown-pragmas -Wno-strict-aliasing -I "$kernels" "$@" \
    $(printf "$kernels/%s " $sources) -o "$made" -ldl
  chmod +x "$made"
  mv "$made" "$to"
}

compile libcuda.so "emulation/driver.cpp emulation/cublas.cpp emulation/nvml.cpp" -shared -fPIC -fvisibility=hidden
compile checks checks.cpp
for name in libcublasLt.so libnvidia-ml.so.1; do
  ln -sf libcuda.so "$folder/$name"
done
