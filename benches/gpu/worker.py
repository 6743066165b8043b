"""PyTorch in one process, driven line by line as `benches/src/bin/engine.rs` is.

    python3 benches/gpu/worker.py ENGINE MODEL_FOLDER

Engines: `eager`, `sdpa`, `compile` (transformers' BERT in bfloat16, with its own or with PyTorch's
attention, or compiled), and `float32-cpu`, the reference. Batches are padded to their longest sequence,
and computed in order of length if `"sort"` is given: then a line's batches are one set of sequences that
is cut anew, as sentence-transformers does it. `{"ceilings": true}` measures what the card can do at best:
bytes a second of a copy, read and written, and operations a second of a product of bfloat16.
"""

import json
import statistics
import sys
import time
from pathlib import Path

import torch
from transformers import BertModel

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "engines"))
from worker import padded  # noqa: E402

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


def synchronize():
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()


def median_seconds(work, rounds=10):
    for _ in range(3):
        work()
    synchronize()
    seconds = []
    for _ in range(rounds):
        begun = time.perf_counter()
        work()
        synchronize()
        seconds.append(time.perf_counter() - begun)
    return statistics.median(seconds)


def ceilings():
    size, count = (8192, 1 << 32) if DEVICE.type == "cuda" else (256, 1 << 22)
    numbers = torch.randn(count // 4, device=DEVICE)
    copy = torch.empty_like(numbers)
    bandwidth = 2 * count / median_seconds(lambda: copy.copy_(numbers))
    del numbers, copy
    left, right = (torch.randn(size, size, device=DEVICE).to(torch.bfloat16) for _ in range(2))
    rate = 2 * size**3 / median_seconds(lambda: left @ right)
    name = torch.cuda.get_device_name() if DEVICE.type == "cuda" else "CPU"
    return {"bandwidth": bandwidth, "bf16": rate, "name": name, "torch": torch.__version__}


class Encoder:
    def __init__(self, engine, folder):
        attention = "eager" if engine == "eager" else "sdpa"
        is_reference = engine == "float32-cpu"
        dtype, self.device = (torch.float32, torch.device("cpu")) if is_reference else (torch.bfloat16, DEVICE)
        model = BertModel.from_pretrained(folder, add_pooling_layer=False, attn_implementation=attention, dtype=dtype)
        model.eval().to(self.device)
        self.model = torch.compile(model) if engine == "compile" else model

    @torch.inference_mode()
    def run(self, ids, mask):
        ids, mask = (torch.from_numpy(array).to(self.device, non_blocking=True) for array in (ids, mask))
        states = self.model(input_ids=ids, attention_mask=mask).last_hidden_state
        weights = mask.unsqueeze(-1).to(states.dtype)
        pooled = (states * weights).sum(1) / weights.sum(1)
        return pooled.float().cpu()


def main():
    engine, folder = sys.argv[1:]
    encoder = None
    for line in sys.stdin:
        order = json.loads(line)
        if order.get("ceilings"):
            print(json.dumps(ceilings()), flush=True)
            continue
        encoder = encoder or Encoder(engine, folder)
        batches = order["batches"]
        if size := order.get("sort"):
            lengths = sorted((length for batch in batches for length in batch), reverse=True)
            batches = [lengths[start:start + size] for start in range(0, len(lengths), size)]
        inputs = [padded(lengths) for lengths in batches]
        seconds = []
        for _ in range(order["runs"]):
            synchronize()
            begun = time.perf_counter()
            for one in inputs:
                result = encoder.run(*one)
            synchronize()
            seconds.append(time.perf_counter() - begun)
        print(json.dumps(result.tolist() if order.get("show") else seconds), flush=True)


if __name__ == "__main__":
    main()
