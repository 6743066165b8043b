"""Writes models/tests/data/embeddings.json: reference embeddings of 200 varied texts.

Run as `python scripts/make_references.py` in an environment with scripts/train/requirements.txt.

The texts are those of models/tests/data/reference_texts.json, followed by cuts of its passages at
chosen token counts up to the model's 512 positions. Each text is encoded alone, so padding cannot
touch the numbers, in float32, and with one thread, because the order of a parallel sum is the main
thing that could make two runs differ on one machine. Vectors are L2-normalised and written
with 8 significant digits.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from unicodedata import category

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # everything needed is in the installed package

import torch
from sentence_transformers import SentenceTransformer
from tokenizers import Tokenizer

from train.base import MODEL_NAME, REPOSITORY_ROOT, TOKENS_MAX, base_folder, open_tokenizer

DATA = REPOSITORY_ROOT / "models" / "tests" / "data"
TEXTS_COUNT = 200
THREADS = 1
INVISIBLE = {"Cf", "Co", "Zl", "Zp"}  # Unicode categories that are written as escapes
# Token counts, special tokens included, of the texts cut from the passages: the neighbourhoods of
# powers of two, the 128 and 256 at which other configurations of this model truncate, and 512.
LENGTHS = [
    16, 24, 31, 32, 33, 48, 63, 64, 65, 80, 96, 110, 127, 128, 129, 130, 144, 160, 176, 191, 192,
    193, 208, 224, 240, 254, 255, 256, 257, 258, 272, 288, 304, 319, 320, 321, 336, 352, 383, 384,
    385, 400, 416, 448, 464, 480, 496, 505, 509, 510, 510, 511, 511, 512, 512, 512,
]  # fmt: skip


def main() -> None:
    torch.set_num_threads(THREADS)
    torch.use_deterministic_algorithms(True)
    tokenizer = open_tokenizer()
    texts = reference_texts(tokenizer)
    model = SentenceTransformer(str(base_folder()), device="cpu")
    model.max_seq_length = TOKENS_MAX  # the package's own configuration says 256
    token_ids = [tokenizer.encode(text).ids for text in texts]
    embeddings = [embed(model, text, ids) for text, ids in zip(texts, token_ids, strict=True)]
    path = DATA / "embeddings.json"
    write(path, texts, token_ids, embeddings)
    longest = max(len(ids) for ids in token_ids)
    print(f"{path.name}: {len(texts)} texts, {longest} tokens at most, {path.stat().st_size} bytes")


def reference_texts(tokenizer: Tokenizer) -> list[str]:
    """The hand-written texts, then one cut of the passages for each of `LENGTHS`."""
    source = json.loads((DATA / "reference_texts.json").read_text(encoding="utf-8"))
    passages = source["passages"]
    cuts = []
    for index, length in enumerate(LENGTHS):
        start = index % len(passages)
        long_text = "\n\n".join(passages[start:] + passages[:start])
        cuts.append(cut(tokenizer, long_text, length))
    texts = source["texts"] + cuts
    if len(texts) != TEXTS_COUNT or len(set(texts)) != TEXTS_COUNT:
        raise ValueError(f"{len(texts)} texts, {len(set(texts))} distinct; expected {TEXTS_COUNT}")
    return texts


def cut(tokenizer: Tokenizer, text: str, length: int) -> str:
    """The start of `text` that has exactly `length` tokens with the two special ones."""
    encoding = tokenizer.encode(text, add_special_tokens=False)
    prefix = text[: encoding.offsets[length - 3][1]]
    # A cut inside a word may merge its pieces; short words fill what is then missing.
    while len(tokenizer.encode(prefix).ids) < length:
        prefix += " so"
    if len(tokenizer.encode(prefix).ids) != length:
        raise ValueError(f"no cut of {length} tokens")
    return prefix


def embed(model: SentenceTransformer, text: str, ids: list[int]) -> list[float]:
    """The normalised embedding of one text; fails if the library would read other tokens."""
    seen = model.preprocess([text])["input_ids"][0].tolist()
    if seen != ids or len(ids) > TOKENS_MAX:
        raise ValueError(f"token ids differ or exceed {TOKENS_MAX}: {len(seen)} and {len(ids)}")
    return model.encode([text], normalize_embeddings=True, show_progress_bar=False)[0].tolist()


def write(path: Path, texts: list[str], ids: list[list[int]], rows: list[list[float]]) -> None:
    """JSON with one text, one id list and one vector a line."""

    def block(lines: list[str]) -> str:
        return "[\n" + ",\n".join(lines) + "\n]"

    def readable(text: str) -> str:
        # Letters as they are; characters nobody can see in an editor as escapes.
        visible = json.dumps(text, ensure_ascii=False)
        return "".join(json.dumps(c)[1:-1] if category(c) in INVISIBLE else c for c in visible)

    parts = [
        f'"model": {json.dumps(MODEL_NAME)}',
        f'"max_seq_length": {TOKENS_MAX}',
        '"texts": ' + block([readable(text) for text in texts]),
        '"token_ids": ' + block([json.dumps(row, separators=(",", ":")) for row in ids]),
        '"embeddings": ' + block(["[" + ",".join(f"{x:.8g}" for x in row) + "]" for row in rows]),
    ]
    path.write_text("{\n" + ",\n".join(parts) + "\n}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
