"""What the sampler needs of a probe, and what it hands back."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol

from pytest_triton_perf.domain.metrics import GPU_METRICS


class SourceLost(Exception):
    """A probe's source is gone for good; the message says which, why, and what to do."""


@dataclass(frozen=True, kw_only=True)
class Reading:
    """One look at the machine, or a summary of many.

    ``cpu_memory_mb`` is the memory of the server's process tree. ``gpus`` is keyed by GPU UUID
    and then by what was read there: ``memory_mb`` (the device), ``memory_delta_mb`` (over the
    idle server), ``process_memory_mb`` (the server's own processes), ``utilization_pct`` and
    ``power_w``. MB are 10**6 bytes. ``None`` is "not measured", with the reason in ``missing``
    (keyed as the metrics are: ``cpu_memory_mb``, ``gpu_memory_mb``, …).
    """

    cpu_memory_mb: float | None = None
    gpus: Mapping[str, Mapping[str, float | None]] = field(default_factory=dict)
    missing: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


class Probe(Protocol):
    """One source of readings; called from the sampler's thread.

    ``metrics`` names what is missing when the probe fails.
    """

    metrics: tuple[str, ...]

    def read(self) -> Reading:
        """A reading of now.

        Raises:
            SourceLost: the source is gone for good; the sampler does not ask again.
        """

    def close(self) -> None:
        """Give back what the probe holds."""


class Unseen:
    """Stands for all probes where the server's machine cannot be looked into."""

    metrics: tuple[str, ...] = (*GPU_METRICS, "cpu_memory_mb")

    def __init__(self, why: str) -> None:
        self._why = why

    def read(self) -> Reading:
        """Never a reading.

        Raises:
            SourceLost: with the reason.
        """
        raise SourceLost(self._why)

    def close(self) -> None:
        """Nothing to give back."""


def totals(reading: Reading) -> dict[str, float]:
    """The session-level metrics of a reading, by metric name; what was not measured is absent.

    Over GPUs, memory and power are sums (what the server takes in all, so that a limit on them
    means the same on one GPU as on two) and utilisation is a mean. ``gpu_memory_mb`` is that
    of the server's own processes on each GPU where they can be told apart, else of the device.
    A figure that one GPU lacks has no total.
    """
    gpus = list(reading.gpus.values())
    candidates = {
        "cpu_memory_mb": reading.cpu_memory_mb,
        "gpu_memory_mb": _sum(_own_memory(gpu) for gpu in gpus),
        "gpu_memory_delta_mb": _sum(gpu.get("memory_delta_mb") for gpu in gpus),
        "gpu_utilization_pct": _mean(gpu.get("utilization_pct") for gpu in gpus),
        "power_w": _sum(gpu.get("power_w") for gpu in gpus),
    }
    return {name: value for name, value in candidates.items() if value is not None}


def over_idle(reading: Reading, idle: Reading) -> Reading:
    """``reading`` with each GPU's ``memory_delta_mb``: its memory less the idle server's.

    Both sides are the server's own processes where both readings have them, else the device.
    """
    gpus = {
        uuid: {**gpu, "memory_delta_mb": _delta(gpu, idle.gpus.get(uuid, {}))}
        for uuid, gpu in reading.gpus.items()
    }
    missing = dict(reading.missing)
    if any(gpu["memory_delta_mb"] is None for gpu in gpus.values()):
        why = idle.missing.get("gpu_memory_mb", "the idle server has no GPU memory figure")
        missing.setdefault("gpu_memory_delta_mb", missing.get("gpu_memory_mb", why))
    return replace(reading, gpus=gpus, missing=missing)


def _own_memory(gpu: Mapping[str, float | None]) -> float | None:
    own = gpu.get("process_memory_mb")
    return gpu.get("memory_mb") if own is None else own


def _delta(now: Mapping[str, float | None], idle: Mapping[str, float | None]) -> float | None:
    for key in ("process_memory_mb", "memory_mb"):
        after, before = now.get(key), idle.get(key)
        if after is not None and before is not None:
            return after - before
    return None


def _sum(values: Iterable[float | None]) -> float | None:
    known = list(values)
    if not known or None in known:
        return None
    return sum(value for value in known if value is not None)


def _mean(values: Iterable[float | None]) -> float | None:
    known = list(values)
    total = _sum(known)
    return None if total is None else total / len(known)
