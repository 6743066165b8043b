"""Many texts over one stream of gRPC: rows in order, memory bounded by what is in flight."""

import heapq
import random
import ssl
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence, Sized
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, TypedDict
from urllib.parse import urlsplit

import grpc

from . import messages, results, tasks
from .errors import ConnectionFailed, InferenceError, InputFault
from .progress import Bar, Progress
from .results import Result
from .retry import RetryPolicy
from .transport import Credentials

#: Longest message that is read, in bytes: answers of many vectors are longer than gRPC's default of 4 MiB.
MESSAGE_MAX = 64 << 20
#: Longest a message may be retried, in seconds.
PATIENCE = 600.0
#: Statuses of a stream whose connection broke.
BREAKS = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED, grpc.StatusCode.INTERNAL}


class BulkOptions(TypedDict, total=False):
    """`inputs_per_call`: texts in a message (16), at most the model's `inputs_max`. `calls_max`: messages in
    flight or waiting for their turn (32); their product bounds the texts in memory. `timeout`: seconds of one
    message, of its time in the server (30). `resend`: what has no answer when the stream breaks is sent again
    (True), and may be charged twice, `calls_max` messages at most; False raises `ConnectionFailed` instead.
    `retries`: of a message. `progress`: a bar on stderr (True), or a function that is told. `model`,
    `parameters`: as of a single call, such as {"top_k": 1}."""

    model: str
    parameters: Mapping[str, Any]
    inputs_per_call: int
    calls_max: int
    timeout: float
    resend: bool
    retries: RetryPolicy
    progress: bool | Callable[[Progress], None]


@dataclass(frozen=True, slots=True)
class Row:
    """`index`: of the text, from 0. `outcome`: its result, or why it has none."""

    index: int
    text: str
    outcome: Result | InputFault

    @property
    def result(self) -> Result | None:
        """The result; None if the text was refused."""
        return None if isinstance(self.outcome, InputFault) else self.outcome


@dataclass(slots=True)
class Piece:
    """A message and where it is. `attempt`: how often it was sent."""

    texts: list[str]
    message: Any
    attempt: int = 0
    outcomes: list[Result | InputFault] | None = None


@dataclass(slots=True)
class Outbox:
    """Messages to send, each from its time on; read by gRPC's own thread."""

    _waiting: list[tuple[float, int, Any]] = field(default_factory=list)
    _changed: threading.Condition = field(default_factory=threading.Condition)
    _closed: bool = False
    _count: int = 0

    def put(self, message: Any, due: float) -> None:
        """`due`: by the monotonic clock."""
        with self._changed:
            self._count += 1
            heapq.heappush(self._waiting, (due, self._count, message))
            self._changed.notify()

    def close(self) -> None:
        """Nothing more is sent."""
        with self._changed:
            self._closed = True
            self._changed.notify()

    def __iter__(self) -> Iterator[Any]:
        while True:
            with self._changed:
                while not self._closed:
                    wait = self._waiting[0][0] - time.monotonic() if self._waiting else None
                    if wait is not None and wait <= 0:
                        break
                    self._changed.wait(wait)
                if self._closed:
                    return
                message = heapq.heappop(self._waiting)[2]
            yield message


def bulk(
    base_url: str,
    credentials: Credentials,
    tls: ssl.SSLContext | None,
    texts: Iterable[str],
    task: tasks.TaskName,
    options: BulkOptions,
) -> Generator[Row, None, None]:
    """A row for each text, in order. A text that the server refuses has an `InputFault` as its outcome and
    stops nothing; what no retry mends raises `InferenceError`. `texts` is read as rows are taken, never
    further ahead than what may be in flight. Raises `ValueError` for unknown options."""
    if isinstance(texts, str):
        raise ValueError("texts is a sequence of texts, not one")
    if tls is not None:
        raise ValueError(
            "a stream takes no ssl.SSLContext: name the certificates to trust in the environment "
            "variable GRPC_DEFAULT_SSL_ROOTS_FILE_PATH, and make a client without tls"
        )
    return Run(base_url, credentials, texts, task, options).rows()


