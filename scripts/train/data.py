"""Data files, label encoding, augmentation and length-bucketed batches.

Classification files are JSON lines `{"label", "text"}`. Entity files hold one text a line with inline
markup: `[Anna Schmidt](PER) flew to [Oslo](LOC).` In `structured-test.txt`, `⏎` is a line break in a text
and `→` a tab.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from tokenizers import Encoding, Tokenizer

from .base import TOKENS_MAX

ENTITY_MARKUP = re.compile(r"\[([^\[\]]+)\]\((PER|ORG|LOC|MISC)\)")
IGNORED = -100  # target of tokens that carry no label: cross_entropy's ignore_index
BUCKET_BATCHES = 8


@dataclass(frozen=True)
class Labelled:
    """A text with one class."""

    text: str
    label: str


@dataclass(frozen=True)
class Span:
    """An entity: character offsets into the text, and its type."""

    start: int
    end: int
    label: str


@dataclass(frozen=True)
class Tagged:
    """A text as pieces: plain text (`None`) and entities (their type)."""

    pieces: tuple[tuple[str, str | None], ...]

    @property
    def text(self) -> str:
        return "".join(piece for piece, _ in self.pieces)

    @property
    def spans(self) -> list[Span]:
        spans, position = [], 0
        for piece, label in self.pieces:
            if label is not None:
                spans.append(Span(position, position + len(piece), label))
            position += len(piece)
        return spans


Item = Labelled | Tagged
Gazetteer = dict[str, list[str]]


@dataclass(frozen=True)
class Example:
    """Token ids with special tokens, and one target for the text or one for each token."""

    ids: list[int]
    targets: list[int]


@dataclass(frozen=True)
class Batch:
    """`ids` and `mask` [B, T]; `targets` [B] for texts, [B, T] for tokens."""

    ids: torch.Tensor
    mask: torch.Tensor
    targets: torch.Tensor


def read_items(folder: Path, split: str) -> list[Item]:
    """One split of a card's data folder, in file order."""
    lines = folder / f"{split}.jsonl"
    if lines.exists():
        rows = [json.loads(line) for line in lines.read_text("utf-8").splitlines() if line.strip()]
        return [Labelled(row["text"], row["label"]) for row in rows]
    text = (folder / f"{split}.txt").read_text("utf-8")
    return [parse_markup(line) for line in text.splitlines() if line.strip()]


def parse_markup(line: str) -> Tagged:
    """`[Anna](PER) left.` as pieces; fails on markup that was not understood."""
    pieces: list[tuple[str, str | None]] = []
    position = 0
    for match in ENTITY_MARKUP.finditer(line):
        pieces.append((line[position : match.start()], None))
        pieces.append((match[1], match[2]))
        position = match.end()
    pieces.append((line[position:], None))
    if any("](" in piece for piece, _ in pieces):
        raise ValueError(f"unknown entity markup: {line}")
    return Tagged(tuple((piece, label) for piece, label in pieces if piece))


def read_structured(folder: Path) -> list[Tagged]:
    """The test texts that are no prose; none for cards without them."""
    path = folder / "structured-test.txt"
    if not path.exists():
        return []
    lines = path.read_text("utf-8").splitlines()
    return [parse_markup(line.replace("⏎", "\n").replace("→", "\t")) for line in lines]


def read_gazetteer(folder: Path) -> Gazetteer:
    """Names under PER_FIRST, PER_LAST, ORG, LOC and MISC; empty for cards without a gazetteer."""
    path = folder / "gazetteer.json"
    return json.loads(path.read_text("utf-8")) if path.exists() else {}


def check_disjoint(splits: dict[str, list[Item]]) -> None:
    """Fails if a text of one split, up to case and spacing, is also in another."""
    seen: dict[str, str] = {}
    for split, items in splits.items():
        for item in items:
            key = " ".join(item.text.lower().split())
            if seen.setdefault(key, split) != split:
                raise ValueError(f"a text of {split} is also in {seen[key]}: {item.text[:80]}")


def check_new_names(test: Sequence[Tagged], others: Sequence[Item], gazetteer: Gazetteer) -> None:
    """Fails if a name of the test texts, or one word of a person's name, is in other texts or in the
    gazetteer."""
    names = [
        piece
        for item in others
        if isinstance(item, Tagged)
        for piece, label in item.pieces
        if label is not None
    ]
    names += [name for names_of_kind in gazetteer.values() for name in names_of_kind]
    whole = {name.lower() for name in names}
    words = {word for name in whole for word in name.split()}
    for item in test:
        for piece, label in item.pieces:
            known = (
                words.intersection(piece.lower().split())
                if label == "PER"
                else whole & {piece.lower()}
            )
            if label is not None and known:
                raise ValueError(f"a name of the test texts is in those of training: {piece}")


