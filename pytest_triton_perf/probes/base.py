"""What the sampler needs of a probe, and what it hands back."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol

from pytest_triton_perf.domain.levels import GpuFigures
from pytest_triton_perf.domain.metrics import GPU_METRICS, PROCESS_METRICS

_UNEXPLAINED_MB = 64.0
"""Growth of a device that the server's processes do not explain and the driver's own may."""


class SourceLost(Exception):
    """A probe's source is gone for good; the message says which, why, and what to do."""


@dataclass(frozen=True, kw_only=True)
class Reading:
    """One look at the machine, or a summary of many.

    ``cpu_memory_mb`` is the memory of the server's process tree, and ``cpu_utilization_pct`` the
    CPU time that it used since the reading before, of one core. ``gpus`` is keyed by the UUID of
    a GPU or MIG instance and then by what was read there, see ``GpuFigures``. MB are 10**6
    bytes. ``None`` is "not measured", with the reason in ``missing`` (keyed as the metrics are:
    ``cpu_memory_mb``, ``gpu_memory_mb``, …).
    """

    cpu_memory_mb: float | None = None
    cpu_utilization_pct: float | None = None
    gpus: Mapping[str, GpuFigures] = field(default_factory=dict)
    missing: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


class Probe(Protocol):
    """One source of readings; called from the sampler's thread.

    ``name`` is what a note calls it, ``metrics`` names what is missing when it fails, and it is
    read every ``period_s`` seconds, or as often as ``share`` allows: the part of one CPU core that
    it may take in the long run, with all that the sampler does for it. It may take what others
    leave of 1 %.
    """

    name: str
    period_s: float
    share: float
    metrics: tuple[str, ...]

    def read(self, *, fresh: bool = False) -> Reading:
        """A reading of now; ``fresh``: nothing in it is remembered from an earlier one.

        Raises:
            SourceLost: the source is gone for good; the sampler does not ask again.
        """

    def close(self) -> None:
        """Give back what the probe holds."""


class Unseen:
    """Stands for the probes of ``metrics`` where these cannot be looked at."""

    name = "nothing"
    period_s = 1.0
    share = 0.001

    def __init__(
        self, why: str, metrics: tuple[str, ...] = (*GPU_METRICS, *PROCESS_METRICS)
    ) -> None:
        self.metrics = metrics
        self._why = why

    def read(self, *, fresh: bool = False) -> Reading:
        """Never a reading.

        Raises:
            SourceLost: with the reason.
        """
        raise SourceLost(self._why)

    def close(self) -> None:
        """Nothing to give back."""


def totals(reading: Reading, *, inferences: float | None = None) -> dict[str, float]:
    """The session-level metrics of a reading, by metric name; what was not measured is absent.

    Over GPUs, memory, power and energy are sums (what the server takes in all, so that a limit
    on them means the same on one GPU as on two) and utilisation is a mean. ``gpu_memory_mb`` is
    that of the server's own processes on each GPU where they can be told apart, else of the
    device. Energy is per inference, of the number that was made in the interval of the reading.
    A figure that one GPU lacks has no total.
    """
    gpus = list(reading.gpus.values())
    energy_j = _sum(number(gpu, "energy_j") for gpu in gpus)
    candidates = {
        "cpu_memory_mb": reading.cpu_memory_mb,
        "cpu_utilization_pct": reading.cpu_utilization_pct,
        "gpu_memory_mb": _sum(_own_memory(gpu) for gpu in gpus),
        "gpu_memory_delta_mb": _sum(number(gpu, "memory_delta_mb") for gpu in gpus),
        "gpu_utilization_pct": _mean(number(gpu, "utilization_pct") for gpu in gpus),
        "power_w": _sum(number(gpu, "power_w") for gpu in gpus),
        "energy_per_inference_j": _per(energy_j, inferences),
    }
    return {name: value for name, value in candidates.items() if value is not None}


def over_idle(reading: Reading, idle: Reading) -> Reading:
    """``reading`` with each GPU's ``memory_delta_mb``: its memory less the idle server's.

    Both sides are the server's own processes where both readings have them, else the device. A
    device that grew by more than the server's processes did has another user, and a note says so.
    """
    gpus = {
        uuid: {**gpu, "memory_delta_mb": _delta(gpu, idle.gpus.get(uuid, {}))}
        for uuid, gpu in reading.gpus.items()
    }
    missing = dict(reading.missing)
    if any(gpu["memory_delta_mb"] is None for gpu in gpus.values()):
        why = idle.missing.get("gpu_memory_mb", "the idle server has no GPU memory figure")
        missing.setdefault("gpu_memory_delta_mb", missing.get("gpu_memory_mb", why))
    notes = [
        f"GPU {uuid} has another user: since the server was idle its memory grew by {grown:.0f} MB "
        "that are not the server's; its memory_mb has them, the server's own figures do not"
        for uuid, gpu in gpus.items()
        if (grown := _others_growth(gpu, idle.gpus.get(uuid, {}))) > _UNEXPLAINED_MB
    ]
    return replace(reading, gpus=gpus, missing=missing, notes=(*reading.notes, *notes))


def with_memory_source(gpu: GpuFigures) -> GpuFigures:
    """``gpu`` with which of its memories counts, where it has one."""
    own, device = number(gpu, "process_memory_mb"), number(gpu, "memory_mb")
    if own is None and device is None:
        return gpu
    return {**gpu, "memory_source": "device" if own is None else "process"}


def number(gpu: GpuFigures, key: str) -> float | None:
    """A figure of a GPU that is no text; ``None`` where it was not read."""
    value = gpu.get(key)
    return None if isinstance(value, str) else value


def _per(amount: float | None, count: float | None) -> float | None:
    return None if amount is None or not count else amount / count


def _own_memory(gpu: GpuFigures) -> float | None:
    own = number(gpu, "process_memory_mb")
    return number(gpu, "memory_mb") if own is None else own


def _growth(key: str, now: GpuFigures, idle: GpuFigures) -> float | None:
    after, before = number(now, key), number(idle, key)
    return None if after is None or before is None else after - before


def _delta(now: GpuFigures, idle: GpuFigures) -> float | None:
    own = _growth("process_memory_mb", now, idle)
    return _growth("memory_mb", now, idle) if own is None else own


def _others_growth(now: GpuFigures, idle: GpuFigures) -> float:
    """MB that a device grew by more than the server's processes; 0 where these are not known."""
    device, own = _growth("memory_mb", now, idle), _growth("process_memory_mb", now, idle)
    return 0.0 if device is None or own is None else device - own


def _sum(values: Iterable[float | None]) -> float | None:
    known = list(values)
    if not known or None in known:
        return None
    return sum(value for value in known if value is not None)


def _mean(values: Iterable[float | None]) -> float | None:
    known = list(values)
    total = _sum(known)
    return None if total is None else total / len(known)
