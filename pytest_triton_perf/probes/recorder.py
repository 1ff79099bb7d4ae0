"""The memory of one sweep's server through its phases."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from pytest_triton_perf.domain.timelines import NOTHING_YET, Curve, MemoryTimeline, Phase
from pytest_triton_perf.probes.base import Reading, totals
from pytest_triton_perf.probes.sampler import Sampler

_MEMORY = ("cpu_memory_mb", "gpu_memory_mb")


class MemoryRecorder:
    """Keeps the sampler's memory readings from now on, phase by phase.

    ``before`` is what an earlier session recorded of the sweep. The sampler forgets its samples
    after some minutes; what a phase took is fetched at its end.
    """

    def __init__(self, sampler: Sampler, before: MemoryTimeline = NOTHING_YET) -> None:
        self._sampler = sampler
        self._before = before
        self._began = self._fetched = time.monotonic()
        self._phases: list[Phase] = []
        self._gpus: dict[str, dict[str, float | str | None]] = {}
        """What was last read of each GPU: probes may share in it."""
        self._totals: dict[str, list[tuple[float, float]]] = {}
        self._parts: dict[str, list[tuple[float, float]]] = {}

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """A phase for as long as the block lasts, however it ends."""
        start = time.monotonic()
        try:
            yield
        finally:
            end = time.monotonic()
            self._phases.append(
                Phase(name=name, start_s=start - self._began, end_s=end - self._began)
            )
            self._fetch(end)

    def timeline(self) -> MemoryTimeline:
        """All phases so far."""
        return self._before.then(
            MemoryTimeline(
                phases=tuple(self._phases),
                curves={name: Curve.through(points) for name, points in self._totals.items()},
                gpus={uuid: Curve.through(points) for uuid, points in self._parts.items()},
            )
        )

    def _fetch(self, until: float) -> None:
        sources = self._sampler.series(self._fetched, until)
        samples = [sample for source in sources for sample in source if sample[0] > self._fetched]
        self._fetched = until
        for at, reading in sorted(samples, key=lambda sample: sample[0]):
            self._add(at - self._began, reading)

    def _add(self, at: float, reading: Reading) -> None:
        for uuid, gpu in reading.gpus.items():
            self._gpus.setdefault(uuid, {}).update(gpu)
        known = Reading(
            cpu_memory_mb=reading.cpu_memory_mb, gpus=self._gpus if reading.gpus else {}
        )
        found = totals(known)
        for name in _MEMORY:
            if name in found:
                self._totals.setdefault(name, []).append((at, found[name]))
        for uuid in reading.gpus:
            own = totals(Reading(gpus={uuid: self._gpus[uuid]}))
            if "gpu_memory_mb" in own:
                self._parts.setdefault(uuid, []).append((at, own["gpu_memory_mb"]))
