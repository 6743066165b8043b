"""How far a bulk run is."""

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TextIO

#: Seconds between two lines.
INTERVAL = 0.2
WIDTH = 30


@dataclass(frozen=True, slots=True)
class Progress:
    """`done`: rows given out; `total`: None where it is not known; `seconds`: since the start."""

    done: int
    total: int | None
    seconds: float

    @property
    def rate(self) -> float:
        """Rows a second."""
        return self.done / self.seconds if self.seconds > 0 else 0.0

    @property
    def left(self) -> float | None:
        """Seconds to go, at this rate; None where it is not known."""
        return (self.total - self.done) / self.rate if self.total is not None and self.rate > 0 else None


class Bar:
    """A line on a terminal that is written over."""

    def __init__(self, out: TextIO | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._out = out or sys.stderr
        self._clock = clock
        self._shown = float("-inf")

    def __call__(self, progress: Progress) -> None:
        """Shows it; at the end, ends the line."""
        is_last = progress.done == progress.total
        if self._clock() - self._shown < INTERVAL and not is_last:
            return
        self._shown = self._clock()
        print("\r" + line(progress), end="\n" if is_last else "", file=self._out, flush=True)


def line(progress: Progress) -> str:
    """Such as `[#####.....] 50/100 rows, 25/s, 2 s left`."""
    if progress.total is None:
        return f"{progress.done} rows, {progress.rate:.0f}/s"
    full = WIDTH * progress.done // max(1, progress.total)
    left = "" if progress.left is None else f", {progress.left:.0f} s left"
    bar = "#" * full + "." * (WIDTH - full)
    return f"[{bar}] {progress.done}/{progress.total} rows, {progress.rate:.0f}/s{left}"
