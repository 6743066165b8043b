"""analytics-service: a CSV of any length is streamed through the server; its other columns are kept.

python analytics_service.py URL KEY IN.csv COLUMN OUT.csv
"""

import csv
import sys
from collections import deque
from collections.abc import Iterable, Iterator
from typing import TextIO

from ml_inference import Client, InputFault

ADDED = ["sentiment", "sentiment_score", "sentiment_error"]


def scored(client: Client, source: TextIO, column: str, sink: TextIO) -> int:
    """Writes the rows of `source` to `sink` with three columns more, in order; gives their number. A text
    that is refused has a code in the third. Raises `ValueError` if there is no such column."""
    reader = csv.DictReader(source)
    names = list(reader.fieldnames or [])
    if column not in names:
        raise ValueError(f"no column {column!r}; there are {', '.join(names)}")
    writer = csv.DictWriter(sink, names + ADDED, extrasaction="ignore")
    writer.writeheader()
    # Rows whose texts are on their way: as many as the stream keeps in flight.
    waiting: deque[dict[str, str]] = deque()

    def texts(rows: Iterable[dict[str, str]]) -> Iterator[str]:
        for row in rows:
            waiting.append(row)
            yield row[column] or ""

    count = 0
    for answer in client.bulk(
        texts(reader), "sentiment", parameters={"priority": "low"}, progress=sys.stderr.isatty()
    ):
        found = answer.outcome
        values = (
            ["", "", found.code] if isinstance(found, InputFault) else [found.label, f"{found.score:.6f}", ""]
        )
        writer.writerow(waiting.popleft() | dict(zip(ADDED, values)))
        count += 1
    return count


if __name__ == "__main__":
    url, key, source, column, sink = sys.argv[1:]
    with Client(url, key) as client, open(source, newline="") as read, open(sink, "w", newline="") as written:
        print(scored(client, read, column, written), "rows")
