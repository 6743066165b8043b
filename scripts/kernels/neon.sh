#!/usr/bin/env bash
# Cross-compiles the fused kernels for 64-bit Arm and runs their tests, NEON against plain loops, under
# emulation. Debian 13 has all that is needed as packages; it is unpacked into a folder of its own, once.
# Needs root.
set -euo pipefail
cd "$(dirname "$0")/../.."

system=${1:-data/trixie}
target=aarch64-unknown-linux-gnu

if ! command -v debootstrap >/dev/null 2>&1; then
  echo "==> installing debootstrap"
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends debootstrap
fi
if [[ ! -e $system/.done ]]; then
  echo "==> unpacking Debian 13 with a cross compiler and an emulator into $system"
  debootstrap --variant=minbase --include=ca-certificates,cargo,rustc,gcc,libc6-dev trixie "$system" http://deb.debian.org/debian
  chroot "$system" dpkg --add-architecture arm64
  chroot "$system" apt-get update -qq
  chroot "$system" apt-get install -y --no-install-recommends \
    gcc-aarch64-linux-gnu libc6-dev-arm64-cross libstd-rust-dev:arm64 qemu-user
  touch "$system/.done"
fi

work=$system/work
rm -rf "$work/models" "$work/scripts"
mkdir -p "$work/models/runtimes/fused/src" "$work/models/core/src/weights"
cp -r models/runtimes/fused/src/kernels models/runtimes/fused/src/{buffer,packing}.rs "$work/models/runtimes/fused/src/"
cp models/core/src/weights/linear.rs "$work/models/core/src/weights/"
mkdir -p "$work/scripts"
cp -r scripts/kernels "$work/scripts/"
# Crates come from where this machine's cargo gets them, and are used offline inside.
(cd "$work/scripts/kernels" && mkdir -p .cargo && cargo vendor vendor 2>&1 > .cargo/config.toml | tail -1)

echo "==> kernels on $target"
chroot "$system" env \
  CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc \
  CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER="qemu-aarch64 -L /usr/aarch64-linux-gnu" \
  bash -c "cd /work/scripts/kernels && cargo test --release --offline --target $target"
