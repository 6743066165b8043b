"""The client of programs without an event loop: the other one, on a thread of its own. So a deadline holds
whatever the network does, which blocking sockets cannot promise."""

import asyncio
import os
import random
import ssl
import threading
from collections.abc import Coroutine, Iterable, Iterator, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar, Unpack

from . import results, tasks
from .aio import AsyncClient
from .results import Answer
from .retry import Chance, RetryPolicy
from .tasks import Inputs
from .transport import Credentials

if TYPE_CHECKING:
    from .bulk import BulkOptions, Row

R = TypeVar("R")


class Loop:
    """An event loop on a thread, and the client that lives in it."""

    def __init__(self, **arguments: Any) -> None:
        self.process = os.getpid()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="ml-inference", daemon=True)
        self._thread.start()

        async def opened() -> AsyncClient:
            return AsyncClient(**arguments)

        self.client = self.run(opened())

    def run(self, work: Coroutine[Any, Any, R]) -> R:
        """What `work` gives. Interrupted, it is cancelled."""
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def close(self) -> None:
        """Closes connections, and ends the thread."""
        self.run(self.client.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


class Client:
    """Calls one server, from any number of threads. Arguments and errors as of `AsyncClient`."""

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
        self._arguments: dict[str, Any] = {
            "base_url": base_url,
            "credentials": credentials,
            "timeout": timeout,
            "retries": retries,
            "idempotent": idempotent,
            "tls": tls,
            "headers": headers,
            "chance": chance,
        }
        self._lock = threading.Lock()
        self._loop: Loop | None = None
        self._closed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connections; the client is not used after that."""
        with self._lock:
            loop, self._loop, self._closed = self._loop, None, True
        if loop is not None and loop.process == os.getpid():
            loop.close()

    def _opened(self) -> Loop:
        with self._lock:
            if self._closed:
                raise RuntimeError("the client is closed")
            # Threads do not outlive a fork, as of gunicorn and Celery: the child opens its own.
            if self._loop is None or self._loop.process != os.getpid():
                self._loop = Loop(**self._arguments)
            return self._loop

    def classify(
        self, inputs: Inputs, **options: Unpack[tasks.ClassifyOptions]
    ) -> Answer[results.Classification]:
        """Sorts texts into the model's classes, or into your own `labels`."""
        loop = self._opened()
        return loop.run(loop.client.classify(inputs, **options))

    def sentiment(self, inputs: Inputs, **options: Unpack[tasks.TextOptions]) -> Answer[results.Sentiment]:
        """Tells negative, neutral and positive texts apart."""
        loop = self._opened()
        return loop.run(loop.client.sentiment(inputs, **options))

    def entities(self, inputs: Inputs, **options: Unpack[tasks.EntitiesOptions]) -> Answer[results.Entities]:
        """Finds names of persons, organisations, places and other things."""
        loop = self._opened()
        return loop.run(loop.client.entities(inputs, **options))

    def summarize(self, inputs: Inputs, **options: Unpack[tasks.SummarizeOptions]) -> Answer[results.Summary]:
        """Picks the sentences that carry a document."""
        loop = self._opened()
        return loop.run(loop.client.summarize(inputs, **options))

    def embeddings(
        self, inputs: Inputs, **options: Unpack[tasks.EmbeddingsOptions]
    ) -> Answer[results.Embedding]:
        """Turns texts into vectors."""
        loop = self._opened()
        return loop.run(loop.client.embeddings(inputs, **options))

    def rerank(
        self, query: str, inputs: Inputs, **options: Unpack[tasks.RerankOptions]
    ) -> Answer[results.Score]:
        """Scores documents (`inputs`) by how well they answer `query`; in the order of the documents."""
        loop = self._opened()
        return loop.run(loop.client.rerank(query, inputs, **options))

    def similarity(
        self, reference: str, inputs: Inputs, **options: Unpack[tasks.TextOptions]
    ) -> Answer[results.Score]:
        """Compares texts with `reference`: cosine, -1 to 1."""
        loop = self._opened()
        return loop.run(loop.client.similarity(reference, inputs, **options))

    def tokenize(
        self, inputs: Inputs, **options: Unpack[tasks.TokenizeOptions]
    ) -> Answer[results.Tokenization]:
        """Shows the model's tokens of texts; free."""
        loop = self._opened()
        return loop.run(loop.client.tokenize(inputs, **options))

    def detokenize(
        self, inputs: Inputs, **options: Unpack[tasks.DetokenizeOptions]
    ) -> Answer[results.Detokenization]:
        """Makes text of token ids; free."""
        loop = self._opened()
        return loop.run(loop.client.detokenize(inputs, **options))

    def models(self, *, timeout: float | None = None) -> tuple[results.Model, ...]:
        """All models, loaded or not."""
        loop = self._opened()
        return loop.run(loop.client.models(timeout=timeout))

    def model(self, name: str, *, timeout: float | None = None) -> results.Model:
        """One model. Raises `NotFound` if there is none of that name."""
        loop = self._opened()
        return loop.run(loop.client.model(name, timeout=timeout))

    def usage(
        self,
        *,
        by: str | None = None,
        start: str | None = None,
        end: str | None = None,
        timeout: float | None = None,
    ) -> results.UsageReport:
        """What your tenant used. `by`: some of `tenant`, `day`, `hour` and `model`, with commas. `start`,
        `end`: days (YYYY-MM-DD), inclusive, at most 366; the last 30 without them."""
        loop = self._opened()
        return loop.run(loop.client.usage(by=by, start=start, end=end, timeout=timeout))

    def bulk(
        self, texts: Iterable[str], task: tasks.TaskName, **options: Unpack["BulkOptions"]
    ) -> Iterator["Row"]:
        """A row for each text, in order, over one gRPC stream; see `ml_inference.bulk`. Needs `[grpc]`."""
        from .bulk import bulk

        arguments = self._arguments
        return bulk(arguments["base_url"], arguments["credentials"], arguments["tls"], texts, task, options)
