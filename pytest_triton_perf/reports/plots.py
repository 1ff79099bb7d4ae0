"""Pictures of a run, as PNG bytes keyed by their path under ``plots/``."""

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from pytest_triton_perf.domain.budgets import Budget
from pytest_triton_perf.domain.levels import Load
from pytest_triton_perf.domain.metrics import (
    METRICS,
    SERVER_TIMES,
    Metric,
    find_metric,
    percentile_of,
)
from pytest_triton_perf.domain.results import Run
from pytest_triton_perf.domain.sweeps import Level
from pytest_triton_perf.reports.canvas import (
    COLOURS,
    DEFAULT,
    FEW_TICKS,
    LIMIT_LINE,
    LIMIT_TEXT,
    OTHERS,
    draw_intervals,
    legend_columns,
    limit_key,
    limit_words,
    limits_across,
    new_figure,
    say_missing,
    short,
    style,
)
from pytest_triton_perf.reports.content import (
    best_level,
    budgets_of,
    configurations_of,
    levels_of,
    model_budgets,
)
from pytest_triton_perf.reports.names import safe_name
from pytest_triton_perf.reports.processes import spread
from pytest_triton_perf.reports.raster import png
from pytest_triton_perf.reports.tables import has_gpu
from pytest_triton_perf.reports.timeline import draw_memory

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.lines import Line2D

_MARKERS, _DEFAULT_MARKERS = ("o", "s", "^"), ("D", "v", "P", "X")
_APART = (0.035, 0.06)
"""Of the axes' width and height: loads that are nearer to each other could not be read."""

_STACK = ("#56B4E9", "#F0E442", "#009E73", "#CC79A7")


@dataclass(frozen=True, kw_only=True)
class Line:
    """One line of a plot: a configuration through its levels, at one client batch size."""

    label: str
    levels: Sequence[Level]

    @property
    def is_default(self) -> bool:
        """Whether this is the model's own configuration."""
        return self.levels[0].sweep.variant.is_default

    @property
    def image(self) -> str | None:
        """The image it was measured on."""
        return self.levels[0].sweep.image


def draw(run: Run) -> dict[str, bytes]:
    """All plots of a run: two per model, two per variant."""
    jobs: dict[str, Callable[[], bytes]] = {}
    for model in run.models:
        lines, kind = lines_of(run, model), memory_kind(run, model)
        memory, folder = METRICS[f"{kind}_memory_mb"], f"simple/{safe_name(model)}"
        for file, metric in (("throughput", METRICS["throughput"]), (f"{kind}_mem", memory)):
            jobs[f"{folder}/{file}_v_latency.png"] = partial(
                _against_latency, run, model, lines, metric
            )
        for name, levels in configurations_of(run, model).items():
            sweeps, folder = run.configurations[name], f"detailed/{safe_name(name)}"
            jobs[f"{folder}/latency_breakdown.png"] = partial(_breakdown, name, levels)
            jobs[f"{folder}/memory_timeline.png"] = partial(
                draw_memory, name, sweeps, memory, budgets_of(run, sweeps)
            )
    return dict(zip(jobs, spread(_in_style, list(jobs.values())), strict=True))


def _in_style(job: Callable[[], bytes]) -> bytes:
    with style():
        return job()


def memory_kind(run: Run, model: str) -> str:
    """Which memory the plot of a model shows: ``gpu`` where it was read, else ``cpu``."""
    return "gpu" if has_gpu(levels_of(run, model)) else "cpu"


