"""The client to await."""

import asyncio
import random
import ssl
from collections.abc import AsyncIterator, Iterable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar, Unpack

import httpx

from . import results, tasks
from .results import Answer
from .retry import Chance, RetryPolicy
from .tasks import Inputs, Task
from .transport import Call, Credentials, Transport, new_key

if TYPE_CHECKING:
    from .bulk import BulkOptions, Row

T = TypeVar("T", bound=results.Result)


class AsyncClient:
    """Calls one server, from one event loop.

    `base_url`: such as `https://ml.company.com`. `credentials`: an API key or JWT, or a function that gives
    one. `timeout`: seconds a call may take, all attempts included, where it says nothing else. `idempotent`:
    whether calls carry an idempotency key, so that what is sent twice is charged once. `tls`: certificates to
    trust, and one's own for mTLS. `headers`: sent with every call, such as a correlation id.

    Every call raises `InferenceError` (see `ml_inference.errors`) when it has no answer.
    """

    def __init__(
        self,
        base_url: str,
        credentials: Credentials,
        *,
        timeout: float = 30.0,
        retries: RetryPolicy = RetryPolicy(),
        idempotent: bool = True,
        tls: ssl.SSLContext | None = None,
        headers: Mapping[str, str] | None = None,
        chance: Chance = random.random,
    ) -> None:
        self.base_url = base_url.rstrip("/")
        self.credentials = credentials
        self.tls = tls
        self._timeout = timeout
        self._idempotent = idempotent
        self._transport = Transport(
            self.base_url, credentials, retries, tls=tls, headers=headers, chance=chance
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Closes the connections; the client is not used after that."""
        await self._transport.close()

    async def classify(
        self, inputs: Inputs, **options: Unpack[tasks.ClassifyOptions]
    ) -> Answer[results.Classification]:
        """Sorts texts into the model's classes, or into your own `labels`."""
        return await self.infer(tasks.CLASSIFY, inputs, options)

    async def sentiment(
        self, inputs: Inputs, **options: Unpack[tasks.TextOptions]
    ) -> Answer[results.Sentiment]:
        """Tells negative, neutral and positive texts apart."""
        return await self.infer(tasks.SENTIMENT, inputs, options)

    async def entities(
        self, inputs: Inputs, **options: Unpack[tasks.EntitiesOptions]
    ) -> Answer[results.Entities]:
        """Finds names of persons, organisations, places and other things."""
        return await self.infer(tasks.ENTITIES, inputs, options)

    async def summarize(
        self, inputs: Inputs, **options: Unpack[tasks.SummarizeOptions]
    ) -> Answer[results.Summary]:
        """Picks the sentences that carry a document."""
        return await self.infer(tasks.SUMMARIZE, inputs, options)

    async def embeddings(
        self, inputs: Inputs, **options: Unpack[tasks.EmbeddingsOptions]
    ) -> Answer[results.Embedding]:
        """Turns texts into vectors."""
        return await self.infer(tasks.EMBEDDINGS, inputs, options)

    async def rerank(
        self, query: str, inputs: Inputs, **options: Unpack[tasks.RerankOptions]
    ) -> Answer[results.Score]:
        """Scores documents (`inputs`) by how well they answer `query`; in the order of the documents."""
        return await self.infer(tasks.RERANK, inputs, {**options, "query": query})

    async def similarity(
        self, reference: str, inputs: Inputs, **options: Unpack[tasks.TextOptions]
    ) -> Answer[results.Score]:
        """Compares texts with `reference`: cosine, -1 to 1."""
        return await self.infer(tasks.SIMILARITY, inputs, {**options, "reference": reference})

    async def tokenize(
        self, inputs: Inputs, **options: Unpack[tasks.TokenizeOptions]
    ) -> Answer[results.Tokenization]:
        """Shows the model's tokens of texts; free."""
        return await self.infer(tasks.TOKENIZE, inputs, options)

    async def detokenize(
        self, inputs: Inputs, **options: Unpack[tasks.DetokenizeOptions]
    ) -> Answer[results.Detokenization]:
        """Makes text of token ids; free."""
        return await self.infer(tasks.DETOKENIZE, inputs, options)

    async def models(self, *, timeout: float | None = None) -> tuple[results.Model, ...]:
        """All models, loaded or not."""
        return tuple(
            results.model(card) for card in (await self._get("/v1/ml/models", {}, timeout))["models"]
        )

    async def model(self, name: str, *, timeout: float | None = None) -> results.Model:
        """One model. Raises `NotFound` if there is none of that name."""
        return results.model(await self._get(f"/v1/ml/models/{name}", {}, timeout))

    async def usage(
        self,
        *,
        by: str | None = None,
        start: str | None = None,
        end: str | None = None,
        timeout: float | None = None,
    ) -> results.UsageReport:
        """What your tenant used. `by`: some of `tenant`, `day`, `hour` and `model`, with commas. `start`,
        `end`: days (YYYY-MM-DD), inclusive, at most 366; the last 30 without them."""
        asked = {"by": by, "from": start, "to": end}
        params = {name: value for name, value in asked.items() if value is not None}
        return results.usage_report(await self._get("/v1/ml/usage", params, timeout))

    async def bulk(
        self, texts: Iterable[str], task: tasks.TaskName, **options: Unpack["BulkOptions"]
    ) -> AsyncIterator["Row"]:
        """As `Client.bulk`; `texts` is read from another thread."""
        from .bulk import bulk

        rows = bulk(self.base_url, self.credentials, self.tls, texts, task, options)
        try:
            while (row := await asyncio.to_thread(next, rows, None)) is not None:
                yield row
        finally:
            await asyncio.to_thread(rows.close)

    async def infer(self, task: Task[T], inputs: Inputs, options: Mapping[str, Any]) -> Answer[T]:
        """A call of any task."""
        texts = tasks.listed(inputs)
        key = options.get("idempotency_key")
        answer = await self._transport.send(
            Call(
                "POST",
                f"/v1/ml/{task.route}",
                json=tasks.body(texts, options),
                timeout=self._timeout if options.get("timeout") is None else options["timeout"],
                key=key or (new_key() if self._idempotent else None),
                is_own_key=not key,
                request_id=options.get("request_id"),
            )
        )
        request_id = answer.headers.get("x-request-id", "")
        replayed = answer.headers.get("idempotency-replayed") == "true"
        return results.answer(task.decode, parsed(answer), request_id, replayed, len(texts))

    async def _get(self, path: str, params: Mapping[str, str], timeout: float | None) -> results.Json:
        chosen = self._timeout if timeout is None else timeout
        return parsed(await self._transport.send(Call("GET", path, params=params, timeout=chosen)))


def parsed(answer: httpx.Response) -> results.Json:
    """The object in a body. Raises `InferenceError` (`malformed_answer`) if there is none."""
    try:
        value = answer.json()
    except ValueError as error:
        raise results.malformed(answer.headers.get("x-request-id", "")) from error
    if not isinstance(value, dict):
        raise results.malformed(answer.headers.get("x-request-id", ""))
    return value
