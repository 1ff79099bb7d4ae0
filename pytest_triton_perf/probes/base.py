"""What the sampler needs of a probe, and what it hands back."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol


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
    """One source of readings; called from the sampler's thread."""

    def read(self) -> Reading:
        """A reading of now. Raises only where the source is lost for good."""

    def close(self) -> None:
        """Give back what the probe holds."""
