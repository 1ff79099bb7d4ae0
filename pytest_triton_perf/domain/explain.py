"""A budget or an assert that failed, in the words of the person who must act."""

from pytest_triton_perf.domain.budgets import Budget
from pytest_triton_perf.domain.levels import Estimate
from pytest_triton_perf.domain.metrics import estimate_text
from pytest_triton_perf.domain.sweeps import Figure, Level, Sweep
from pytest_triton_perf.domain.tables import percent, ramp_table
from pytest_triton_perf.domain.verdicts import Verdict

_OPERATORS = {"<": "below", "<=": "at most", ">": "above", ">=": "at least"}


def explain_verdict(verdict: Verdict, sweep: Sweep) -> str:
    """Why a budget was not kept: limit, measured, by how much, where, the ramp, the way out."""
    budget = verdict.budget
    lines = [f"{title(verdict)}: {verdict.status.replace('_', ' ')} ({verdict.variant})"]
    if verdict.observed is None or verdict.load is None:
        lines.append(f"  not measured: {verdict.reason}")
        return "\n".join([*lines, "", ramp_table(sweep, [budget])])
    lines.append(
        f"  measured {_measured(verdict.observed, verdict)} at {verdict.load}: {verdict.reason}"
    )
    lines += _way_out(budget, sweep, verdict.load.batch_size)
    return "\n".join([*lines, "", ramp_table(sweep, [budget], _level_of(sweep, verdict))])


def title(verdict: Verdict) -> str:
    """What a verdict is about: ``budget p99_latency_ms <= 25 ms at every load``."""
    return f"budget {verdict.budget} {verdict.budget.where}"


def verdict_text(verdict: Verdict) -> str:
    """A verdict in one line: ``failed: 31.20 ms at concurrency 8, 6.20 ms (24.8%) over …``."""
    status = verdict.status.replace("_", " ")
    if verdict.observed is None or verdict.load is None:
        return f"{status}: {verdict.reason}"
    measured = f"{status}: {_measured(verdict.observed, verdict)} at {verdict.load}"
    return f"{measured}, {verdict.reason}" if verdict.reason else measured


def _measured(observed: float, verdict: Verdict) -> str:
    return estimate_text(verdict.budget.metric, Estimate(value=observed, ci=verdict.ci))


def _level_of(sweep: Sweep, verdict: Verdict) -> Level | None:
    """The level that decided a verdict."""
    return next((level for level in sweep.levels if level.load == verdict.load), None)


def explain_comparison(op: str, left: object, right: object) -> list[str] | None:
    """The lines that pytest prints for a failing ``assert`` on a :class:`Figure`.

    ``None`` when neither side is one, or for operators that set no limit.
    """
    flipped = {"<": ">", "<=": ">=", ">": "<", ">=": "<="}
    if isinstance(right, Figure) and not isinstance(left, Figure) and op in flipped:
        left, right, op = right, left, flipped[op]
    if not isinstance(left, Figure) or not isinstance(right, int | float) or op not in _OPERATORS:
        return None
    level, metric = left.level, left.metric
    limit, gap = float(right), abs(float(left) - float(right))
    relative = f" ({percent(gap / abs(limit))})" if limit else ""
    lines = [
        f"{metric.name} is {left}, not {_OPERATORS[op]} {limit:g} {metric.unit}",
        f"  missed by {metric.format(gap)}{relative} at {level.load} of {level.sweep.variant.name}",
    ]
    if op in ("<", "<=") if metric.better == "lower" else op in (">", ">="):
        budget = Budget(name=metric.name, metric=metric, limit=limit)
        lines += _way_out(budget, level.sweep, level.batch_size, strict=op in ("<", ">"))
        table = ramp_table(level.sweep, [budget], level)
    else:
        table = ramp_table(level.sweep, mark=level)
    return [*lines, "", *table.splitlines()]


def _way_out(budget: Budget, sweep: Sweep, batch_size: int, *, strict: bool = False) -> list[str]:
    """The highest measured load that keeps the budget, if any does."""
    within = [
        level
        for level in sweep.levels
        if level.batch_size == batch_size
        and budget.holds_on(level.measurement)
        and not (strict and level.measurement.value(budget.metric.name) == budget.limit)
    ]
    if not within:
        return ["  no measured load is within the limit"]
    top = within[-1]
    value = top.measurement.values[budget.metric.name].value
    return [f"  highest load within the limit: {top.load} ({budget.metric.format(value)})"]
