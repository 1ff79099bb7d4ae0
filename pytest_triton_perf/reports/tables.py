"""The tables of the reports, as text; each output sets them its own way."""

import dataclasses
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import get_args

from pytest_triton_perf.domain.metrics import (
    METRICS,
    SERVER_TIMES,
    Metric,
    Source,
    find_metric,
    interval_text,
    percentile_name,
    percentile_of,
)
from pytest_triton_perf.domain.names import with_image
from pytest_triton_perf.domain.results import Run
from pytest_triton_perf.domain.sweeps import Level
from pytest_triton_perf.domain.tables import figure
from pytest_triton_perf.domain.variants import Variant
from pytest_triton_perf.domain.verdicts import Verdict
from pytest_triton_perf.reports.content import (
    NOT_MEASURED,
    best_levels,
    configurations_of,
    constraint,
    gain_text,
    levels_of,
    miss,
    model_budgets,
    satisfies,
)
from pytest_triton_perf.reports.remarks import why


@dataclass(frozen=True, kw_only=True)
class Table:
    """Rows of text under a header. The first ``texts`` columns are words, the others figures."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    texts: int = 1

    def without_empty(self) -> "Table":
        """The table without the columns in which no row says anything."""
        kept = [i for i, column in enumerate(zip(*self.rows, strict=True)) if any(column)]
        return dataclasses.replace(
            self,
            header=[self.header[i] for i in kept],
            rows=[[row[i] for i in kept] for row in self.rows],
            texts=sum(i < self.texts for i in kept),
        )


def instances(variant: Variant, *, has_gpu: bool) -> dict[str, int] | None:
    """Instances per kind, ``{"GPU": 2}``; ``None`` where the config is not known.

    A group of kind ``KIND_AUTO`` runs on the GPU where there is one, and a model without
    groups has one instance: both are Triton's own rules.
    """
    if not variant.config:
        return None
    counts: dict[str, int] = {}
    for group in variant.config.get("instance_group") or [{}]:
        kind = str(group.get("kind", "KIND_AUTO")).removeprefix("KIND_")
        if kind == "AUTO":
            kind = "GPU" if has_gpu else "CPU"
        per_device = max(1, len(group.get("gpus") or ())) if kind == "GPU" else 1
        counts[kind] = counts.get(kind, 0) + int(group.get("count") or 1) * per_device
    return counts


def instance_group(level: Level) -> str | None:
    """The instances of a level's variant as Model Analyzer writes them: ``2:CPU``."""
    counts = instances(level.sweep.variant, has_gpu=bool(level.measurement.gpus))
    return None if counts is None else " + ".join(f"{n}:{kind}" for kind, n in counts.items())


def max_batch_size(variant: Variant) -> int | None:
    """The config's ``max_batch_size``, of which Triton leaves a 0 out; ``None``: not known."""
    return int(variant.config.get("max_batch_size", 0)) if variant.config else None


def dynamic_batching(variant: Variant) -> str | None:
    """Whether Triton batches requests, and for how long it waits; ``None``: not known."""
    if not variant.config:
        return None
    if "dynamic_batching" not in variant.config:
        return "disabled"
    delay = (variant.config["dynamic_batching"] or {}).get("max_queue_delay_microseconds")
    return f"enabled, {delay} µs" if delay else "enabled"


def best_table(run: Run, model: str, most: int | None = None) -> Table:
    """The best level of each configuration, the best first; memory is the most of any level.

    With ``most``, of so many configurations beside the default, in as few columns as a sheet of
    paper has room for.
    """
    levels, configurations = levels_of(run, model), configurations_of(run, model)
    ranked = best_levels(run, model)
    others = [level for level, _ in ranked if not level.sweep.variant.is_default][:most]
    shown = [level for level, _ in ranked if level in others or level.sweep.variant.is_default]

    def total(level: Level) -> str:
        counts = instances(level.sweep.variant, has_gpu=bool(level.measurement.gpus))
        return _text(None if counts is None else sum(counts.values()))

    def over_levels(metric: Metric, pick: Callable[[Sequence[float]], float]) -> _Cell:
        def cell(level: Level) -> str:
            own = configurations[run.configuration(level.sweep)]
            values = [v for lv in own if (v := lv.measurement.value(metric.name)) is not None]
            return metric.number(pick(values)) if values else NOT_MEASURED

        return cell

    columns: dict[str, _Cell] = {
        "Model Config Name": lambda level: run.configuration(level.sweep),
        "Load": lambda level: str(level.load),
    }
    if budgets := model_budgets(run, model):
        columns["Within Constraints"] = lambda level: "no" if miss(run, level).share else "yes"
    columns["Dynamic Batching"] = lambda level: _text(dynamic_batching(level.sweep.variant))
    texts = len(columns)
    columns |= {
        "Max Batch Size": lambda level: _text(max_batch_size(level.sweep.variant)),
        "Total Instance Count": total,
        "p99 Latency (ms)": _figure(find_metric("p99_latency_ms")),
        "Throughput (infer/sec)": _figure(METRICS["throughput"]),
    }
    if any(level.sweep.variant.is_default for level in shown) and len(shown) > 1:
        columns["Gain over Default"] = lambda level: gain_text(level, ranked)
    for metric in (budget.metric for budget in budgets):
        measured = any(level.measurement.value(metric.name) is not None for level in shown)
        if metric.column not in columns and metric.unit != "MB" and measured:
            columns[metric.column] = _figure(metric)
    columns["Max CPU Memory Usage (MB)"] = over_levels(METRICS["cpu_memory_mb"], max)
    if has_gpu(levels):
        columns["Max GPU Memory Usage (MB)"] = over_levels(METRICS["gpu_memory_mb"], max)
        if most is None:
            utilization = over_levels(METRICS["gpu_utilization_pct"], _mean)
            columns["Average GPU Utilization (%)"] = utilization
    return Table(
        header=list(columns),
        rows=[[cell(level) for cell in columns.values()] for level in shown],
        texts=texts,
    )


