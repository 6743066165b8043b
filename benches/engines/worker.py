"""One engine of Python's world in one process, driven line by line as `benches/src/bin/engine.rs` is.

    python3 benches/engines/worker.py ENGINE THREADS WEIGHTS_FOLDER

Engines: `ort-fp32`, `ort-int8`, `torch-fp32`, `torch-bf16`. Batches are padded to their longest sequence.
"""

import json
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

VOCABULARY = 30522


def padded(lengths: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """Ids spread over the vocabulary, and the mask of what is no padding."""
    ids = np.zeros((len(lengths), max(lengths)), np.int64)
    mask = np.zeros_like(ids)
    next_id = 0
    for row, length in enumerate(lengths):
        for column in range(length):
            next_id = (next_id + 7919) % VOCABULARY
            ids[row, column] = next_id
        mask[row, :length] = 1
    return ids, mask


def onnxruntime(graph: Path, threads: int, is_quantized: bool):
    import onnxruntime as ort

    def session(path: Path, level, optimized: str | None = None) -> ort.InferenceSession:
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.graph_optimization_level = level
        options.log_severity_level = 3
        if optimized:
            options.optimized_model_filepath = optimized
        return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    everything = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    if is_quantized:
        import onnx
        from onnx.external_data_helper import load_external_data_for_model
        from onnxruntime.quantization import QuantType, quantize_dynamic

        with tempfile.TemporaryDirectory() as folder:
            # Constants are folded first, so that every weight is an initialiser that can be quantised.
            folded, quantized = Path(folder) / "folded.onnx", Path(folder) / "int8.onnx"
            session(graph, ort.GraphOptimizationLevel.ORT_ENABLE_BASIC, str(folded))
            model = onnx.load(folded, load_external_data=False)
            load_external_data_for_model(model, str(graph.parent))
            onnx.save(model, folded)
            quantize_dynamic(folded, quantized, per_channel=True, weight_type=QuantType.QUInt8)
            loaded = session(quantized, everything)
    else:
        loaded = session(graph, everything)
    return lambda ids, mask: loaded.run(["output"], {"input_ids": ids, "attention_mask": mask})


def torch(folder: Path, threads: int, is_bf16: bool):
    import torch
    from safetensors.torch import load_file
    from transformers import BertConfig, BertModel

    torch.set_num_threads(threads)
    model = BertModel(BertConfig.from_json_file(folder / "config.json"), add_pooling_layer=False)
    model.load_state_dict(load_file(folder / "model.safetensors"), strict=False)
    model = model.eval().to(torch.bfloat16 if is_bf16 else torch.float32)

    @torch.inference_mode()
    def run(ids, mask):
        has_padding = not mask.all()
        ids, mask = torch.from_numpy(ids), torch.from_numpy(mask)
        hidden = model(ids, mask if has_padding else None).last_hidden_state
        weights = mask.unsqueeze(-1).to(hidden.dtype)
        return (hidden * weights).sum(1) / weights.sum(1)

    return run


def main() -> None:
    engine, threads, folder = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])
    if engine.startswith("ort"):
        run = onnxruntime(folder / "embeddings-v2.onnx", threads, engine == "ort-int8")
    else:
        run = torch(folder, threads, engine == "torch-bf16")
    for line in sys.stdin:
        order = json.loads(line)
        batches = [padded(lengths) for lengths in order["batches"]]
        seconds = []
        for _ in range(order["runs"]):
            start = time.perf_counter()
            for ids, mask in batches:
                run(ids, mask)
            seconds.append(time.perf_counter() - start)
        print(json.dumps(seconds), flush=True)


if __name__ == "__main__":
    main()
