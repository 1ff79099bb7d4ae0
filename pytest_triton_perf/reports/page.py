"""What the scripts of ``index.html`` draw: the run as plain data, its words made here.

Pure, as ``content`` is.
"""

from collections.abc import Iterable
from typing import Any

from pytest_triton_perf.domain.budgets import Budget
from pytest_triton_perf.domain.comparisons import Comparison
from pytest_triton_perf.domain.levels import Estimate
from pytest_triton_perf.domain.metrics import (
    METRICS,
    SERVER_TIMES,
    Metric,
    estimate_text,
    find_metric,
    percentile_name,
    percentile_of,
)
from pytest_triton_perf.domain.results import Run
from pytest_triton_perf.domain.sweeps import Level, Sweep
from pytest_triton_perf.reports import gate
from pytest_triton_perf.reports.content import (
    NOT_MEASURED,
    constraint,
    levels_of,
    model_budgets,
    overrides_text,
    satisfies,
)
from pytest_triton_perf.reports.lines import Line, latency_of, lines_of, memory_kind
from pytest_triton_perf.reports.tables import (
    Table,
    dynamic_batching,
    instance_group,
    level_table,
    max_batch_size,
)

_MEMORIES = ("gpu_memory_mb", "cpu_memory_mb")


def all_levels(run: Run) -> list[Level]:
    """Every measured level, in the order of the rows of :func:`measurement_table`."""
    return [level for sweep in run.sweeps for level in sweep.levels]


def measurement_table(run: Run) -> Table:
    """All measurements, one row per level; the model and the test where there are several."""
    levels = all_levels(run)
    table = level_table(run, levels)
    leading: dict[str, list[str]] = {}
    if len(run.models) > 1:
        leading["Model"] = [level.sweep.model for level in levels]
    following: dict[str, list[str]] = {}
    if any(len(sweeps) > 1 for sweeps in run.configurations.values()):
        following["Test"] = [_function(level.sweep) for level in levels]
    return Table(
        header=[*leading, *table.header[: table.texts], *following, *table.header[table.texts :]],
        rows=[
            [
                *(column[i] for column in leading.values()),
                *row[: table.texts],
                *(column[i] for column in following.values()),
                *row[table.texts :],
            ]
            for i, row in enumerate(table.rows)
        ],
        texts=table.texts + len(leading) + len(following),
    )


def page_data(run: Run) -> dict[str, Any]:
    """The data of the page, fit for JSON.

    ``levels`` are the measurements, in the order of the table's rows, and lines name their
    levels by their place there. A figure is ``[value, text]``, and ``[value, text, low, high]``
    where it has an interval, an open end of which is ``None``.
    """
    levels = all_levels(run)
    rows = {id(level.measurement): row for row, level in enumerate(levels)}
    names = [*_DRAWN, *(latency_of(run, model).name for model in run.models)]
    names += [name for level in levels for name in level.measurement.values]
    metrics = map(find_metric, dict.fromkeys(names))
    return {
        "confidence_pct": f"{100 * run.confidence:g}",
        "metrics": {m.name: {"label": m.label, "unit": m.unit} for m in metrics},
        "levels": [_level(run, level) for level in levels],
        "models": [_model(run, model, rows) for model in run.models],
        "changes": [_change(c) for c in _of_the_gate(run)],
    }


_DRAWN = ("throughput", "avg_latency_ms", *SERVER_TIMES, *_MEMORIES)


def _level(run: Run, level: Level) -> dict[str, Any]:
    variant, load = level.sweep.variant, level.load
    words = {True: "within its constraints", False: "not within its constraints", None: ""}
    return {
        "load": str(load),
        "value": load.value,
        "kind": load.kind.replace("_", " "),
        "batch": load.batch_size,
        "within": words[satisfies(run, level)],
        "facts": [
            ["changes", overrides_text(variant)],
            ["max batch size", _text(max_batch_size(variant))],
            ["instances", _text(instance_group(level))],
            ["dynamic batching", _text(dynamic_batching(variant))],
            *([["image", level.sweep.image]] if level.sweep.image else []),
            ["test", level.sweep.test],
            ["requests", _text(level.requests and f"{level.requests:,}")],
        ],
        "figures": {
            name: _figure(find_metric(name), estimate)
            for name, estimate in level.measurement.values.items()
        },
        "remarks": [*level.measurement.faults, *level.measurement.notes],
    }


