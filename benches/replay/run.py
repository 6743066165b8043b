"""Replays simulated traces against the real server, with its policies in turns, and writes measurement beside
prediction.

    python3 benches/replay/run.py [--loads 0.3 0.5 0.7] [--seconds 15] [--rounds 2] [--out benches/results/replay.md]

The trace and the prediction for it come from `simulate --trace`: open loop, five models, one text a
request, lengths and moments as there. Latency counts from the moment at which the trace has the request,
not from when it was sent.
"""

import argparse
import asyncio
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "benches/served"))
from run import cpu_name, wait_until_ready  # noqa: E402

# The models of the trace: route and p99 target in ms.
ROUTES = {"embeddings": ("embeddings", 20), "sentiment": ("sentiment", 30), "classifier": ("classify", 50),
          "entities": ("entities", 80), "summarizer": ("summarize", 500)}
POLICIES = {
    "deadline": 'policy = "deadline"',
    "preferred_size": "policy = { preferred_size = { sequences = 16, queue_delay_max_ms = 5 } }",
    "token_budget": "policy = { token_budget = { tokens = 1024 } }",
}
WORDS = ["the", "new", "report", "was", "sent", "to", "our", "office"]
CONNECTIONS = 512
EXPLANATION = (
    "Why the measurement is slower than the prediction: the prediction knows the engine's batch times and nothing else. On "
    "the real machine the two cores also send the load, parse and tokenise it; entities compute in float32, which takes "
    "twice as long; a summary here has two windows. The order of the policies is the same in both, and the gap between "
    "them is wider on the fuller machine.")
API, OPS = "127.0.0.1:18080", "127.0.0.1:19090"


