"""Goodput as more calls come than can be answered: answers a second with 4, 16, 64 and 1,024 calls in flight,
in turns.

    python3 benches/overload/run.py [--in-flight 4 16 64 1024] [--seconds 10] [--rounds 2]

Each call has four texts of about 300 words to classify; whoever is refused comes again at once. The load
comes from h2load on the same cores. What counts is each row's share of the best: the machine is the same
for all of them, and no number of another run is.
"""

import argparse
import json
import re
import signal
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "benches/served"))
from run import wait_until_ready  # noqa: E402

API, OPS = "127.0.0.1:18082", "127.0.0.1:19092"
WORDS = "the new report on sales of heat pumps in the third quarter was sent to our office by the unit in Aarhus on Tuesday and "


def run(in_flight, seconds, body):
    """Answers and refusals a second."""
    command = ["h2load", "--h1", "-D", str(seconds), "--warm-up-time", "2", "-c", str(in_flight), "-t", "1", "-d", body,
               "-H", "Authorization: Bearer tc_test_dev", "-H", "Content-Type: application/json",
               f"http://{API}/v1/ml/classify"]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    answers, _, _, refused = map(int, re.search(r"status codes: (\d+) 2xx, (\d+) 3xx, (\d+) 4xx, (\d+) 5xx", output).groups())
    return answers / seconds, refused / seconds


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--in-flight", type=int, nargs="+", default=[4, 16, 64, 1024])
    parser.add_argument("--seconds", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--binary", default=str(ROOT / "target/release/ml-inference"))
    parser.add_argument("--data-dir", default=str(ROOT / "data"))
    parser.add_argument("--config")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        body = Path(folder) / "body.json"
        body.write_text(json.dumps({"inputs": [f"{i} {WORDS * 12}" for i in range(4)]}))
        command = [arguments.binary, "serve", "--offline", "--data-dir", arguments.data_dir, "--cards-dir",
                   str(ROOT / "model-cards"), "--state-dir", folder, "--listen", API, "--ops-listen", OPS, "--log", "warn"]
        if arguments.config:
            command += ["--config", arguments.config]
        server = subprocess.Popen(command)
        try:
            wait_until_ready(OPS)
            found = {n: [] for n in arguments.in_flight}
            for _ in range(arguments.rounds):
                for n in arguments.in_flight:
                    found[n].append(run(n, arguments.seconds, str(body)))
        finally:
            server.send_signal(signal.SIGTERM)
            server.wait(timeout=60)
    rates = {n: statistics.mean(answers for answers, _ in runs) for n, runs in found.items()}
    best = max(rates.values())
    print("| in flight | answers/s | of the best | refusals/s |\n|---|---|---|---|")
    for n, runs in found.items():
        print(f"| {n} | {rates[n]:.1f} | {rates[n] / best:.2f} | {statistics.mean(refused for _, refused in runs):.0f} |")


if __name__ == "__main__":
    main()
