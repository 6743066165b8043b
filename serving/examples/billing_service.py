"""billing-service: an invoice to the micro-dollar, from the key of an owner.

python billing_service.py URL KEY 2026-11-01 2026-11-30
"""

import sys
from dataclasses import dataclass
from decimal import Decimal

from ml_inference import Client


@dataclass(frozen=True)
class Line:
    """One model. `inputs`: computed; `tokens`: theirs; `amount`: dollars."""

    model: str
    inputs: int
    tokens: int
    amount: Decimal


@dataclass(frozen=True)
class Invoice:
    """From day `start` to day `end`, both in it. `total`: dollars, the sum of the lines."""

    start: str
    end: str
    lines: tuple[Line, ...]
    total: Decimal


def dollars(micro: int) -> Decimal:
    """Exact: six decimals of what the server counts in whole micro-dollars."""
    return Decimal(micro).scaleb(-6)


def invoice(client: Client, start: str, end: str) -> Invoice:
    """Raises `PermissionError` if the key may not see costs, `ArithmeticError` if lines and total differ, and
    `InferenceError`. Days that are not over may still grow."""
    report = client.usage(by="model", start=start, end=end)
    if report.total.cost_micro_usd is None:
        raise PermissionError("costs are shown to owners alone")
    lines = tuple(
        Line(row.model or "", row.inputs, row.tokens, dollars(row.cost_micro_usd or 0)) for row in report.rows
    )
    total = dollars(report.total.cost_micro_usd)
    if sum((line.amount for line in lines), Decimal(0)) != total:
        raise ArithmeticError(f"the lines do not add up to {total}")
    return Invoice(report.start, report.end, lines, total)


if __name__ == "__main__":
    with Client(*sys.argv[1:3]) as client:
        made = invoice(client, *sys.argv[3:])
    for line in made.lines:
        print(f"{line.model:24} {line.inputs:>12,} inputs {line.amount:>16,.6f} USD")
    print(f"{made.start} to {made.end} {made.total:>36,.6f} USD")
