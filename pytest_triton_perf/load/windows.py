"""How long perf_analyzer measures a level. Pure: numbers in, numbers out.

A run is three windows, each 1.2 times the interval that perf_analyzer is given; here a window
is that interval, in milliseconds.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from pytest_triton_perf.domain.levels import Load

BASE_MS = 250.0
WARM_UP_MS = 100.0
SHORTEST_MS = 20.0
"""Below this, perf_analyzer often ends without a report."""

ENOUGH_REQUESTS = 100
"""With fewer requests, p99 is the slowest one and nothing else."""

_SECONDS_PER_WINDOW_MS = 3 * 1.2 / 1000
_STARTUP_S = 0.5
"""Start of the process, reading input data and a late scheduler; generous on purpose."""


@dataclass(frozen=True, kw_only=True)
class Lesson:
    """What a measured level taught: requests per second, and seconds per request."""

    load: Load
    rate: float
    latency_s: float


def first_window(load: Load, lessons: Sequence[Lesson], *, at_least_ms: float = BASE_MS) -> float:
    """The window to start with: long enough for enough requests, if the past can tell.

    Other loads of the same kind and batch size tell: with more load the rate of requests does
    not fall, with less it falls at most in proportion. Never less than ``at_least_ms``.
    """
    of_this_kind = [
        lesson
        for lesson in lessons
        if (lesson.load.kind, lesson.load.batch_size) == (load.kind, load.batch_size)
    ]
    rates = [lesson.rate * min(1.0, load.value / lesson.load.value) for lesson in of_this_kind]
    if not rates:
        if load.request_rate is None:
            return max(BASE_MS, at_least_ms)
        return max(at_least_ms, enough_window(load.request_rate, 0.0))
    rate = max(rates)
    latency_s = max(lesson.latency_s for lesson in of_this_kind)
    if load.concurrency is not None:
        latency_s = load.concurrency / rate  # Little's law
    return max(at_least_ms, enough_window(rate, latency_s))


def enough_window(rate: float, latency_s: float) -> float:
    """The window for enough requests at ``rate`` per second, with a fifth to spare.

    It also outlasts ``latency_s`` well: requests of a saturated model come back in bunches,
    and perf_analyzer gives up on a window without any.
    """
    seconds = 1.2 * ENOUGH_REQUESTS / rate
    return max(BASE_MS, seconds / _SECONDS_PER_WINDOW_MS, 2000 * latency_s)


def longer_window(window_ms: float, elapsed_s: float) -> float:
    """The next window to try after one in which no request was answered.

    ``elapsed_s`` is how long that run took. It ended when its requests did, so it hints at
    their latency; it is bounded because the first requests of a model may be its slowest.
    """
    return min(16 * window_ms, max(4 * window_ms, 1250 * elapsed_s))


def longest_window(seconds: float, latency_s: float = 0.0) -> float:
    """The longest window whose run ends within ``seconds``, the last requests included."""
    return max(0.0, (seconds - _STARTUP_S - latency_s) / _SECONDS_PER_WINDOW_MS)


def run_seconds(window_ms: float) -> float:
    """How long the three windows of a run take."""
    return window_ms * _SECONDS_PER_WINDOW_MS
