"""The picture of a variant's memory over time."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pytest_triton_perf.domain.budgets import Budget
from pytest_triton_perf.domain.metrics import Metric
from pytest_triton_perf.domain.sweeps import Sweep
from pytest_triton_perf.domain.timelines import Curve, MemoryTimeline, Phase
from pytest_triton_perf.reports.canvas import (
    COLOURS,
    DEFAULT,
    Legend,
    new_figure,
    numbers_room,
    say_missing,
)
from pytest_triton_perf.reports.limits import LimitLines

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_BANDS = ("#f3f5f7", "#e4e8ec")
_NAMED = 0.015
"""A band of at least this share of the picture has room for its name."""
_LETTER, _MOST_NAMES = 0.019, 0.65
"""What a letter of a name takes of the picture's height, and all of them at most."""
_FEW = 60
"""So many samples can be told apart."""
_PARTS = (*COLOURS[1:], "#CC79A7", "#E69F00")


def draw_memory(
    name: str, sweeps: Sequence[Sweep], metric: Metric, budgets: Sequence[Budget]
) -> "Figure":
    """How ``metric``, a memory, went while a configuration was loaded, warmed up and measured.

    The sweeps of several tests stand side by side, whatever time was between them.
    """
    figure, axes = new_figure(f"{name}: {metric.label} over time", of_many=True)
    axes.set_xlabel("seconds of loading and measuring")
    axes.set_ylabel(f"{metric.label} ({metric.unit})")
    axes.grid(visible=False, axis="x")
    phases: list[Phase] = []
    for timeline in (sweep.memory for sweep in sweeps if sweep.memory is not None):
        begin = phases[-1].end_s if phases else 0.0
        phases += [
            Phase(name=phase.name, start_s=begin + phase.start_s, end_s=begin + phase.end_s)
            for phase in timeline.phases
        ]
        _draw_curves(axes, timeline, metric, begin)
    if not axes.lines:
        levels = [level for sweep in sweeps for level in sweep.levels]
        say_missing(axes, levels, metric, otherwise="no timeline was recorded")
        return figure
    limits = LimitLines(axes)
    limits.draw_across([b for b in budgets if b.metric == metric], axes.dataLim.y1)
    axes.set_xlim(0, phases[-1].end_s)
    # The names of the phases stand above the curve.
    longest = max(len(phase.name) for phase in phases)
    axes.set_ylim(0, max(axes.dataLim.y1, 1.0) / (1 - min(_MOST_NAMES, longest * _LETTER)))
    _draw_phases(axes, phases)
    curves, words = axes.get_legend_handles_labels()
    legend = Legend(list(zip(words, curves, strict=True))) + limits.legend
    rows = legend.put_under(figure, fitted=False)
    left = numbers_room(axes.get_ylim()[1])
    figure.subplots_adjust(left=left, right=0.97, top=0.9, bottom=0.15 + 0.045 * rows)
    limits.name_across("left")
    return figure


def _draw_curves(axes: "Axes", timeline: MemoryTimeline, metric: Metric, begin: float) -> None:
    """The whole in a thick line, and the GPUs that share in it in thin ones."""
    parts = timeline.gpus if metric.source == "gpu" and len(timeline.gpus) > 1 else {}
    whole = timeline.curves.get(metric.name)
    if whole is not None:
        label = f"{metric.label}, all GPUs" if parts else metric.label
        _draw_curve(axes, whole, begin, label, color=DEFAULT, linewidth=1.8)
    for number, (uuid, curve) in enumerate(parts.items()):
        _draw_curve(axes, curve, begin, uuid, color=_PARTS[number % len(_PARTS)], linewidth=1.0)


def _draw_curve(axes: "Axes", curve: Curve, begin: float, label: str, **look: Any) -> None:
    drawn = axes.get_legend_handles_labels()[1]
    axes.plot(
        [begin + at for at in curve.at_s],
        curve.mb,
        marker="." if len(curve.mb) <= _FEW else "",
        label=f"_{label}" if label in drawn else label,
        **look,
    )


def _draw_phases(axes: "Axes", phases: Sequence[Phase]) -> None:
    whole = phases[-1].end_s
    for number, phase in enumerate(phases):
        axes.axvspan(phase.start_s, phase.end_s, color=_BANDS[number % 2], zorder=0, linewidth=0)
        if phase.end_s - phase.start_s >= _NAMED * whole:
            axes.text(
                (phase.start_s + phase.end_s) / 2,
                0.98,
                phase.name,
                transform=axes.get_xaxis_transform(),
                rotation=90,
                ha="center",
                va="top",
                fontsize="small",
                color="#5c646c",
            )
