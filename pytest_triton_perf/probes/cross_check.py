"""A second opinion on NVML's figures: Triton's own metrics."""

import time
from collections.abc import Sequence

from pytest_triton_perf.probes.base import Reading, number
from pytest_triton_perf.probes.sampler import Sampler
from pytest_triton_perf.probes.triton_metrics import EndpointError, MetricsEndpoint

_ASK_S = 1.0
_RECENT_S = 4.0
"""Triton's figures are at most so old: DCGM refreshes each 2 s, and Triton asks it each second."""
_DISAGREEMENT = 0.10


class CrossCheck:
    """Compares NVML with Triton's own metrics, once per level; silent where they do not exist."""

    def __init__(self, endpoint: MetricsEndpoint) -> None:
        self._endpoint = endpoint
        self._given_up = False

    def remarks(self, sampler: Sampler, start: float, end: float) -> list[str]:
        """Where Triton's metrics are now more than 10 % off all that NVML said lately.

        Asked at the end of a level. Triton's figures are up to some seconds old, and power
        changes faster than that: hence a range, and not the level alone.
        """
        now = time.monotonic()
        samples = sampler.series(now - _RECENT_S, now)
        readings = [reading for source in samples for _, reading in source if reading.gpus]
        if self._given_up or not readings:
            return []
        try:
            theirs = self._endpoint.ask(_ASK_S).gpus
        except EndpointError:
            theirs = {}
        self._given_up = not theirs
        return [
            f"GPU {uuid}: Triton's metrics say {figure:,.0f} {unit}, NVML {_span(ours)} {unit} of "
            f"{what}: the figures here are NVML's"
            for uuid, gpu in theirs.items()
            for key, what, unit in (("memory_mb", "device memory", "MB"), ("power_w", "power", "W"))
            if (figure := gpu[key]) is not None
            and (ours := _values(readings, uuid, key))
            and _apart(figure, ours) > _DISAGREEMENT
        ]


def _values(readings: Sequence[Reading], uuid: str, key: str) -> list[float]:
    values = (number(reading.gpus.get(uuid, {}), key) for reading in readings)
    return [value for value in values if value is not None]


def _apart(figure: float, values: Sequence[float]) -> float:
    """How far ``figure`` is outside the range of ``values``, as a share of its nearer end."""
    low, high = min(values), max(values)
    gap = max(low - figure, figure - high, 0.0)
    nearer = low if figure < low else high
    return gap / nearer if nearer else float(gap > 0)


def _span(values: Sequence[float]) -> str:
    low, high = f"{min(values):,.0f}", f"{max(values):,.0f}"
    return low if low == high else f"{low} to {high}"
