"""Texts as the server gives them to the model, by the server's own code: commas stand where lines, items and
cells end.

`cargo build --release --locked --workspace --example text_as_read` makes the program that is asked.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass

from .base import REPOSITORY_ROOT
from .data import Tagged

PROGRAM = REPOSITORY_ROOT / "target" / "release" / "examples" / "text_as_read"


@dataclass(frozen=True)
class Read:
    """A text as it is read, and the characters of it before which a name ends whatever the model says."""

    item: Tagged
    ends: tuple[int, ...]


def as_read(items: Sequence[Tagged]) -> list[Read]:
    """Each text as it is read; it has as many bytes as before, so names are where they were."""
    lines = "".join(json.dumps(item.text) + "\n" for item in items)
    done = subprocess.run([PROGRAM], input=lines.encode(), stdout=subprocess.PIPE, check=True)
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    return [
        _read(item, answer["text"], answer["ends"])
        for item, answer in zip(items, answers, strict=True)
    ]


def _read(item: Tagged, text: str, ends: Sequence[int]) -> Read:
    read, position, pieces = text.encode(), 0, []
    for piece, label in item.pieces:
        end = position + len(piece.encode())
        pieces.append((read[position:end].decode(), label))
        position = end
    # A place within a character of the text may be one between the blanks that stand for it.
    return Read(
        Tagged(tuple(pieces)), tuple(len(read[:end].decode(errors="ignore")) for end in ends)
    )
