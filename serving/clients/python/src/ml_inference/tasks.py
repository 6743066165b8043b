"""The tasks: their routes, parameters and results."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, Literal, TypedDict, TypeVar

from . import results
from .results import Json, made

#: Texts, one or many, or ids of the model's own tokens in the place of each text.
Inputs = str | Sequence[str] | Sequence[Sequence[int]]

Priority = Literal["critical", "high", "normal", "low"]
Truncation = Literal["stride", "error", "end", "start"]
OffsetUnit = Literal["codepoint", "byte", "utf16"]
TaskName = Literal[
    "classify",
    "sentiment",
    "entities",
    "summarize",
    "embeddings",
    "rerank",
    "similarity",
    "tokenize",
    "detokenize",
]


class CallOptions(TypedDict, total=False):
    """What every call takes. `model`: the task's default without it. `timeout`: seconds for the whole call,
    all attempts included. `idempotency_key`: 1 to 255 visible characters; made by the client without it.
    `request_id`: what the server's logs call it."""

    model: str
    timeout: float
    idempotency_key: str
    request_id: str
    priority: Priority
    on_error: Literal["fail", "partial"]


class TextOptions(CallOptions, total=False):
    """`truncation`: what happens to a text longer than one window."""

    truncation: Truncation


class ClassifyOptions(TextOptions, total=False):
    """`top_k`: how many labels to give. `labels`: your own. `multi_label`: score each by itself."""

    top_k: int
    labels: Sequence[str]
    multi_label: bool


class EntitiesOptions(TextOptions, total=False):
    """`aggregation`: how tokens become entities. `offset_unit`: of `start` and `end`."""

    aggregation: Literal["none", "simple", "first", "average", "max"]
    offset_unit: OffsetUnit


class SummarizeOptions(CallOptions, total=False):
    """`max_sentences`, `max_tokens`: bounds of the summary."""

    max_sentences: int
    max_tokens: int
    method: Literal["auto", "extractive", "abstractive"]
    offset_unit: OffsetUnit


class EmbeddingsOptions(TextOptions, total=False):
    """`dimensions`: only the first ones. `normalize`: to length 1. `prompt_name`: put before each text."""

    dimensions: int
    normalize: bool
    normalize_text: bool
    prompt_name: str
    encoding_format: Literal["float", "base64", "int8", "uint8", "binary", "ubinary"]


class RerankOptions(TextOptions, total=False):
    """`raw_scores`: logits of a reranker (True) or their sigmoid (False)."""

    raw_scores: bool


class TokenizeOptions(CallOptions, total=False):
    """`add_special_tokens`: those the model reads around a text."""

    add_special_tokens: bool
    offset_unit: OffsetUnit


class DetokenizeOptions(CallOptions, total=False):
    """`skip_special_tokens`: leave them out of the text."""

    skip_special_tokens: bool


T = TypeVar("T", bound=results.Result, covariant=True)


@dataclass(frozen=True, slots=True)
class Task(Generic[T]):
    """`route`: under /v1/ml. `decode`: a result from its JSON."""

    route: TaskName
    decode: Callable[[Json], T]


CLASSIFY: Task[results.Classification] = Task(
    "classify", partial(made, results.Classification, labels=results.LabelScore)
)
SENTIMENT: Task[results.Sentiment] = Task("sentiment", partial(made, results.Sentiment))
ENTITIES: Task[results.Entities] = Task("entities", partial(made, results.Entities, entities=results.Entity))
SUMMARIZE: Task[results.Summary] = Task(
    "summarize", partial(made, results.Summary, sentences=results.Sentence)
)
EMBEDDINGS: Task[results.Embedding] = Task("embeddings", partial(made, results.Embedding))
RERANK: Task[results.Score] = Task("rerank", partial(made, results.Score))
SIMILARITY: Task[results.Score] = Task("similarity", partial(made, results.Score))
TOKENIZE: Task[results.Tokenization] = Task(
    "tokenize", partial(made, results.Tokenization, tokenization=results.Token)
)
DETOKENIZE: Task[results.Detokenization] = Task("detokenize", partial(made, results.Detokenization))

TASKS: Mapping[str, Task[results.Result]] = {
    task.route: task
    for task in (
        CLASSIFY,
        SENTIMENT,
        ENTITIES,
        SUMMARIZE,
        EMBEDDINGS,
        RERANK,
        SIMILARITY,
        TOKENIZE,
        DETOKENIZE,
    )
}

#: Options of a call that are not parameters in its body.
NOT_PARAMETERS = frozenset({"model", "timeout", "idempotency_key", "request_id"})


def body(inputs: object, options: Mapping[str, object]) -> dict[str, object]:
    """The JSON of a call."""
    content: dict[str, object] = {"inputs": inputs}
    if options.get("model"):
        content["model"] = options["model"]
    parameters = {
        name: value for name, value in options.items() if name not in NOT_PARAMETERS and value is not None
    }
    return content | ({"parameters": parameters} if parameters else {})


def listed(inputs: Inputs) -> list[str] | list[Sequence[int]]:
    """Inputs as a list; anything iterable becomes one."""
    if isinstance(inputs, str):
        return [inputs]
    found: list[Any] = list(inputs)
    return found
