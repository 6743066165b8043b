"""One call over HTTP: attempts, each with what is left of the deadline, until an answer or the end."""

import asyncio
import random
import ssl
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import httpx

from .errors import ConnectionFailed, DeadlineExceeded, InferenceError, from_answer
from .retry import Budget, Chance, RetryPolicy

#: Bearer token, or what gives one: asked before each attempt, so that a token may be renewed.
Credentials = str | Callable[[], str]
#: Connections that a client keeps open.
CONNECTIONS_MAX = 100


@dataclass(frozen=True, slots=True)
class Call:
    """A request. `timeout`: seconds, all attempts included. `key`: of idempotency, the same for all attempts.
    `is_own_key`: made by the client, which may go on without it."""

    method: str
    path: str
    json: Mapping[str, object] | None = None
    params: Mapping[str, str] | None = None
    timeout: float = 30.0
    key: str | None = None
    is_own_key: bool = False
    request_id: str | None = None

    @property
    def is_safe(self) -> bool:
        """Whether it can be sent again when nobody knows if it was answered."""
        return self.method == "GET" or self.key is not None

    def without_key(self) -> "Call":
        """The same with no idempotency key."""
        return Call(self.method, self.path, self.json, self.params, self.timeout, request_id=self.request_id)


class Transport:
    """Sends calls to one server. Belongs to one event loop."""

    def __init__(
        self,
        base_url: str,
        credentials: Credentials,
        policy: RetryPolicy,
        *,
        tls: ssl.SSLContext | None = None,
        headers: Mapping[str, str] | None = None,
        chance: Chance = random.random,
    ) -> None:
        self._credentials = credentials
        self._policy = policy
        self._budget = Budget(policy)
        self._chance = chance
        self._http = httpx.AsyncClient(
            base_url=base_url,
            verify=tls or True,
            headers=headers,
            timeout=None,
            limits=httpx.Limits(max_connections=CONNECTIONS_MAX),
        )

    async def close(self) -> None:
        """Closes the connections."""
        await self._http.aclose()

    async def send(self, call: Call) -> httpx.Response:
        """The answer, of a status under 400. Raises `InferenceError`, never later than `call.timeout` seconds
        from now; `ValueError` if that is not positive."""
        if not call.timeout > 0:
            raise ValueError("timeout is seconds, more than 0")
        end = time.monotonic() + call.timeout
        attempt = 0
        last: InferenceError | None = None
        while True:
            attempt += 1
            try:
                answer = await self._attempt(call, end)
                self._budget.earn()
                return answer
            except InferenceError as error:
                error.attempts = attempt
                if last is not None:
                    error.__cause__ = last
                wait = self._wait(call, error, attempt, end - time.monotonic())
                if wait is None:
                    raise
                if error.code == "idempotency_full":
                    call, wait = call.without_key(), 0.0
                last = error
            await asyncio.sleep(wait)

    def _wait(self, call: Call, error: InferenceError, attempt: int, remaining: float) -> float | None:
        """Seconds until the next attempt; None if there is to be none."""
        # Its place for kept answers is full, and refusing is all it did: without a key it answers.
        if error.code == "idempotency_full" and call.is_own_key and remaining > 0:
            return 0.0
        # Nobody knows whether it was answered, and charged.
        if isinstance(error, ConnectionFailed) and error.was_sent and not call.is_safe:
            return None
        wait = self._policy.wait(error, attempt, remaining, self._chance())
        return wait if wait is not None and self._budget.spend() else None

    async def _attempt(self, call: Call, end: float) -> httpx.Response:
        remaining = end - time.monotonic()
        late = DeadlineExceeded("deadline_exceeded", "there was no answer before the deadline")
        if remaining <= 0:
            raise late
        token = self._credentials if isinstance(self._credentials, str) else self._credentials()
        headers = {
            "Authorization": f"Bearer {token}",
            "X-Request-Timeout": str(max(1, int(remaining * 1000))),
        }
        headers |= {"Idempotency-Key": call.key} if call.key else {}
        headers |= {"X-Request-ID": call.request_id} if call.request_id else {}
        request = self._http.build_request(
            call.method, call.path, json=call.json, params=call.params, headers=headers
        )
        try:
            async with asyncio.timeout(remaining):
                answer = await self._http.send(request)
        except TimeoutError as error:
            raise late from error
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            raise ConnectionFailed(f"no connection: {error}", was_sent=False) from error
        except httpx.HTTPError as error:
            raise ConnectionFailed(f"the connection broke: {error!r}", was_sent=True) from error
        if answer.status_code >= 400:
            raise from_answer(answer.status_code, answer.headers, answer.content, time.time())
        return answer


def new_key() -> str:
    """An idempotency key that nobody has used."""
    return uuid.uuid4().hex
