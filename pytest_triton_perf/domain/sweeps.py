"""A sweep: one variant measured at several load levels, as a test sees it."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pytest_triton_perf.domain.budgets import Budget
from pytest_triton_perf.domain.levels import Interval, Load, Measurement
from pytest_triton_perf.domain.metrics import METRICS, Metric, estimate_text, find_metric
from pytest_triton_perf.domain.names import listed, nearest
from pytest_triton_perf.domain.tables import ramp_table
from pytest_triton_perf.domain.timelines import MemoryTimeline
from pytest_triton_perf.domain.variants import Variant
from pytest_triton_perf.errors import SweepError, UsageError

if TYPE_CHECKING:
    import pandas as pd


class Figure(float):
    """A measured number that knows where it comes from.

    It is a plain float for arithmetic and comparison. ``ci`` is its (low, high) interval or
    ``None``; ``metric`` and ``level`` let a failing ``assert`` explain itself.
    """

    metric: Metric
    level: "Level"
    ci: Interval | None

    def __new__(cls, metric: Metric, level: "Level") -> "Figure":
        """The figure of ``metric`` on ``level``, where it was measured."""
        estimate = level.measurement.values[metric.name]
        figure = super().__new__(cls, estimate.value)
        figure.metric, figure.level, figure.ci = metric, level, estimate.ci
        return figure

    def __str__(self) -> str:
        return estimate_text(self.metric, self.level.measurement.values[self.metric.name])


@dataclass(frozen=True)
class Level:
    """One measured load level of a sweep; metrics are its attributes.

    ``level.p99_latency_ms`` is a :class:`Figure`, or ``None`` where it could not be measured
    (``level.why_missing("gpu_memory_mb")`` says why). Latencies are in milliseconds,
    throughput in inferences per second, memory in megabytes (10**6 bytes).
    """

    sweep: "Sweep"
    measurement: Measurement

    @property
    def load(self) -> Load:
        """The load of this level."""
        return self.measurement.load

    @property
    def concurrency(self) -> int | None:
        """Requests in flight, where the level is a closed loop."""
        return self.load.concurrency

    @property
    def request_rate(self) -> float | None:
        """Requests per second, where the level is an open loop."""
        return self.load.request_rate

    @property
    def batch_size(self) -> int:
        """The client's batch size."""
        return self.load.batch_size

    @property
    def requests(self) -> int | None:
        """How many requests the figures rest on."""
        return self.measurement.requests

    def why_missing(self, metric: str) -> str:
        """The reason why ``metric`` is ``None`` on this level."""
        return self.measurement.why_missing(metric)

    def __getattr__(self, name: str) -> Figure | None:
        if name.startswith("_"):
            raise AttributeError(name)
        try:
            metric = find_metric(name)
        except UsageError as error:
            raise AttributeError(f"a level has no {error}") from None
        if name in self.measurement.values:
            return Figure(metric, self)
        if name in self.measurement.missing or name in METRICS:
            return None
        measured = [n for n in self.measurement.values if n not in METRICS]
        raise AttributeError(
            f"{name} was not measured: this sweep has {listed(measured)}; "
            f"name the percentile in perf_sweep(percentiles=…)"
        )

    def __repr__(self) -> str:
        return f"<Level {self.sweep.variant.name} at {self.load}>"


