"""Writes benches/results/criterion.md from what criterion has measured.

    python3 benches/criterion_table.py
"""

import json
import os
import re
import subprocess
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
UNITS = [(1e9, "s"), (1e6, "ms"), (1e3, "µs"), (1, "ns")]
RATES = [(1e9, "G"), (1e6, "M"), (1e3, "k"), (1, "")]
# What a second's work is counted in, by group.
WORK = {"linear": "FLOP", "peak": "FLOP", "encoder": "tokens", "tokenize": "tokens", "encode": "vectors"}


def scaled(value: float, steps: list[tuple[float, str]]) -> str:
    factor, name = next(((factor, name) for factor, name in steps if value >= factor), steps[-1])
    return f"{value / factor:.3g} {name}"


def by_numbers(path: Path) -> list:
    """Numbers in a name count as numbers: 16 before 128."""
    parts = re.split(r"(\d+)", str(path.parent))
    return [int(part) if part.isdigit() else part for part in parts]


def rows() -> list[str]:
    lines = []
    for path in sorted((ROOT / "target/criterion").glob("**/new/estimates.json"), key=by_numbers):
        bench = json.loads((path.parent / "benchmark.json").read_text())
        mean = json.loads(path.read_text())["mean"]
        low, high = (mean["confidence_interval"][bound] for bound in ("lower_bound", "upper_bound"))
        time_text = f"{scaled(mean['point_estimate'], UNITS)} [{scaled(low, UNITS)}, {scaled(high, UNITS)}]"
        work = (bench["throughput"] or {}).get("Elements")
        rate = f"{scaled(work / mean['point_estimate'] * 1e9, RATES)}{WORK.get(bench['group_id'], '')}" if work else ""
        lines.append(f"| {bench['full_id'].replace('/', ', ')} | {time_text} | {rate} |")
    return lines


def main() -> None:
    cpu = next(line.split(":", 1)[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines()
               if line.startswith("model name"))
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True).stdout.strip()
    out = ROOT / "benches/results/criterion.md"
    out.write_text("\n".join([
        "# Criterion benches", "",
        f"Made by `make bench` on {time.strftime('%Y-%m-%d')}, commit {commit}; {os.cpu_count()} cores of {cpu}. Criterion's "
        "estimate of the mean, with its interval in brackets. Linear layers are `rows x in x out` on one thread, against the "
        "`gemm` crate; `peak` is the rate of products in registers alone, one thread; `adapter` is a layer alone and with a rank-16 branch beside it; the encoder is the embedding model as "
        "its card says, on all cores.", "",
        "| bench | time | a second |", "|---|---|---|", *rows(), ""]))
    print(f"wrote {out}")


if __name__ == "__main__":
    main()
