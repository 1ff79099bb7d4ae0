"""Verdicts: how the budgets of a test ended."""

from dataclasses import dataclass
from typing import Literal

from pytest_triton_perf.domain.budgets import Budget
from pytest_triton_perf.domain.levels import Load
from pytest_triton_perf.domain.metrics import Metric
from pytest_triton_perf.domain.names import listed
from pytest_triton_perf.domain.sweeps import Level, Sweep
from pytest_triton_perf.domain.tables import percent

Status = Literal["passed", "failed", "inconclusive", "not_measured"]


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """How one budget of one test ended, of a variant on an image (see ``Sweep``).

    ``load`` and ``observed`` are those of the level that decided: the worst one.
    ``observed`` is ``None`` where nothing was measured, and ``reason`` says why.
    """

    test: str
    variant: str
    budget: Budget
    status: Status
    image: str | None = None
    observed: float | None = None
    ci: tuple[float | None, float | None] | None = None
    load: Load | None = None
    reason: str = ""


def judge(budget: Budget, sweep: Sweep, required: tuple[Load, ...], why: str = "") -> Verdict:
    """The verdict on one budget.

    ``required`` are the loads that the test asked for: every one that the budget names must
    have been measured and be within the limit. A load without a figure is never a pass;
    ``why`` says what ended the sweep before its last level.
    """
    metric = budget.metric
    measured = {level.load: level for level in sweep.levels}
    gaps: dict[str, list[str]] = {}
    figures: list[tuple[float, Level]] = []
    for load in required:
        if not load.matches(budget.at):
            continue
        level = measured.get(load)
        if level is None:
            gaps.setdefault(why or "not measured", []).append(str(load))
        elif (value := level.measurement.value(metric.name)) is None:
            gaps.setdefault(level.why_missing(metric.name), []).append(str(load))
        else:
            figures.append((value, level))
    worst = max if metric.better == "lower" else min
    if figures:
        value, level = worst(figures, key=lambda pair: pair[0])
        if metric.violates(value, budget.limit):
            return _verdict(budget, sweep, "failed", _miss(metric, value, budget.limit), level)
    if gaps or not figures:
        reason = "; ".join(f"{listed(loads)}: {gap}" for gap, loads in gaps.items())
        return _verdict(budget, sweep, "not_measured", reason)
    return _verdict(budget, sweep, "passed", "", level)


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
        load=None if level is None else level.load,
        reason=reason,
    )


def _miss(metric: Metric, value: float, limit: float) -> str:
    side = "over" if metric.better == "lower" else "under"
    gap = abs(value - limit)
    return f"{metric.format(gap)} ({percent(gap / limit)}) {side} the limit"
