"""Makes one table of what `run.sh` measured.

    python3 benches/gpu/report.py OUT_FOLDER RESULT.md
"""

import json
import sys
import time
from pathlib import Path

TARGETS_MS = {"classify": 50, "sentiment": 30, "entities": 80, "summarize": 500, "embeddings": 20}


def table(head, rows):
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return [*lines, *("| " + " | ".join(str(cell) for cell in row) + " |" for row in rows), ""]


def load(folder, name):
    path = folder / name
    return json.loads(path.read_text()) if path.exists() else {}


def last_lines(folder, name, count):
    path = folder / name
    return path.read_text().strip().splitlines()[-count:] if path.exists() else ["not run"]


def ratio(a, b):
    return f"{a / b:.2f}" if a and b else "–"


def engines(results):
    ceilings = results.get("ceilings", {})
    lines = [f"{ceilings.get('name')}, PyTorch {ceilings.get('torch')}. A copy moves {ceilings.get('bandwidth', 0) / 1e12:.2f} TB/s, read and "
             f"written; a product of 8192 x 8192 x 8192 in bfloat16 on random numbers runs at {ceilings.get('bf16', 0) / 1e12:.0f} TFLOP/s.", ""]
    lines += [f"sentence-transformers, MiniLM, bfloat16, texts in: {results.get('sentence-transformers', 0) / 1e3:.0f} k tokens/s.", ""]
    peak = ceilings.get("bf16", float("nan"))
    for name in "minilm", "bert-base", "bert-large":
        of = results.get(name)
        if not of:
            continue
        agreement = of.get("smallest cosine to float32", {})
        lines += [f"### {name}", "", "Smallest cosine of a pooled vector to float32 on the CPU, random weights, 1 to 512 tokens: "
                  + ", ".join(f"{dtype} {value:.6f}" for dtype, value in agreement.items()) + ".", ""]
        which = ("ours", "ours, bfloat16", "ours, GELU in the product", "eager", "sdpa", "compile")
        ours, bfloat16, fused, eager, sdpa, compiled = (of.get(f"tokens/s, {one}", {}) for one in which)
        rows = []
        for length, rate in ours.items():
            share = rate * of["operations of a token"].get(length, 0) / peak
            rows.append([length, f"{rate / 1e6:.3f}", f"{share:.0%}", ratio(bfloat16.get(length), rate), ratio(fused.get(length), rate),
                         ratio(rate, eager.get(length)), ratio(rate, sdpa.get(length)),
                         ratio(rate, compiled.get(length))])
        lines += table(["tokens a text", "ours, float16, M tokens/s", "of the measured rate", "in bfloat16, to it",
                        "GELU in the product, to it", "ours to eager", "to SDPA", "to torch.compile"], rows)
        alone, plain, theirs = (of.get(f"one text, {which}", {}) for which in ("ours", "ours without graphs", "sdpa"))
        rows = [[length, f"{seconds * 1e3:.3f}", f"{plain.get(length, 0) * 1e3:.3f}", f"{theirs.get(length, 0) * 1e3:.3f}"]
                for length, seconds in alone.items()]
        lines += table(["one text of tokens", "ours, ms", "without graphs, ms", "SDPA, ms"], rows)
        graphs, kernels = (of.get(f"small batches, {which}", {}) for which in ("graphs", "kernels"))
        rows = [[size, f"{seconds * 1e3:.3f}", f"{kernels.get(size, 0) * 1e3:.3f}", ratio(kernels.get(size), seconds)]
                for size, seconds in graphs.items()]
        lines += table(["texts of 32 tokens, tokens in all", "as a graph, ms", "kernel by kernel, ms", "ratio"], rows)
        mixed = {which: of.get(f"mixed, {which}") for which in ("ours", "sdpa", "sdpa, sorted", "compile, sorted")}
        rows = [[which, f"{rate / 1e6:.3f}", ratio(mixed["ours"], rate)] for which, rate in mixed.items() if rate]
        lines += table(["2,048 texts of mixed lengths", "M tokens/s", "ours to it"], rows)
        for what, why in of.get("failed", {}).items():
            lines += [f"Failed: {what}: {why}", ""]
    return lines


def served(results):
    lines = [f"Ready {results.get('seconds to ready', 0):.1f} s after its start, with five models.", ""]
    rows = []
    for what, found in results.items():
        if what.startswith(("REST, five", "tokens")) or not isinstance(found, dict) or "p50" not in found:
            continue
        kind, route, load_of_it = what.split(", ")
        rows.append([kind, route, load_of_it, f"{found['requests'] / found['seconds']:.0f}", f"{found['p50']:.2f}", f"{found['p99']:.2f}",
                     TARGETS_MS[route]])
    lines += table(["", "route", "load", "requests/s", "p50 ms", "p99 ms", "p99 target ms"], rows)
    for what, found in results.items():
        if what.startswith("REST, five"):
            rows = [[route, f"{one['requests'] / one['seconds']:.0f}", f"{one['p50']:.2f}", f"{one['p99']:.2f}", TARGETS_MS[route]]
                    for route, one in found.items()]
            lines += [f"{what}:", "", *table(["route", "requests/s", "p50 ms", "p99 ms", "p99 target ms"], rows)]
    rows = [[*what.split(", ")[1:], f"{found['tokens/s'] / 1e6:.3f}", f"{found['p50']:.1f}", f"{found['p99']:.1f}"]
            for what, found in results.items() if what.startswith("tokens/s")]
    lines += table(["model of random weights", "callers", "texts", "M tokens/s", "p50 ms", "p99 ms"], rows)
    for what, why in results.get("failed", {}).items():
        lines += [f"Failed: {what}: {why}", ""]
    return lines


def main():
    folder, to = Path(sys.argv[1]), Path(sys.argv[2])
    machine = load(folder, "machine.json")
    lines = ["# On a GPU", "", f"Made by `benches/gpu/run.sh` on {time.strftime('%Y-%m-%d')}, commit {machine.get('commit', 'unknown')}: "
             f"{machine.get('gpu', 'no GPU')}, {machine.get('cores')} cores. Medians; engines of a row one after the other in one run; load "
             "generators on the server's machine.", "", "## Right", "",
             "Kernels against float64, random ragged batches:", "", "```", *last_lines(folder, "checks.log", 1), "```", "",
             "Random encoders against the reference, graphs, overlap, memory:", "", "```", *last_lines(folder, "cuda.log", 2), "```", "",
             "Every architecture against its authors' own classes:", "", "```", *last_lines(folder, "architectures.log", 2), "```", "",
             "Five models against float32 on the CPU:", "", "```",
             *[line for log in ("formats.log", "onnx.log") for line in last_lines(folder, log, 60)
               if " texts" in line or "test result" in line], "```", "", "## Fast", ""]
    lines += engines(load(folder, "engines.json"))
    lines += ["## Served", "", *served(load(folder, "served.json"))]
    to.write_text("\n".join(lines).rstrip() + "\n")
    print(f"wrote {to}")


if __name__ == "__main__":
    main()
