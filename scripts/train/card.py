"""The model card: its manifest is read, and the fields that training decides are written back."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from .base import sha256
from .model import ADAPTER_CONFIG_FILE, ADAPTER_FILE, HEAD_FILE

SCORES_START = "<!-- scores: written by scripts/train -->"
SCORES_END = "<!-- end of scores -->"
NO_PROSE = {
    "structured": "as they are written",
    "structured_lower": "in small letters",
    "structured_upper": "in capitals",
}
PIPELINES = {
    "sentiment": "text-classification",
    "document-classification": "text-classification",
    "entities": "token-classification",
}


def read_manifest(card: Path) -> dict[str, Any]:
    """The `ml_inference` part of a card's front matter."""
    front_matter = _front_matter((card / "README.md").read_text("utf-8"))
    return yaml.safe_load(front_matter)["ml_inference"]


def update_card(card: Path, evaluation: dict[str, Any]) -> None:
    """Rewrites the digests, the model index and the table of scores in a card's README."""
    path = card / "README.md"
    text = path.read_text("utf-8")
    manifest = read_manifest(card)
    text = _replace(text, r"(?m)^(  adapter: .*sha256: )\S+( \})", sha256(card / ADAPTER_FILE))
    text = _replace(text, r"(?m)^(  adapter: .*config_sha256: )\w+(, )", sha256(card / ADAPTER_CONFIG_FILE))
    text = _replace(text, r"(?m)^(  head: .*sha256: )\S+( \})", sha256(card / HEAD_FILE))
    text = _replace(text, r"(?s)(\nmodel-index:\n).*?(\n---\n)", _model_index(manifest, evaluation))
    between = rf"(?s)({re.escape(SCORES_START)}\n).*?(\n{re.escape(SCORES_END)})"
    text = _replace(text, between, _score_table(evaluation))
    path.write_text(text, encoding="utf-8")


def _front_matter(text: str) -> str:
    match = re.match(r"---\n(.*?\n)---\n", text, re.DOTALL)
    if match is None:
        raise ValueError("the card has no front matter")
    return match[1]


def _replace(text: str, pattern: str, value: str) -> str:
    """Puts `value` between the pattern's two groups, which must match exactly once."""
    text, count = re.subn(pattern, lambda match: match[1] + value + match[2], text)
    if count != 1:
        raise ValueError(f"{count} places in the card match {pattern}")
    return text


def _model_index(manifest: dict[str, Any], evaluation: dict[str, Any]) -> str:
    """Hugging Face's `model-index` results of the test split."""
    test = evaluation["test"]
    names = {
        "accuracy": ("accuracy", "accuracy"),
        "macro_f1": ("f1", "macro F1"),
        "entity_precision": ("precision", "entity precision"),
        "entity_recall": ("recall", "entity recall"),
        "entity_f1": ("f1", "entity F1"),
    }
    task = manifest["task"]
    index = [
        {
            "name": manifest["name"],
            "results": [
                {
                    "task": {"type": PIPELINES[task]},
                    "dataset": {
                        "name": f"texts composed for {manifest['name']}",
                        "type": "custom",
                        "split": "test",
                    },
                    "metrics": [
                        {"type": kind, "name": name, "value": test[key]}
                        for key, (kind, name) in names.items()
                        if key in test
                    ],
                }
            ],
        }
    ]
    return yaml.safe_dump(index, sort_keys=False, allow_unicode=True).rstrip("\n")


def _score_table(evaluation: dict[str, Any]) -> str:
    """Overall scores of dev and test, then each label's on test."""
    test, dev = evaluation["test"], evaluation["dev"]
    overall = [key for key in test if isinstance(test[key], float)]
    lines = ["| | dev | test |", "|---|---:|---:|"]
    lines += [f"| {key.replace('_', ' ')} | {dev[key]:.3f} | {test[key]:.3f} |" for key in overall]
    lines += [f"| texts | {dev['examples']} | {test['examples']} |", ""]
    lines += ["| label (test) | precision | recall | F1 | count |", "|---|---:|---:|---:|---:|"]
    lines += [
        f"| {name} | {row['precision']:.3f} | {row['recall']:.3f} | {row['f1']:.3f} | {row['support']} |"
        for name, row in test["classes"].items()
    ]
    counts = evaluation["counts"]
    if "structured" in evaluation:
        lines += [
            "",
            "| texts that are no prose (test) | precision | recall | F1 | names |",
            "|---|---:|---:|---:|---:|",
        ]
        for key, name in NO_PROSE.items():
            row = evaluation[key]
            support = sum(of_class["support"] for of_class in row["classes"].values())
            lines.append(
                f"| {name} | {row['entity_precision']:.3f} | {row['entity_recall']:.3f} | {row['entity_f1']:.3f} | {support} |"
            )
        lines += [
            f"| {name}, as they are written | {row['precision']:.3f} | {row['recall']:.3f} | {row['f1']:.3f} | {row['support']} |"
            for name, row in evaluation["structured"]["classes"].items()
        ]
    lines += [
        "",
        f"{counts['train']} training, {counts['dev']} dev and {counts['test']} test texts; seed "
        f"{evaluation['seed']}; `{evaluation['command']}`.",
    ]
    return "\n".join(lines)
