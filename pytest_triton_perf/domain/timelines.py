"""Memory over time: what a variant took while it was loaded, warmed up and measured."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

MOST_POINTS = 200
"""Of one curve: more than a picture can show, and little in ``results.json``."""


@dataclass(frozen=True, kw_only=True)
class Phase:
    """A part of a sweep, in seconds since it began: ``load``, ``warm-up`` or a load level."""

    name: str
    start_s: float
    end_s: float


@dataclass(frozen=True, kw_only=True)
class Curve:
    """Memory in MB (10**6 bytes) at times, in seconds since the sweep began."""

    at_s: Sequence[float]
    mb: Sequence[float]

    @classmethod
    def through(cls, points: Sequence[tuple[float, float]]) -> "Curve":
        """The curve through points (seconds, MB) in order of time; of many, some.

        Each stretch of a long curve keeps its lowest and its highest point.
        """
        kept = points if len(points) <= MOST_POINTS else _extremes(points, MOST_POINTS // 2)
        return cls(at_s=[round(at, 3) for at, _ in kept], mb=[round(mb, 3) for _, mb in kept])


@dataclass(frozen=True, kw_only=True)
class MemoryTimeline:
    """The memory of the server through the phases of one sweep.

    ``curves`` has ``cpu_memory_mb`` and ``gpu_memory_mb``, with the meaning that these metrics
    have, where they were read; ``gpus`` has the part of each GPU, by UUID.
    """

    phases: Sequence[Phase]
    curves: Mapping[str, Curve] = field(default_factory=dict)
    gpus: Mapping[str, Curve] = field(default_factory=dict)

    def then(self, later: "MemoryTimeline") -> "MemoryTimeline":
        """The timeline and a later one of the same sweep, as if that began where this ends."""
        if not self.phases:
            return later
        end_s = self.phases[-1].end_s
        return MemoryTimeline(
            phases=(
                *self.phases,
                *(
                    Phase(name=p.name, start_s=p.start_s + end_s, end_s=p.end_s + end_s)
                    for p in later.phases
                ),
            ),
            curves=_joined(self.curves, later.curves, end_s),
            gpus=_joined(self.gpus, later.gpus, end_s),
        )


NOTHING_YET = MemoryTimeline(phases=())
"""Of a sweep that has not begun."""


def _joined(
    first: Mapping[str, Curve], second: Mapping[str, Curve], second_from_s: float
) -> dict[str, Curve]:
    joined = {}
    for name in dict.fromkeys([*first, *second]):
        points: list[tuple[float, float]] = []
        for curves, from_s in ((first, 0.0), (second, second_from_s)):
            if curve := curves.get(name):
                moved = [at + from_s for at in curve.at_s]
                points += zip(moved, curve.mb, strict=True)
        joined[name] = Curve.through(points)
    return joined


def _extremes(points: Sequence[tuple[float, float]], stretches: int) -> list[tuple[float, float]]:
    bounds = [len(points) * i // stretches for i in range(stretches + 1)]
    kept: dict[tuple[float, float], None] = {}
    for start, end in pairwise(bounds):
        stretch = points[start:end]
        low = min(stretch, key=lambda point: point[1])
        high = max(stretch, key=lambda point: point[1])
        kept |= dict.fromkeys(sorted((low, high)))
    return list(kept)
