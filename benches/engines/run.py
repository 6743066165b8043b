"""CPU engines side by side on the embedding model: a table and a plot of their rates.

    python3 benches/engines/run.py [--rounds 5] [--out benches/results/engines.md]

Every engine is a process of its own that waits without spinning while another is measured. In each round
each cell is run by every engine, in an order that changes from round to round; what is reported is the
median over the rounds, and the ratio to ONNX Runtime float32 with the smallest and the largest ratio of a
single round.
"""

import argparse
import json
import os
import platform
import random
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
RUST = {"fused-fp32": ("fused", "float32"), "fused-bf16": ("fused", "bfloat16"), "candle": ("candle", "float32")}
PYTHON = ["ort-fp32", "ort-int8", "torch-fp32", "torch-bf16"]
ENGINES = [*RUST, *PYTHON]
BASE = "ort-fp32"
LENGTHS = [16, 64, 128, 256, 512]
BATCHES = [1, 8, 32]
THREADS = [1, 2]
TARGETS = {"fused-fp32": 1.1, "fused-bf16": 1.9}
MIXED_TARGET = 4.0
WHY = """Why a cell can miss: in float32 on one thread ONNX Runtime is near the multipliers' rate itself when a batch has many short texts \
(our linear layers alone reach about 93 % of it, `linear` in criterion.md), so little more than 1.1 is left to have; the machine is \
shared, and its rate changes by a tenth from minute to minute. On mixed lengths from 8 to 256, equally likely, padding to the longest \
of 32 makes 1.9 times the work; with the engines' own ratio that gives about 2.7 in float32, and only bfloat16 goes beyond 4."""
# Mixed lengths: this many texts, in requests of 32.
MIXED, MIXED_BATCH = 64, 32
# Least time of one engine's turn in a cell, and most of it.
TURN_SECONDS, RUNS_MAX = 0.2, 40