class Run:
    """One bulk run."""

    def __init__(
        self,
        base_url: str,
        credentials: Credentials,
        texts: Iterable[str],
        task: tasks.TaskName,
        options: BulkOptions,
    ) -> None:
        self._base_url, self._credentials = base_url, credentials
        self._texts = iter(texts)
        self._task = tasks.TASKS[task]
        self._total = len(texts) if isinstance(texts, Sized) else None
        self._policy = options.get("retries", RetryPolicy(attempts=8, backoff=0.2))
        self._per_call = options.get("inputs_per_call", 16)
        self._calls_max = options.get("calls_max", 32)
        if self._per_call < 1 or self._calls_max < 1:
            raise ValueError("inputs_per_call and calls_max are at least 1")
        self._timeout_ms = max(1, int(options.get("timeout", 30.0) * 1000))
        self._resend = options.get("resend", True)
        told = options.get("progress", False)
        self._told: Callable[[Progress], None] | None = (
            (Bar() if told else None) if isinstance(told, bool) else told
        )
        self._parameters = {"on_error": "partial", **options.get("parameters", {})}
        self._parameters |= {"model": options["model"]} if options.get("model") else {}
        self._pieces: dict[int, Piece] = {}
        self._next = 0
        # Before the first row, so that a bad option is told where it was given.
        messages.request(task, [], self._parameters, 0, 1)

    def rows(self) -> Generator[Row, None, None]:
        """All rows."""
        begun, done, first, breaks = time.monotonic(), 0, 0, 0
        target = urlsplit(self._base_url)
        address = (
            target.netloc if target.port else f"{target.netloc}:{443 if target.scheme == 'https' else 80}"
        )
        limits = [("grpc.max_receive_message_length", MESSAGE_MAX)]
        channel = (
            grpc.secure_channel(address, grpc.ssl_channel_credentials(), limits)
            if target.scheme == "https"
            else grpc.insecure_channel(address, limits)
        )
        with channel:
            while self._refilled():
                try:
                    for number in self._stream(channel):
                        breaks = 0
                        while (piece := self._pieces.get(first)) is not None and piece.outcomes is not None:
                            del self._pieces[first]
                            for text, outcome in zip(piece.texts, piece.outcomes, strict=True):
                                yield Row(done, text, outcome)
                                done += 1
                            first += 1
                            if self._told:
                                self._told(Progress(done, self._total, time.monotonic() - begun))
                    if self._pieces:
                        breaks += 1
                        time.sleep(self._pause("the stream ended before its answers", breaks))
                except grpc.RpcError as error:
                    breaks += 1
                    if error.code() not in BREAKS:
                        raise InferenceError(error.code().name.lower(), str(error.details())) from error
                    time.sleep(self._pause(str(error.details()), breaks))

    def _refilled(self) -> bool:
        """Makes as many pieces as there is room for; whether there is any."""
        while len(self._pieces) < self._calls_max:
            texts = list(islice(self._texts, self._per_call))
            if not texts:
                break
            message = messages.request(
                self._task.route, texts, self._parameters, self._next, self._timeout_ms
            )
            self._pieces[self._next] = Piece(texts, message)
            self._next += 1
        return bool(self._pieces)

    def _stream(self, channel: Any) -> Iterator[int]:
        """Sends all pieces, and more as room is made; gives the number of each that is answered."""
        outbox, sent = Outbox(), set[int]()
        token = self._credentials if isinstance(self._credentials, str) else self._credentials()
        call = channel.stream_stream(
            messages.METHOD, messages.Request.SerializeToString, messages.Response.FromString
        )
        stream = call(iter(outbox), metadata=[("authorization", f"Bearer {token}")])
        try:
            while self._refilled():
                for number, piece in self._pieces.items():
                    if number not in sent and piece.outcomes is None:
                        piece.attempt += 1
                        outbox.put(piece.message, 0.0)
                        sent.add(number)
                answer = next(stream, None)
                if answer is None:
                    return
                number = int(answer.correlation_id)
                if self._answered(self._pieces[number], answer, outbox):
                    sent.discard(number)
                    yield number
        finally:
            outbox.close()
            stream.cancel()

    def _answered(self, piece: Piece, answer: Any, outbox: Outbox) -> bool:
        """Whether a piece has its outcomes; if not it is sent again, later."""
        kind = answer.WhichOneof("response")
        if kind != "error":
            found = [messages.as_json(result) for result in getattr(answer, kind).results]
            piece.outcomes = [results.outcome(self._task.decode, value) for value in found]
            if len(piece.outcomes) != len(piece.texts):
                raise results.malformed("")
            return True
        told = answer.error
        error = InferenceError(
            told.code,
            told.message,
            request_id=told.request_id,
            retry_after=told.retry_after_ms / 1000 if told.retry_after_ms else None,
        )
        error.attempts = piece.attempt
        wait = self._policy.wait(error, piece.attempt, PATIENCE, random.random())
        if wait is None:
            raise error
        piece.attempt += 1
        outbox.put(piece.message, time.monotonic() + wait)
        return False

    def _pause(self, what: str, breaks: int) -> float:
        """Seconds until the stream is opened again. Raises `ConnectionFailed` if that is not to be."""
        error = ConnectionFailed(what, was_sent=True)
        wait = self._policy.wait(error, breaks, PATIENCE, random.random()) if self._resend else None
        if wait is None:
            raise error
        return wait


def collected(rows: Iterable[Row]) -> Sequence[Result | InputFault]:
    """The outcomes of all rows, in order: for those who have the memory."""
    return [row.outcome for row in rows]
