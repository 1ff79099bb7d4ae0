"""Load levels: how much traffic, and what was measured under it."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

GpuFigures: TypeAlias = Mapping[str, float | str | None]
"""What was read of one GPU or MIG instance, over an interval; ``None`` is "not measured".

* ``memory_mb`` (the device), ``process_memory_mb`` (the server's own processes),
  ``memory_delta_mb`` (over the idle server) and ``temperature_c``: the peak. MB are 10**6 bytes.
* ``memory_source``: which of the two memories counts, ``"process"`` where the driver can tell the
  server's processes apart, else ``"device"``. The delta is of the processes where it can tell
  them apart on the idle server too.
* ``utilization_pct``, ``power_w``, ``sm_clock_mhz``: the mean over time.
* ``energy_j``: joules of the interval (of one sample: the counter of the GPU).
* ``throttle_reasons``: why the clocks were held down, in words; empty where they were not.
* ``other_processes``: the peak number of processes on the GPU that are not the server's.
"""


@dataclass(frozen=True, kw_only=True)
class Load:
    """One load level: a closed loop of ``concurrency`` clients, or an open one at a fixed rate.

    ``request_rate`` is in requests per second; ``batch_size`` is the client's batch.
    """

    concurrency: int | None = None
    request_rate: float | None = None
    batch_size: int = 1

    def __post_init__(self) -> None:
        if (self.concurrency is None) == (self.request_rate is None):
            raise ValueError("a load is either a concurrency or a request rate")

    @property
    def kind(self) -> str:
        """``"concurrency"`` or ``"request_rate"``."""
        return "concurrency" if self.concurrency is not None else "request_rate"

    @property
    def value(self) -> float:
        """The concurrency or the request rate, whichever this load sets."""
        return self.concurrency if self.concurrency is not None else self.request_rate  # type: ignore[return-value]

    def __str__(self) -> str:
        text = f"{self.kind.replace('_', ' ')} {self.value:g}"
        return text if self.batch_size == 1 else f"{text}, batch size {self.batch_size}"

    @property
    def order(self) -> tuple[int, float]:
        """Sort key: by batch size, then by how much load."""
        return (self.batch_size, self.value)

    def matches(self, at: Mapping[str, float]) -> bool:
        """Whether this load is one of those that ``at`` names, e.g. ``{"concurrency": 8}``."""
        return all(getattr(self, key) == value for key, value in at.items())


Interval = tuple[float | None, float | None]
"""(low, high) of a confidence interval; an end that the data cannot bound is ``None``."""


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A measured value and, where one exists, its confidence interval.

    ``needs`` is about how many more requests would bound an open end, where that can be told.
    """

    value: float
    ci: Interval | None = None
    needs: int | None = None

    @property
    def margin(self) -> float | None:
        """The wider side of the interval as a share of the value; infinite where it is open.

        ``None`` where there is no interval, or the value is 0.
        """
        if self.ci is None or not self.value:
            return None
        low, high = self.ci
        if low is None or high is None:
            return math.inf
        return max(high - self.value, self.value - low) / abs(self.value)


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """What one load level of one sweep gave; plain data.

    ``values`` is keyed by metric name. A metric that was asked for and could not be measured
    is absent from ``values`` and has its reason, in words, in ``missing``. ``gpus`` holds the
    ``GpuFigures`` of each GPU UUID. ``notes`` are remarks that a reader of the figures must see
    (few samples, a drift). ``faults`` are what disturbed the measurement so much that a limit
    missed under it proves nothing. ``reused`` says that all of it was measured by the earlier
    session that this one resumes.
    """

    load: Load
    requests: int | None
    wall_s: float
    values: Mapping[str, Estimate]
    missing: Mapping[str, str] = field(default_factory=dict)
    gpus: Mapping[str, GpuFigures] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    faults: tuple[str, ...] = ()
    reused: bool = False

    def value(self, metric: str) -> float | None:
        """The value of a metric by name, or ``None`` where it was not measured."""
        estimate = self.values.get(metric)
        return None if estimate is None else estimate.value

    def why_missing(self, metric: str) -> str:
        """Why ``metric`` has no value here."""
        return self.missing.get(metric, "not among the metrics of this sweep")

    def as_row(self) -> dict[str, Any]:
        """The level as one flat row, keyed by metric name (for tables and data frames)."""
        return {
            "batch_size": self.load.batch_size,
            "concurrency": self.load.concurrency,
            "request_rate": self.load.request_rate,
            "requests": self.requests,
            **{name: estimate.value for name, estimate in self.values.items()},
            **dict.fromkeys(self.missing),
        }
