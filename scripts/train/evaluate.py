"""Scores of a saved card: base + merged adapter + head in float32, as the server computes them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from sklearn.metrics import accuracy_score, classification_report
from tokenizers import Encoding, Tokenizer

from .base import TOKENS_MAX
from .as_read import Read
from .data import Item, Labelled, Span, Tagged, cut
from .model import TextModel

Scores = dict[str, Any]
EVALUATION_BATCH = 32
REFERENCE_TEXTS = 12


@torch.inference_mode()
def predict(model: TextModel, tokenizer: Tokenizer, texts: Sequence[str]) -> list[torch.Tensor]:
    """Logits of each text: [C], or [T, C] for token tasks."""
    model.eval()
    encodings = [tokenizer.encode(text) for text in texts]
    logits: list[torch.Tensor] = [torch.empty(0)] * len(texts)
    order = sorted(range(len(texts)), key=lambda i: len(encodings[i].ids))
    for first in range(0, len(order), EVALUATION_BATCH):
        group = order[first : first + EVALUATION_BATCH]
        rows = [cut(encodings[i].ids) for i in group]
        width = max(map(len, rows))
        ids = torch.tensor([row + [0] * (width - len(row)) for row in rows])
        mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows])
        for index, row, out in zip(group, rows, model(ids, mask), strict=True):
            logits[index] = out[: len(row)] if model.is_token_task else out
    return logits


def score(
    model: TextModel, tokenizer: Tokenizer, items: Sequence[Item], labels: Sequence[str]
) -> Scores:
    """Scores of one split, with `main` being the number that model selection uses."""
    logits = predict(model, tokenizer, [item.text for item in items])
    if model.is_token_task:
        tagged = [item for item in items if isinstance(item, Tagged)]
        return score_entities(tokenizer, tagged, logits, labels)
    truth = [item.label for item in items if isinstance(item, Labelled)]
    return score_classes(truth, [labels[int(row.argmax())] for row in logits], labels)


def score_read(
    model: TextModel, tokenizer: Tokenizer, reads: Sequence[Read], labels: Sequence[str]
) -> Scores:
    """The same for texts as the server reads them, where names end with lines and cells."""
    logits = predict(model, tokenizer, [read.item.text for read in reads])
    return score_entities(
        tokenizer, [read.item for read in reads], logits, labels, [read.ends for read in reads]
    )


def score_classes(truth: list[str], found: list[str], labels: Sequence[str]) -> Scores:
    """Accuracy, macro-F1, and precision, recall and F1 of each class."""
    report = classification_report(
        truth, found, labels=list(labels), output_dict=True, zero_division=0
    )
    accuracy = float(accuracy_score(truth, found))
    return {
        "main": accuracy,
        "examples": len(truth),
        "accuracy": round(accuracy, 4),
        "macro_f1": round(report["macro avg"]["f1-score"], 4),
        "classes": {label: _rounded(report[label]) for label in labels},
    }


def score_entities(
    tokenizer: Tokenizer,
    items: Sequence[Tagged],
    logits: list[torch.Tensor],
    labels: Sequence[str],
    ends: Sequence[Sequence[int]] | None = None,
) -> Scores:
    """Precision, recall and F1 of entities whose offsets and type are both exactly right."""
    counts = {name: Counter[str]() for name in sorted({label[2:] for label in labels} - {""})}
    for item, rows, places in zip(items, logits, ends or [()] * len(items), strict=True):
        tags = [labels[int(row.argmax())] for row in rows]
        encoding = tokenizer.encode(item.text)
        found, truth = set(decode_spans(encoding, tags, places)), set(item.spans)
        for name, counter in counts.items():
            predicted = {span for span in found if span.label == name}
            expected = {span for span in truth if span.label == name}
            counter["hit"] += len(predicted & expected)
            counter["found"] += len(predicted)
            counter["truth"] += len(expected)
    total = sum(counts.values(), Counter[str]())
    overall = _precision_recall(total)
    return {
        "main": overall["f1"],
        "examples": len(items),
        "entity_precision": overall["precision"],
        "entity_recall": overall["recall"],
        "entity_f1": overall["f1"],
        "classes": {name: _precision_recall(counter) for name, counter in counts.items()},
    }


def decode_spans(encoding: Encoding, tags: Sequence[str], ends: Sequence[int] = ()) -> list[Span]:
    """Entities under `first` aggregation: a word takes the tag of its first sub-word.

    A word tagged B- or with another type than the word before it starts a new entity, and so does one
    behind an end.
    """
    spans: list[Span] = []
    open_type = ""
    word_before = None
    for index, word in enumerate(encoding.word_ids[: len(tags)]):
        if word is None:
            continue
        start, end = encoding.offsets[index]
        if word == word_before:
            if open_type:
                spans[-1] = Span(spans[-1].start, end, open_type)
            continue
        word_before = word
        prefix, _, name = tags[index].partition("-")
        if (
            prefix == "I"
            and name == open_type
            and not any(spans[-1].end <= place <= start for place in ends)
        ):
            spans[-1] = Span(spans[-1].start, end, name)
        elif prefix != "O":
            spans.append(Span(start, end, name))
        open_type = name
    return spans


def write_reference_logits(
    path: Path, name: str, model: TextModel, tokenizer: Tokenizer, items: Sequence[Item]
) -> None:
    """Logits of some texts, each computed alone, for the server's parity test."""
    step = max(1, len(items) // REFERENCE_TEXTS)
    texts = [item.text for item in items[::step]][:REFERENCE_TEXTS]
    encodings = [tokenizer.encode(text).ids for text in texts]
    if max(map(len, encodings)) > TOKENS_MAX:
        raise ValueError("a reference text is longer than one window")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # a parallel sum's order is the main thing that differs between runs
    logits = [predict(model, tokenizer, [text])[0] for text in texts]
    torch.set_num_threads(threads)
    document = {
        "model": name,
        "texts": texts,
        "token_ids": encodings,
        "logits": [_shorten(row.tolist()) for row in logits],
    }
    lines = [
        f'"{key}": ' + (json.dumps(value) if isinstance(value, str) else _one_a_line(value))
        for key, value in document.items()
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


def _shorten(value: Any) -> Any:
    """Floats at 8 significant digits, in lists of any depth."""
    if isinstance(value, list):
        return [_shorten(inner) for inner in value]
    return float(f"{value:.8g}")


def _one_a_line(values: Sequence[Any]) -> str:
    rows = [json.dumps(value, ensure_ascii=False, separators=(",", ":")) for value in values]
    return "[\n" + ",\n".join(rows) + "\n]"


def _rounded(row: dict[str, float]) -> dict[str, float]:
    return {
        "precision": round(row["precision"], 4),
        "recall": round(row["recall"], 4),
        "f1": round(row["f1-score"], 4),
        "support": int(row["support"]),
    }


def _precision_recall(counter: Counter[str]) -> dict[str, float]:
    precision = counter["hit"] / max(counter["found"], 1)
    recall = counter["hit"] / max(counter["truth"], 1)
    f1 = 2 * precision * recall / max(precision + recall, 1e-9)
    return {
        "precision": round(precision, 4),
        "recall": round(recall, 4),
        "f1": round(f1, 4),
        "support": counter["truth"],
    }
