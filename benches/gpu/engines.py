"""The CUDA runtime beside PyTorch on one GPU, in one run: answers, latency of one text, tokens a second by
length, and over mixed lengths.

    python3 benches/gpu/engines.py --engine PROGRAM --shapes FOLDER --out FILE [--smoke]

PROGRAM is `benches/src/bin/engine.rs`, FOLDER what `shapes.py` made. Each cell is the median of several
runs; the engines of a cell are measured one after the other within seconds. What fails is written down and
the rest goes on.
"""

import argparse
import json
import math
import os
import random
import statistics
import subprocess
import sys
import time
from pathlib import Path

from shapes import SHAPES

HERE = Path(__file__).resolve().parent
LENGTHS = [16, 32, 64, 128, 256, 384, 512]
# Tokens of a batch of texts of 32 tokens.
SMALL_BATCHES = [32, 64, 128, 256, 512, 1024, 2048, 4096]
# torch.compile takes up to a minute for a new shape.
COMPILED_LENGTHS = [16, 128, 384]
BATCH_TOKENS = 16_384


class Engine:
    """A process that computes what it is told, a line at a time."""

    def __init__(self, *command):
        environment = dict(os.environ, ML_INFERENCE_ROOT=str(HERE.parents[1]))
        self.process = subprocess.Popen([str(part) for part in command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                                        env=environment)

    def ask(self, **order):
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            raise RuntimeError(f"the engine ended with {self.process.wait()}")
        return json.loads(answer)

    def seconds(self, batches, runs=7, warm=3, **more):
        self.ask(batches=batches, runs=warm, **more)
        return statistics.median(self.ask(batches=batches, runs=runs, **more))

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def operations(shape, lengths):
    """Multiplications and additions of a forward pass: products with weights, scores and weighted values."""
    layers, hidden, _ = shape
    return sum(layers * (2 * 12 * hidden * hidden * length + 4 * hidden * length * length) for length in lengths)


def cosine(a, b):
    return sum(x * y for x, y in zip(a, b)) / math.sqrt(sum(x * x for x in a) * sum(y * y for y in b))


def attempt(results, what, work):
    begun = time.monotonic()
    try:
        results[what] = work()
    except Exception as error:  # noqa: BLE001 - the other cells are worth having
        results.setdefault("failed", {})[what] = str(error)
    print(f"{what}: {time.monotonic() - begun:.1f} s {results.get(what, 'FAILED')}"[:160], flush=True)


def measure(name, options, results):
    shape, folder = SHAPES[name], options.shapes / name
    files = folder / "files"
    lengths = [16, 64] if options.smoke else LENGTHS
    tokens = 256 if options.smoke else BATCH_TOKENS
    rounds = {"runs": 1, "warm": 1} if options.smoke else {}

    def ours(dtype="float16", graphs=2048, *more):
        return Engine(options.engine, "cuda", dtype, 1, folder, graphs, *more)

    def theirs(engine):
        return Engine(sys.executable, HERE / "worker.py", engine, files)

    def agreement():
        lengths = [1, 2, 17, 63, 64, 65, 128, 200, 384, 511, 512][: 4 if options.smoke else None]
        reference = theirs("float32-cpu")
        expected = reference.ask(batches=[lengths], runs=1, show=True)
        reference.close()
        worst = {}
        for dtype in "bfloat16", "float16":
            engine = ours(dtype)
            found = engine.ask(batches=[lengths], runs=1, show=True)
            engine.close()
            worst[dtype] = min(cosine(a, b) for a, b in zip(found, expected, strict=True))
        return worst

    def cells(engine, lengths):
        rows = {}
        for length in lengths:
            batches = [[length] * max(tokens // length, 1)] * (1 if options.smoke else 8)
            rows[length] = sum(map(sum, batches)) / engine.seconds(batches, **rounds)
        return rows

    def by_length(engine, lengths):
        try:
            return cells(engine, lengths)
        finally:
            engine.close()

    def alone(engine):
        try:
            return {length: engine.seconds([[length]], **rounds | ({} if options.smoke else {"runs": 50}))
                    for length in (16, 128, 512)[: 1 if options.smoke else 3]}
        finally:
            engine.close()

    def small_batches(engine):
        try:
            return {size: engine.seconds([[32] * (size // 32)], **rounds | ({} if options.smoke else {"runs": 50}))
                    for size in SMALL_BATCHES[: 2 if options.smoke else None]}
        finally:
            engine.close()

    def mixed(engine, **more):
        draw = random.Random(5)
        drawn = [min(512, max(4, int(draw.lognormvariate(4.4, 0.9)))) for _ in range(16 if options.smoke else 2048)]
        size = 8 if options.smoke else 128
        batches = [drawn[start:start + size] for start in range(0, len(drawn), size)]
        try:
            return sum(drawn) / engine.seconds(batches, **rounds | ({} if options.smoke else {"runs": 3, "warm": 2}), **more)
        finally:
            engine.close()

    attempt(results, "smallest cosine to float32", agreement)
    attempt(results, "tokens/s, ours", lambda: by_length(ours(), lengths))
    attempt(results, "tokens/s, ours, bfloat16", lambda: by_length(ours("bfloat16"), lengths))
    attempt(results, "tokens/s, ours, GELU in the product", lambda: by_length(ours("float16", 2048, "fuses-gelu"), lengths))
    attempt(results, "tokens/s, eager", lambda: by_length(theirs("eager"), lengths))
    attempt(results, "tokens/s, sdpa", lambda: by_length(theirs("sdpa"), lengths))
    attempt(results, "tokens/s, compile", lambda: by_length(theirs("compile"), lengths[:1] if options.smoke else COMPILED_LENGTHS))
    attempt(results, "one text, ours", lambda: alone(ours()))
    attempt(results, "one text, ours without graphs", lambda: alone(ours(graphs=0)))
    attempt(results, "one text, sdpa", lambda: alone(theirs("sdpa")))
    attempt(results, "small batches, graphs", lambda: small_batches(ours(graphs=SMALL_BATCHES[-1])))
    attempt(results, "small batches, kernels", lambda: small_batches(ours(graphs=0)))
    attempt(results, "mixed, ours", lambda: mixed(ours()))
    attempt(results, "mixed, sdpa", lambda: mixed(theirs("sdpa")))
    attempt(results, "mixed, sdpa, sorted", lambda: mixed(theirs("sdpa"), sort=128))
    attempt(results, "mixed, compile, sorted", lambda: mixed(theirs("compile"), sort=128))


def sentence_transformers(options):
    """What its users get: texts in, vectors out, tokenised on the way."""
    import torch
    from sentence_transformers import SentenceTransformer

    sys.path.insert(0, str(HERE.parent / "served"))
    from run import texts

    # The embedding model's own files; the folder of random weights has the same shape.
    model = SentenceTransformer(str(options.shapes / "minilm/files"), model_kwargs={"dtype": torch.bfloat16})
    drawn = texts(8 if options.smoke else 4096, seed=3)
    tokens = sum(len(ids) for ids in model.tokenizer(drawn, truncation=True, max_length=512)["input_ids"])
    for _ in range(2):
        begun = time.monotonic()
        model.encode(drawn, batch_size=128, show_progress_bar=False)
        seconds = time.monotonic() - begun
    return tokens / seconds


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--engine", type=Path, required=True)
    parser.add_argument("--shapes", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--only", action="append", help="a shape; all if none is named")
    parser.add_argument("--smoke", action="store_true", help="tiny batches, to try the script without a GPU")
    options = parser.parse_args()
    results = {}
    worker = Engine(sys.executable, HERE / "worker.py", "sdpa", options.shapes / "minilm/files")
    attempt(results, "ceilings", lambda: worker.ask(ceilings=True))
    worker.close()
    for name in options.only or (["minilm"] if options.smoke else SHAPES):
        results[name] = {"operations of a token": {length: operations(SHAPES[name], [length]) / length for length in LENGTHS}}
        measure(name, options, results[name])
        options.out.write_text(json.dumps(results, indent=1))
    attempt(results, "sentence-transformers", lambda: sentence_transformers(options))
    options.out.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
