"""The picture of where the server's time goes."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from pytest_triton_perf.domain.levels import Load
from pytest_triton_perf.domain.metrics import METRICS, SERVER_TIMES
from pytest_triton_perf.domain.sweeps import Level
from pytest_triton_perf.reports.canvas import (
    DEFAULT,
    FEW_TICKS,
    new_figure,
    numbers_room,
    say_missing,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_HALF = 0.3
"""Of the width of a bar, where the bars are 1 apart."""
_ACROSS, _UPRIGHT = 65, 30
"""So many letters stand side by side under the bars, and so many names where they stand upright."""
_STACK = ("#56B4E9", "#F0E442", "#009E73", "#CC79A7")


def draw_breakdown(name: str, levels: Sequence[Level]) -> "Figure":
    """Where the server's time goes at each load, and the throughput over it."""
    from matplotlib.collections import PolyCollection

    figure, axes = new_figure(f"{name}: server latency and throughput", of_many=True)
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
        top = [a + b for a, b in zip(bottom, heights, strict=True)]
        # One piece of the picture: so many rectangles would take half of its time.
        outlines = [
            [(x - _HALF, low), (x - _HALF, high), (x + _HALF, high), (x + _HALF, low)]
            for x, low, high in zip(where, bottom, top, strict=True)
        ]
        axes.add_collection(PolyCollection(outlines, facecolor=colour, label=label))
        bottom = top
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
    if not bars:  # On the axes that are drawn last, or the line would cross the words.
        say_missing(right, levels, *(METRICS[part] for part in SERVER_TIMES))
    right.ticklabel_format(style="plain", useOffset=False)
    most = max((level.measurement.value("throughput") or 0.0 for level in levels), default=0.0)
    right.set_ylim(0, 1.1 * most or 1)
    right.set_ylabel("throughput (infer/s)")
    axes.set_ylim(0, 1.05 * max(bottom, default=0.0) or 1)
    axes.set_ylabel("average server latency (ms)")
    axes.grid(visible=False, axis="x")
    kinds = {level.load.kind for level in levels}
    axes.set_xlabel(" or ".join(sorted(kind.replace("_", " ") for kind in kinds)))
    figure.legend(loc="lower center", ncols=3)
    lines = _name_loads(axes, [_tick(lv.load, kinds=kinds, batches=batches) for lv in levels])
    left, beside = (numbers_room(one.get_ylim()[1]) for one in (axes, right))
    figure.subplots_adjust(left=left, right=1 - beside, top=0.9, bottom=0.18 + 0.04 * lines)
    return figure


def _name_loads(axes: "Axes", names: Sequence[str]) -> float:
    """Write the loads under the bars, or of too many every second or so; the lines they take."""
    words = [name.split("\n") for name in names]
    longest = max(len(line) for lines in words for line in lines)
    upright = longest * len(names) > _ACROSS
    if upright:
        names = [", ".join(lines) for lines in words]
    every = math.ceil(len(names) / _UPRIGHT) if upright else 1
    axes.set_xticks(range(0, len(names), every), names[::every], rotation=90 if upright else 0)
    return max(map(len, names)) / 2 if upright else max(map(len, words))


def _tick(load: Load, *, kinds: set[str], batches: list[int]) -> str:
    text = f"{load.value:g}" if len(kinds) == 1 else f"{load.kind[0]} {load.value:g}"
    return f"{text}\nbatch {load.batch_size}" if len(batches) > 1 else text
