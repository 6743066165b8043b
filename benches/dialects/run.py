"""What each dialect costs: its median latency over the bare engine with one caller, and calls a second with
many; writes a table.

    python3 benches/dialects/run.py [--rounds 5] [--calls 400] [--seconds 3] [--callers 64] [--out benches/results/dialects.md]

Dialects and the engine take turns, round by round, on the same machine; medians of the rounds are
reported. All ask the embedding model of its card. The engine is `target/release/engine` on the same card,
with the token ids counted by the server. The load comes from `target/release/callers` on the same cores:
one thread, prepared bodies. `make bench-dialects` builds both first. It wants a machine that does nothing
else.
"""

import argparse
import http.client
import json
import os
import random
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Callable

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "benches/served"))
from callers import Lines, write_bodies  # noqa: E402
from run import OBJECTS, SUBJECTS, VERBS, cpu_name, served  # noqa: E402

MODEL, KEY = "embeddings-v2", "tc_test_dev"
# Longest header of the binary form, so that all bodies have the same length of it.
OIP_HEADER = 256
# What is held to the target.
HELD, TARGET_US = ["REST", "gRPC", "OIP binary", "OpenAI"], 250


def texts(count, seed):
    """Texts of 4 to 12 words, the same for every run."""
    draw = random.Random(seed)
    made = []
    for _ in range(count):
        words = f"{draw.choice(SUBJECTS)} {draw.choice(VERBS)} {draw.choice(OBJECTS)} {draw.choice(OBJECTS)}".split()
        made.append(" ".join(words[:draw.randint(4, 12)]))
    return made


# Bodies


def varint(number):
    out = b""
    while number > 127:
        out, number = out + bytes([number & 127 | 128]), number >> 7
    return out + bytes([number])


def message(*fields):
    """A protobuf message of texts, bytes and numbers by their field numbers."""
    out = b""
    for number, value in fields:
        if isinstance(value, int):
            out += varint(number << 3) + varint(value)
        else:
            value = value.encode() if isinstance(value, str) else value
            out += varint(number << 3 | 2) + varint(len(value)) + value
    return out


def framed(content):
    return b"\0" + struct.pack(">I", len(content)) + content


def as_json(make):
    return lambda text: json.dumps(make(text)).encode()


def tensor(text):
    return {"name": "text", "shape": [1], "datatype": "BYTES"}


def oip_binary(text):
    content = struct.pack("<I", len(text.encode())) + text.encode()
    inputs = [tensor(text) | {"parameters": {"binary_data_size": len(content)}}]
    head = json.dumps({"inputs": inputs, "parameters": {"binary_data_output": True}}).encode()
    return head.ljust(OIP_HEADER) + content


def oip_grpc(text):
    content = message((8, text))
    inputs = message((1, "text"), (2, "BYTES"), (3, 1), (5, content))
    return framed(message((1, MODEL), (5, inputs)))


@dataclass
class Dialect:
    name: str
    path: str
    body: Callable
    headers: dict = field(default_factory=dict)
    is_grpc: bool = False

    def all_headers(self):
        kind = {"content-type": "application/grpc", "te": "trailers"} if self.is_grpc else {"content-type": "application/json"}
        return {"authorization": f"Bearer {KEY}"} | kind | self.headers


DIALECTS = [
    Dialect("REST", "/v1/ml/embeddings", as_json(lambda text: {"inputs": text})),
    Dialect("REST, base64", "/v1/ml/embeddings", as_json(
        lambda text: {"inputs": text, "parameters": {"encoding_format": "base64"}})),
    Dialect("REST, octets", "/v1/ml/embeddings", as_json(lambda text: {"inputs": text}),
            {"accept": "application/octet-stream"}),
    Dialect("gRPC", "/ml.inference.v1.InferenceService/Embed", lambda text: framed(message((1, text))), is_grpc=True),
    Dialect("OIP", f"/v2/models/{MODEL}/infer", as_json(lambda text: {"inputs": [tensor(text) | {"data": [text]}]})),
    Dialect("OIP binary", f"/v2/models/{MODEL}/infer", oip_binary, {
        "content-type": "application/octet-stream", "inference-header-content-length": str(OIP_HEADER)}),
    Dialect("OIP gRPC", "/inference.GRPCInferenceService/ModelInfer", oip_grpc, is_grpc=True),
    Dialect("KServe v1", f"/v1/models/{MODEL}:predict", as_json(lambda text: {"instances": [text]})),
    Dialect("TEI", "/embed", as_json(lambda text: {"inputs": text})),
    Dialect("TEI gRPC", "/tei.v1.Embed/Embed", lambda text: framed(message((1, text))), is_grpc=True),
    Dialect("OpenAI", "/v1/embeddings", as_json(lambda text: {"model": MODEL, "input": text})),
    Dialect("OpenAI, base64", "/v1/embeddings", as_json(
        lambda text: {"model": MODEL, "input": text, "encoding_format": "base64"})),
    Dialect("vLLM pooling", "/pooling", as_json(lambda text: {"model": MODEL, "input": text})),
    Dialect("Cohere", "/v2/embed", as_json(lambda text: {
        "model": MODEL, "texts": [text], "input_type": "search_document", "embedding_types": ["float"]})),
    Dialect("Ollama", "/api/embed", as_json(lambda text: {"model": MODEL, "input": text})),
    Dialect("Hugging Face", f"/hf/{MODEL}", as_json(lambda text: {"inputs": text})),
    Dialect("Vertex", "/vertex", as_json(lambda text: {"instances": [text]})),
]


