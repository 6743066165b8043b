"""Answers: what the REST API says, in types. Fields that a later server adds are left out."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from .errors import InferenceError, InputFault, InputRefused

T = TypeVar("T", bound="Result", covariant=True)
Json = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What all results have. `tokens`: of the input, special ones included. `windows`: pieces the model read.
    `truncated`: something was cut off, as asked. `unknown_tokens`: tokens the model does not know.
    `nothing_recognized`: it knows none, and the result says nothing of the text."""

    tokens: int
    windows: int
    truncated: bool
    unknown_tokens: int
    nothing_recognized: bool


@dataclass(frozen=True, slots=True)
class LabelScore:
    """A class and its score, 0 to 1."""

    label: str
    score: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Classification(Result):
    """`labels`: best first."""

    labels: tuple[LabelScore, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sentiment(Result):
    """`label`: negative, neutral or positive; `score`: its, 0 to 1; `scores`: of all three."""

    label: str
    score: float
    scores: dict[str, float]


@dataclass(frozen=True, slots=True)
class Entity:
    """A name: `start` to `end` (exclusive) of the text, in `offset_unit`; `score`: 0 to 1."""

    text: str
    label: str
    start: int
    end: int
    score: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Entities(Result):
    """`entities`: in the order of the text."""

    entities: tuple[Entity, ...]


@dataclass(frozen=True, slots=True)
class Sentence:
    """A sentence of a summary, and where it is in the text, in `offset_unit`."""

    text: str
    start: int
    end: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary(Result):
    """`method`: extractive or abstractive; `sentences`: those taken, in the order of the text."""

    summary: str
    method: str
    sentences: tuple[Sentence, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Embedding(Result):
    """`embedding`: numbers, or base64 where `encoding_format` asks for it."""

    embedding: list[float] | str


@dataclass(frozen=True, slots=True, kw_only=True)
class Score(Result):
    """`score`: the higher, the better (rerank) or the more alike (similarity: cosine, -1 to 1)."""

    score: float


@dataclass(frozen=True, slots=True)
class Token:
    """A token; `start` and `end` are None of special ones, which have no place in the text."""

    id: int
    text: str
    special: bool
    start: int | None
    end: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Tokenization(Result):
    """`tokenization`: the tokens, in order."""

    tokenization: tuple[Token, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Detokenization(Result):
    """`text`: of the tokens."""

    text: str


@dataclass(frozen=True, slots=True)
class Charge:
    """What an answer is charged for: `inputs` computed, and their `tokens`."""

    inputs: int
    tokens: int


@dataclass(frozen=True, slots=True)
class Answer(Generic[T]):
    """One answer. `outcomes`: for each input, in order, its result or, with `on_error="partial"`, its fault.
    `replayed`: given before under the same idempotency key, and not charged again."""

    model: str
    version: str
    outcomes: tuple[T | InputFault, ...]
    usage: Charge
    request_id: str
    replayed: bool

    @property
    def results(self) -> tuple[T, ...]:
        """One result for each input. Raises `InputRefused` for the first input without one."""
        results = []
        for index, outcome in enumerate(self.outcomes):
            if isinstance(outcome, InputFault):
                raise InputRefused(index, outcome, self.request_id)
            results.append(outcome)
        return tuple(results)


@dataclass(frozen=True, slots=True)
class Model:
    """A model. `status`: loaded or unavailable (then `reason`). `inputs_max`: of one call; `tokens_max`: of a
    window. `price_micro_usd`: of 1,000 inputs. `card`: everything the server says of it."""

    name: str
    version: str
    task: str
    labels: tuple[str, ...]
    status: str
    reason: str | None
    inputs_max: int
    tokens_max: int
    price_micro_usd: int
    card: Json


@dataclass(frozen=True, slots=True)
class UsageRow:
    """What was used, by what was asked for (`tenant`, `day`, `hour`, `model`; None where not asked).
    `device_ms`: milliseconds of the device; `cost_micro_usd`: None if the role may not see costs."""

    inputs: int
    tokens: int
    completed: int
    cached: int
    refused: int
    failed: int
    cancelled: int
    device_ms: int
    cost_micro_usd: int | None = None
    tenant: str | None = None
    day: str | None = None
    hour: str | None = None
    model: str | None = None


@dataclass(frozen=True, slots=True)
class UsageReport:
    """Usage from day `start` to day `end`, inclusive, as YYYY-MM-DD."""

    start: str
    end: str
    rows: tuple[UsageRow, ...]
    total: UsageRow


def made(kind: Callable[..., Any], value: Json, **nested: Callable[..., Any]) -> Any:
    """An object of a dataclass from JSON, with the lists named by `nested` made of their own kinds."""
    known: Iterable[str] = getattr(kind, "__dataclass_fields__")
    fields = {name: value[name] for name in known if name in value}
    for name, inner in nested.items():
        fields[name] = tuple(made(inner, item) for item in value[name])
    return kind(**fields)


def outcome(decode: Callable[[Json], T], value: Json) -> T | InputFault:
    """A result, or the fault in its place."""
    if "error" in value:
        fault: InputFault = made(InputFault, value["error"])
        return fault
    return decode(value)


def answer(
    decode: Callable[[Json], T], value: Json, request_id: str, replayed: bool, inputs: int
) -> Answer[T]:
    """An answer from its JSON. Raises `InferenceError` (`malformed_answer`) if it is none, or not one with
    results for that many `inputs`."""
    try:
        outcomes = tuple(outcome(decode, item) for item in value["results"])
        usage = Charge(value["usage"]["inputs"], value["usage"]["tokens"])
        model, version = value["model"], value["version"]
    except (KeyError, TypeError) as error:
        raise malformed(request_id) from error
    if len(outcomes) != inputs:
        raise malformed(request_id)
    return Answer(model, version, outcomes, usage, request_id, replayed)


def malformed(request_id: str) -> InferenceError:
    """The answer is not of the form that docs/api.md describes."""
    return InferenceError("malformed_answer", "the answer is not one of this API", request_id=request_id)


def model(value: Json) -> Model:
    """A model from its JSON."""
    limits = value["limits"]
    dollars, _, cents = str(value["price_per_1000_requests_usd"]).partition(".")
    return Model(
        value["name"],
        value["version"],
        value["task"],
        tuple(value["labels"]),
        value["status"],
        value.get("reason"),
        limits["inputs_max"],
        limits["tokens_max"],
        int(dollars) * 1_000_000 + int(cents[:6].ljust(6, "0")),
        value,
    )


def usage_report(value: Json) -> UsageReport:
    """A report from its JSON."""
    rows: Sequence[UsageRow] = [made(UsageRow, row) for row in value["rows"]]
    return UsageReport(value["from"], value["to"], tuple(rows), made(UsageRow, value["total"]))
