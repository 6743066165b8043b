"""Packs what `run.sh` needs on a machine with a GPU and nothing else: programs, kernels, load generators with
their libraries, and the embedding model's weights. Parts are small enough to be carried one by one.

    python3 benches/gpu/pack.py [--data-dir data] [--out data/gpu-kit] [--part-mib 40]

Builds with the features that are tested, so that little is compiled that `make test` has not. Needs wrk
and h2load installed.
"""

import argparse
import json
import lzma
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FEATURES = "ml-inference/kafka,ml-inference/cuda,benches/cuda"
# What every machine has.
SYSTEM_LIBRARIES = ("libc.so", "libm.so", "libpthread.so", "libdl.so", "libgcc_s.so", "libstdc++.so", "ld-linux", "linux-vdso")


def run(*command):
    return subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout


def built():
    """Programs by name: the server, the engine's bench and the tests of GPUs."""
    messages = run("cargo", "test", "--release", "--locked", "--workspace", "--features", FEATURES, "--no-run", "--message-format=json")
    run("cargo", "build", "--release", "--locked", "--workspace", "--features", FEATURES, "--bin", "engine", "--bin", "ml-inference")
    targets = [json.loads(line) for line in messages.splitlines() if '"compiler-artifact"' in line]
    tests = {(Path(one["manifest_path"]).parent.relative_to(ROOT).as_posix(), one["target"]["name"]): one["executable"]
             for one in targets if one.get("executable") and one["profile"]["test"]}
    release = ROOT / "target/release"
    kernels = max((path for path in (release / "build").glob("runtime-cuda-*/out/kernels.fatbin")), key=lambda path: path.stat().st_mtime)
    programs = {"cuda": tests["models/runtimes/cuda", "encoders"], "formats": tests["models/runtimes/cuda", "formats"],
                "architectures": tests["models/runtimes/cuda", "architectures"],
                "onnx": tests["models", "number_formats"], "ml-inference": release / "ml-inference", "engine": release / "engine"}
    return programs, kernels


def libraries(program):
    lines = (line.split() for line in run("ldd", str(program)).splitlines())
    paths = (words[2] for words in lines if len(words) > 2 and words[1] == "=>")
    return [path for path in paths if not Path(path).name.startswith(SYSTEM_LIBRARIES)]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--data-dir", type=Path, default=ROOT / "data")
    parser.add_argument("--out", type=Path, default=ROOT / "data/gpu-kit")
    parser.add_argument("--part-mib", type=int, default=40)
    options = parser.parse_args()
    programs, kernels = built()
    with tempfile.TemporaryDirectory() as folder:
        kit = Path(folder)
        (kit / "bin").mkdir()
        (kit / "lib").mkdir()
        for name, program in programs.items():
            run("strip", "-o", str(kit / "bin" / name), str(program))
        # Linked as little as can be: it may be another distribution's machine.
        run("c++", "-std=c++20", "-O2", "-static-libstdc++", "-static-libgcc", "-I", "models/runtimes/cuda/kernels", "models/runtimes/cuda/kernels/checks.cpp", "-o",
            str(kit / "bin/checks"), "-ldl")
        for generator in "wrk", "h2load":
            program = shutil.which(generator)
            if program is None:
                raise SystemExit(f"{generator} is not installed (Debian: wrk, nghttp2-client)")
            shutil.copy(program, kit / "bin")
            for library in libraries(program):
                shutil.copy(library, kit / "lib")
        shutil.copy(kernels, kit)
        (kit / "commit").write_text(run("git", "rev-parse", "--short", "HEAD"))
        weights = options.data_dir / "weights"
        shutil.copytree(weights, kit / "data/weights", ignore=shutil.ignore_patterns("*.onnx", "*.data"))
        shutil.rmtree(options.out, ignore_errors=True)
        options.out.mkdir(parents=True)
        whole = kit.with_suffix(".tar.xz")
        with lzma.open(whole, "wb", preset=6) as packed, tarfile.open(fileobj=packed, mode="w") as archive:
            archive.add(kit, arcname=".")
        size = options.part_mib << 20
        with whole.open("rb") as packed:
            for number in range(1000):
                part = packed.read(size)
                if not part:
                    break
                (options.out / f"kit.tar.xz.{number:03}").write_bytes(part)
        whole.unlink()
    for part in sorted(options.out.iterdir()):
        print(f"{part} {part.stat().st_size / 2**20:.1f} MiB")


if __name__ == "__main__":
    main()
