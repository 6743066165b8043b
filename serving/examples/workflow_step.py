"""workflow-engine: a step that ends within two seconds, whatever the server and the network do.

python workflow_step.py URL KEY RUN TEXT
"""

import sys
from dataclasses import dataclass

from ml_inference import Client, InferenceError, InvalidRequest, RetryPolicy

#: Seconds of a step, and what is left of them for everything but the call.
STEP = 2.0
MARGIN = 0.2
#: Short waits, as the step has no time for long ones.
RETRIES = RetryPolicy(attempts=3, backoff=0.05, backoff_max=0.3)
ROUTES = {"invoice": "accounting", "contract": "legal", "resume": "people"}


@dataclass(frozen=True)
class Outcome:
    """`route`: who gets the document. `reason`: a class, or the code of what went wrong. `is_final`: False if
    the engine may run the step again."""

    route: str
    reason: str
    is_final: bool


def route(client: Client, run: str, text: str) -> Outcome:
    """The step. `run`: names this run of this step, so that running it again is not charged again. Never
    raises `InferenceError`: without an answer a person decides."""
    try:
        answer = client.classify(text, top_k=1, timeout=STEP - MARGIN, idempotency_key=run, priority="high")
        label = answer.results[0].labels[0].label
        return Outcome(ROUTES.get(label, "mailroom"), label, True)
    except InvalidRequest as error:
        return Outcome("person", error.code, True)
    except InferenceError as error:
        return Outcome("person", error.code, False)


if __name__ == "__main__":
    url, key, run, text = sys.argv[1:]
    with Client(url, key, retries=RETRIES) as client:
        print(route(client, run, text))
