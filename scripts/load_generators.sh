#!/usr/bin/env bash
# Installs the load generators of the served benches, where they are missing.
set -euo pipefail

if ! command -v wrk >/dev/null 2>&1 || ! command -v h2load >/dev/null 2>&1; then
  echo "==> installing wrk and h2load"
  sudo=""
  [[ $(id -u) -eq 0 ]] || sudo=sudo
  $sudo apt-get update -qq
  DEBIAN_FRONTEND=noninteractive $sudo apt-get install -y --no-install-recommends wrk nghttp2-client
fi
