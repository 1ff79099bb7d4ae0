"""One sweep's measuring: which load level comes next, for how long, and when enough is known."""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pytest_triton_perf.domain.budgets import Budget, Decision
from pytest_triton_perf.domain.levels import Load
from pytest_triton_perf.domain.ramp import next_concurrency
from pytest_triton_perf.load.base import LoadReport

if TYPE_CHECKING:
    from pytest_triton_perf.domain.segments import Segment

FIRST_S = 0.4
"""Load of a level's first segment: enough for a point of a plot, and for what is clear."""

_LONGEST_REQUESTS = 30_000
"""In one segment: what perf_analyzer records takes about 1 kB a request while it is read."""

_SEGMENTS_PER_LOOK = 4
"""How many segments a level gets between two looks: a few long ones would not show how much they
differ, and the interval would have to allow for that."""

_GROWTH = 1.5
"""How many times as much load a level has had at each look after the floor. With doublings,
what is clear soon after a look would wait for twice the load; of many more, each must be surer."""

_STARTUP_S = 0.5
"""Start and end of a load generator, generously."""


@dataclass(frozen=True, kw_only=True)
class Rules:
    """How long a sweep may measure, and what it takes to be certain.

    ``max_seconds`` bounds the sweep, ``floor_seconds`` is the load that a level gets at least
    before a budget passes on it, ``first_seconds`` is a level's first segment, and ``confidence``
    is that of the printed intervals.
    """

    max_seconds: float = 120.0
    floor_seconds: float = 2.0
    first_seconds: float = FIRST_S
    confidence: float = 0.95

    @property
    def looks(self) -> int:
        """How often the requests of a level may be looked at: as often as the time allows."""
        return 2 + max(0, math.ceil(math.log(self.max_seconds / self.floor_seconds, _GROWTH)))

    def loaded_s(self, look: int) -> float:
        """Load that a level has had at a look (1, 2, …): a little, the floor, then ever more."""
        if look == 1:
            return self.first_seconds
        return max(self.first_seconds, self.floor_seconds) * _GROWTH ** (look - 2)


@dataclass(kw_only=True)
class MeasuredLevel:
    """One load level, what its segments gave, and what its budgets make of that so far.

    ``looks`` is how often they were asked, ``seen`` how many segments there were the last time.
    """

    load: Load
    reports: list[LoadReport] = field(default_factory=list)
    decisions: dict[Budget, Decision] = field(default_factory=dict)
    looks: int = 0
    seen: int = 0

    @property
    def segments(self) -> "list[Segment]":
        """All of the level's load, in the order in which it was made."""
        return [report.segment for report in self.reports]

    @property
    def loaded_s(self) -> float:
        """Seconds of load."""
        return sum(segment.seconds for segment in self.segments)

    @property
    def rate(self) -> float:
        """Requests per second, about."""
        return sum(segment.requests for segment in self.segments) / self.loaded_s


class Stopwatch:
    """The measuring time that a sweep has used; it stands until it is started.

    What was measured before is added to it, so that a sweep that is resumed has the time left
    that it had when it was interrupted.
    """

    def __init__(self) -> None:
        self._before_s = self._lap_s = 0.0
        self._started: float | None = None
        self._paused = False

    @classmethod
    def started(cls) -> "Stopwatch":
        """One that runs already."""
        stopwatch = cls()
        stopwatch.start()
        return stopwatch

    @property
    def used_s(self) -> float:
        """The time used so far, in seconds."""
        running_s = 0.0 if self._started is None else time.monotonic() - self._started
        return self._before_s + running_s

    def start(self) -> None:
        """Let it run; nothing happens where it does."""
        if self._started is None:
            self._started = time.monotonic()

    def pause(self) -> None:
        """Let it stand until ``go_on``."""
        self._paused = self._started is not None
        self._before_s, self._started = self.used_s, None

    def go_on(self) -> None:
        """Let it run again, if it did before ``pause``."""
        if self._paused:
            self.start()

    def add(self, seconds: float) -> None:
        """Count time that was used in an earlier session."""
        self._before_s += seconds
        self._lap_s = self.used_s

    def lap_s(self) -> float:
        """Seconds since the lap before."""
        since_s, self._lap_s = self._lap_s, self.used_s
        return self._lap_s - since_s