def text(model, tokens):
    """A text of about so many tokens, special ones included; for summaries two sentences, of which each is a
    window."""
    words = [WORDS[index % len(WORDS)] for index in range(max(1, tokens - 2))]
    if model == "summarizer":
        middle = max(1, len(words) // 2)
        return " ".join(words[:middle]).capitalize() + ". " + " ".join(words[middle:] or ["so"]).capitalize() + "."
    return " ".join(words)


def request(model, tokens):
    body = json.dumps({"inputs": text(model, tokens)}).encode()
    head = (f"POST /v1/ml/{ROUTES[model][0]} HTTP/1.1\r\nHost: {API}\r\nAuthorization: Bearer tc_test_dev\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n")
    return head.encode() + body


async def send(connections, message):
    """The status of the answer to one request, on a connection that is free."""
    head = None
    while head is None:
        is_used = bool(connections)
        reader, writer = connections.pop() if is_used else await asyncio.open_connection(*API.split(":"))
        try:
            writer.write(message)
            head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        except (asyncio.IncompleteReadError, ConnectionError):
            # The server closes connections that were idle for long; a fresh one has no such excuse.
            if not is_used:
                raise
    length = int(head.split("content-length:")[1].split("\r\n")[0])
    await reader.readexactly(length)
    connections.append((reader, writer))
    return int(head.split()[1])


async def replay(arrivals):
    """Model, latency in ms and status of every request."""
    connections = [await asyncio.open_connection(*API.split(":")) for _ in range(CONNECTIONS)]
    messages = [request(model, tokens) for _, model, tokens in arrivals]
    for message in messages[:20]:
        await send(connections, message)
    loop = asyncio.get_running_loop()
    start = loop.time() + 0.2

    async def one(arrival, message):
        at, model, _ = arrival
        status = await send(connections, message)
        return model, (loop.time() - start - at) * 1e3, status

    tasks = []
    for arrival, message in zip(arrivals, messages):
        pause = start + arrival[0] - loop.time()
        if pause > 0:
            await asyncio.sleep(pause)
        tasks.append(asyncio.create_task(one(arrival, message)))
    results = await asyncio.gather(*tasks)
    for _, writer in connections:
        writer.close()
    return results


def measure(binary, policy, arrivals):
    """Attainment and p99 by model of one replay against a fresh server."""
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "ml-inference.toml"
        config.write_text(f'listen = "{API}"\nops_listen = "{OPS}"\nlog.filter = "error"\n'
                          f"[batching]\n{POLICIES[policy]}\n")
        command = [binary, "serve", "--config", config, "--data-dir", ROOT / "data", "--cards-dir", ROOT / "model-cards"]
        server = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        try:
            wait_until_ready(OPS)
            results = asyncio.run(replay(arrivals))
        finally:
            server.send_signal(signal.SIGTERM)
            server.wait()
    failed = sum(status != 200 for _, _, status in results)
    by_model = {}
    for model, (_, target) in ROUTES.items():
        latencies = sorted(latency if status == 200 else float("inf") for name, latency, status in results if name == model)
        timely = sum(latency <= target for latency in latencies) / len(latencies)
        by_model[model] = (timely, latencies[len(latencies) * 99 // 100])
    return by_model, failed


def trace(simulate, load, seconds, seed):
    command = [simulate, "--trace", str(load), "--seconds", str(seconds), "--seeds", str(seed)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--loads", type=float, nargs="+", default=[0.2, 0.35, 0.5])
    parser.add_argument("--seconds", type=int, default=15)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--out", type=Path, default=ROOT / "benches/results/replay.md")
    options = parser.parse_args()
    binary, simulate = ROOT / "target/release/ml-inference", ROOT / "target/release/simulate"
    measured = {}
    traces = {}
    for seed in range(options.rounds):
        for load in options.loads:
            traces[load, seed] = trace(simulate, load, options.seconds, seed)
            for policy in POLICIES:
                by_model, failed = measure(binary, policy, traces[load, seed]["arrivals"])
                measured.setdefault((load, policy), []).append(by_model)
                worst = min(timely for timely, _ in by_model.values())
                print(f"==> load {load}, {policy}, round {seed + 1}: {100 * worst:.1f} % of the worst model in time, "
                      f"{failed} failed", flush=True)
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, cwd=ROOT).stdout.strip()
    lines = [
        "# Policies on the real engine",
        "",
        f"Made by `python3 benches/replay/run.py --loads {' '.join(map(str, options.loads))} --seconds {options.seconds} "
        f"--rounds {options.rounds}`, commit {commit}; {os.cpu_count()} cores of {cpu_name()}, shared with the load "
        "generator.",
        "",
        "The same traces through the simulator and against the running server with its real weights, policies in turns; "
        "medians over the rounds. In time: within the model's p99 target, of the model that fares worst. Targets refuse "
        "nobody here. The policies: `deadline` (this project's), `preferred_size` (16 sequences or 5 ms, as Triton's "
        "dynamic batcher), `token_budget` (1,024 tokens, greedy, as text-embeddings-inference).",
        "",
        "| load | requests/s | policy | in time, measured | predicted | " +
        " | ".join(f"{model} p99 ms, measured (predicted)" for model in ROUTES) + " |",
        "|---" * (5 + len(ROUTES)) + "|",
    ]
    for load in options.loads:
        rate = len(traces[load, 0]["arrivals"]) / options.seconds
        for policy in POLICIES:
            rounds = measured[load, policy]
            predicted = [traces[load, seed]["predicted"][policy] for seed in range(options.rounds)]
            worst = statistics.median(min(timely for timely, _ in by_model.values()) for by_model in rounds)
            foreseen = statistics.median(min(p["by_model"]) for p in predicted)
            cells = []
            for index, model in enumerate(ROUTES):
                p99 = statistics.median(by_model[model][1] for by_model in rounds)
                expected = statistics.median(p["p99_ms"][index] or float("inf") for p in predicted)
                cells.append(f"{p99:.0f} ({expected:.0f})")
            lines.append(f"| {load} | {rate:.0f} | {policy} | {100 * worst:.1f} % | {100 * foreseen:.1f} % | "
                         + " | ".join(cells) + " |")
    lines += ["", EXPLANATION]
    options.out.write_text("\n".join(lines) + "\n")
    print(f"==> wrote {options.out}")


if __name__ == "__main__":
    main()