def lines_of(run: Run, model: str) -> list[Line]:
    """The lines of a model's plots, the best first (within the constraints, by throughput)."""
    batches = {level.batch_size for level in levels_of(run, model)}
    tests: dict[str, set[str]] = {}
    groups: dict[tuple[str, str, int], list[Level]] = {}
    for configuration, own in configurations_of(run, model).items():
        for level in own:
            test = level.sweep.test
            tests.setdefault(configuration, set()).add(test)
            groups.setdefault((configuration, test, level.batch_size), []).append(level)
    lines = []
    for (name, test, batch), own in groups.items():
        label = name + (f", batch {batch}" if len(batches) > 1 else "")
        if len(tests[name]) > 1:
            label += f" ({test.rpartition('::')[2]})"
        lines.append(Line(label=label, levels=own))

    def rank(line: Line) -> tuple[float, float]:
        best = best_level(run, line.levels)
        if best is None:
            return (float("inf"), 0.0)
        level, missed = best
        return (missed.share, -level.measurement.values["throughput"].value)

    return sorted(lines, key=rank)


def latency_of(run: Run, model: str) -> Metric:
    """The latency that the plots show: the one with a budget, else p99, else the highest."""
    budgets = [b.metric for b in model_budgets(run, model) if b.metric.name.endswith("_latency_ms")]
    if budgets:
        return budgets[0]
    measured = {name for level in levels_of(run, model) for name in level.measurement.values}
    percentiles = [name for name in measured if percentile_of(name) is not None]
    highest = max(percentiles, key=lambda name: percentile_of(name) or 0, default="avg_latency_ms")
    return find_metric("p99_latency_ms" if "p99_latency_ms" in measured else highest)


def _against_latency(run: Run, model: str, lines: Sequence[Line], metric: Metric) -> bytes:
    """``metric`` (up) against latency (right), one line per variant."""
    latency = latency_of(run, model)
    figure, axes = new_figure(f"{model}: {metric.label} against {latency.label}")
    # The three best in colour and each image's default in black; the crowd behind them in grey.
    named = [line for line in lines if not line.is_default][:3]
    defaults = {line.image: line for line in reversed(lines) if line.is_default}
    named += [line for line in lines if line in defaults.values()]
    others = [line for line in lines if line not in named]
    for line in others:
        axes.plot(*_points(line, latency, metric), color=OTHERS, linewidth=0.9, zorder=1.5)
    colours = iter(zip(COLOURS, _MARKERS, strict=True))
    black = itertools.cycle(zip(itertools.repeat(DEFAULT), _DEFAULT_MARKERS))
    handles, labels = [], []
    bars = False
    for line in named:
        colour, marker = next(black if line.is_default else colours)
        x, y = _points(line, latency, metric)
        dashes = (0, (4, 1.5)) if line.is_default else "-"
        handles += axes.plot(x, y, color=colour, marker=marker, markersize=5, linestyle=dashes)
        labels.append(line.label)
        for level in line.levels:
            bars |= draw_intervals(axes, level, latency, metric, colour)
    if others:
        handles += axes.plot([], [], color=OTHERS)
        labels.append(f"{len(others)} others" if len(others) > 1 else "1 other")
    if not any(len(_points(line, latency, metric)[0]) for line in lines):
        say_missing(axes, [level for line in lines for level in line.levels], latency, metric)
    else:
        for key, words in _draw_limits(axes, model_budgets(run, model), latency, metric):
            handles.append(key)
            labels.append(words)
        _name_loads(axes, named, latency, metric)
    axes.set_xlabel(f"{latency.label} ({latency.unit})")
    axes.set_ylabel(f"{metric.label} ({metric.unit})")
    kinds = sorted({level.load.kind for line in lines for level in line.levels})
    title = f"numbers at the points: {' or '.join(k.replace('_', ' ') for k in kinds)}"
    if bars:
        title += f"\nbars: {100 * run.confidence:g}% intervals, arrows: ends not bounded"
    figure.legend(
        handles,
        [short(label) for label in labels],
        loc="outside lower center",
        ncols=legend_columns(labels),
        title=title,
        title_fontproperties={"size": "small"},
    )
    return png(figure)


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
    for line in named if few else named[:1]:
        for level in line.levels:
            a, b = level.measurement.value(x.name), level.measurement.value(y.name)
            if a is not None and b is not None:
                across, up = axes.transLimits.transform(axes.transScale.transform((a, b)))
                if any(abs(across - c) < _APART[0] and abs(up - d) < _APART[1] for c, d in told):
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


