"""Served latency and throughput of all five models, measured with wrk against the real server; writes a
table.

    python3 benches/served/run.py [--seconds 10] [--rounds 3] [--runtime RUNTIME] [--out benches/results/served.md]

One text a request, lengths mixed; routes and concurrencies are interleaved over the rounds, medians are
reported.
"""

import argparse
import contextlib
import json
import os
import platform
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ROUTES = {"classify": 50, "sentiment": 30, "entities": 80, "summarize": 500, "embeddings": 20}
# The port of operations is this far above that of the API.
OPS_OFFSET = 1010
CONCURRENCY = [1, 16, 64]
SUBJECTS = ["The warehouse in Rotterdam", "Our support team", "The new firmware", "Dr. Okafor", "A customer from Lyon",
            "The quarterly audit", "Her landlord", "The harbour authority", "This invoice", "The night shift"]
VERBS = ["has confirmed", "could not explain", "praised", "was late with", "is still waiting for", "forgot about",
         "wrote a long report on", "cancelled", "has doubled the budget for", "asked us to check"]
OBJECTS = ["the delivery of forty pallets", "the broken heat pump", "last week's outage in the Berlin office",
           "a refund of 120 euros", "the contract with Siemens", "every item on the list", "the friendly service",
           "the error message on the second screen", "the meeting on Tuesday", "our plans for the summer"]


def texts(count, seed):
    """Texts of 8 to 200 words, from a seeded generator: the same for every run."""
    rng = random.Random(seed)
    made = []
    for _ in range(count):
        words, target = [], rng.randint(8, 200)
        while len(words) < target:
            sentence = f"{rng.choice(SUBJECTS)} {rng.choice(VERBS)} {rng.choice(OBJECTS)}."
            words += sentence.split()
        made.append(" ".join(words))
    return made


def wait_until_ready(ops):
    for _ in range(600):
        try:
            if urllib.request.urlopen(f"http://{ops}/readyz", timeout=1).status == 200:
                return
        except OSError:
            pass
        time.sleep(0.05)
    sys.exit("the server did not become ready")


@contextlib.contextmanager
def served(port, data_dir, settings, binary=ROOT / "target/release/ml-inference", cards=ROOT / "model-cards", state=None):
    """A server with these lines of configuration and a state of its own, until the block ends: its address
    and its process. The folder of its `state` goes with it, unless it is given."""
    api, ops = f"127.0.0.1:{port}", f"127.0.0.1:{port + OPS_OFFSET}"
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "served.toml"
        config.write_text("".join(f"{setting}\n" for setting in settings))
        process = subprocess.Popen(
            [binary, "serve", "--offline", "--listen", api, "--ops-listen", ops,
             "--data-dir", data_dir, "--state-dir", state or f"{folder}/state", "--cards-dir", cards, "--log", "warn",
             "--config", config], stdout=subprocess.DEVNULL)
        try:
            wait_until_ready(ops)
            yield api, process
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(timeout=60)


@contextlib.contextmanager
def corpus():
    """The name of a file with a text a line."""
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        file.write("\n".join(texts(500, seed=11)) + "\n")
        file.flush()
        yield file.name


def wrk(api, route, concurrency, seconds, corpus, inputs=1, threads=2):
    """A running wrk with this many connections, whose requests have this many texts each."""
    command = ["wrk", f"-t{min(threads, concurrency)}", f"-c{concurrency}", f"-d{seconds}s", "--timeout", "30s",
               "-s", str(ROOT / "benches/served/post.lua"), f"http://{api}/v1/ml/{route}", "--", corpus, str(inputs)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def result(process):
    """What a wrk found, once it has ended."""
    output, _ = process.communicate()
    if process.returncode != 0:
        raise RuntimeError(f"wrk ended with {process.returncode}")
    return json.loads(output.strip().splitlines()[-1])


def measure(api, route, concurrency, seconds, corpus):
    """What a wrk found. Returns when the server is done with what it left behind, which is half a second's
    work: callers who close one side of their connection are answered."""
    found = result(wrk(api, route, concurrency, seconds, corpus))
    host, port = api.split(":")
    while in_flight(f"{host}:{int(port) + OPS_OFFSET}") > 0:
        time.sleep(0.02)
    return found


def in_flight(ops):
    metrics = urllib.request.urlopen(f"http://{ops}/metrics", timeout=10).read().decode()
    line = next(line for line in metrics.splitlines() if line.startswith("ml_inference_calls_in_flight"))
    return float(line.split()[-1])


def peak_memory(pid):
    status = Path(f"/proc/{pid}/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


def cpu_name():
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":")[1].strip()
    return platform.processor()


def table(results, options, memory):
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True).stdout
    extra = f" --runtime {options.runtime}" if options.runtime else ""
    extra += "".join(f" --setting '{setting}'" for setting in options.setting)
    lines = [
        "# Served latency and throughput",
        "",
        f"Made by `python3 benches/served/run.py --seconds {options.seconds} --rounds {options.rounds}"
        f"{extra}` on "
        f"{time.strftime('%Y-%m-%d')}, commit {commit.strip() or 'unknown'}; cells interleaved, medians of the rounds.",
        f"{os.cpu_count()} cores of {cpu_name()}; load generator (wrk) and server share them. One text a request, "
        f"8 to 200 words, one model at a time. Peak resident memory of the server: {memory:.0f} MB.",
        "",
        "| route | callers | requests/s | p50 ms | p90 ms | p99 ms | p99 target ms | not 200 |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for (route, concurrency), rounds in results.items():
        median = lambda key: statistics.median(r[key] for r in rounds)
        rate = statistics.median(r["requests"] / r["seconds"] for r in rounds)
        bad = sum(r["refused"] + r["broken"] for r in rounds)
        lines.append(f"| {route} | {concurrency} | {rate:.0f} | {median('p50'):.1f} | {median('p90'):.1f} "
                     f"| {median('p99'):.1f} | {ROUTES[route]} | {bad} |")
    return "\n".join(lines) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--seconds", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--data-dir", default=str(ROOT / "data"))
    parser.add_argument("--runtime", help="one runtime for all models, in float32, instead of what their cards say")
    parser.add_argument("--setting", action="append", default=[], help="a line of configuration")
    parser.add_argument("--out", default=str(ROOT / "benches/results/served.md"))
    options = parser.parse_args()
    settings = list(options.setting)
    if options.runtime:
        models = [path.parent.name for path in (ROOT / "model-cards").glob("*/README.md")]
        settings += [f'models.{model} = {{ runtime = "{options.runtime}" }}' for model in models]
    with served(18080, options.data_dir, settings) as (api, process), corpus() as texts_file:
        cells = [(route, c) for route in ROUTES for c in CONCURRENCY]
        results = {cell: [] for cell in cells}
        for round_number in range(options.rounds):
            for route, concurrency in cells:
                found = measure(api, route, concurrency, options.seconds, texts_file)
                results[route, concurrency].append(found)
                rate = found["requests"] / found["seconds"]
                print(f"round {round_number + 1}: {route} at {concurrency}: {rate:.0f}/s, p99 {found['p99']:.1f} ms",
                      flush=True)
        report = table(results, options, peak_memory(process.pid))
    Path(options.out).write_text(report)
    print(f"wrote {options.out}")


if __name__ == "__main__":
    main()
