"""One moving line for all long work: what is being done, how far it is, the best so far, time gone and time left.

It is drawn by rich on stderr, and only where a person watches: stdout and stderr are both terminals, and --quiet is not given.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple, final

from jaxem.commands.output import need
from jaxem.compare import CompareProgress
from jaxem.fit import Progress
from jaxem.selection import SelectProgress


class Pace(NamedTuple):
    """How fast things of one kind are done; times in seconds of one clock."""

    begun: float  # when counting began
    before: int  # done by then
    last: float  # when the last one was done
    done: int
    of: int

    def moved(self, done: int, now: float) -> Pace:
        """The same after another look."""
        return self if done == self.done else self._replace(done=done, last=now)

    def left(self, now: float) -> float | None:
        """Seconds left at the mean pace so far; None before the first is done, and where the last one takes longer than that."""
        seen = self.done - self.before
        if seen < 1 or self.done >= self.of:
            return None
        each = (self.last - self.begun) / seen
        rest = each * (self.of - self.done - 1) + max(each - (now - self.last), 0.0)
        return rest if rest > 0 else None


@final
class Watch:
    """What there is to tell of long work. Callbacks of the library tell it; `line` is read as often as it is drawn.

    Time left is an estimate from what is done of what there is to do: models, algorithms, or restarts once one has ended. Of a
    fit from one start nobody knows it, and none is told.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic):
        self._clock = clock
        self._begun = clock()
        self._what, self._best, self._unit = "", "", "restarts"
        self._items: Pace | None = None
        self._lanes: Pace | None = None
        self._fit: Progress | None = None

    def begin(self, what: str, unit: str = "restarts") -> None:
        """Work begins that is `what`: a fit from several restarts, or several refits, of which none is the best."""
        self._what, self._unit, self._best = what, unit, ""
        self._items = self._lanes = self._fit = None

    def item(self, what: str, done: int, of: int, best: str = "") -> None:
        """`what` begins, `done` of `of` such things being done; `best` says of them what there is to say."""
        now = self._clock()
        self._items = Pace(now, done, now, done, of) if self._items is None else self._items.moved(done, now)
        self._what, self._best = f"{what}, {min(done + 1, of)} of {of}", best
        self._lanes = self._fit = None

    def selecting(self, told: SelectProgress) -> None:
        """A callback for `select`."""
        if told.model is not None:
            best = "" if told.best is None else f"best so far {told.best}, {told.best_value:.3f}"
            self.item(told.model, told.done, told.of, best)

    def comparing(self, told: CompareProgress) -> None:
        """A callback for `compare`."""
        best = f"best log-likelihood so far {told.objective:.4f}" if math.isfinite(told.objective) else ""
        self.item(told.algorithm, told.done, told.of, best)

    def fitting(self, told: Progress) -> None:
        """A callback for `fit`."""
        now, pace = self._clock(), self._lanes
        if pace is not None and told.lanes == pace.of and told.finished >= pace.done:
            self._lanes = pace.moved(told.finished, now)
        elif told.steps:  # before the first steps it compiles
            self._lanes = Pace(now, told.finished, now, told.finished, told.lanes)
        self._fit = told

    def line(self) -> str:
        """What there is to say now."""
        return "; ".join(part for part in (self._what, *self._counts(), self._best, self._time()) if part)

    def _counts(self) -> list[str]:
        told = self._fit
        if told is None:
            return []
        out = [f"step {told.steps}" if told.steps else "compiling"]
        if told.lanes > 1:
            out.append(f"{told.finished} of {told.lanes} {self._unit} done")
        if self._unit == "restarts" and math.isfinite(told.objective):
            gain = f", left to gain {told.gap:.1e}" if math.isfinite(told.gap) else ""
            out.append(f"log-likelihood {told.objective:.4f}{gain}")
        return out

    def _time(self) -> str:
        now = self._clock()
        pace = self._items or self._lanes
        left = None if pace is None else pace.left(now)
        return clock_time(now - self._begun) + ("" if left is None else f", about {clock_time(left)} left")

    def __rich__(self) -> Any:
        from rich.text import Text

        return Text(self.line())  # not a string, in which brackets would be markup


def clock_time(seconds: float) -> str:
    """0:07, 12:34, 1:02:03."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


@contextmanager
def watching(wanted: bool, what: str = "") -> Iterator[Watch | None]:
    """A `Watch` that stands on a terminal as long as the context lasts; None where nobody watches."""
    if not (wanted and sys.stderr.isatty() and sys.stdout.isatty()):
        yield None
        return
    need("rich")
    from rich.console import Console

    watch = Watch()
    watch.begin(what)
    with Console(stderr=True).status(watch):
        yield watch