@dataclass(frozen=True, kw_only=True, repr=False)
class Sweep:
    """What one test measured: a variant under each of its load levels.

    ``test`` is the pytest node id. ``levels`` come in ascending order of load, whatever order
    they were measured in. ``image`` is the one that Triton ran from, ``None`` outside a container;
    ``memory`` is how the server's memory went meanwhile. ``narrow`` measures further levels, to
    tell more exactly at which load some limits break, and adds them to ``measurements``; it is
    there in a test's own sweep with ``concurrency="auto"``, and does nothing once the test is over.
    """

    test: str
    variant: Variant
    measurements: Sequence[Measurement]
    image: str | None = None
    memory: MemoryTimeline | None = None
    narrow: Callable[[Sequence[Budget]], None] | None = field(default=None, compare=False)

    @property
    def model(self) -> str:
        """The model's name."""
        return self.variant.model

    @property
    def levels(self) -> tuple[Level, ...]:
        """The measured levels, by batch size and then by load."""
        ordered = sorted(self.measurements, key=lambda m: m.load.order)
        return tuple(Level(self, measurement) for measurement in ordered)

    def __repr__(self) -> str:
        return f"<Sweep {self.variant.name}: {len(self.measurements)} level(s)>"

    def __iter__(self) -> Iterator[Level]:
        return iter(self.levels)

    def at(self, **load: float) -> Level:
        """The level at that load, e.g. ``at(concurrency=8)`` or ``at(request_rate=50)``.

        Raises:
            SweepError: the sweep has no such level, or more than one (name the batch size).
        """
        __tracebackhide__ = True
        found = self.levels_at(load)
        if len(found) == 1:
            return found[0]
        asked = ", ".join(f"{key}={value:g}" for key, value in load.items())
        have = "; ".join(str(level.load) for level in self.levels) or "none"
        problem = "several levels match" if found else "there is no level"
        raise SweepError(f"{problem} at({asked}); measured: {have}")

    def levels_at(self, load: Mapping[str, float]) -> tuple[Level, ...]:
        """All levels that ``load`` names; every level for an empty mapping.

        Raises:
            SweepError: a key is not one of concurrency, request_rate and batch_size.
        """
        __tracebackhide__ = True
        keys = ("concurrency", "request_rate", "batch_size")
        for key in load:
            if key not in keys:
                raise SweepError(f"a level has no {key!r}{nearest(key, keys)}")
        return tuple(level for level in self.levels if level.load.matches(load))

    def best(self, metric: str = "throughput", **limits: float) -> Level:
        """The level that is best in ``metric`` among those within all ``limits``.

        ``limits`` are named as budgets are: ``p99_latency_ms=25``, ``min_throughput=800``,
        ``max_gpu_memory_mb=4000``. A level on which a limit's metric was not measured is not
        within that limit. With ``concurrency="auto"`` the limits are bracketed first, as
        :meth:`highest_load` does.

        Raises:
            SweepError: a name is unknown, or no level is within the limits; the message shows
                the ramp.
            LoadError, ServerError: a further level could not be measured.
        """
        __tracebackhide__ = True
        try:
            goal = find_metric(metric)
        except UsageError as error:
            raise SweepError(f"best(): {error}") from None
        budgets = _limits("best", limits)
        # What limits one kind of load gets better with the other: a latency, the throughput.
        self._narrow([budget for budget in budgets if budget.metric.better != goal.better])
        within = self._within(budgets, metric)
        pick = min if goal.better == "lower" else max
        return pick(within, key=lambda level: level.measurement.values[metric].value)

    def highest_load(self, **limits: float) -> Level:
        """The highest load within all ``limits``: the most clients, or the highest request rate.

        ``limits`` are named as in :meth:`best`. With ``concurrency="auto"``, levels between the
        highest that keeps the limits on latency and the next that breaks them are measured too,
        until the two are about 10 % apart, the answer's interval has the limit inside, or the
        sweep's time is used up; a note of the level says so then. Of several batch sizes at one
        load, the largest counts.

        Raises:
            SweepError: no limit is given, a name is unknown, or no level is within the limits;
                the message shows the ramp.
            LoadError, ServerError: a further level could not be measured.
        """
        __tracebackhide__ = True
        budgets = _limits("highest_load", limits)
        if not budgets:
            raise SweepError("highest_load(): name a limit, for example p99_latency_ms=25")
        self._narrow([budget for budget in budgets if budget.metric.better == "lower"])
        within = self._within(budgets)
        return max(within, key=lambda level: (level.load.value, level.batch_size))

    def _narrow(self, limits: Sequence[Budget]) -> None:
        """Bracket limits that all break as load rises, or all as it falls."""
        __tracebackhide__ = True
        # Memory and the like are no function of the load: they keep what an earlier level took.
        bracketed = [limit for limit in limits if limit.metric.source == "client"]
        if self.narrow is not None and bracketed:
            self.narrow(bracketed)

    def _within(self, budgets: Sequence[Budget], metric: str | None = None) -> list[Level]:
        """The levels within all budgets that have ``metric``; there is one at least."""
        __tracebackhide__ = True
        within = [
            level
            for level in self.levels
            if (metric is None or level.measurement.value(metric) is not None)
            and all(budget.holds_on(level.measurement) for budget in budgets)
        ]
        if not within:
            asked = " and ".join(str(budget) for budget in budgets) or f"{metric} measured"
            raise SweepError(
                f"no load level of {self.variant.name} has {asked}\n{ramp_table(self, budgets)}"
            )
        return within

    def table(self) -> str:
        """The ramp as a small text table."""
        return ramp_table(self)

    def to_frame(self) -> "pd.DataFrame":
        """The sweep as a data frame: one row per level, columns named as the metrics are."""
        import pandas as pd

        rows: list[dict[str, Any]] = [level.measurement.as_row() for level in self.levels]
        frame: pd.DataFrame = pd.DataFrame(rows)
        return frame


def _limits(method: str, limits: Mapping[str, float]) -> list[Budget]:
    __tracebackhide__ = True
    try:
        return [Budget.from_keyword(name, limit) for name, limit in limits.items()]
    except UsageError as error:
        raise SweepError(f"{method}(): {error}") from None