def _draw_limits(
    axes: "Axes", budgets: Sequence[Budget], x: Metric, y: Metric
) -> "list[tuple[Line2D, str]]":
    """The budgets on the two metrics as lines, and axes on which all can be read.

    Returns what the legend says about them.
    """
    from matplotlib.ticker import LogLocator, NullLocator

    low, high = axes.dataLim.intervalx
    limits = [budget.limit for budget in budgets if budget.metric == x]
    if max(high, *limits, 0) > 20 * min(low, *limits, high):
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.xaxis.set_minor_locator(NullLocator())
    top = axes.dataLim.y1
    axes.margins(y=0.12)
    keys = []
    for budget in (budget for budget in budgets if budget.metric == x):
        keys.append(limit_key(budget))
        axes.axvline(budget.limit, **LIMIT_LINE)
        at, along = (budget.limit, 0.98), axes.get_xaxis_transform()
        text = limit_words(budget)
        axes.annotate(text, at, xycoords=along, xytext=(-3, 0), va="top", ha="right", **LIMIT_TEXT)
    keys += limits_across(axes, budgets, y, top)
    if y.unit == "infer/s":
        axes.set_ylim(bottom=0)
    return keys


def _breakdown(name: str, levels: Sequence[Level]) -> bytes:
    """Where the server's time goes at each load, and the throughput over it."""
    figure, axes = new_figure(f"{name}: server latency by part, and throughput", of_many=True)
    bars = [
        (at, parts)
        for at, level in enumerate(levels)
        if None not in (parts := [level.measurement.value(part) for part in SERVER_TIMES])
    ]
    where = [at for at, _ in bars]
    bottom = [0.0] * len(bars)
    for number, (part, colour) in enumerate(zip(SERVER_TIMES, _STACK, strict=True)):
        heights = [parts[number] or 0.0 for _, parts in bars]
        label = f"server {METRICS[part].label}"
        axes.bar(where, heights, bottom=bottom, width=0.6, color=colour, label=label)
        bottom = [a + b for a, b in zip(bottom, heights, strict=True)]
    if not bars:
        say_missing(axes, levels, *(METRICS[part] for part in SERVER_TIMES))
    right = axes.twinx()
    right.spines["right"].set_visible(True)
    right.grid(visible=False)
    right.locator_params(axis="y", nbins=FEW_TICKS)
    batches = sorted({level.batch_size for level in levels})
    for batch in batches:
        own = [(at, level) for at, level in enumerate(levels) if level.batch_size == batch]
        rates = [level.measurement.value("throughput") for _, level in own]
        gaps = [math.nan if rate is None else rate for rate in rates]
        right.plot([at for at, _ in own], gaps, color=DEFAULT, marker="o")
    right.lines[0].set_label("throughput")
    right.set_ylim(bottom=0, top=right.dataLim.ymax * 1.1)
    right.set_ylabel("throughput (infer/s)")
    axes.set_ylabel("average server latency (ms)")
    axes.grid(visible=False, axis="x")
    kinds = {level.load.kind for level in levels}
    ticks = [_tick(level.load, kinds=kinds, batches=batches) for level in levels]
    upright = len(levels) > 16
    axes.set_xticks(range(len(levels)), ticks, rotation=90 if upright else 0)
    axes.set_xlabel(" or ".join(sorted(kind.replace("_", " ") for kind in kinds)))
    figure.legend(loc="lower center", ncols=3)
    longest = max(len(line) for tick in ticks for line in tick.split("\n"))
    lines = longest / 2 if upright else 2 if len(batches) > 1 else 1
    figure.subplots_adjust(left=0.11, right=0.89, top=0.9, bottom=0.18 + 0.04 * lines)
    return png(figure)


def _tick(load: Load, *, kinds: set[str], batches: list[int]) -> str:
    text = f"{load.value:g}" if len(kinds) == 1 else f"{load.kind[0]} {load.value:g}"
    return f"{text}\nbatch {load.batch_size}" if len(batches) > 1 else text
