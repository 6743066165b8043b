#!/usr/bin/env bash
# Installs what the project needs and the machine lacks, with Debian's packages. Says what it does; does
# nothing the second time.
set -euo pipefail

missing=()
need() { # command package
  command -v "$1" >/dev/null 2>&1 || missing+=("$2")
}

need cc build-essential
need c++ build-essential
need make make
need pkg-config pkg-config
need curl curl
need redis-server redis-server
need redis-cli redis-tools
need python3 python3
python3 -c 'import venv, ensurepip' 2>/dev/null || missing+=(python3-venv)
python3 -m pip --version >/dev/null 2>&1 || missing+=(python3-pip)

if ((${#missing[@]})); then
  echo "==> installing ${missing[*]}"
  sudo=""
  if [[ $(id -u) -ne 0 ]]; then
    command -v sudo >/dev/null 2>&1 || { echo "need root or sudo to install: ${missing[*]}" >&2; exit 1; }
    sudo=sudo
  fi
  $sudo apt-get update -qq
  DEBIAN_FRONTEND=noninteractive $sudo apt-get install -y --no-install-recommends "${missing[@]}"
fi

# Metrics, alerts and dashboards are checked with them. Debian has them only in the package of a server that
# starts at once: the files are enough.
if ! command -v promtool >/dev/null 2>&1 || ! command -v prometheus >/dev/null 2>&1; then
  echo "==> installing prometheus and promtool"
  sudo=""
  [[ $(id -u) -eq 0 ]] || sudo=sudo
  folder=$(mktemp -d)
  $sudo apt-get update -qq
  (cd "$folder" && apt-get download -qq prometheus && dpkg-deb -x prometheus_*.deb package)
  $sudo install -m 755 "$folder"/package/usr/bin/{prometheus,promtool} /usr/local/bin/
  rm -rf "$folder"
fi

if ! cargo --version >/dev/null 2>&1; then
  echo "No Rust toolchain found: install it from https://rustup.rs (or Debian's rustup package), then run this again." >&2
  exit 1
fi
