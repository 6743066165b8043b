"""Trains and scores one model: `PYTHONPATH=scripts python -m train --task sentiment --seed 17`.

Writes into the model's card folder: the adapter, the head, evaluation.json, and the digests and scores
in README.md; and into models/tests/data the logits that the server's parity test compares with.
`--evaluate-only` scores the files that are there.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import torch

from . import evaluate
from .as_read import as_read
from .base import REPOSITORY_ROOT, open_tokenizer
from .calibrate import calibrate
from .card import read_manifest, update_card
from .data import (
    Tagged,
    check_disjoint,
    check_new_names,
    read_gazetteer,
    read_items,
    read_structured,
)
from .model import load_model, save_model
from .structured import read_layouts
from .train import TASKS, train

# How the texts that are no prose are written for another test of them.
CASES: dict[str, Callable[[str], str]] = {
    "structured": str,
    "structured_lower": str.lower,
    "structured_upper": str.upper,
}
LIBRARIES = ["torch", "transformers", "peft", "tokenizers", "numpy", "scikit-learn"]


def main() -> None:
    arguments = parse_arguments()
    torch.set_num_threads(arguments.threads)
    config = TASKS[arguments.task]
    card = REPOSITORY_ROOT / "model-cards" / config.card
    labels: list[str] = read_manifest(card)["labels"]
    splits = {split: read_items(card / "data", split) for split in ("train", "dev", "test")}
    structured = read_structured(card / "data")
    check_disjoint({**splits, "structured-test": structured})
    gazetteer = read_gazetteer(card / "data")
    check_new_names(structured, [*splits["train"], *splits["dev"]], gazetteer)
    tokenizer = open_tokenizer()
    if not arguments.evaluate_only:
        layouts = read_layouts(card / "data")
        model = train(config, splits, gazetteer, layouts, tokenizer, labels, arguments.seed)
        save_model(model, card)
    saved = load_model(card, config.is_token_task)
    evaluation: dict[str, Any] = {
        "command": f"python -m train --task {arguments.task} --seed {arguments.seed}",
        "seed": arguments.seed,
        "counts": {split: len(items) for split, items in splits.items()},
        "libraries": {name: version(name) for name in LIBRARIES},
    }
    for split in ("dev", "test"):
        scores = evaluate.score(saved, tokenizer, splits[split], labels)
        print(f"{split}: {json.dumps({k: v for k, v in scores.items() if k != 'classes'})}")
        evaluation[split] = {key: value for key, value in scores.items() if key != "main"}
    for name, change in CASES.items() if structured else []:
        reads = as_read(
            [
                Tagged(tuple((change(text), label) for text, label in item.pieces))
                for item in structured
            ]
        )
        scores = evaluate.score_read(saved, tokenizer, reads, labels)
        print(f"{name}: {json.dumps({k: v for k, v in scores.items() if k != 'classes'})}")
        evaluation[name] = {key: value for key, value in scores.items() if key != "main"}
    if config.everyday is not None:
        everyday = REPOSITORY_ROOT / "model-cards" / config.everyday
        worth = calibrate(card, everyday, saved, tokenizer, splits, labels)
        print(f"multi_label: {json.dumps(worth)}")
        evaluation["multi_label"] = worth
    text = json.dumps(evaluation, indent=2) + "\n"
    (card / "evaluation.json").write_text(text, encoding="utf-8")
    update_card(card, evaluation)
    references = REPOSITORY_ROOT / "models" / "tests" / "data" / f"{arguments.task}_logits.json"
    evaluate.write_reference_logits(references, config.card, saved, tokenizer, splits["dev"])


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m train", description=__doc__)
    parser.add_argument("--task", choices=sorted(TASKS), required=True)
    parser.add_argument("--seed", type=int, default=17)
    parser.add_argument("--threads", type=int, default=2, help="torch threads")
    parser.add_argument("--evaluate-only", action="store_true", help="score the saved files")
    return parser.parse_args()


if __name__ == "__main__":
    main()
