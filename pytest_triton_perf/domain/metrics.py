"""The registry of metrics: one row per figure that a level can carry.

A metric is named once, here. Budgets, levels, CSV columns, plots and ``results.json`` look it
up by that name. Latency percentiles are a family (``p50_latency_ms`` … ``p99_latency_ms``).
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from pytest_triton_perf.domain.levels import Estimate, Interval
from pytest_triton_perf.domain.names import nearest
from pytest_triton_perf.errors import UsageError

Source = Literal["client", "server", "gpu", "process"]
"""Who measures it: perf_analyzer, Triton's statistics, NVML, or the server's process tree."""


@dataclass(frozen=True, kw_only=True)
class Metric:
    """One figure of a level: its name, unit and direction.

    ``label`` stands in sentences and on axes, ``short`` heads a narrow text column, and
    ``column`` heads a CSV column (Model Analyzer's words, where it has the metric).
    """

    name: str
    label: str
    short: str
    unit: str
    better: Literal["lower", "higher"]
    source: Source
    column: str
    digits: int = 1

    def format(self, value: float) -> str:
        """The value with its unit, as a person reads it: ``12.3 ms``, ``1,234.5 infer/s``."""
        return f"{self.number(value)} {self.unit}"

    def number(self, value: float) -> str:
        """The value alone, with more digits where it is small."""
        digits = self.digits if abs(value) >= 10 else max(self.digits, 2)
        return f"{value:,.{digits}f}"

    def violates(self, value: float, limit: float) -> bool:
        """Whether ``value`` breaks a budget of ``limit``; a value equal to the limit is within."""
        return value > limit if self.better == "lower" else value < limit


def _latency(name: str, label: str, short: str, column: str) -> Metric:
    return Metric(
        name=name,
        label=label,
        short=f"{short} ms",
        unit="ms",
        better="lower",
        source="client",
        column=column,
        digits=2,
    )


def _server_time(name: str, label: str, column: str) -> Metric:
    return Metric(
        name=name,
        label=label,
        short=f"{label} ms",
        unit="ms",
        better="lower",
        source="server",
        column=column,
        digits=3,
    )


_FIXED = (
    Metric(
        name="throughput",
        label="throughput",
        short="infer/s",
        unit="infer/s",
        better="higher",
        source="client",
        column="Throughput (infer/sec)",
    ),
    _latency("avg_latency_ms", "average latency", "avg", "Avg Latency (ms)"),
    _server_time("queue_ms", "queue", "Server Queue (ms)"),
    _server_time("compute_input_ms", "compute input", "Server Compute Input (ms)"),
    _server_time("compute_infer_ms", "compute infer", "Server Compute Infer (ms)"),
    _server_time("compute_output_ms", "compute output", "Server Compute Output (ms)"),
    Metric(
        name="gpu_memory_mb",
        label="GPU memory",
        short="GPU MB",
        unit="MB",
        better="lower",
        source="gpu",
        column="GPU Memory Usage (MB)",
    ),
    Metric(
        name="gpu_memory_delta_mb",
        label="GPU memory over idle server",
        short="GPU MB over idle",
        unit="MB",
        better="lower",
        source="gpu",
        column="GPU Memory Delta (MB)",
    ),
    Metric(
        name="gpu_utilization_pct",
        label="GPU utilization",
        short="GPU %",
        unit="%",
        better="lower",
        source="gpu",
        column="GPU Utilization (%)",
    ),
    Metric(
        name="power_w",
        label="GPU power",
        short="GPU W",
        unit="W",
        better="lower",
        source="gpu",
        column="GPU Power Usage (W)",
    ),
    Metric(
        name="energy_per_inference_j",
        label="GPU energy per inference",
        short="J/infer",
        unit="J",
        better="lower",
        source="gpu",
        column="GPU Energy per Inference (J)",
        digits=4,
    ),
    Metric(
        name="cpu_memory_mb",
        label="CPU memory",
        short="CPU MB",
        unit="MB",
        better="lower",
        source="process",
        column="CPU Memory Usage (MB)",
    ),
    Metric(
        name="cpu_utilization_pct",
        label="CPU utilization",
        short="CPU %",
        unit="%",
        better="lower",
        source="process",
        column="CPU Utilization (%)",
    ),
)

METRICS: dict[str, Metric] = {m.name: m for m in _FIXED}

SERVER_TIMES = ("queue_ms", "compute_input_ms", "compute_infer_ms", "compute_output_ms")
GPU_METRICS = tuple(m.name for m in _FIXED if m.source == "gpu")
PROCESS_METRICS = tuple(m.name for m in _FIXED if m.source == "process")

_PERCENTILE = re.compile(r"p([1-9][0-9]?)_latency_ms")


def percentile_name(percentile: int) -> str:
    """``99`` -> ``"p99_latency_ms"``."""
    return f"p{percentile}_latency_ms"


def percentile_of(name: str) -> int | None:
    """``"p99_latency_ms"`` -> ``99``; ``None`` for a metric that is no latency percentile."""
    match = _PERCENTILE.fullmatch(name)
    return int(match[1]) if match else None


def find_metric(name: str) -> Metric:
    """The metric of that name.

    Raises:
        UsageError: no such metric; the message names the nearest one.
    """
    if (found := METRICS.get(name)) is not None:
        return found
    if (percentile := percentile_of(name)) is not None:
        label = f"p{percentile}"
        return _latency(name, f"{label} latency", label, f"{label} Latency (ms)")
    known = [*METRICS, *(percentile_name(p) for p in (50, 90, 95, 99))]
    raise UsageError(f"unknown metric {name!r}{nearest(name, known)}")


def estimate_text(metric: Metric, estimate: Estimate) -> str:
    """A figure with its interval: ``23.1 ms [21.8, 25.9]``.

    An end that the data cannot bound is 0 or ∞, followed by about how many more requests it
    needs.
    """
    parts = [metric.format(estimate.value), interval_text(metric.number, estimate.ci)]
    if estimate.needs is not None:
        parts.append(needs_text(estimate.needs))
    return " ".join(filter(None, parts))


def interval_text(number: Callable[[float], str], ci: Interval | None) -> str:
    """An interval: ``[21.8, 25.9]``, ``[21.8, ∞)``; empty where there is none.

    ``number`` writes a figure, without its unit.
    """
    if ci is None:
        return ""
    low, high = ci
    end = "∞)" if high is None else f"{number(high)}]"
    return f"[{'0' if low is None else number(low)}, {end}"


def needs_text(requests: int) -> str:
    """``needs about 1,900 more requests``."""
    return f"needs about {float(f'{requests:.2g}'):,.0f} more request{'s' * (requests != 1)}"