def _figure(metric: Metric, estimate: Estimate) -> list[Any]:
    return [estimate.value, estimate_text(metric, estimate), *(estimate.ci or ())]


def _model(run: Run, model: str, rows: dict[int, int]) -> dict[str, Any]:
    lines, levels = lines_of(run, model), levels_of(run, model)
    measured = {name for level in levels for name in level.measurement.values}
    shown = latency_of(run, model).name
    percentiles = sorted(filter(None, map(percentile_of, {*measured, shown})))
    latencies = ["avg_latency_ms", *map(percentile_name, percentiles)]
    memories = [name for name in _MEMORIES if name in measured]
    memories = memories or [f"{memory_kind(run, model)}_memory_mb"]
    return {
        "lines": [_line(line, rows) for line in lines],
        "latencies": [name for name in latencies if name in {*measured, shown}],
        "latency": shown,
        "memories": memories,
        "budgets": [_budget(budget) for budget in model_budgets(run, model)],
        "missing": {
            name: _reasons(levels, find_metric(name))
            for name in ("throughput", *latencies, *memories, *SERVER_TIMES)
        },
    }


def _line(line: Line, rows: dict[int, int]) -> dict[str, Any]:
    return {
        "label": line.label,
        "default": line.is_default,
        "rows": [rows[id(level.measurement)] for level in line.levels],
        "timeline": _timeline(line.levels[0].sweep),
    }


def _budget(budget: Budget) -> dict[str, Any]:
    sign = "≤" if budget.metric.better == "lower" else "≥"
    return {
        "metric": budget.metric.name,
        "limit": budget.limit,
        "words": constraint(budget),
        "short": f"{sign} {budget.limit:g} {budget.metric.unit}",
    }


def _reasons(levels: Iterable[Level], metric: Metric) -> list[str]:
    """Why levels lack a metric, each reason once."""
    return sorted(
        {
            f"{metric.label} was not measured: {level.why_missing(metric.name)}"
            for level in levels
            if level.measurement.value(metric.name) is None
        }
    )


def _timeline(sweep: Sweep) -> dict[str, Any] | None:
    memory = sweep.memory
    if memory is None:
        return None
    curves = {METRICS[name].label: curve for name, curve in memory.curves.items()}
    if len(memory.gpus) > 1:
        curves |= {f"GPU memory of {uuid}": curve for uuid, curve in memory.gpus.items()}
    return {
        "phases": [[phase.name, phase.start_s, phase.end_s] for phase in memory.phases],
        "curves": [
            {"label": label, "at_s": list(curve.at_s), "mb": list(curve.mb)}
            for label, curve in curves.items()
        ],
    }


def _of_the_gate(run: Run) -> list[Comparison]:
    ours = [c for c in run.comparisons if c.source == "gate" and c.change_pct is not None]
    return gate.gated(ours)


def _change(comparison: Comparison) -> dict[str, Any]:
    status, metric, change, limit, _, _, place = gate.row(comparison)
    low, high = comparison.ci_pct or (comparison.change_pct, comparison.change_pct)
    return {
        "label": f"{metric} of {place}",
        "status": status,
        "words": f"{change}, limit {limit}",
        "pct": comparison.change_pct,
        "low": low,
        "high": high,
        "limit": comparison.limit_pct,
    }


def _text(value: object) -> str:
    return NOT_MEASURED if value is None else str(value)


def _function(sweep: Sweep) -> str:
    return sweep.test.rpartition("::")[2]
