"""What a call ends with when it has no answer."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime

#: Longest piece of an answer that is not the server's own which goes into a message, in characters.
FOREIGN_TEXT_MAX = 200


@dataclass(frozen=True, slots=True)
class InputFault:
    """Why one input of a call with `on_error="partial"` has no result. `code` as in docs/errors.md."""

    code: str
    message: str
    docs_url: str = ""


class InferenceError(Exception):
    """A call without an answer.

    `code`: a row of docs/errors.md, `http_<status>` where something before the server answered, or one of the
    client's own: `connection_failed`, `deadline_exceeded`, `malformed_answer`. `status`: of HTTP, 0 where
    there was no answer. `retry_after`: seconds, None where the server gave none. `request_id`: of the last
    attempt, as the server logs it. `attempts`: how often the call was sent."""

    def __init__(
        self,
        code: str,
        message: str,
        *,
        status: int = 0,
        request_id: str = "",
        docs_url: str = "",
        retry_after: float | None = None,
    ) -> None:
        super().__init__(code, message)
        self.code = code
        self.message = message
        self.status = status
        self.request_id = request_id
        self.docs_url = docs_url
        self.retry_after = retry_after
        self.attempts = 1

    def __str__(self) -> str:
        known = f" (request {self.request_id})" if self.request_id else ""
        return f"{self.code}: {self.message}{known}"


class InvalidRequest(InferenceError):
    """The call can never be answered as it is."""


class InputRefused(InvalidRequest):
    """An input of a partial answer has no result; `index` counts inputs from 0."""

    def __init__(self, index: int, fault: InputFault, request_id: str) -> None:
        super().__init__(fault.code, fault.message, request_id=request_id, docs_url=fault.docs_url)
        self.index = index


class Unauthenticated(InferenceError):
    """Credentials are missing, malformed, unknown or expired."""


class PermissionDenied(InferenceError):
    """The role, or the state of the account, does not allow the call."""


class NotFound(InferenceError):
    """No such route or model."""


class Conflict(InferenceError):
    """Another call is in the way, such as the first one under the same idempotency key."""


class RateLimited(InferenceError):
    """A limit of the tenant's plan is reached; `retry_after` says for how long."""


class Unavailable(InferenceError):
    """The server, or what is before it, cannot answer now."""


class ConnectionFailed(Unavailable):
    """There was no answer: no connection, or it broke. `was_sent`: some of the call may have arrived."""

    def __init__(self, message: str, *, was_sent: bool) -> None:
        super().__init__("connection_failed", message)
        self.was_sent = was_sent


class DeadlineExceeded(InferenceError):
    """The deadline passed before there was an answer."""


class ServerFault(InferenceError):
    """A fault of the server; report `request_id`."""


_BY_STATUS: dict[int, type[InferenceError]] = {
    401: Unauthenticated,
    403: PermissionDenied,
    404: NotFound,
    409: Conflict,
    429: RateLimited,
    502: Unavailable,
    503: Unavailable,
    504: DeadlineExceeded,
}


def from_answer(status: int, headers: Mapping[str, str], body: bytes, now: float) -> InferenceError:
    """The error that an answer of `status` (HTTP, 400 or more) tells. `now`: seconds since 1970."""
    kind = _BY_STATUS.get(status, ServerFault if status >= 500 else InvalidRequest)
    try:
        told = json.loads(body)["error"]
        code, message = str(told["code"]), str(told["message"])
        docs_url, request_id = str(told.get("docs_url", "")), str(told.get("request_id", ""))
    except (ValueError, TypeError, KeyError, AttributeError):
        # A proxy's, which has a form of its own.
        code, message = f"http_{status}", body[:FOREIGN_TEXT_MAX].decode(errors="replace") or "no message"
        docs_url = request_id = ""
    return kind(
        code,
        message,
        status=status,
        request_id=request_id or headers.get("x-request-id", ""),
        docs_url=docs_url,
        retry_after=seconds_of(headers.get("retry-after"), now),
    )


def seconds_of(retry_after: str | None, now: float) -> float | None:
    """What a `Retry-After` header asks to wait, in seconds, at least 0; None without a usable one."""
    if not retry_after:
        return None
    if retry_after.strip().isdecimal():
        return float(retry_after)
    try:
        return max(0.0, parsedate_to_datetime(retry_after).timestamp() - now)
    except (ValueError, OverflowError):
        return None
