"""A server for the unit tests of applications: the wire form of the real one, and answers that are made up.

    with FakeServer() as server, Client(server.url, "tc_test_fake") as client:
        server.fail(503, "overloaded", retry_after=1)
        client.sentiment("Well done.")
        assert server.calls[-1].route == "sentiment"

It speaks REST alone. Refused as by the real one: credentials of another form, unknown fields, parameters out
of their set, empty and too many inputs, unknown routes, an idempotency key under which another call came."""

import json
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Literal, Self, get_args, get_origin, get_type_hints

from . import tasks
from .errors import InferenceError

INPUTS_MAX = 128
DIMENSIONS = 8

#: Gives what is special to a result from its text and the call's parameters.
Answerer = Callable[[str, dict[str, Any]], dict[str, Any]]

OPTIONS: dict[str, Any] = {
    "classify": tasks.ClassifyOptions,
    "sentiment": tasks.TextOptions,
    "entities": tasks.EntitiesOptions,
    "summarize": tasks.SummarizeOptions,
    "embeddings": tasks.EmbeddingsOptions,
    "rerank": tasks.RerankOptions,
    "similarity": tasks.TextOptions,
    "tokenize": tasks.TokenizeOptions,
    "detokenize": tasks.DetokenizeOptions,
}
NEEDED = {"rerank": "query", "similarity": "reference"}


def _vector(text: str, parameters: dict[str, Any]) -> dict[str, Any]:
    bytes_ = sha256(text.encode()).digest()
    return {"embedding": [byte / 255 for byte in bytes_[: parameters.get("dimensions") or DIMENSIONS]]}


def _labels(_: str, parameters: dict[str, Any]) -> dict[str, Any]:
    labels = parameters.get("labels") or ["first", "second"]
    scored = [{"label": label, "score": 1.0 if i == 0 else 0.0} for i, label in enumerate(labels)]
    return {"labels": scored[: parameters.get("top_k") or len(scored)]}


ANSWERS: dict[str, Answerer] = {
    "classify": _labels,
    "sentiment": lambda text, _: {
        "label": "neutral",
        "score": 1.0,
        "scores": {"negative": 0.0, "neutral": 1.0, "positive": 0.0},
    },
    "entities": lambda text, _: {"entities": []},
    "summarize": lambda text, _: {
        "summary": text,
        "method": "extractive",
        "sentences": [{"text": text, "start": 0, "end": len(text)}],
    },
    "embeddings": _vector,
    "rerank": lambda text, parameters: {"score": float(parameters["query"] in text)},
    "similarity": lambda text, parameters: {"score": float(parameters["reference"] == text)},
    "tokenize": lambda text, _: {"tokenization": []},
    "detokenize": lambda text, _: {"text": ""},
}


@dataclass(frozen=True, slots=True)
class Seen:
    """A call that came: the route under /v1/ml, its JSON and its headers (names in lower case)."""

    route: str
    body: dict[str, Any]
    headers: dict[str, str]


