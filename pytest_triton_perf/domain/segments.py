"""What one uninterrupted stretch of load gave: requests one by one, or windows of them."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Times = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Window:
    """One measuring window of the load generator, where single requests were too dear.

    ``percentiles_ms`` is keyed by percentile (``99``), ``None`` where the generator gives them
    for the whole run only.
    """

    requests: int
    seconds: float
    avg_latency_ms: float
    percentiles_ms: Mapping[int, float] | None = None


def _no_times() -> Times:
    return np.empty(0, dtype=np.float64)


@dataclass(frozen=True, kw_only=True, eq=False)
class Segment:
    """One uninterrupted stretch of load at one level.

    ``started`` and ``ended`` are ``time.monotonic()`` of its load, for cutting the probes'
    samples. ``in_flight`` is the concurrency of a closed loop, ``None`` for a request rate;
    ``batch_size`` is inferences per request.

    ``sent_s`` and ``answered_s`` are float64 arrays of one length, in seconds on one clock of
    any origin, in order of completion; ``answered_s`` is ``inf`` for a request that failed or
    timed out. Where requests were too dear to record, both are empty and ``windows`` are there
    instead.
    """

    started: float
    ended: float
    batch_size: int = 1
    in_flight: int | None = None
    sent_s: Times = field(default_factory=_no_times)
    answered_s: Times = field(default_factory=_no_times)
    windows: tuple[Window, ...] = ()

    def __post_init__(self) -> None:
        if self.sent_s.shape != self.answered_s.shape or self.sent_s.ndim != 1:
            raise ValueError("a segment has one answer per request")
        if self.windows and self.sent_s.size:
            raise ValueError("a segment is either requests or windows")
