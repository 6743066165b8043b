"""How long a start takes with a model of 110 million parameters, and what memory it leaves: writes a table.

    python3 benches/loading/run.py [--data-dir data] [--rounds 3] [--out benches/results/loading.md]

The checkpoint has BERT-base's sizes and random weights, and its files are in the page cache when the server
starts. Ready is when `/readyz` says so. Memory is what the process has of its own (`RssAnon`), idle and at
most, less that of the same server over a checkpoint of one layer and few words; it is held against the
weights' size in the format of computation.
"""

import argparse
import json
import os
import random
import shutil
import signal
import statistics
import struct
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "benches/served"))
from run import OPS_OFFSET, cpu_name, wait_until_ready  # noqa: E402

API = "127.0.0.1:18480"
BASE = {"vocab_size": 30522, "hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12,
        "intermediate_size": 3072, "max_position_embeddings": 512, "type_vocab_size": 2}
# Its server is what a server takes by itself.
TINY = BASE | {"hidden_size": 12, "num_hidden_layers": 1, "intermediate_size": 12}
BYTES = {"float32": 4, "bfloat16": 2}
SAMPLES_EACH_SECOND = 100


def shapes(sizes):
    """Tensors of a BERT encoder by their names."""
    hidden, inner = sizes["hidden_size"], sizes["intermediate_size"]
    tables = {"word": sizes["vocab_size"], "position": sizes["max_position_embeddings"],
              "token_type": sizes["type_vocab_size"]}
    found = {f"embeddings.{name}_embeddings.weight": [rows, hidden] for name, rows in tables.items()}
    norms = ["embeddings.LayerNorm"]
    for layer in range(sizes["num_hidden_layers"]):
        at = f"encoder.layer.{layer}."
        linear = {f"attention.self.{name}": [hidden, hidden] for name in ["query", "key", "value"]}
        linear |= {"attention.output.dense": [hidden, hidden], "intermediate.dense": [inner, hidden],
                   "output.dense": [hidden, inner]}
        for name, shape in linear.items():
            found |= {f"{at}{name}.weight": shape, f"{at}{name}.bias": shape[:1]}
        norms += [f"{at}attention.output.LayerNorm", f"{at}output.LayerNorm"]
    for norm in norms:
        found |= {f"{norm}.weight": [hidden], f"{norm}.bias": [hidden]}
    return found


def write_checkpoint(folder, sizes, tokenizer):
    """A folder as save_pretrained writes it, and how many parameters it has. Values are float32 in ±0.06."""
    folder.mkdir()
    config = sizes | {"model_type": "bert", "architectures": ["BertModel"], "hidden_act": "gelu",
                      "layer_norm_eps": 1e-12, "pad_token_id": 0}
    (folder / "config.json").write_text(json.dumps(config))
    shutil.copy(tokenizer, folder / "tokenizer.json")
    header, end = {}, 0
    for name, shape in shapes(sizes).items():
        count = shape[0] * (shape[1] if len(shape) == 2 else 1)
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [end, end + 4 * count]}
        end += 4 * count
    text = json.dumps(header).encode()
    rng = random.Random(7)
    piece = struct.pack("<65536f", *(rng.uniform(-0.06, 0.06) for _ in range(65536)))
    with (folder / "model.safetensors").open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for start in range(0, end, len(piece)):
            file.write(piece[: end - start])
    return end // 4


def memory(process):
    """Bytes that a process has of its own."""
    lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon:"))


def start(folder, dtype, data_dir, binary):
    """Seconds until ready, and the memory at most until then and behind it."""
    host, port = API.split(":")
    ops = f"{host}:{int(port) + OPS_OFFSET}"
    with tempfile.TemporaryDirectory() as state:
        config = Path(state) / "loading.toml"
        config.write_text(f'[models.{folder.name}]\nfolder = "{folder}"\npooling = "mean"\ndtype = "{dtype}"\n')
        for file in folder.iterdir():
            file.read_bytes()
        began = time.perf_counter()
        process = subprocess.Popen(
            [binary, "serve", "--offline", "--no-cards", "--listen", API, "--ops-listen", ops, "--data-dir", data_dir,
             "--state-dir", f"{state}/state", "--log", "warn", "--config", config], stdout=subprocess.DEVNULL)
        try:
            most, seconds = 0, None
            while seconds is None:
                if process.poll() is not None:
                    sys.exit(f"the server ended with {process.returncode}")
                most = max(most, memory(process))
                try:
                    if urllib.request.urlopen(f"http://{ops}/readyz", timeout=1).status == 200:
                        seconds = time.perf_counter() - began
                except OSError:
                    time.sleep(1 / SAMPLES_EACH_SECOND)
            wait_until_ready(ops)
            return seconds, most, memory(process)
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(timeout=60)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--data-dir", type=Path, default=ROOT / "data")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--binary", type=Path, default=ROOT / "target/release/ml-inference")
    parser.add_argument("--out", type=Path, default=ROOT / "benches/results/loading.md")
    options = parser.parse_args()
    tokenizer = next((options.data_dir / "weights").glob("*MiniLM*/*/tokenizer.json"))
    lines = []
    with tempfile.TemporaryDirectory() as folder:
        base, tiny = Path(folder) / "base", Path(folder) / "tiny"
        parameters = write_checkpoint(base, BASE, tokenizer)
        write_checkpoint(tiny, TINY, tokenizer)
        for dtype, size in BYTES.items():
            rounds = [(start(base, dtype, options.data_dir, options.binary),
                       start(tiny, dtype, options.data_dir, options.binary)) for _ in range(options.rounds)]
            def median(which, folder=0):
                return statistics.median(found[folder][which] for found in rounds)
            most, after = (median(which) - median(2, 1) for which in (1, 2))
            weights = parameters * size
            lines.append(f"| {dtype} | {median(0):.2f} | {median(0, 1):.2f} | {weights / 1e6:.0f} | {after / 1e6:.0f} "
                         f"({after / weights:.2f}x) | {most / 1e6:.0f} ({most / weights:.2f}x) |")
    text = "\n".join([
        "# Loading", "",
        f"Made by `make bench-loading` on {os.cpu_count()} cores of {cpu_name()}: medians of {options.rounds} starts over "
        f"BERT-base's sizes, {parameters / 1e6:.0f} million parameters in a float32 file that is in the page cache.",
        "",
        "| format | ready after (s) | of that the server alone | weights (MB) | memory (MB) | at most while loading (MB) |",
        "|---|---:|---:|---:|---:|---:|", *lines, ""])
    options.out.write_text(text)
    print(text)


if __name__ == "__main__":
    main()
