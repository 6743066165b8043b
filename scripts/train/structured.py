"""Texts that are no prose: lists, tables, signatures, heads of mails, résumés, markup. All are drawn from one
random generator.

`data/layouts.json` has layouts with fields in them (`Kind regards\\n{per}\\n{role}`), lists of words and
of headings, and how names of organisations and streets are made; names come out of `data/gazetteer.json`.
A field of a name becomes an entity. Lists and tables are put together here. Some texts have no name at
all, so that a line by itself is not taken for one.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from .as_read import Read, as_read
from .data import Gazetteer, Tagged

FIELD = re.compile(r"\{(\w+)\}")
LABELS = {
    **dict.fromkeys(["per", "first", "last"], "PER"),
    "org": "ORG",
    **dict.fromkeys(["loc", "street"], "LOC"),
    **dict.fromkeys(["misc", "language", "software", "work"], "MISC"),
}
# Of what lists are made, and how often.
LISTED = {
    "per": 8,
    "first": 2,
    "last": 1,
    "loc": 7,
    "org": 8,
    "misc": 1,
    "language": 1,
    "software": 1,
    "work": 1,
}
ASIDE = {
    "per": [", {role}", " – {role}", " - {role}", " ({role})", " ({org})", ", {org}", ", {loc}", " <{email}>", ": {amount}", " {date}",
            ", {role}, {org}", " – {org}", " ({number})", " / {org}", ", born {year}", " {phone}", " +1"],
    "loc": [" ({loc})", ", {loc}", " – {date}", " {date}", ": {number}", " {time}", " ({number})", " - {amount}"],
    "org": [" ({loc})", ", {loc}", " – {amount}", ": {per}", " - {date}", " ({year})", ", c/o {per}", " {amount}", " – {noun}"],
    "misc": [" ({year})", " – {number}", ": {noun}"],
}  # fmt: skip
TITLES = [
    "Dr",
    "Dr.",
    "Prof.",
    "Prof. Dr.",
    "Mr",
    "Mr.",
    "Ms",
    "Mrs",
    "Mrs.",
    "Sir",
    "Judge",
    "Captain",
    "Rev.",
    "Herr",
    "Frau",
    "Sgt.",
]
SEPARATORS = (
    ["\n"] * 10
    + ["\n\n"] * 3
    + [
        "\t",
        "\t\t",
        " | ",
        "|",
        "; ",
        ";",
        ", ",
        ", ",
        "    ",
        "  ",
        "\n\t",
        "\n  ",
        " / ",
        " · ",
        " • ",
    ]
)
MARKS = ["- "] * 4 + [
    "* ",
    "* ",
    "• ",
    "• ",
    "– ",
    "+ ",
    "> ",
    "◦ ",
    "→ ",
    "[ ] ",
    "[x] ",
    "● ",
    "▪ ",
]
COUNTS = ["{n}. "] * 4 + ["{n}) ", "({n}) ", "#{n} ", "{a}) ", "{a}. ", "{n} ", "{n}: ", "No. {n} "]
CELLS = ["\t"] * 3 + ["|", " | ", ",", ",", ";", "  ", "    ", '","', " - "]
CASES: list[Callable[[str], str]] = [str.lower, str.lower, str.upper]
# Each is a word by itself when the server has put a text into plain characters.
SYMBOLS = "★ ☆ ♥ ❤ ✔ ✨ 🎉 👍 📍 ☎ 🚀 😀 🔥 © € ▲".split()
MONTHS = (
    "January February March April May June July August September October November December".split()
)
DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
# Of the texts of training, those that are read as they are: so `aggregation: none` reads.
AS_IT_IS = 0.25
Pieces = list[tuple[str, str | None]]
Layouts = dict[str, Any]


def read_layouts(folder: Path) -> Layouts:
    """Layouts and words; empty for cards without them."""
    path = folder / "layouts.json"
    return json.loads(path.read_text("utf-8")) if path.exists() else {}


def without(gazetteer: Gazetteer, every: int, kept: bool) -> Gazetteer:
    """The gazetteer without each `every`th name, or with nothing but those: names of dev are none of
    training."""
    return {
        kind: [name for i, name in enumerate(names) if (i % every == every - 1) == kept]
        for kind, names in gazetteer.items()
    }


def drawn_as_read(drawer: Drawer, count: int) -> list[Read]:
    """So many texts, as the server reads them."""
    return as_read([drawer.draw() for _ in range(count)])


def drawn_for_training(drawer: Drawer, count: int) -> list[Tagged]:
    """So many texts, most of them as the server reads them."""
    items = [drawer.draw() for _ in range(count)]
    return [
        item if drawer.rng.random() < AS_IT_IS else read.item
        for item, read in zip(items, as_read(items), strict=True)
    ]


class Drawer:
    """Draws texts; `running` are the sentences that stand between lists."""

    def __init__(
        self, layouts: Layouts, gazetteer: Gazetteer, running: Sequence[Tagged], rng: random.Random
    ) -> None:
        self.layouts = layouts
        self.gazetteer = gazetteer
        self.running = running
        self.rng = rng

    def draw(self) -> Tagged:
        """One text."""
        rng = self.rng
        make = rng.choices([self.roster, self.table, self.layout, self.nothing], [35, 18, 37, 10])[
            0
        ]
        pieces = make()
        if rng.random() < 0.08:
            pieces = [*self.fill("{running}"), (rng.choice(["\n\n", "\n"]), None), *pieces]
        if rng.random() < 0.08:
            pieces = [*pieces, (rng.choice(["\n\n", "\n"]), None), *self.fill("{running}")]
        if rng.random() < 0.08:
            pieces = self.decorated(pieces)
        if rng.random() < 0.18:
            case = rng.choice(CASES)
            pieces = [(case(text), label) for text, label in pieces]
        if rng.random() < 0.1:
            pieces = [(text.replace("\n", "\r\n"), label) for text, label in pieces]
        return Tagged(tuple(piece for piece in pieces if piece[0]))

    def decorated(self, pieces: Pieces) -> Pieces:
        """With a symbol beside some names."""
        symbol = self.rng.choice(SYMBOLS)
        decorated: Pieces = []
        for text, label in pieces:
            places = [("", "")] * 2
            if label is not None:
                places = [
                    (f"{symbol} ", ""),
                    ("", f" {symbol}"),
                    (f"{symbol} ", f" {symbol}"),
                    ("", ""),
                ]
            before, after = self.rng.choice(places)
            decorated += [(before, None), (text, label), (after, None)]
        return decorated

    def layout(self) -> Pieces:
        return self.fill(self.rng.choice(self.layouts["layouts"]))

    def nothing(self) -> Pieces:
        return self.fill(self.rng.choice(self.layouts["nothing"]))

    def roster(self) -> Pieces:
        """Names of one kind, or of a few, with marks, numbers and asides, below a heading or not."""
        rng = self.rng
        kinds = rng.choices(list(LISTED), list(LISTED.values()), k=1 if rng.random() < 0.8 else 2)
        separator, mark = rng.choice(SEPARATORS), ""
        if separator in ("\n", "\n\n") and rng.random() < 0.5:
            mark = rng.choice(MARKS + COUNTS)
        aside = ""
        if rng.random() < 0.3 and separator != ", ":
            aside = rng.choice(ASIDE.get(kinds[0], ASIDE["misc"]))
        titles = kinds[0] in ("per", "last") and rng.random() < 0.2
        items = []
        for number in range(1, rng.choice([1, 2, 3, 3, 4, 4, 4, 5, 5, 6, 8, 10]) + 1):
            item = "{" + rng.choice(kinds) + "}"
            if titles and rng.random() < 0.8:
                item = f"{rng.choice(TITLES)} {item}"
            if aside and rng.random() < 0.85:
                item += aside
            counted = mark.replace("{n}", str(number)).replace("{a}", "abcdefghij"[number - 1])
            items.append(counted + item)
        text = separator.join(items) + rng.choice(["", "", "\n", "." if separator == ", " else ""])
        if rng.random() < 0.35:
            headings = self.layouts["headings"][LABELS[kinds[0]]]
            heading = rng.choice(headings) if rng.random() < 0.8 else self.word("{Noun}")
            heading = heading.upper() if rng.random() < 0.1 else heading
            is_inline = separator.strip("\t ") != "" and "\n" not in separator
            text = (
                heading
                + (
                    rng.choice([": ", "\n"])
                    if is_inline
                    else rng.choice(["\n", "\n", "\n\n", ":\n"])
                )
                + text
            )
        return self.fill(text.replace("::", ":"))

    def table(self) -> Pieces:
        """Rows of cells, with a head or not."""
        rng, columns = self.rng, self.layouts["columns"]
        kinds = [rng.choice(["per", "per", "org", "loc"])]
        others = [*columns, "per", "loc", "org", "loc", "org"]
        kinds += [rng.choice(others) for _ in range(rng.choice([1, 1, 2, 2, 3]))]
        rng.shuffle(kinds)
        cell = rng.choice(CELLS)
        is_markdown = cell == " | " and rng.random() < 0.6
        is_quoted = cell == '","'
        rows = ["{" + "}\n{".join(kinds) + "}"] * rng.choice([1, 2, 2, 3, 3, 4])
        if rng.random() < 0.7:
            rows.insert(0, "\n".join(rng.choice(columns[kind]) for kind in kinds))
            if cell in (",", ";") and rng.random() < 0.5:
                rows[0] = rows[0].lower()
        lines = []
        for row in rows:
            cells = row.split("\n")
            if rng.random() < 0.05:
                cells[rng.randrange(len(cells))] = rng.choice(["", "-", "n/a", "—"])
            line = cell.join(cells)
            lines.append(f"| {line} |" if is_markdown else f'"{line}"' if is_quoted else line)
        if is_markdown and len(lines) > 1:
            lines.insert(1, "|" + "---|" * len(kinds))
        return self.fill("\n".join(lines))

    def fill(self, layout: str) -> Pieces:
        """A layout with something in each of its fields."""
        pieces: Pieces = []
        position = 0
        for match in FIELD.finditer(layout):
            pieces.append((layout[position : match.start()], None))
            position = match.end()
            field = match[1]
            if field == "running":
                pieces += self.rng.choice(self.running).pieces
            elif field in LABELS:
                pieces.append((self.name(field), LABELS[field]))
            else:
                pieces.append((self.word(match[0]), None))
        return [*pieces, (layout[position:], None)]

    def name(self, field: str) -> str:
        """A name for a field."""
        rng = self.rng
        if field in ("per", "first", "last"):
            return self.person(field)
        if field == "org":
            return rng.choice(self.gazetteer["ORG"]) if rng.random() < 0.4 else self.made("org")
        if field == "street":
            return self.made("street")
        if field in ("loc", "misc"):
            return rng.choice(self.gazetteer[field.upper()])
        return rng.choice(self.layouts[field])

    def person(self, field: str) -> str:
        rng = self.rng
        first, last = (
            rng.choice(self.gazetteer["PER_FIRST"]),
            rng.choice(self.gazetteer["PER_LAST"]),
        )
        if field == "first":
            return first
        if field == "last":
            return last
        form = rng.random()
        if form < 0.80:
            return f"{first} {last}"
        if form < 0.84:
            return f"{first[0]}. {last}"
        if form < 0.88:
            return f"{first} {rng.choice('ABCDEFGHJKLMNPRSTW')}. {last}"
        if form < 0.92:
            return f"{first} {rng.choice(self.gazetteer['PER_FIRST'])} {last}"
        other = rng.choice(self.gazetteer["PER_LAST"])
        if form < 0.96:
            return f"{first} {last}-{other}"
        return f"{first} {last} {other}"

    def made(self, kind: str) -> str:
        """An invented organisation or street."""
        pattern = self.rng.choice(self.layouts[kind])
        values = {
            "first": lambda: self.person("first"),
            "last": lambda: self.person("last"),
            "loc": lambda: self.rng.choice(self.gazetteer["LOC"]),
            "trade2": lambda: self.rng.choice(self.layouts["trade"]).lower(),
        }

        def value(match: re.Match[str]) -> str:
            return values.get(match[1], lambda: self.rng.choice(self.layouts[match[1]]))()

        return " ".join(FIELD.sub(value, pattern).split())

    def word(self, field: str) -> str:
        """What stands in a field that is no name; `{Role}` is `{role}` with a capital."""
        name = field.strip("{}")
        rng, lower = self.rng, name.lower()
        number = rng.choice([rng.randint(1, 99), rng.randint(1, 9999)])
        year = rng.randint(1950, 2030)
        day, month = rng.randint(1, 28), rng.choice(MONTHS)
        letter, host = (
            rng.choice("ABDEGKLNRSW"),
            rng.choice(self.layouts["word"]).lower().replace(" ", ""),
        )
        dates = [
            f"{day} {month} {year}",
            f"{month} {day}, {year}",
            f"{year}-{day % 12 + 1:02}-{day:02}",
        ]
        dates += [
            f"{day} {month[:3]}",
            f"{day}.{day % 12 + 1}.{year}",
            f"{day % 12 + 1}/{day}/{year}",
        ]
        phones = [
            f"+{day} {year} {rng.randint(100000, 999999)}",
            f"0{day}-{rng.randint(100000, 999999)}",
        ]
        phones += [f"({rng.randint(200, 999)}) 555-{rng.randint(1000, 9999)}"]
        made = {
            "number": lambda: str(number),
            "digit": lambda: str(rng.randint(0, 6)),
            "amount": lambda: rng.choice(
                [f"{number}.{rng.randint(0, 99):02}", f"{number:,}", f"EUR {number}", f"${number}"]
            ),
            "zip": lambda: rng.choice(
                [
                    str(rng.randint(10000, 99999)),
                    f"{letter}{rng.randint(1, 20)} {rng.randint(1, 9)}AB",
                ]
            ),
            "year": lambda: str(year),
            "years": lambda: rng.choice(
                [f"{year}–{year + 3}", f"{year} - {year + 2}", f"{month} {year} – present"]
            ),
            "day": lambda: rng.choice(DAYS),
            "date": lambda: rng.choice(dates),
            "time": lambda: f"{rng.randint(0, 23):02}:{rng.choice([0, 10, 15, 30, 45]):02}",
            "phone": lambda: rng.choice(phones),
            "id": lambda: rng.choice([str(number), f"{letter}-{number}", f"#{number}"]),
            "email": lambda: f"{rng.choice(self.gazetteer['PER_FIRST']).lower()}@{host}.example",
            "web": lambda: f"www.{host}.example",
        }
        text = made[lower]() if lower in made else rng.choice(self.layouts[lower])
        return text[:1].upper() + text[1:] if name != lower else text
