"""The pictures of a metric against latency, one line per configuration."""

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING

from pytest_triton_perf.domain.budgets import Budget
from pytest_triton_perf.domain.metrics import Metric
from pytest_triton_perf.domain.results import Run
from pytest_triton_perf.reports.canvas import (
    COLOURS,
    DEFAULT,
    OTHERS,
    Legend,
    draw_intervals,
    new_figure,
    new_row,
    say_missing,
)
from pytest_triton_perf.reports.content import model_budgets
from pytest_triton_perf.reports.limits import LimitLines
from pytest_triton_perf.reports.lines import Line, latency_of, lines_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MARKERS, _DEFAULT_MARKERS = ("o", "s", "^"), ("D", "v", "P", "X")
_APART_IN = (0.2, 0.2)
"""Inches across and up: loads that are nearer to each other could not be read."""
_LOW_DOWN = 0.25
"""A limit below this share of the highest figure is a line near the lower end of the picture."""


def draw_alone(run: Run, model: str, metric: Metric) -> "Figure":
    """``metric`` (up) against latency (right) in a picture of its own."""
    latency = latency_of(run, model)
    figure, axes = new_figure(f"{model}: {metric.label} against {latency.label}")
    _draw(axes, run, model, metric).put_under(figure)
    return figure


def draw_beside(run: Run, model: str, metrics: Sequence[Metric]) -> "Figure":
    """Each metric (up) against latency (right), side by side over one legend."""
    latency = latency_of(run, model)
    figure, places = new_row([f"{metric.label} against {latency.label}" for metric in metrics])
    legend = Legend()
    for axes, metric in zip(places, metrics, strict=True):
        legend += _draw(axes, run, model, metric)
    legend.put_under(figure)
    return figure


def _draw(axes: "Axes", run: Run, model: str, metric: Metric) -> Legend:
    latency, lines = latency_of(run, model), lines_of(run, model)
    # The three best in colour and each image's default in black; the crowd behind them in grey.
    named = [line for line in lines if not line.is_default][:3]
    defaults = {line.image: line for line in reversed(lines) if line.is_default}
    named += [line for line in lines if line in defaults.values()]
    others = [line for line in lines if line not in named]
    for line in others:
        axes.plot(*_points(line, latency, metric), color=OTHERS, linewidth=0.9, zorder=1.5)
    colours = iter(zip(COLOURS, _MARKERS, strict=True))
    black = itertools.cycle(zip(itertools.repeat(DEFAULT), _DEFAULT_MARKERS))
    legend = Legend()
    bars = False
    for line in named:
        colour, marker = next(black if line.is_default else colours)
        x, y = _points(line, latency, metric)
        dashes = (0, (4, 1.5)) if line.is_default else "-"
        (drawn,) = axes.plot(x, y, color=colour, marker=marker, markersize=5, linestyle=dashes)
        legend.keys.append((line.label, drawn))
        for level in line.levels:
            bars |= draw_intervals(axes, level, latency, metric, colour)
    if others:
        words = f"{len(others)} others" if len(others) > 1 else "1 other"
        (drawn,) = axes.plot([], [], color=OTHERS)
        legend.keys.append((words, drawn))
    if not any(len(_points(line, latency, metric)[0]) for line in lines):
        say_missing(axes, [level for line in lines for level in line.levels], latency, metric)
    else:
        legend += _draw_limits(axes, model_budgets(run, model), latency, metric)
        _name_loads(axes, named, latency, metric)
    axes.set_xlabel(f"{latency.label} ({latency.unit})")
    axes.set_ylabel(f"{metric.label} ({metric.unit})")
    kinds = sorted({level.load.kind for line in lines for level in line.levels})
    legend.title = f"numbers at the points: {' or '.join(k.replace('_', ' ') for k in kinds)}"
    if bars:
        legend.title += f"\nbars: {100 * run.confidence:g}% intervals, arrows: ends not bounded"
    return legend


def _points(line: Line, x: Metric, y: Metric) -> tuple[list[float], list[float]]:
    """The line's levels that have both figures, in order of load."""
    pairs = [
        (level.measurement.value(x.name), level.measurement.value(y.name)) for level in line.levels
    ]
    found = [(a, b) for a, b in pairs if a is not None and b is not None]
    return [a for a, _ in found], [b for _, b in found]


def _name_loads(axes: "Axes", named: Sequence[Line], x: Metric, y: Metric) -> None:
    """Write each point's load beside it: on the best line, on all where there are few points.

    Of points so near to each other that their loads would lie on one another, one has it.
    """
    few = sum(len(line.levels) for line in named) <= 10
    told: list[tuple[float, float]] = []
    axes.autoscale_view()  # Else where a point will be is not known before all is drawn.
    inches = axes.transData - axes.figure.dpi_scale_trans
    for line in named if few else named[:1]:
        for level in line.levels:
            a, b = level.measurement.value(x.name), level.measurement.value(y.name)
            if a is not None and b is not None:
                across, up = inches.transform((a, b))
                if any(
                    abs(across - c) < _APART_IN[0] and abs(up - d) < _APART_IN[1] for c, d in told
                ):
                    continue
                told.append((across, up))
                axes.annotate(
                    f"{level.load.value:g}",
                    (a, b),
                    xytext=(-4, 4),
                    textcoords="offset points",
                    ha="right",
                    fontsize="small",
                )


def _draw_limits(axes: "Axes", budgets: Sequence[Budget], x: Metric, y: Metric) -> Legend:
    """The budgets on the two metrics as lines, and axes on which all can be read."""
    from matplotlib.ticker import LogLocator, NullLocator

    low, high = axes.dataLim.intervalx
    limits = [budget.limit for budget in budgets if budget.metric == x]
    if max(high, *limits, 0) > 20 * min(low, *limits, high):
        axes.set_xscale("log")
        few = max(high, *limits, 0) < 1000 * min(low, *limits, high)
        axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if few else (1.0,)))
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.xaxis.set_minor_locator(NullLocator())
    top = axes.dataLim.y1
    axes.margins(y=0.12)
    own = [budget for budget in budgets if budget.metric == y]
    lines = LimitLines(axes)
    lines.draw_upright([budget for budget in budgets if budget.metric == x])
    lines.draw_across(own, top)
    if y.unit == "infer/s":
        axes.set_ylim(bottom=0)
    axes.autoscale_view()
    # The words of a limit on what goes up stand at the right.
    low_down = any(budget.limit < _LOW_DOWN * top for budget in own)
    lines.name_upright("top" if low_down else "bottom")
    lines.name_across("right")
    return lines.legend
