"""Verdicts: how the budgets of a test ended."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from pytest_triton_perf.domain.budgets import Budget, Decision, Outcome
from pytest_triton_perf.domain.levels import Interval, Load
from pytest_triton_perf.domain.metrics import Metric
from pytest_triton_perf.domain.names import listed
from pytest_triton_perf.domain.sweeps import Level, Sweep
from pytest_triton_perf.domain.tables import percent

Status = Literal["passed", "failed", "inconclusive", "not_measured"]

_NONE: Mapping[Load, Decision] = {}


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """How one budget of one test ended, of a variant on an image (see ``Sweep``).

    ``load`` and ``observed`` are those of the level that decided: the worst one.
    ``observed`` is ``None`` where nothing was measured, and ``reason`` says why. ``ci`` is its
    interval, and ``needs`` is about how many more requests would bound an open end of it.
    """

    test: str
    variant: str
    budget: Budget
    status: Status
    image: str | None = None
    observed: float | None = None
    ci: Interval | None = None
    needs: int | None = None
    load: Load | None = None
    reason: str = ""


@dataclass(kw_only=True)
class _Tally:
    """The levels that a budget is about, by what they say of it."""

    failed: list[Level] = field(default_factory=list)
    disturbed: list[Level] = field(default_factory=list)
    undecided: list[Level] = field(default_factory=list)
    passed: list[Level] = field(default_factory=list)
    gaps: dict[str, list[str]] = field(default_factory=dict)

    def miss(self, load: Load, why: str) -> None:
        self.gaps.setdefault(why, []).append(str(load))

    def count(self, level: Level, metric: Metric, status: Outcome, why: str) -> None:
        """Put a level where its outcome belongs; ``why`` says what ended the sweep, if anything."""
        if status == "passed":
            self.passed.append(level)
        elif status == "undecided" and why:
            self.miss(level.load, why)
        elif status == "undecided":
            self.undecided.append(level)
        # A peak of memory was there, whoever else used the machine.
        elif metric.source == "client" and level.measurement.faults:
            self.disturbed.append(level)
        else:
            self.failed.append(level)


def judge(
    budget: Budget,
    sweep: Sweep,
    required: Iterable[Load],
    *,
    decisions: Mapping[Load, Decision] = _NONE,
    why: str = "",
) -> Verdict:
    """The verdict on one budget.

    ``required`` are the loads that the test asked for: every one that the budget names must
    have been measured and be within the limit. A load without a figure is never a pass;
    ``why`` says what ended the sweep before its last level. ``decisions`` are those of the loads
    whose requests were judged; a metric that has none there (memory, power, a mean that Triton
    gives) is compared as it is. A limit that was missed while the machine disturbed the
    measurement proves nothing: that is inconclusive.
    """
    metric = budget.metric
    measured = {level.load: level for level in sweep.levels}
    tally = _Tally()
    for load in required:
        if not load.matches(budget.at):
            continue
        level = measured.get(load)
        if level is None:
            tally.miss(load, why or "not measured")
        elif (value := level.measurement.value(metric.name)) is None:
            tally.miss(load, level.why_missing(metric.name))
        else:
            at_once: Outcome = "failed" if metric.violates(value, budget.limit) else "passed"
            decision = decisions.get(load)
            status = at_once if decision is None else decision.status
            tally.count(level, metric, status, why)
    if tally.failed:
        level = _worst(tally.failed, metric)
        return _verdict(budget, sweep, "failed", _miss(level, budget), level)
    if tally.gaps or not (tally.disturbed or tally.undecided or tally.passed):
        reason = "; ".join(f"{listed(loads)}: {gap}" for gap, loads in tally.gaps.items())
        return _verdict(budget, sweep, "not_measured", reason)
    if tally.disturbed:
        level = _worst(tally.disturbed, metric)
        reason = f"{_miss(level, budget)}, but {listed(level.measurement.faults)}"
        return _verdict(budget, sweep, "inconclusive", reason, level)
    if tally.undecided:
        level = _worst(tally.undecided, metric)
        reason = _why_undecided(level, decisions[level.load])
        return _verdict(budget, sweep, "inconclusive", reason, level)
    return _verdict(budget, sweep, "passed", "", _worst(tally.passed, metric))


def _worst(levels: list[Level], metric: Metric) -> Level:
    pick = max if metric.better == "lower" else min
    return pick(levels, key=lambda level: level.measurement.values[metric.name].value)


def _verdict(
    budget: Budget, sweep: Sweep, status: Status, reason: str, level: Level | None = None
) -> Verdict:
    estimate = None if level is None else level.measurement.values[budget.metric.name]
    return Verdict(
        test=sweep.test,
        variant=sweep.variant.name,
        image=sweep.image,
        budget=budget,
        status=status,
        observed=None if estimate is None else estimate.value,
        ci=None if estimate is None else estimate.ci,
        needs=None if estimate is None else estimate.needs,
        load=None if level is None else level.load,
        reason=reason,
    )


def _miss(level: Level, budget: Budget) -> str:
    metric = budget.metric
    side = "over" if metric.better == "lower" else "under"
    gap = abs(level.measurement.values[metric.name].value - budget.limit)
    return f"{metric.format(gap)} ({percent(gap / budget.limit)}) {side} the limit"


def _why_undecided(level: Level, decision: Decision) -> str:
    """Why the requests of a level settle nothing, and what it would take."""
    if decision.leaning != "undecided":
        return f"almost {decision.leaning}, but {decision.reason}; raise --triton-perf-max-seconds"
    requests = level.requests or 0
    too_few = f"{requests:,} requests are too few to be sure on which side of the limit it is"
    text = f"not decided: {decision.reason}" if decision.reason else too_few
    if not decision.needs:
        return f"{text}; raise --triton-perf-max-seconds"
    seconds = level.measurement.wall_s * decision.needs / requests if requests else 0.0
    return (
        f"{text}; about {decision.needs:,} more ({seconds:,.0f} s) would do: raise "
        "--triton-perf-max-seconds"
    )
