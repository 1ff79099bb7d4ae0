"""Automatic concurrency: double until throughput has plateaued."""

import math
from collections.abc import Mapping

from pytest_triton_perf.domain.levels import Estimate

TOP = 1024
"""Where the doubling ends at the latest."""

_GAIN = math.log(1.05)
"""Throughput that grows by less from one doubling to the next does not grow: the step at which
Model Analyzer stops too."""

_FLAT_LEVELS = 2
_Z95 = 1.96


def next_concurrency(throughput: Mapping[int, Estimate]) -> int | None:
    """The next concurrency to measure, ``None`` where throughput has plateaued.

    ``throughput`` is that of the doublings measured so far, by concurrency; others are ignored.
    It has plateaued when the last two doublings are flat. A doubling is flat against the best
    before it if it gains less than 5 %, and either certainly so or by so little that the two
    intervals do not show any gain.
    """
    chain = []
    concurrency = 1
    while concurrency in throughput:
        chain.append(throughput[concurrency])
        concurrency *= 2
    if concurrency > TOP:
        return None
    flat = [_is_flat(chain[:i], chain[i]) for i in range(1, len(chain))]
    plateaued = len(flat) >= _FLAT_LEVELS and all(flat[-_FLAT_LEVELS:])
    return None if plateaued else concurrency


def _is_flat(before: list[Estimate], level: Estimate) -> bool:
    best = max(before, key=lambda estimate: estimate.value)
    if level.value <= 0 or best.value <= 0:
        return level.value <= best.value
    gain = math.log(level.value / best.value)
    margin = _Z95 * math.hypot(_log_error(level), _log_error(best))
    return gain + margin < _GAIN or (gain < _GAIN and gain - margin <= 0)


def _log_error(estimate: Estimate) -> float:
    """The standard error of the logarithm, from a 95 % interval; infinite where it is open."""
    low, high = estimate.ci or (None, None)
    if low is None or high is None or low <= 0:
        return math.inf
    return (math.log(high) - math.log(low)) / (2 * _Z95)
