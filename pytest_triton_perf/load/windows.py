"""How long perf_analyzer makes load at a level. Pure: numbers in, numbers out.

A run is three windows, each 1.2 times the interval that perf_analyzer is given; here a window
is that interval, in milliseconds. With fewer than three, perf_analyzer calls the level unstable
and reports nothing. It may make more, and still ends after the first three in a row that all have
answers.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from pytest_triton_perf.domain.levels import Load

WARM_UPS_MS = (40.0, 60.0)
"""0.14 s of requests that nobody measures, and 0.22 s more of a model that is too slow for that, or
whose very first request is.

What a model still warms up after them is found in its first segment, and left out there; but that
takes more requests than a segment of a slow model has.
"""

SHORTEST_MS = 20.0
"""Below this, perf_analyzer now and then ends without a report."""

WINDOWS = 3
PATIENCE_S = 5.0
"""A server may be silent for so long in a run, beyond its three windows. A run that ended at a
silence would be made again, at a better time: what is measured would be the calm stretches."""

_REQUESTS_PER_WINDOW = 3
"""So many on average, and a window without any request is rare: it would end the run."""

_CAREFUL_MS = 100.0
"""A window that had no answer counts as this long at least, when the next one is chosen."""

_SECONDS_PER_WINDOW_MS = WINDOWS * 1.2 / 1000
_STARTUP_S = 0.5
"""Start of the process, reading input data and a late scheduler; generous on purpose."""

_WRITING = 1 / 3
"""At most this share of the load's time goes by while perf_analyzer writes the requests down."""


@dataclass(frozen=True, kw_only=True)
class Lesson:
    """What a measured level taught: requests per second, and seconds per request."""

    load: Load
    rate: float
    latency_s: float


def window_for(
    load: Load, seconds: float, lessons: Sequence[Lesson], *, at_least_ms: float = SHORTEST_MS
) -> float:
    """The window for ``seconds`` of load, longer where requests are rare or slow.

    It outlasts the latency well: requests of a saturated model come back in bunches, and
    perf_analyzer gives up on a window without any.
    """
    window_ms = max(at_least_ms, seconds / _SECONDS_PER_WINDOW_MS)
    if (rates := expected_rates(load, lessons)) is None:
        return window_ms
    rate, _ = rates
    latency_s = max((lesson.latency_s for lesson in _of_its_kind(load, lessons)), default=0.0)
    if load.concurrency is not None:
        latency_s = load.concurrency / rate  # Little's law
    return max(window_ms, 1000 * _REQUESTS_PER_WINDOW / rate, 2000 * latency_s)


def expected_rates(load: Load, lessons: Sequence[Lesson]) -> tuple[float, float] | None:
    """The lowest and the highest rate of requests to expect, if the past can tell.

    Other loads of the same kind and batch size tell: with more clients the rate of requests
    does not fall, with fewer it falls at most in proportion.
    """
    if load.request_rate is not None:
        return load.request_rate, load.request_rate
    seen = [(lesson.rate, load.value / lesson.load.value) for lesson in _of_its_kind(load, lessons)]
    if not seen:
        return None
    lowest = max(rate * min(1.0, ratio) for rate, ratio in seen)
    return lowest, max(lowest, min(rate * max(1.0, ratio) for rate, ratio in seen))


def _of_its_kind(load: Load, lessons: Sequence[Lesson]) -> list[Lesson]:
    kind = (load.kind, load.batch_size)
    return [lesson for lesson in lessons if (lesson.load.kind, lesson.load.batch_size) == kind]


def longer_window(window_ms: float, elapsed_s: float) -> float:
    """The next window to try after one in which no request was answered.

    ``elapsed_s`` is how long that run took. It ended when its requests did, so it hints at
    their latency; it is bounded because the first requests of a model may be its slowest.
    """
    return min(16 * max(_CAREFUL_MS, window_ms), max(4 * window_ms, 1250 * elapsed_s))


def longest_window(seconds: float, latency_s: float = 0.0) -> float:
    """The longest window whose run ends within ``seconds``, the last requests included."""
    load_s = (seconds - _STARTUP_S - latency_s) / (1 + _WRITING)
    return max(0.0, load_s / _SECONDS_PER_WINDOW_MS)


def most_windows(window_ms: float, seconds: float) -> int:
    """How many windows perf_analyzer may make at a server that stalls, within ``seconds``."""
    each_s = window_ms * _SECONDS_PER_WINDOW_MS / WINDOWS
    fitting = math.floor(longest_window(seconds) / window_ms * WINDOWS)
    return max(WINDOWS, min(fitting, WINDOWS + math.ceil(PATIENCE_S / each_s)))


def run_seconds(window_ms: float) -> float:
    """How long the three windows of a run take, where none has to be made in addition."""
    return window_ms * _SECONDS_PER_WINDOW_MS
