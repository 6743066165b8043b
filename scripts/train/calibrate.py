"""Probabilities of classes one by one, for a classifier that was trained with classes that exclude each
other.

Each class is a logistic regression over all logits against the rest, fitted on the card's train split and
on texts of none of the classes: those of `data/none-train.jsonl`, and the everyday sentences that another
card is trained on, which are many and count for less. It is written into the card's front matter, from
where the server reads it, and measured on `test` and `none-test`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.linear_model import LogisticRegression
from tokenizers import Tokenizer

from . import evaluate
from .data import Item, Labelled, read_items
from .model import TextModel

NONE_WEIGHT = 2.0
EVERYDAY_WEIGHT = 0.1
# Inverse strength of the L2 penalty, as scikit-learn has it.
PENALTY = 1.0
BINS = 10
TABLE_START = "<!-- multi_label: written by scripts/train -->"
TABLE_END = "<!-- end of multi_label -->"


def calibrate(
    card: Path,
    everyday: Path,
    model: TextModel,
    tokenizer: Tokenizer,
    splits: dict[str, list[Item]],
    labels: Sequence[str],
) -> dict[str, Any]:
    """Fits the calibration, writes it into the card, and returns what it is worth."""

    def logits(texts: Sequence[str]) -> np.ndarray:
        rows = evaluate.predict(model, tokenizer, texts)
        return np.stack([row.numpy() for row in rows]).astype(np.float64)

    def documents(split: str) -> tuple[np.ndarray, list[str]]:
        items = [item for item in splits[split] if isinstance(item, Labelled)]
        return logits([item.text for item in items]), [item.label for item in items]

    none = {split: read_texts(card / "data" / f"none-{split}.jsonl") for split in ("train", "test")}
    sentences = [item.text for item in read_items(everyday / "data", "train")]
    if set(none["test"]) & {*none["train"], *sentences}:
        raise ValueError("a text of none of the classes is in two splits")
    train, truth = documents("train")
    features = np.concatenate([train, logits(none["train"]), logits(sentences)])
    counts = (len(truth), len(none["train"]), len(sentences))
    sample_weight = np.repeat([1.0, NONE_WEIGHT, EVERYDAY_WEIGHT], counts)
    weights, biases = [], []
    for label in labels:
        target = np.zeros(len(features), bool)
        target[: len(truth)] = np.array(truth) == label
        fitted = LogisticRegression(C=PENALTY, max_iter=2000).fit(features, target, sample_weight)
        weights.append([round(float(value), 3) for value in fitted.coef_[0]])
        biases.append(round(float(fitted.intercept_[0]), 3))

    def probabilities(rows: np.ndarray) -> np.ndarray:
        return 1 / (1 + np.exp(-(rows @ np.array(weights).T + np.array(biases))))

    worth: dict[str, Any] = {"train": sum(counts)}
    foreign = probabilities(logits(none["test"]))
    for split in ("dev", "test"):
        rows, names = documents(split)
        truth_of = np.array(names)[:, None] == np.array(labels)
        worth[split] = measure(probabilities(rows), truth_of, foreign)
    write(card, weights, biases, worth)
    return worth


def read_texts(path: Path) -> list[str]:
    """Texts of a file of JSON lines `{"text"}`."""
    return [json.loads(line)["text"] for line in path.read_text("utf-8").splitlines()]


def measure(documents: np.ndarray, truth: np.ndarray, foreign: np.ndarray) -> dict[str, float]:
    """What the probabilities `[texts, classes]` of documents and of texts of no class are worth."""
    above = documents > 0.5
    everything = np.concatenate([documents, foreign]).ravel()
    is_true = np.concatenate([truth, np.zeros_like(foreign, bool)]).ravel()
    bins = np.minimum((everything * BINS).astype(int), BINS - 1)
    error = sum(
        abs(everything[bins == index].sum() - is_true[bins == index].sum()) for index in range(BINS)
    )
    return {
        "own_class_above_half": round(float(above[truth].mean()), 4),
        "no_other_above_half": round(float(1 - (above & ~truth).any(1).mean()), 4),
        "none_above_half": round(float((foreign <= 0.5).all(1).mean()), 4),
        "calibration_error": round(float(error / len(everything)), 4),
        "brier": round(float(((everything - is_true) ** 2).mean()), 4),
    }


def write(card: Path, weights: list[list[float]], biases: list[float], worth: dict[str, Any]) -> None:
    """Puts the numbers into the card's front matter, and what they are worth into its text."""
    path = card / "README.md"
    text = path.read_text("utf-8")
    rows = ",\n".join(f"        {json.dumps(row)}" for row in weights)
    manifest = f"  multi_label:\n    calibrated:\n      weights: [\n{rows}]\n      biases: {json.dumps(biases)}\n"
    text, count = re.subn(r"(?m)^  multi_label:\n(?:    .*\n)+", lambda _: manifest, text)
    if count == 0:
        text, count = re.subn(r"(?m)^  limits: ", lambda match: manifest + match[0], text)
    names = {
        "own_class_above_half": "documents whose own class is above 0.5",
        "no_other_above_half": "documents without another class above 0.5",
        "none_above_half": "texts of no class without a class above 0.5",
        "calibration_error": f"expected calibration error, {BINS} bins",
        "brier": "Brier score",
    }
    lines = ["| | dev | test |", "|---|---:|---:|"]
    for key, name in names.items():
        lines.append(f"| {name} | {worth['dev'][key]:.3f} | {worth['test'][key]:.3f} |")
    table = "\n".join([TABLE_START, *lines, TABLE_END])
    between = rf"(?s){re.escape(TABLE_START)}.*?{re.escape(TABLE_END)}"
    text, tables = re.subn(between, lambda _: table, text)
    if (count, tables) != (1, 1):
        raise ValueError("the card has no place for the calibration")
    path.write_text(text, encoding="utf-8")