class FakeServer:
    """Listens on a free port of this machine while it is open. `answers`: for each route what gives results;
    replace one to have your own. `calls`: those that came, in order, refused ones too. `models`: cards that
    `/v1/ml/models` shows; `usage`: what `/v1/ml/usage` answers."""

    def __init__(self) -> None:
        self.answers: dict[str, Answerer] = dict(ANSWERS)
        self.calls: list[Seen] = []
        self.models: list[dict[str, Any]] = []
        self.usage: dict[str, Any] = {}
        self._faults: deque[InferenceError] = deque()
        self._kept: dict[str, tuple[bytes, bytes]] = {}
        self._lock = threading.Lock()
        handler = type("BoundHandler", (_Handler,), {"fake": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Listens no more."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def fail(self, status: int, code: str, *, retry_after: int | None = None, times: int = 1) -> None:
        """Ends the next `times` calls with an error. `status`: of HTTP; `retry_after`: seconds."""
        error = InferenceError(code, f"as the test asked: {code}", status=status, retry_after=retry_after)
        self._faults.extend([error] * times)

    def answer(self, seen: Seen, raw: bytes) -> tuple[bytes, bool]:
        """The body of an answer, and whether it was given before. Raises `InferenceError` for a refusal."""
        with self._lock:
            self.calls.append(seen)
            if self._faults:
                raise self._faults.popleft()
            key = seen.headers.get("idempotency-key", "").strip('"')
            request = seen.route.encode() + b"\0" + raw
            if key in self._kept:
                known, kept = self._kept[key]
                if known != request:
                    raise InferenceError("idempotency_key_reused", "another request had this key", status=422)
                return kept, True
            body = json.dumps(self._results(seen.route, seen.body)).encode()
            if key:
                self._kept[key] = (request, body)
            return body, False

    def _results(self, route: str, body: dict[str, Any]) -> dict[str, Any]:
        inputs, parameters = checked(route, body)
        is_partial = parameters.get("on_error") == "partial"
        results: list[dict[str, Any]] = []
        tokens = 0
        for index, text in enumerate(inputs):
            if not text or (isinstance(text, str) and not text.strip()):
                error = InferenceError("empty_input", f"inputs[{index}] is empty", status=400)
                if not is_partial:
                    raise error
                results.append({"error": {"code": error.code, "message": error.message, "docs_url": ""}})
                continue
            count = len(text.split()) if isinstance(text, str) else len(text)
            tokens += count
            results.append(
                self.answers[route](text, parameters)
                | {
                    "tokens": count,
                    "windows": 1,
                    "truncated": False,
                    "unknown_tokens": 0,
                    "nothing_recognized": False,
                }
            )
        computed = sum("error" not in result for result in results)
        return {
            "model": body.get("model") or f"fake-{route}",
            "version": "0.0.0",
            "results": results,
            "usage": {"inputs": computed, "tokens": tokens},
        }


def checked(route: str, body: dict[str, Any]) -> tuple[list[Any], dict[str, Any]]:
    """The inputs and parameters of a call. Raises `InferenceError` for what the real server refuses."""

    def refuse(code: str, message: str) -> InferenceError:
        return InferenceError(code, message, status=400)

    parameters = body.get("parameters") or {}
    hints = get_type_hints(OPTIONS[route])
    known = set(hints) - tasks.NOT_PARAMETERS | {NEEDED.get(route, "timeout_ms"), "timeout_ms"}
    for names, allowed in (body, {"inputs", "model", "parameters"}), (parameters, known):
        for name in names:
            if name not in allowed:
                raise refuse("invalid_request", f"unknown field {name}")
    if route in NEEDED and not isinstance(parameters.get(NEEDED[route]), str):
        raise refuse("invalid_parameter", f"parameters.{NEEDED[route]} is missing")
    for name, value in parameters.items():
        choices = get_args(hints[name]) if get_origin(hints.get(name)) is Literal else None
        if choices and value is not None and value not in choices:
            raise refuse("invalid_request", f"parameters.{name}: expected one of {', '.join(choices)}")
    inputs = body.get("inputs")
    inputs = [inputs] if isinstance(inputs, str) else inputs
    if not isinstance(inputs, list) or not all(isinstance(text, (str, list)) for text in inputs):
        raise refuse("invalid_request", "inputs: expected a text, or an array of texts")
    if not inputs:
        raise refuse("no_inputs", "inputs is empty")
    if len(inputs) > INPUTS_MAX:
        raise refuse("too_many_inputs", f"{len(inputs)} inputs, at most {INPUTS_MAX} in one call")
    return inputs, parameters


class _Handler(BaseHTTPRequestHandler):
    fake: FakeServer
    protocol_version = "HTTP/1.1"
    # Else an answer's body waits for the acknowledgement of its head.
    disable_nagle_algorithm = True

    def log_message(self, format: str, *arguments: Any) -> None:
        """Says nothing."""

    def do_GET(self) -> None:
        """Models and usage."""
        shown = {"/v1/ml/models": {"models": self.fake.models}, "/v1/ml/usage": self.fake.usage}
        shown |= {f"/v1/ml/models/{model['name']}": model for model in self.fake.models}
        self._respond(
            b"", lambda seen, raw: (json.dumps(shown[self.path.partition("?")[0]]).encode(), False), shown
        )

    def do_POST(self) -> None:
        """A call of a task."""
        raw = self.rfile.read(int(self.headers.get("content-length") or 0))
        self._respond(raw, self.fake.answer, {f"/v1/ml/{route}" for route in OPTIONS})

    def _respond(self, raw: bytes, answer: Callable[[Seen, bytes], tuple[bytes, bool]], routes: Any) -> None:
        path = self.path.partition("?")[0]
        headers = {name.lower(): value for name, value in self.headers.items()}
        request_id = headers.get("x-request-id", f"req_fake_{len(self.fake.calls)}")
        extra = {"X-Request-ID": request_id}
        try:
            status, (body, replayed) = 200, self._answered(path, headers, raw, answer, routes)
            extra |= {"Idempotency-Replayed": "true"} if replayed else {}
        except InferenceError as error:
            status = error.status
            told = {
                "code": error.code,
                "message": error.message,
                "request_id": request_id,
                "docs_url": f"{self.fake.url}/docs/errors#{error.code}",
            }
            body = json.dumps({"error": told}).encode()
            extra |= {} if error.retry_after is None else {"Retry-After": str(int(error.retry_after))}
        self.send_response(status)
        for name, value in (
            extra | {"Content-Type": "application/json", "Content-Length": str(len(body))}
        ).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def _answered(
        self,
        path: str,
        headers: dict[str, str],
        raw: bytes,
        answer: Callable[[Seen, bytes], tuple[bytes, bool]],
        routes: Any,
    ) -> tuple[bytes, bool]:
        scheme, _, token = headers.get("authorization", "").partition(" ")
        if not scheme:
            raise InferenceError("missing_credentials", "the call has no credentials", status=401)
        if scheme.lower() != "bearer" or not (token.startswith("tc_") or token.count(".") == 2):
            raise InferenceError("malformed_credentials", "expected Bearer and an API key or JWT", status=401)
        if path not in routes:
            code = "model_not_found" if path.startswith("/v1/ml/models/") else "not_found"
            raise InferenceError(code, "there is no such route or model", status=404)
        try:
            body = json.loads(raw or b"{}")
        except ValueError as error:
            raise InferenceError("invalid_json", "the body is not JSON", status=400) from error
        if not isinstance(body, dict):
            raise InferenceError("invalid_request", "expected an object", status=400)
        return answer(Seen(path.removeprefix("/v1/ml/"), body, headers), raw)
