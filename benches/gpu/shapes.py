"""Encoders of published shapes with random weights, as model cards that the server and the engine load.

    python3 benches/gpu/shapes.py MINILM_FOLDER OUT

MINILM_FOLDER holds the embedding model's files; its tokenizer serves all, since the vocabulary is the
same. Writes OUT/minilm, OUT/bert-base and OUT/bert-large, each with a card, config.json, model.safetensors
(float32, normal, deviation 0.02 as BERT is initialised) and tokenizer.json.
"""

import hashlib
import json
import shutil
import sys
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

VOCABULARY, POSITIONS = 30522, 512
# Layers, hidden size, heads: MiniLM-L6 (Wang et al., 2020), BERT-base and BERT-large (Devlin et al., 2018).
SHAPES = {"minilm": (6, 384, 12), "bert-base": (12, 768, 12), "bert-large": (24, 1024, 16)}


def tensors(layers, hidden, seed):
    random = np.random.default_rng(seed)

    def matrix(rows, columns):
        return random.standard_normal((rows, columns), np.float32) * np.float32(0.02)

    def vector(size, mean):
        return (mean + 0.02 * random.standard_normal(size)).astype(np.float32)

    made = {"embeddings.word_embeddings.weight": matrix(VOCABULARY, hidden),
            "embeddings.position_embeddings.weight": matrix(POSITIONS, hidden),
            "embeddings.token_type_embeddings.weight": matrix(2, hidden)}
    norms = ["embeddings.LayerNorm"]
    for layer in range(layers):
        of = f"encoder.layer.{layer}."
        sizes = {"attention.self.query": (hidden, hidden), "attention.self.key": (hidden, hidden),
                 "attention.self.value": (hidden, hidden), "attention.output.dense": (hidden, hidden),
                 "intermediate.dense": (4 * hidden, hidden), "output.dense": (hidden, 4 * hidden)}
        for name, (rows, columns) in sizes.items():
            made[f"{of}{name}.weight"] = matrix(rows, columns)
            made[f"{of}{name}.bias"] = vector(rows, 0.0)
        norms += [f"{of}attention.output.LayerNorm", f"{of}output.LayerNorm"]
    for norm in norms:
        made[f"{norm}.weight"], made[f"{norm}.bias"] = vector(hidden, 1.0), vector(hidden, 0.0)
    return made


CARD = """---
license: apache-2.0
ml_inference:
  name: {name}
  version: "1.0.0"
  task: embeddings
  architecture: bert
  runtime: cuda
  dtype: bfloat16
  source:
    folder: files
    files:
{files}
  head: {{ kind: mean_pooling }}
  limits: {{ tokens_max: 512, window_overlap: 64, document_tokens_max: 20000, inputs_max: 128 }}
  p99_target_ms: 50
  price_per_1000_requests_usd: "0.00"
---
Random weights, for measuring.
"""


def make(name, shape, minilm, out):
    layers, hidden, heads = shape
    files = out / name / "files"
    files.mkdir(parents=True, exist_ok=True)
    config = {"architectures": ["BertModel"], "model_type": "bert", "vocab_size": VOCABULARY, "hidden_size": hidden,
              "num_hidden_layers": layers, "num_attention_heads": heads, "intermediate_size": 4 * hidden, "hidden_act": "gelu",
              "max_position_embeddings": POSITIONS, "type_vocab_size": 2, "layer_norm_eps": 1e-12, "pad_token_id": 0,
              "position_embedding_type": "absolute", "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    (files / "config.json").write_text(json.dumps(config))
    shutil.copy(minilm / "tokenizer.json", files)
    save_file(tensors(layers, hidden, seed=hidden), files / "model.safetensors", metadata={"format": "pt"})
    digests = "\n".join(f"      {path.name}: {{ sha256: {hashlib.sha256(path.read_bytes()).hexdigest()} }}"
                        for path in sorted(files.iterdir()))
    (out / name / "README.md").write_text(CARD.format(name=name, files=digests))


if __name__ == "__main__":
    for shape_name, sizes in SHAPES.items():
        make(shape_name, sizes, Path(sys.argv[1]), Path(sys.argv[2]))
        print(f"made {shape_name}", flush=True)