class Engine:
    def __init__(self, name: str, threads: int, folder: Path):
        self.name = name
        environment = dict(os.environ, RAYON_NUM_THREADS=str(threads), OMP_NUM_THREADS=str(threads),
                           OMP_WAIT_POLICY="passive", ML_INFERENCE_DATA_DIR=str(ROOT / "data"))
        if name in RUST:
            command = [str(ROOT / "target/release/engine"), *RUST[name], str(threads)]
        else:
            command = [sys.executable, str(ROOT / "benches/engines/worker.py"), name, str(threads), str(folder)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                                        env=environment, stderr=subprocess.DEVNULL)

    def run(self, batches: list[list[int]], runs: int) -> list[float]:
        self.process.stdin.write(json.dumps({"batches": batches, "runs": runs}) + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            sys.exit(f"{self.name} ended with {self.process.wait()}")
        return json.loads(answer)

    def turn(self, batches: list[list[int]]) -> float:
        """The median time of a run, after one that warms caches and buffers. One that is long by itself is
        all there is."""
        first = self.run(batches, 1)[0]
        if first > 2 * TURN_SECONDS:
            return first
        return statistics.median(self.run(batches, max(2, min(RUNS_MAX, int(TURN_SECONDS / first)))))

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait()


def flops(lengths: list[int], config: dict) -> float:
    """Multiplications and additions of the encoder's matrix products, without padding."""
    hidden, inner = config["hidden_size"], config["intermediate_size"]
    linear = 2 * (4 * hidden * hidden + 2 * hidden * inner)
    return sum(config["num_hidden_layers"] * (length * linear + 4 * length * length * hidden) for length in lengths)


def mixed_batches(is_sorted: bool) -> list[list[int]]:
    rng = random.Random(17)
    lengths = [rng.randint(8, 256) for _ in range(MIXED)]
    lengths = sorted(lengths) if is_sorted else lengths
    return [lengths[start:start + MIXED_BATCH] for start in range(0, MIXED, MIXED_BATCH)]


def cells() -> list[tuple[str, str, list[list[int]]]]:
    """Kind, name and batches of each cell."""
    same = [("same", f"{batch} x {length}", [[length] * batch]) for batch in BATCHES for length in LENGTHS]
    return same + [("mixed", "mixed, in arrival order", mixed_batches(False)),
                   ("mixed", "mixed, sorted by length", mixed_batches(True))]


def measure(rounds: int, folder: Path) -> tuple[dict, dict]:
    """Seconds by (threads, cell, engine), one for each round; and peaks by (threads, format)."""
    seconds: dict = {}
    peaks: dict = {}
    for threads in THREADS:
        engines = [Engine(name, threads, folder) for name in ENGINES]
        for engine in engines:
            engine.run([[16]], 3)
        for engine in engines[:2]:
            peaks[threads, engine.name] = max(engine.run([], 5))
        for number in range(rounds):
            for _, cell, batches in cells():
                order = engines[:]
                random.Random(f"{number} {cell}").shuffle(order)
                for engine in order:
                    seconds.setdefault((threads, cell, engine.name), []).append(engine.turn(batches))
                    # Until the threads of this engine have gone to sleep.
                    time.sleep(0.01)
            print(f"{threads} thread(s), round {number + 1} of {rounds}", flush=True)
        for engine in engines:
            engine.close()
    return seconds, peaks


def ratio(seconds: dict, threads: int, cell: str, name: str, base_cell: str | None = None) -> tuple[float, float, float]:
    base = seconds[threads, base_cell or cell, BASE]
    ratios = [theirs / ours for theirs, ours in zip(base, seconds[threads, cell, name])]
    return statistics.median(ratios), min(ratios), max(ratios)


def report(seconds: dict, peaks: dict, config: dict, rounds: int) -> str:
    cpu = next((line.split(":", 1)[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines()
                if line.startswith("model name")), platform.processor())
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True).stdout.strip()
    lines = ["# CPU engines side by side", "",
             f"Made by `make bench-engines` (`benches/engines/run.py --rounds {rounds}`) on {time.strftime('%Y-%m-%d')}, "
             f"commit {commit}; {os.cpu_count()} cores of {cpu}.",
             "The embedding model (all-MiniLM-L6-v2), from token ids to pooled vectors. Cells are texts a second, medians over the rounds; "
             "behind them the ratio to ONNX Runtime float32 in the same round, with the smallest and the largest, and for the "
             "fused engines the share of the rate that the multipliers reach in registers alone.", "",
             "Multipliers at most: " + "; ".join(
                 f"{threads} thread(s) {peak / 1e9:.0f} GFLOP/s in {name.removeprefix('fused-')}"
                 for (threads, name), peak in peaks.items()) + ".", ""]
    misses = []
    for threads in THREADS:
        lines += [f"## {threads} thread(s)", "", "| batch x tokens | " + " | ".join(ENGINES) + " |",
                  "|---" * (len(ENGINES) + 1) + "|"]
        for _, cell, batches in cells():
            count = sum(map(len, batches))
            row = []
            for name in ENGINES:
                rate = count / statistics.median(seconds[threads, cell, name])
                middle, low, high = ratio(seconds, threads, cell, name)
                text = f"{rate:.1f}"
                if name != BASE:
                    text += f" · {middle:.2f} ({low:.2f}–{high:.2f})"
                if (threads, name) in peaks:
                    work = sum(flops(batch, config) for batch in batches)
                    text += f" · {rate / count * work / peaks[threads, name]:.0%}"
                if name in TARGETS and middle < TARGETS[name]:
                    misses.append(f"{threads} thread(s), {cell}, {name}: {middle:.2f} of {TARGETS[name]}")
                row.append(text)
            lines.append(f"| {cell} | " + " | ".join(row) + " |")
        lines.append("")
    lines += ["## Mixed lengths", "",
              f"{MIXED} texts of 8 to 256 tokens, in requests of {MIXED_BATCH}. The base is ONNX Runtime float32 in arrival order, padded, "
              "as a padding server runs it. The fused engines pad nothing and need no sorting.", "",
              "| threads | " + " | ".join(f"{name}, {how}" for name in ("ort-fp32", "fused-fp32", "fused-bf16")
                                          for how in ("arrival", "sorted")) + " |", "|---" * 7 + "|"]
    arrival, ordered = "mixed, in arrival order", "mixed, sorted by length"
    for threads in THREADS:
        row = []
        for name in ("ort-fp32", "fused-fp32", "fused-bf16"):
            for cell in (arrival, ordered):
                middle, low, high = ratio(seconds, threads, cell, name, arrival)
                row.append(f"{middle:.2f} ({low:.2f}–{high:.2f})")
                if name.startswith("fused") and cell == arrival and middle < MIXED_TARGET:
                    misses.append(f"{threads} thread(s), {cell} against padding, {name}: {middle:.2f} of {MIXED_TARGET}")
        lines.append(f"| {threads} | " + " | ".join(row) + " |")
    lines += ["", "## Cells below their target", "",
              "Targets: fused-fp32 1.1, fused-bf16 1.9 of ONNX Runtime float32; 4 of padding on mixed lengths.", ""]
    lines += [f"- {miss}" for miss in misses] or ["None."]
    lines += ["", WHY]
    return "\n".join(lines) + "\n"


def plot(seconds: dict, path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(len(THREADS), len(BATCHES), figsize=(13, 7), sharey=True, layout="constrained")
    for row, threads in zip(axes, THREADS):
        for axis, batch in zip(row, BATCHES):
            for name in ENGINES:
                points = [ratio(seconds, threads, f"{batch} x {length}", name) for length in LENGTHS]
                middle = [point[0] for point in points]
                spread = [[point[0] - point[1] for point in points], [point[2] - point[0] for point in points]]
                is_ours = name.startswith("fused")
                axis.errorbar(range(len(LENGTHS)), middle, yerr=spread, label=name, marker="o" if is_ours else ".",
                              linewidth=2.4 if is_ours else 1.2, capsize=2)
            axis.set_xticks(range(len(LENGTHS)), LENGTHS)
            axis.set_title(f"batch {batch}, {threads} thread{'s' if threads > 1 else ''}", fontsize=10)
            axis.set_ylim(bottom=0)
            axis.grid(alpha=0.3)
    for axis in axes[-1]:
        axis.set_xlabel("tokens in each text")
    for axis in axes[:, 0]:
        axis.set_ylabel("rate / ONNX Runtime fp32")
    handles, labels = axes[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=len(ENGINES), frameon=False)
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=ROOT / "benches/results/engines.md")
    arguments = parser.parse_args()
    folder = next(iter(sorted(ROOT.glob("data/weights/*/*/embeddings-v2.onnx"))), None)
    if folder is None:
        sys.exit("no graph of the embedding model: run `make onnx` first")
    config = json.loads((folder.parent / "config.json").read_text())
    seconds, peaks = measure(arguments.rounds, folder.parent)
    image = arguments.out.with_suffix(".png")
    plot(seconds, image)
    text = report(seconds, peaks, config, arguments.rounds)
    arguments.out.write_text(text.replace("\n\n", f"\n\n![rates relative to ONNX Runtime]({image.name})\n\n", 1))
    print(f"wrote {arguments.out} and {image}")


if __name__ == "__main__":
    main()