def post(api, path, body, headers):
    connection = http.client.HTTPConnection(api, timeout=30)
    connection.request("POST", path, body, headers)
    answer = connection.getresponse()
    content = answer.read()
    connection.close()
    if answer.status != 200:
        sys.exit(f"{path} answers {answer.status}: {content[:300]}")
    return content


def bodies(folder, dialect, some):
    """The file of a dialect's bodies."""
    name = f"{DIALECTS.index(dialect)}-{len(some)}.bodies"
    return write_bodies(Path(folder) / name, [dialect.body(text) for text in some])


def tokens_of(api, text):
    """Tokens of a text, as the server counts them."""
    body = json.dumps({"inputs": text}).encode()
    return json.loads(post(api, "/v1/ml/embeddings", body, DIALECTS[0].all_headers()))["usage"]["tokens"]


def card_runtime():
    text = (ROOT / f"model-cards/{MODEL}/README.md").read_text()
    value = lambda name: next(line.split(":")[1].strip() for line in text.splitlines() if line.strip().startswith(f"{name}:"))  # noqa: E731
    return value("runtime"), value("dtype")


def measure(options):
    low, high = {dialect.name: [] for dialect in DIALECTS}, {dialect.name: [] for dialect in DIALECTS}
    bare, bad = [], 0
    one, many = texts(1, seed=3), texts(500, seed=5)
    runtime, dtype = card_runtime()
    threads = os.cpu_count()
    with tempfile.TemporaryDirectory() as folder, served(18086, options.data_dir, []) as (api, _):
        tokens = tokens_of(api, one[0])
        callers = Lines(ROOT / "target/release/callers")
        engine = Lines(ROOT / "target/release/engine", runtime, dtype, threads, ROOT / f"model-cards/{MODEL}",
                       environment={"ML_INFERENCE_DATA_DIR": str(Path(options.data_dir).resolve()),
                                    "ML_INFERENCE_ROOT": str(ROOT)})

        def run(dialect, some, **order):
            nonlocal bad
            routes = [{"path": dialect.path, "bodies": bodies(folder, dialect, some)}]
            found = callers.ask(address=api, http2=dialect.is_grpc, headers=dialect.all_headers(), routes=routes, **order)
            [route] = found["routes"]
            bad += route["bad"] + route["refused"] + route["timed_out"]
            return {**route, "seconds": found["seconds"]}

        for dialect in DIALECTS:
            run(dialect, one, load={"callers": 1}, calls=3, seconds=60)
            if bad:
                sys.exit(f"{dialect.name} is not answered")
        for number in range(options.rounds):
            for dialect in DIALECTS:
                found = engine.ask(batches=[[tokens]], runs=max(50, options.calls // len(DIALECTS)))
                bare.append(statistics.median(found) * 1e6)
                # Until the engine's threads have gone to sleep.
                time.sleep(0.05)
                found = run(dialect, one, load={"callers": 1}, warm_up=20, calls=options.calls, seconds=60)
                low[dialect.name].append(found["p50_us"])
            for dialect in DIALECTS:
                found = run(dialect, many, load={"callers": options.callers}, warm_up=options.callers, seconds=options.seconds)
                high[dialect.name].append((found["answered"] / found["seconds"], found["p50_us"], found["p99_us"]))
            print(f"round {number + 1} of {options.rounds}", flush=True)
        callers.close()
        engine.close()
    return low, high, bare, bad, tokens


def table(options, low, high, bare, bad, tokens):
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True).stdout.strip()
    base = statistics.median(bare)
    lines = [
        "# What dialects cost", "",
        f"Made by `python3 benches/dialects/run.py --rounds {options.rounds} --calls {options.calls} --seconds {options.seconds} "
        f"--callers {options.callers}` on {time.strftime('%Y-%m-%d')}, commit {commit or 'unknown'}; dialects interleaved, medians "
        f"of the rounds. {os.cpu_count()} cores of {cpu_name()}; load generator, engine and server share them.", "",
        f"Embeddings of one text a call. With one caller: a text of {tokens} tokens, {options.calls} calls a round; the bare engine "
        f"takes {base:.0f} µs for it. With {options.callers} callers: texts of 4 to 12 words for {options.seconds} s a round. "
        f"Answers that were none: {bad}.", "",
        f"| dialect | p50 µs, 1 caller | over the engine µs | target | calls/s, {options.callers} callers | p50 ms | p99 ms |",
        "|---|---|---|---|---|---|---|",
    ]
    for dialect in DIALECTS:
        p50 = statistics.median(low[dialect.name])
        rate, middle, late = (statistics.median(column) for column in zip(*high[dialect.name]))
        target = ("" if dialect.name not in HELD else
                  f"{TARGET_US}: met" if p50 - base <= TARGET_US else f"{TARGET_US}: missed")
        lines.append(f"| {dialect.name} | {p50:.0f} | {p50 - base:.0f} | {target} | {rate:.0f} | {middle / 1e3:.1f} | {late / 1e3:.1f} |")
    return "\n".join(lines) + "\n\nWriting answers by itself is in [criterion.md](criterion.md), under `encode`.\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--calls", type=int, default=400)
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--callers", type=int, default=64)
    parser.add_argument("--data-dir", default=str(ROOT / "data"))
    parser.add_argument("--out", default=str(ROOT / "benches/results/dialects.md"))
    options = parser.parse_args()
    report = table(options, *measure(options))
    Path(options.out).write_text(report)
    print(f"wrote {options.out}")


if __name__ == "__main__":
    main()
