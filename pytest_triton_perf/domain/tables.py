"""Text tables, as the terminal and error messages show them."""

import math
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from pytest_triton_perf.domain.budgets import Budget
from pytest_triton_perf.domain.levels import Estimate
from pytest_triton_perf.domain.metrics import Metric, find_metric
from pytest_triton_perf.domain.names import width

if TYPE_CHECKING:
    from pytest_triton_perf.domain.sweeps import Level, Sweep


def ramp_table(sweep: "Sweep", budgets: Sequence[Budget] = (), mark: "Level | None" = None) -> str:
    """The sweep as a text table, one row per level.

    Columns are throughput, average and percentile latencies, and the metrics that ``budgets``
    name. A figure that breaks a budget carries ``!``, one that was not measured is ``-``, and
    the level ``mark`` starts with ``>``.
    """
    if not sweep.levels:
        return "no level was measured"
    metrics = _shown_metrics(sweep, budgets)
    rows = [["load", *(f"{metric.short} " for metric in metrics)]]
    for level in sweep.levels:
        cells = [_cell(level, metric, budgets) for metric in metrics]
        pointer = ">" if mark is not None and level.load == mark.load else " "
        rows.append([f"{pointer} {level.load}", *cells])
    rows[0][0] = f"  {rows[0][0]}"
    return columns(rows, right=range(1, len(rows[0])))


def columns(rows: Sequence[Sequence[str]], *, right: Collection[int]) -> str:
    """Rows of text as aligned columns; those whose index is in ``right`` are flush right."""
    widths = [max(map(width, column)) for column in zip(*rows, strict=True)]

    def padded(cell: str, column: int) -> str:
        space = " " * (widths[column] - width(cell))
        return space + cell if column in right else cell + space

    return "\n".join(
        "  ".join(padded(cell, column) for column, cell in enumerate(row)).rstrip() for row in rows
    )


def percent(share: float) -> str:
    """A share of 1 as a person reads it: ``4.2%``, ``1,930%``."""
    return f"{share:.1%}" if share < 1 else f"{share:,.0%}"


def _shown_metrics(sweep: "Sweep", budgets: Sequence[Budget]) -> list[Metric]:
    first = sweep.levels[0].measurement
    names = ["throughput", *(n for n in first.values if n.endswith("_latency_ms"))]
    names += [b.metric.name for b in budgets if b.metric.name not in names]
    return [find_metric(name) for name in names]


def _cell(level: "Level", metric: Metric, budgets: Sequence[Budget]) -> str:
    estimate = level.measurement.values.get(metric.name)
    if estimate is None:
        return "-"
    value = estimate.value
    broken = any(
        budget.metric == metric
        and level.load.matches(budget.at)
        and metric.violates(value, budget.limit)
        for budget in budgets
    )
    return f"{figure(metric, estimate)}{'!' if broken else ' '}"


def figure(metric: Metric, estimate: Estimate) -> str:
    """A figure as tables show it, with the wider side of its interval: ``23.1 ±4%``."""
    if estimate.margin is None:
        return metric.number(estimate.value)
    margin = "∞" if math.isinf(estimate.margin) else percent(estimate.margin)
    return f"{metric.number(estimate.value)} ±{margin}"
