"""Whether a call that failed is sent again, and when. Pure: told the time and the chance."""

from collections.abc import Callable
from dataclasses import dataclass, field

from .errors import InferenceError

#: Codes of docs/errors.md whose row says `with backoff` or `after Retry-After`, and the client's own.
RETRYABLE = frozenset(
    {
        "body_incomplete",
        "concurrency_limit_exceeded",
        "conflict",
        "deadline_exceeded",
        "deadline_infeasible",
        "idempotency_full",
        "idempotency_in_progress",
        "internal",
        "issuer_unavailable",
        "limits_unavailable",
        "model_unavailable",
        "answers_unread",
        "overloaded",
        "rate_limit_exceeded",
        "shutting_down",
        "starting",
        "store_unavailable",
        "connection_failed",
        "http_408",
        "http_429",
        "http_500",
        "http_502",
        "http_503",
        "http_504",
    }
)


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often and how soon calls are sent again.

    `attempts`: of one call, the first included; 1: never again. Waits are drawn up to `backoff` seconds,
    doubled with each attempt up to `backoff_max`, and never shorter than the server's `Retry-After`.
    `budget`: retries of a whole client that can follow each other at once; each answer earns `budget_ratio`
    of one back, so that in an outage a client adds no more than that share of load."""

    attempts: int = 4
    backoff: float = 0.1
    backoff_max: float = 5.0
    budget: float = 20.0
    budget_ratio: float = 0.1

    def wait(self, error: InferenceError, attempt: int, remaining: float, chance: float) -> float | None:
        """Seconds until attempt number `attempt` + 1, or None if `error` is the end: it cannot be mended by
        waiting, attempts are used up, or the wait would outlive the `remaining` seconds. `chance`: 0 to 1."""
        if error.code not in RETRYABLE or attempt >= self.attempts:
            return None
        drawn = chance * min(self.backoff_max, self.backoff * 2.0 ** (attempt - 1))
        # Callers who were refused together do not come back together.
        wait = drawn if error.retry_after is None else error.retry_after + chance * self.backoff
        return wait if wait < remaining else None


@dataclass(slots=True)
class Budget:
    """What is left of a client's retries."""

    policy: RetryPolicy
    left: float = field(init=False)

    def __post_init__(self) -> None:
        self.left = self.policy.budget

    def earn(self) -> None:
        """A call was answered."""
        self.left = min(self.policy.budget, self.left + self.policy.budget_ratio)

    def spend(self) -> bool:
        """Takes one retry; False if there is none."""
        if self.left < 1:
            return False
        self.left -= 1
        return True


#: Gives numbers from 0 to 1.
Chance = Callable[[], float]
