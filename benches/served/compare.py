"""The price of a setting: served latency and throughput with a line of configuration and without, on two
servers that take turns within seconds, so that both see the same machine. Writes a table of ratios.

    python3 benches/served/compare.py --setting 'usage.is_recorded = false' [--seconds 5] [--rounds 8] [--out FILE]
"""

import argparse
import contextlib
import os
import statistics
import time
from pathlib import Path

from run import ROOT, corpus, cpu_name, measure, served

CELLS = [("sentiment", 1), ("sentiment", 16), ("embeddings", 16), ("classify", 16)]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--setting", required=True, help="a line of configuration")
    parser.add_argument("--seconds", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--data-dir", default=str(ROOT / "data"))
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    results = {cell: ([], []) for cell in CELLS}
    with contextlib.ExitStack() as stack:
        default, _ = stack.enter_context(served(18080, options.data_dir, []))
        other, _ = stack.enter_context(served(18180, options.data_dir, [options.setting]))
        texts = stack.enter_context(corpus())
        for round_number in range(options.rounds):
            for cell in CELLS:
                # Who goes first changes from round to round.
                for which in (0, 1) if round_number % 2 == 0 else (1, 0):
                    results[cell][which].append(measure((default, other)[which], *cell, options.seconds, texts))
            print(f"round {round_number + 1} of {options.rounds}", flush=True)
    lines = [
        f"# The price of `{options.setting}`",
        "",
        f"Made by `python3 benches/served/compare.py --setting '{options.setting}' --seconds {options.seconds} --rounds "
        f"{options.rounds}` on {time.strftime('%Y-%m-%d')}: the default against this, two servers in turns, medians of the rounds; "
        f"ratios are of the default's to the other's. {os.cpu_count()} cores of {cpu_name()}, shared with the load generator.",
        "",
        "| route | callers | p50 ms | p99 ms | requests/s | ratio of p50 | ratio of p99 | of requests/s |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for (route, callers), (ours, others) in results.items():
        def median(rounds, of):
            return statistics.median(of(one) for one in rounds)
        measures = [lambda one: one["p50"], lambda one: one["p99"], lambda one: one["requests"] / one["seconds"]]
        pairs = [(median(ours, of), median(others, of)) for of in measures]
        shown = [f"{mine:.1f}, {theirs:.1f}" for mine, theirs in pairs]
        ratios = [f"{mine / theirs:.3f}" for mine, theirs in pairs]
        lines.append("| " + " | ".join([route, str(callers), *shown, *ratios]) + " |")
    report = "\n".join(lines) + "\n"
    if options.out:
        options.out.write_text(report)
    print(report)


if __name__ == "__main__":
    main()
