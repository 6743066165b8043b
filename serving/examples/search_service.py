"""search-service: documents are indexed by their embeddings; the best of them are reranked for each query,
and its answer is kept for five minutes.

    python search_service.py URL KEY FILE QUERY      one document a line
"""

import sys
import time
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path

from ml_inference import Client

#: Seconds that an answer is kept, and how many are kept.
KEPT = 300
KEPT_MAX = 10_000
#: Documents that are reranked.
CANDIDATES = 50


@dataclass(frozen=True)
class Hit:
    """A document and how well it answers, the higher, the better."""

    document: str
    score: float


class Search:
    """An index in memory; a real one asks a vector database where this one multiplies."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.documents: list[str] = []
        self.vectors: list[list[float]] = []
        self.answers: OrderedDict[tuple[str, int], tuple[float, list[Hit]]] = OrderedDict()

    def index(self, documents: list[str]) -> None:
        """Adds documents. Those that the server refuses (empty, too long) are left out."""
        # Low: a query of the same tenant goes before it.
        parameters = {"priority": "low"}
        for row in self.client.bulk(
            documents, "embeddings", parameters=parameters, progress=sys.stderr.isatty()
        ):
            if row.result is not None:
                self.documents.append(row.text)
                self.vectors.append(row.result.embedding)
        self.answers.clear()

    def query(self, text: str, count: int, now: float) -> list[Hit]:
        """The `count` best documents. `now`: seconds by any clock that does not go back."""
        key = (text, count)
        kept = self.answers.pop(key, None)
        if kept is None or now - kept[0] >= KEPT:
            kept = (now, self.asked(text, count))
        self.answers[key] = kept
        if len(self.answers) > KEPT_MAX:
            self.answers.popitem(last=False)
        return kept[1]

    def asked(self, text: str, count: int) -> list[Hit]:
        """The same, not from what is kept."""
        if not self.documents:
            return []
        [found] = self.client.embeddings(text, priority="high", timeout=1).results
        nearness = [sum(a * b for a, b in zip(found.embedding, vector)) for vector in self.vectors]
        best = sorted(range(len(nearness)), key=nearness.__getitem__, reverse=True)[:CANDIDATES]
        documents = [self.documents[i] for i in best]
        scores = self.client.rerank(text, documents, priority="high", timeout=2).results
        hits = [Hit(document, result.score) for document, result in zip(documents, scores)]
        return sorted(hits, key=lambda hit: hit.score, reverse=True)[:count]


if __name__ == "__main__":
    url, key, file, query = sys.argv[1:]
    with Client(url, key) as client:
        search = Search(client)
        search.index(Path(file).read_text().splitlines())
        for hit in search.query(query, 5, time.monotonic()):
            print(f"{hit.score:.3f}  {hit.document}")
