"""The real server under load, by policy: callers who wait, and calls that come at 0.5 to 10 times of what can
be answered. Writes a table and a plot.

    python3 benches/load/run.py [--seconds 5] [--rounds 1] [--out benches/results/load.md]

A server for each policy; they take turns cell by cell, so that all see the same machine. Texts of 8 to 200
words, one a call, on one model or on all five alike. The load comes from `target/release/callers` on the
same cores.
"""

import argparse
import contextlib
import http.client
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "benches/served"))
from callers import Lines, write_bodies  # noqa: E402
from run import OPS_OFFSET, ROUTES, cpu_name, in_flight, served, texts  # noqa: E402

POLICIES = {
    "deadline": 'policy = "deadline"',
    "token_budget": "policy = { token_budget = { tokens = 1024 } }",
    "preferred_size": "policy = { preferred_size = { sequences = 16, queue_delay_max_ms = 5 } }",
}
HEADERS = {"authorization": "Bearer tc_test_dev", "content-type": "application/json"}
CALLERS = [16, 64, 256]
LOADS = [0.5, 0.75, 0.9, 1.0, 1.1, 1.5, 2.0, 5.0, 10.0]
# Seconds for which a caller of an open loop waits.
PATIENCE = 10
# A call is answered again as on an idle server: within its target, so many times in a row.
RECOVERED = 10


