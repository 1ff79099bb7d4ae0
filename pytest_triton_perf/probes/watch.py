"""What watches one running server, from its start to its end."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

from pytest_triton_perf.domain.timelines import NOTHING_YET, MemoryTimeline
from pytest_triton_perf.probes.base import Reading, over_idle
from pytest_triton_perf.probes.recorder import MemoryRecorder
from pytest_triton_perf.probes.sampler import Sampler


class Reviewer(Protocol):
    """Knows how good the figures of a level are."""

    def remarks(self, sampler: Sampler, start: float, end: float) -> Sequence[str]:
        """What a reader of the figures from ``start`` to ``end`` (now) must know of them."""


class Watch:
    """The sampler of a server, the reading of the idle server, and who reviews the figures.

    ``idle`` is what the server took when the watch began, before any model was loaded; of a server
    that was running before (``ours`` is false) that is not known, and ``idle`` is empty.
    """

    def __init__(
        self, sampler: Sampler, *, reviewer: Reviewer | None = None, ours: bool = True
    ) -> None:
        self._sampler = sampler
        self._reviewer = reviewer
        self._ours = ours
        self.idle = Reading()

    def start(self) -> None:
        """Begin to watch; waits for the reading of the idle server."""
        self._sampler.__enter__()
        if self._ours:
            self.idle = self._sampler.read_now()

    def level(self, start: float, end: float) -> Reading:
        """What was read from ``start`` to ``end`` (``time.monotonic()``), and remarks on it."""
        seen = over_idle(self._sampler.summary(start, end), self.idle)
        if self._reviewer is None:
            return seen
        return replace(
            seen, notes=(*seen.notes, *self._reviewer.remarks(self._sampler, start, end))
        )

    def look_again(self) -> None:
        """Read everything now: from here on the processes of a new variant are known."""
        self._sampler.read_now()

    def recorder(self, before: MemoryTimeline = NOTHING_YET) -> MemoryRecorder:
        """A recorder of the memory from now on, which goes on where ``before`` ends."""
        return MemoryRecorder(self._sampler, before)

    def stop(self) -> None:
        """Stop watching; safe to call twice."""
        self._sampler.stop()