def encode(tokenizer: Tokenizer, item: Item, labels: Sequence[str]) -> Example:
    """Token ids cut to the model's positions, and targets as indices into `labels`."""
    encoding = tokenizer.encode(item.text)
    if isinstance(item, Labelled):
        return Example(cut(encoding.ids), [labels.index(item.label)])
    return Example(cut(encoding.ids), cut(tag_tokens(encoding, item.spans, labels)))


def tag_tokens(encoding: Encoding, spans: Sequence[Span], labels: Sequence[str]) -> list[int]:
    """BIO indices: B- on an entity's first sub-word, I- on its others, ignored on special tokens."""
    targets = [
        IGNORED if special else labels.index("O") for special in encoding.special_tokens_mask
    ]
    for span in spans:
        prefix = "B"
        for index, (start, end) in enumerate(encoding.offsets):
            if targets[index] != IGNORED and start < span.end and end > span.start:
                targets[index] = labels.index(f"{prefix}-{span.label}")
                prefix = "I"
    return targets


def cut(values: list[int]) -> list[int]:
    """The first 511 values and the last one, which belongs to [SEP]."""
    return values if len(values) <= TOKENS_MAX else values[: TOKENS_MAX - 1] + values[-1:]


def augment(items: Sequence[Item], gazetteer: Gazetteer, rng: random.Random) -> list[Item]:
    """One epoch's view of the training texts.

    Case is never changed and line breaks are never added: the base model's tokenizer folds both.
    """
    entities = [item for item in items if isinstance(item, Tagged)]
    if entities:
        return [augment_entities(item, entities, gazetteer, rng) for item in entities]
    return [augment_text(item, rng) for item in items if isinstance(item, Labelled)]


def augment_entities(
    item: Tagged, others: Sequence[Tagged], gazetteer: Gazetteer, rng: random.Random
) -> Tagged:
    """Swaps names for others of their type; sometimes drops the end mark or adds a second text."""
    pieces = item.pieces
    if gazetteer and rng.random() < 0.6:
        pieces = tuple(
            (other_name(piece, label, gazetteer, rng), label)
            if label is not None and rng.random() < 0.6
            else (piece, label)
            for piece, label in pieces
        )
    if pieces[-1][1] is None and rng.random() < 0.15:
        pieces = (*pieces[:-1], (pieces[-1][0].rstrip(".!? ") or " ", None))
    if rng.random() < 0.15:
        pieces = (*pieces, (rng.choice([" ", "\n"]), None), *rng.choice(others).pieces)
    return Tagged(pieces)


def other_name(name: str, label: str, gazetteer: Gazetteer, rng: random.Random) -> str:
    """A name of the same type; for people, one of the same make: a single name, full, or initials."""
    if label != "PER":
        return rng.choice(gazetteer[label])
    first, last = rng.choice(gazetteer["PER_FIRST"]), rng.choice(gazetteer["PER_LAST"])
    if " " not in name:
        return rng.choice([first, last])
    if "." in name:
        initials = [f"{rng.choice(gazetteer['PER_FIRST'])[0]}." for _ in range(name.count("."))]
        return " ".join([*initials, last])
    return f"{first} {last}"


def augment_text(item: Labelled, rng: random.Random) -> Labelled:
    """Long texts: another number for each number, and a random crop; short ones stay whole."""
    words = item.text.split()
    if len(words) < 30:
        return item
    if rng.random() < 0.5:
        words = [re.sub(r"\d", lambda _: str(rng.randrange(10)), word) for word in words]
    if rng.random() < 0.5:
        length = rng.randint(max(20, len(words) // 2), len(words))
        start = rng.randint(0, len(words) - length)
        words = words[start : start + length]
    return Labelled(" ".join(words), item.label)


def batches(examples: Sequence[Example], size: int, rng: random.Random) -> Iterator[Batch]:
    """Batches of texts of similar length, in random order."""
    order = list(range(len(examples)))
    rng.shuffle(order)
    bucket = size * BUCKET_BATCHES
    groups = []
    for start in range(0, len(order), bucket):
        near = sorted(order[start : start + bucket], key=lambda i: len(examples[i].ids))
        groups += [near[i : i + size] for i in range(0, len(near), size)]
    rng.shuffle(groups)
    for group in groups:
        yield collate([examples[i] for i in group])


def collate(examples: Sequence[Example]) -> Batch:
    """Pads to the longest text of the batch."""
    width = max(len(example.ids) for example in examples)
    is_token_task = all(len(example.targets) == len(example.ids) for example in examples)

    def pad(values: list[int], fill: int) -> list[int]:
        return values + [fill] * (width - len(values))

    ids = torch.tensor([pad(example.ids, 0) for example in examples])
    mask = torch.tensor([pad([1] * len(example.ids), 0) for example in examples])
    targets = [
        pad(example.targets, IGNORED) if is_token_task else example.targets[0]
        for example in examples
    ]
    return Batch(ids, mask, torch.tensor(targets))