class Server:
    """One policy's server."""

    def __init__(self, api, process, bodies):
        self.api, self.process, self.bodies = api, process, bodies
        host, port = api.split(":")
        self.ops = f"{host}:{int(port) + OPS_OFFSET}"
        self.callers = Lines(ROOT / "target/release/callers")

    def load(self, routes, load, seconds):
        """What became of each route's calls. Returns when nothing of them is left."""
        order = [{"path": f"/v1/ml/{route}", "bodies": self.bodies, "target": ROUTES[route] / 1000} for route in routes]
        found = self.callers.ask(address=self.api, http2=False, headers=HEADERS, routes=order, load=load, seconds=seconds,
                                 patience=PATIENCE if "rate" in load else 60)
        return {**found, "recovery": self.recovery()}

    def recovery(self):
        """Seconds until short calls are answered within their target."""
        began, in_a_row = time.perf_counter(), 0
        connection = http.client.HTTPConnection(self.api, timeout=60)
        while in_a_row < RECOVERED:
            sent = time.perf_counter()
            connection.request("POST", "/v1/ml/classify", json.dumps({"inputs": "All went well."}), HEADERS)
            answer = connection.getresponse()
            answer.read()
            is_fast = answer.status == 200 and time.perf_counter() - sent < ROUTES["classify"] / 1000
            in_a_row = in_a_row + 1 if is_fast else 0
            if time.perf_counter() - began > 60:
                break
        took = time.perf_counter() - began
        while in_flight(self.ops) > 0:
            time.sleep(0.02)
        return took

    def memory(self):
        """Resident MB."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1]) / 1024


def total(found, key):
    return sum(route[key] for route in found["routes"])


def worst(found, key):
    """Of the routes, in ms."""
    return max(route[key] for route in found["routes"]) / 1000


def measure(options):
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        bodies = write_bodies(Path(folder) / "texts.bodies",
                              [json.dumps({"inputs": [text]}).encode() for text in texts(500, seed=11)])
        servers = {}
        for number, (name, policy) in enumerate(POLICIES.items()):
            api, process = stack.enter_context(served(18300 + number, options.data_dir, ["[batching]", policy]))
            servers[name] = Server(api, process, bodies)
        closed, opened = {}, {}

        def turns(cells, key, routes, load):
            for name, server in servers.items():
                found = server.load(routes, load, options.seconds)
                found["memory"] = server.memory()
                cells.setdefault((key, name), []).append(found)
                print(f"{key} {name}: {total(found, 'answered') / found['seconds']:.0f}/s, p99 {worst(found, 'p99_us'):.0f} ms",
                      flush=True)

        for server in servers.values():
            server.load(list(ROUTES), {"callers": 16}, 2)
        for _ in range(options.rounds):
            for callers in CALLERS:
                for route in [*ROUTES, "all"]:
                    turns(closed, (route, callers), list(ROUTES) if route == "all" else [route], {"callers": callers})
        # What a line answers with enough callers who wait: what can be answered.
        line = closed[("all", 64), "token_budget"]
        capacity = median(line, lambda found: total(found, "answered") / found["seconds"])
        for _ in range(options.rounds):
            for load in LOADS:
                turns(opened, load, list(ROUTES), {"rate": load * capacity})
        for server in servers.values():
            server.callers.close()
    return closed, opened, capacity


def median(cells, of):
    return statistics.median(of(found) for found in cells)


def table(options, closed, opened, capacity):
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True).stdout.strip()
    lines = [
        "# Under load", "",
        f"Made by `make bench-load` (`benches/load/run.py --seconds {options.seconds} --rounds {options.rounds}`) on "
        f"{time.strftime('%Y-%m-%d')}, commit {commit or 'unknown'}. {os.cpu_count()} cores of {cpu_name()}, which the load "
        "generator shares; a server for each policy, which take turns cell by cell. One text of 8 to 200 words a call. Targets "
        "refuse nobody. The policies: `deadline` (this project's), `token_budget` (1,024 tokens, first come, first served, as "
        "text-embeddings-inference), `preferred_size` (16 sequences or 5 ms, as Triton's dynamic batcher).", "",
        "## Callers who wait for their answers", "",
        "The ratios are to `token_budget` in the same round.", "",
        "| route | callers | policy | calls/s | p50 ms | p90 ms | p99 ms | max ms | p99, ratio | max, ratio |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for ((route, callers), name), cells in closed.items():
        line = closed[(route, callers), "token_budget"]
        rate = median(cells, lambda found: total(found, "answered") / found["seconds"])
        shown = [f"{median(cells, lambda found: worst(found, key)):.0f}" for key in ("p50_us", "p90_us", "p99_us", "max_us")]
        ratios = [f"{statistics.median(worst(a, key) / worst(b, key) for a, b in zip(cells, line)):.2f}"
                  for key in ("p99_us", "max_us")]
        lines.append("| " + " | ".join([route, str(callers), name, f"{rate:.0f}", *shown, *ratios]) + " |")
    lines += [
        "", "Of `all` the slowest model's quantiles.", "",
        "## Calls that come whatever becomes of those before", "",
        "![calls answered in time, and the slowest percent, by load](load.png)", "",
        f"Calls at random (Poisson), on all five models alike, as a share of {capacity:.0f} a second, which is what "
        f"`token_budget` answers with 64 callers. Who is not answered within {PATIENCE} s leaves. In time: within the model's "
        "target. Recovery: until short calls are within their target again once the load has ended.", "",
        "| load | policy | answered/s | in time/s | within 1 s/s | refused/s | timed out/s | p50 ms | p99 ms | max ms | "
        "resident MB | recovery s |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for (load, name), cells in opened.items():
        rates = [f"{median(cells, lambda found: total(found, key) / options.seconds):.0f}"
                 for key in ("answered", "in_time", "within_second", "refused", "timed_out")]
        shown = [f"{median(cells, lambda found: worst(found, key)):.0f}" for key in ("p50_us", "p99_us", "max_us")]
        others = [f"{median(cells, lambda found: found['memory']):.0f}", f"{median(cells, lambda found: found['recovery']):.2f}"]
        lines.append("| " + " | ".join([f"{load:g}", name, *rates, *shown, *others]) + " |")
    return "\n".join(lines) + "\n"


def plot(options, opened, path):
    import matplotlib
    matplotlib.use("Agg")
    from matplotlib import pyplot
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(11, 4.2))
    for name in POLICIES:
        cells = [opened[load, name] for load in LOADS]
        left.plot(LOADS, [median(cell, lambda found: total(found, "within_second") / options.seconds) for cell in cells],
                  marker="o", label=name)
        right.plot(LOADS, [median(cell, lambda found: worst(found, "p99_us")) for cell in cells], marker="o", label=name)
    left.set_ylabel("answered within a second, calls/s")
    right.set_ylabel("p99 of the slowest model, ms")
    right.set_yscale("log")
    for axes in (left, right):
        axes.set_xscale("log")
        shown = [load for load in LOADS if load not in (0.9, 1.1)]
        axes.set_xticks(shown, [f"{load:g}" for load in shown])
        axes.minorticks_off()
        axes.set_xlabel("load, as a share of what can be answered")
        axes.grid(alpha=0.3)
        axes.set_ylim(bottom=0 if axes is left else None)
    left.legend()
    figure.tight_layout()
    figure.savefig(path, dpi=110)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--data-dir", default=str(ROOT / "data"))
    parser.add_argument("--out", default=str(ROOT / "benches/results/load.md"))
    options = parser.parse_args()
    closed, opened, capacity = measure(options)
    Path(options.out).write_text(table(options, closed, opened, capacity))
    plot(options, opened, Path(options.out).with_suffix(".png"))
    print(f"wrote {options.out}")


if __name__ == "__main__":
    main()
