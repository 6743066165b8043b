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

# One file of a package of Debian: what installs the whole package starts a server at once.
file_of() { # command package path-in-package
  command -v "$1" >/dev/null 2>&1 && return
  echo "==> installing $1"
  local sudo="" folder
  [[ $(id -u) -eq 0 ]] || sudo=sudo
  folder=$(mktemp -d)
  $sudo apt-get update -qq
  (cd "$folder" && apt-get download -qq "$2" && dpkg-deb -x "$2"_*.deb package)
  $sudo install -m 755 "$folder/package/$3" "/usr/local/bin/$1"
  rm -rf "$folder"
}

# Metrics, alerts and dashboards are checked with them.
file_of prometheus prometheus usr/bin/prometheus
file_of promtool prometheus usr/bin/promtool
# The gateway of serving/examples.
file_of nginx nginx usr/sbin/nginx

if ! cargo --version >/dev/null 2>&1; then
  echo "No Rust toolchain found: install it from https://rustup.rs (or Debian's rustup package), then run this again." >&2
  exit 1
fi