_Cell = Callable[[Level], str]


def _figure(metric: Metric) -> _Cell:
    def cell(level: Level) -> str:
        estimate = level.measurement.values.get(metric.name)
        return NOT_MEASURED if estimate is None else figure(metric, estimate)

    return cell


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _text(value: object) -> str:
    return NOT_MEASURED if value is None else str(value)


def has_gpu(levels: Iterable[Level]) -> bool:
    """Whether any level has a reading of GPU memory."""
    return any(level.measurement.value("gpu_memory_mb") is not None for level in levels)


def image_table(run: Run, model: str) -> Table:
    """Every variant at every load, its figures on each image side by side.

    Without rows where the run has fewer than two images.
    """
    images = run.images if len(run.images) > 1 else []
    beside: dict[tuple[str, str], dict[str | None, list[Level]]] = {}
    for level in levels_of(run, model):
        key = (level.sweep.variant.name, str(level.load))
        beside.setdefault(key, {}).setdefault(level.sweep.image, []).append(level)
    columns = [(METRICS["throughput"], image) for image in images]
    columns += [(find_metric("p99_latency_ms"), image) for image in images]
    return Table(
        header=[
            *("Model Config Name", "Load"),
            *(f"{metric.column} {with_image('', image, images)}" for metric, image in columns),
        ],
        rows=[
            [
                *key,
                *(
                    _figure(metric)(found) if (found := row[image]) else NOT_MEASURED
                    for metric, image in columns
                ),
            ]
            for key, own in beside.items()
            # Several tests may have measured the same variant at the same load.
            for levels in zip_longest(*(own.get(image, ()) for image in images))
            for row in [dict(zip(images, levels, strict=True))]
        ],
        texts=2,
    )


_LEVEL_METRICS = (*SERVER_TIMES, "cpu_memory_mb", "gpu_memory_mb", "gpu_utilization_pct", "power_w")


def level_table(
    run: Run, levels: Sequence[Level], sources: Collection[Source] = get_args(Source)
) -> Table:
    """The figures of the levels that the sources measured, one row per level."""
    measured = {name for level in levels for name in level.measurement.values}
    percentiles = sorted(filter(None, map(percentile_of, measured)))
    names = ["throughput", "avg_latency_ms", *map(percentile_name, percentiles), *_LEVEL_METRICS]
    metrics = [find_metric(name) for name in names if name in measured]
    metrics = [metric for metric in metrics if metric.source in sources]
    words = {True: "yes", False: "no", None: "none apply"}
    configurations = {run.configuration(level.sweep) for level in levels}
    return Table(
        header=["Configuration", "Load", "Within Constraints", *(m.column for m in metrics)],
        rows=[
            [
                run.configuration(level.sweep) if len(configurations) > 1 else "",
                str(level.load),
                words[satisfies(run, level)],
                *(_figure(metric)(level) for metric in metrics),
            ]
            for level in levels
        ],
        texts=3,
    ).without_empty()


def verdict_table(run: Run, verdicts: Iterable[Verdict]) -> Table:
    """The verdicts, in the order given."""
    return Table(
        header=["Verdict", "Configuration", "Budget", "Measured", "Why", "Test"],
        rows=[
            [
                verdict.status.replace("_", " "),
                run.configuration(verdict),
                constraint(verdict.budget),
                _observed(verdict),
                why(verdict),
                verdict.test.rpartition("::")[2],
            ]
            for verdict in verdicts
        ],
        texts=6,
    ).without_empty()


def _observed(verdict: Verdict) -> str:
    if verdict.observed is None or verdict.load is None:
        return NOT_MEASURED
    metric = verdict.budget.metric
    parts = [metric.format(verdict.observed), interval_text(metric.number, verdict.ci)]
    return " ".join(filter(None, [*parts, f"at {verdict.load}"]))
