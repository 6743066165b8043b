"""document-service: class, entities and summary of a document, asked for at once.

python document_service.py URL KEY FILE
"""

import asyncio
import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

from ml_inference import AsyncClient


@dataclass(frozen=True)
class Description:
    """What is shown of a document. `score`: of its class, 0 to 1. `names`: by type, as found."""

    kind: str
    score: float
    names: dict[str, list[str]]
    summary: str


async def describe(client: AsyncClient, document_id: str, text: str) -> Description:
    """Raises `InferenceError`: the worker that calls this is run again, and what was answered is not charged
    again, because the keys are made of the document's id. A changed document needs another id."""
    classes, entities, summary = await asyncio.gather(
        client.classify(text, top_k=1, idempotency_key=f"{document_id}-class"),
        client.entities(text, idempotency_key=f"{document_id}-entities"),
        client.summarize(text, max_sentences=2, idempotency_key=f"{document_id}-summary"),
    )
    names: dict[str, list[str]] = {}
    for entity in entities.results[0].entities:
        known = names.setdefault(entity.label, [])
        if entity.text not in known:
            known.append(entity.text)
    best = classes.results[0].labels[0]
    return Description(best.label, best.score, names, summary.results[0].summary)


async def main(url: str, key: str, file: str) -> None:
    async with AsyncClient(url, key) as client:
        print(json.dumps(asdict(await describe(client, Path(file).name, Path(file).read_text())), indent=2))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
