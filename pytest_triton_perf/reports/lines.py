"""Which lines the plots of a model have, and what they show.

Pure, as ``content`` is.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from pytest_triton_perf.domain.metrics import Metric, find_metric, percentile_of
from pytest_triton_perf.domain.results import Run
from pytest_triton_perf.domain.sweeps import Level
from pytest_triton_perf.reports.content import (
    best_level,
    chosen_for_throughput,
    configurations_of,
    levels_of,
    model_budgets,
)
from pytest_triton_perf.reports.tables import has_gpu


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


def lines_of(run: Run, model: str) -> list[Line]:
    """The lines of a model's plots, the best first (within the constraints, by throughput).

    Before all others are those of what a search chose.
    """
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

    chosen = chosen_for_throughput(run, model)

    def rank(line: Line) -> tuple[bool, float, float]:
        other = run.configuration(line.levels[0].sweep) != chosen
        best = best_level(run, line.levels)
        if best is None:
            return (other, float("inf"), 0.0)
        level, missed = best
        return (other, missed.share, -level.measurement.values["throughput"].value)

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


def memory_kind(run: Run, model: str) -> str:
    """Which memory the plot of a model shows: ``gpu`` where it was read, else ``cpu``."""
    return "gpu" if has_gpu(levels_of(run, model)) else "cpu"
