"""Budgets: limits that a model must keep."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from pytest_triton_perf.domain.levels import Interval, Measurement
from pytest_triton_perf.domain.metrics import (
    Metric,
    find_metric,
    percentile_name,
    percentile_of,
)
from pytest_triton_perf.domain.names import nearest
from pytest_triton_perf.errors import UsageError

_BUDGETS = {
    "avg_latency_ms": "avg_latency_ms",
    "min_throughput": "throughput",
    "max_gpu_memory_mb": "gpu_memory_mb",
    "max_gpu_memory_delta_mb": "gpu_memory_delta_mb",
    "max_cpu_memory_mb": "cpu_memory_mb",
    "max_gpu_utilization_pct": "gpu_utilization_pct",
    "max_cpu_utilization_pct": "cpu_utilization_pct",
    "max_power_w": "power_w",
    "max_energy_per_inference_j": "energy_per_inference_j",
}
"""Budget keyword -> metric; latency percentiles go by the metric's own name."""


@dataclass(frozen=True, kw_only=True)
class Budget:
    """A limit on one metric, at the loads that ``at`` names (all measured loads where empty).

    ``name`` is what the user typed; it differs from the metric's name in ``min_throughput``
    and the like.
    """

    name: str
    metric: Metric
    limit: float
    at: Mapping[str, float] = field(default_factory=dict, hash=False)

    @classmethod
    def from_keyword(cls, name: str, limit: Any, at: Mapping[str, float] | None = None) -> "Budget":
        """A budget from what a user typed: ``p99_latency_ms=25``.

        Raises:
            UsageError: the name is no budget (the nearest one is named) or the limit is no
                positive number.
        """
        if name not in _BUDGETS and percentile_of(name) is None:
            known = [*_BUDGETS, *map(percentile_name, (50, 90, 95, 99))]
            raise UsageError(f"unknown budget {name!r}{nearest(name, known)}")
        if isinstance(limit, bool) or not isinstance(limit, int | float):
            raise UsageError(f"{name}: the limit is a number, not {limit!r}")
        if not math.isfinite(limit) or limit <= 0:
            raise UsageError(f"{name}: the limit must be a positive number, not {limit:g}")
        metric = find_metric(_BUDGETS.get(name, name))
        return cls(name=name, metric=metric, limit=float(limit), at=dict(at or {}))

    def __str__(self) -> str:
        sign = "<=" if self.metric.better == "lower" else ">="
        return f"{self.metric.name} {sign} {self.limit:g} {self.metric.unit}"

    @property
    def where(self) -> str:
        """``"at concurrency 8"``, or ``"at every load"``."""
        if not self.at:
            return "at every load"
        return "at " + ", ".join(f"{k.replace('_', ' ')} {v:g}" for k, v in self.at.items())

    def holds_on(self, measurement: Measurement) -> bool:
        """Whether the level keeps the budget; a metric that was not measured keeps nothing."""
        value = measurement.value(self.metric.name)
        return value is not None and not self.metric.violates(value, self.limit)


Outcome = Literal["passed", "failed", "undecided"]


@dataclass(frozen=True, kw_only=True)
class Decision:
    """What one look at a level says about a budget.

    ``ci`` is the interval that this look decides with: it is wider than the one printed.
    ``needs`` is about how many more requests would decide, ``None`` where no number would or
    where it is not requests that are missing. ``leaning`` is what the figures of these
    ``requests`` alone say, before the floors and before a second look had to agree.
    """

    status: Outcome
    observed: float | None = None
    ci: Interval | None = None
    needs: int | None = None
    leaning: Outcome = "undecided"
    requests: int = 0
    reason: str = ""