class Measuring:
    """Measures the levels of one sweep.

    Every level is loaded once, briefly. Then those on which a budget hangs are loaded again, in
    turns, until the budget is certain or the time is up. In turns, because segments that are
    apart in time see more of what a server does than one that is as long.

    ``loads`` are the levels that are asked for. With ``auto`` the concurrency goes on doubling
    from 1 until throughput has plateaued. ``then`` is told of every level when it was loaded
    once, and names another one that is to be, or ``None``. ``make`` makes load: at a level, for
    about so many seconds, within at most so many; ``done`` is told of each level that is finished.
    ``stopwatch`` has the time that was used before; without one, time begins now.
    """

    def __init__(
        self,
        *,
        loads: Sequence[Load],
        auto: bool,
        budgets: Sequence[Budget],
        rules: Rules,
        make: Callable[[Load, float, float], LoadReport],
        done: Callable[[MeasuredLevel], None],
        stopwatch: Stopwatch | None = None,
        then: Callable[[MeasuredLevel], Load | None] = lambda level: None,
    ) -> None:
        self.levels: list[MeasuredLevel] = []
        self._loads = loads
        self._auto = auto
        self._budgets = [budget for budget in budgets if budget.metric.source == "client"]
        # The others (memory, power …) are compared as they are, after the least load that counts.
        self._compared = [budget for budget in budgets if budget.metric.source != "client"]
        self._rules = rules
        self._make = make
        self._done = done
        self._stopwatch = stopwatch or Stopwatch.started()
        self._then = then
        self._told: set[Load] = set()

    def run(self) -> None:
        """Measure; what was measured before an error is in ``levels``.

        Raises:
            LoadError, ServerError: as ``make``.
        """
        for load in self._first_loads():
            more = len(self._loads) - len(self.levels)
            self._begin(load, self._left_s() / max(more, 2 if self._auto else 1))
        self._decide()
        self._stopwatch.pause()

    def measure_more(self, next_load: Callable[[], Load | None]) -> bool:
        """After ``run``, load what ``next_load`` names, one after the other, until it names none.

        A level that was measured gets another segment. The budgets are decided at the new ones
        too. ``False`` where the time was up before that; what went by between ``run`` and here
        does not count.

        Raises:
            LoadError, ServerError: as ``make``.
        """
        self._stopwatch.go_on()
        try:
            in_time = True
            while in_time and (load := next_load()) is not None:
                level = next((level for level in self.levels if level.load == load), None)
                if level is not None:
                    in_time = self._load_again(level)
                elif in_time := self._fits(load):
                    self._begin(load, self._left_s())
            self._decide()
            return in_time
        finally:
            self._stopwatch.pause()

    def _begin(self, load: Load, max_seconds: float) -> None:
        """Load a level for the first time, and look at it."""
        level = MeasuredLevel(load=load)
        level.reports.append(self._make(load, self._rules.first_seconds, max_seconds))
        self.levels.append(level)
        self._look(level)
        self._tell_done()

    def _decide(self) -> None:
        """Load the levels on which a budget hangs until it is certain or the time is up."""
        in_time = True
        while in_time and (waiting := self._open_levels()):
            for level in waiting:
                # The levels before it may have settled what this one was to tell.
                if in_time and self._is_open(level):
                    in_time = self._load_again(level)
                    self._tell_done()
        for level in self._open_levels():
            if len(level.reports) > level.seen:
                self._look(level)
        self._tell_done(all_of_them=True)

    def decisions(self, budget: Budget) -> dict[Load, Decision]:
        """What the requests say about a budget, by load; empty for a metric that is compared."""
        return {
            level.load: level.decisions[budget]
            for level in self.levels
            if budget in level.decisions
        }

    # -- which level

    def _first_loads(self) -> Iterator[Load]:
        for load in self._loads:
            yield load
            while (another := self._then(self.levels[-1])) is not None:
                yield another
        if self._auto:
            for batch in dict.fromkeys(load.batch_size for load in self._loads):
                while (concurrency := self._next_concurrency(batch)) is not None:
                    yield Load(concurrency=concurrency, batch_size=batch)

    def _next_concurrency(self, batch_size: int) -> int | None:
        from pytest_triton_perf.domain.estimates import estimate

        throughput = {}
        for level in self.levels:
            load = level.load
            if load.batch_size == batch_size and load.concurrency is not None:
                found = estimate(level.segments, ()).values
                if "throughput" in found:
                    throughput[load.concurrency] = found["throughput"]
        return next_concurrency(throughput)

    def _open_levels(self) -> list[MeasuredLevel]:
        """Those that are to be loaded again, the most likely to break a limit first."""
        levels = [level for level in self.levels if self._is_open(level)]
        rising = all(budget.metric.better == "higher" for budget in self._budgets)
        return sorted(levels, key=lambda level: level.load.order, reverse=not rising)

    def _is_open(self, level: MeasuredLevel) -> bool:
        """Whether more load on this level may still change a verdict."""
        if level.looks == 1 and any(level.load.matches(budget.at) for budget in self._compared):
            return True
        return level.looks < self._rules.looks and any(
            decision.status == "undecided" and not self._is_broken(budget)
            for budget, decision in level.decisions.items()
        )

    def _is_broken(self, budget: Budget) -> bool:
        decisions = (level.decisions.get(budget) for level in self.levels)
        return any(decision is not None and decision.status == "failed" for decision in decisions)

    def _tell_done(self, *, all_of_them: bool = False) -> None:
        for level in self.levels:
            if level.load not in self._told and (all_of_them or not self._is_open(level)):
                self._told.add(level.load)
                self._done(level)

    # -- how long

    def _fits(self, load: Load) -> bool:
        """Whether there is time for a new level, so much that its budgets can be decided."""
        alike = [level for level in self.levels if level.load.batch_size == load.batch_size]
        seconds = max([self._rules.first_seconds, *(level.segments[0].seconds for level in alike)])
        if any(load.matches(budget.at) for budget in [*self._budgets, *self._compared]):
            seconds = max(seconds, self._rules.loaded_s(2) + _SEGMENTS_PER_LOOK * _STARTUP_S)
        return self._left_s() >= seconds + _STARTUP_S

    def _left_s(self) -> float:
        return self._rules.max_seconds - self._stopwatch.used_s

    def _load_again(self, level: MeasuredLevel) -> bool:
        """Make another segment of a level, and look at it when it is time for that.

        ``False`` where the time is up, and nothing was made.
        """
        from pytest_triton_perf.domain import deciding

        rules = self._rules
        wanted_s = rules.loaded_s(level.looks + 1)
        # A level of a slow model takes what it takes, however short a segment is asked for.
        if self._left_s() < max(FIRST_S, level.segments[0].seconds) + _STARTUP_S:
            return False
        seconds = min(
            (wanted_s - rules.loaded_s(level.looks)) / _SEGMENTS_PER_LOOK,
            wanted_s - level.loaded_s,
            _LONGEST_REQUESTS / level.rate,
            self._left_s() - _STARTUP_S,
        )
        level.reports.append(self._make(level.load, max(FIRST_S, seconds), self._left_s()))
        if level.loaded_s >= deciding.NEARLY * wanted_s:
            self._look(level)
        return True

    def _look(self, level: MeasuredLevel) -> None:
        """Judge the budgets that this level is about, by all requests that it had so far."""
        from pytest_triton_perf.domain.deciding import decide

        level.looks += 1
        level.seen = len(level.reports)
        for budget in self._budgets:
            if level.load.matches(budget.at):
                level.decisions[budget] = decide(
                    budget,
                    level.segments,
                    look=level.looks,
                    looks=self._rules.looks,
                    previous=level.decisions.get(budget),
                    pass_seconds=self._rules.floor_seconds,
                )
