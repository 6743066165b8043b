"""Columns of pandas, Arrow, Polars or NumPy in and out, without needing any of them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from .errors import InputFault
from .results import Answer, Result


def texts(column: Any) -> list[str]:
    """The texts of a column: an Arrow array, a pandas Series, or anything that is iterated. What is missing
    (None, NaN) becomes an empty text, which the server refuses by its place: send `on_error="partial"`."""
    for name in "to_pylist", "tolist":
        if hasattr(column, name):
            column = getattr(column, name)()
            break
    # NaN is the one value that is not itself.
    return ["" if value is None or value != value else str(value) for value in column]


def records(outcomes: Iterable[Result | InputFault], fields: Sequence[str] = ()) -> list[dict[str, Any]]:
    """One flat mapping for each outcome, for `pandas.DataFrame(…)` or `pyarrow.Table.from_pylist(…)`: the
    `fields` of a result (all without them), and `error`, a code or None."""
    rows: list[dict[str, Any]] = []
    for outcome in outcomes:
        values = {} if isinstance(outcome, InputFault) else asdict(outcome)
        names = fields or list(values)
        error = outcome.code if isinstance(outcome, InputFault) else None
        rows.append({name: values.get(name) for name in names} | {"error": error})
    return rows


def columns(answer: Answer[Any], fields: Sequence[str], prefix: str = "") -> Mapping[str, list[Any]]:
    """A list for each of `fields` and for `error`, named with `prefix` before."""
    rows = records(answer.outcomes, fields)
    return {prefix + name: [row[name] for row in rows] for name in (*fields, "error")}


def with_columns(table: Any, answer: Answer[Any], fields: Sequence[str], prefix: str = "") -> Any:
    """A copy of a pandas DataFrame or an Arrow Table with the columns of `answer`, one row for each input.
    Raises `TypeError` for other tables."""
    added = columns(answer, fields, prefix)
    if hasattr(table, "assign"):
        return table.assign(**added)
    if not hasattr(table, "append_column"):
        raise TypeError(f"expected a pandas DataFrame or an Arrow Table, not {type(table).__name__}")
    for name, values in added.items():
        table = table.append_column(name, [values])
    return table
