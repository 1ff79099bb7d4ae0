"""The figures of a level with their intervals, from its segments.

The intervals are about this machine in this session, and about regimes that the segments
visited; docs/measurement.md has the method, its assumptions and how well it covers.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy.special import bdtr, betaincinv, ndtri, stdtrit

from pytest_triton_perf.domain.levels import Estimate, Interval
from pytest_triton_perf.domain.metrics import percentile_name
from pytest_triton_perf.domain.pooling import (
    BLOCKS,
    FEW_PER_BLOCK,
    Pool,
    Spread,
    pool,
    spreads,
)
from pytest_triton_perf.domain.segments import Segment

TAIL_EVENTS = 10
"""Requests beyond a limit or a percentile that it takes to see how they come in bunches."""

_FURTHEST_LOG = 30.0
"""An interval that is wider than this factor of e says nothing."""

WINDOW_SIDE = 2 / 3
"""At most this chance has a window's percentile to lie on one given side of the true one.

It is 0.58 for ten independent requests beyond the percentile; those of a window come in
bunches, which makes it more.
"""


@dataclass(frozen=True, kw_only=True)
class Estimates:
    """The client's figures of one level, as ``Measurement`` takes them.

    ``requests`` is how many they rest on, ``warm_up`` how many were left out as warm-up.
    """

    values: Mapping[str, Estimate] = field(default_factory=dict)
    missing: Mapping[str, str] = field(default_factory=dict)
    requests: int = 0
    warm_up: int = 0
    notes: tuple[str, ...] = ()


def estimate(
    segments: Sequence[Segment], percentiles: Sequence[int], confidence: float = 0.95
) -> Estimates:
    """Throughput (infer/s), average and percentile latencies (ms) of a level.

    Each interval is right with probability ``confidence`` on its own, not all at once.

    Raises:
        ValueError: segments of requests are mixed with segments of windows.
    """
    tail = (1 - confidence) / 2
    sample = pool(segments)
    if not sample.requests.size:
        why = why_unusable(segments)
        names = ["throughput", "avg_latency_ms", *map(percentile_name, percentiles)]
        return Estimates(missing=dict.fromkeys(names, why))
    found: dict[str, Estimate | str] = {
        "throughput": throughput(sample, tail),
        "avg_latency_ms": average_ms(sample, tail),
    }
    for percentile in percentiles:
        found[percentile_name(percentile)] = percentile_ms(segments, sample, percentile, tail)
    return Estimates(
        values={name: got for name, got in found.items() if isinstance(got, Estimate)},
        missing={name: got for name, got in found.items() if isinstance(got, str)},
        requests=round(sample.requests.sum()),
        warm_up=sum(segment.steady.warm_up for segment in segments),
        notes=_notes(segments, sample),
    )


def why_unusable(segments: Sequence[Segment]) -> str:
    """Why no figure can be had of these segments."""
    reasons = [segment.steady.reason for segment in segments if segment.steady.reason]
    return "; ".join(dict.fromkeys(reasons)) or "no load was made"


def _notes(segments: Sequence[Segment], sample: Pool) -> tuple[str, ...]:
    counted = Counter(note for segment in segments for note in segment.steady.notes)
    counted.update(f"not used: {s.steady.reason}" for s in segments if s.steady.reason)
    notes = [f"{note} ({count} of {len(segments)} segments)" for note, count in counted.items()]
    if sample.failed:
        notes.append(failures(sample))
    return tuple(notes)


def throughput(sample: Pool, tail: float) -> Estimate | str:
    """Inferences answered per second, or why it is not known."""
    seconds = float(sample.seconds.sum())
    if not seconds > 0:
        return "one request at a given rate has no throughput"
    value = float(sample.inferences.sum()) / seconds
    return _with_batch_means(
        value, spreads(sample.inferences, sample.seconds, sample.segment), sample, tail
    )


def average_ms(sample: Pool, tail: float) -> Estimate | str:
    """The mean latency, or why it is not known."""
    if sample.failed:
        return failures(sample) + "; a mean of the others would hide them"
    count = float(sample.requests.sum())
    if not count > 0:
        return "no request was answered"
    latency_ms = 1000 * sample.latency_sum_s
    value = float(latency_ms.sum()) / count
    return _with_batch_means(
        value, spreads(latency_ms, sample.requests, sample.segment), sample, tail
    )


def failures(sample: Pool) -> str:
    """``12 of 5,000 requests failed``."""
    return f"{sample.failed:,} of {sample.latency_s.size:,} requests failed"


def _with_batch_means(value: float, found: Sequence[Spread], sample: Pool, tail: float) -> Estimate:
    if not found:
        needs = max(1, BLOCKS * FEW_PER_BLOCK - int(sample.requests.sum()))
        return Estimate(value=value, ci=(None, None), needs=needs)
    half = max(spread.half_width(tail) for spread in found)
    if not value > 0:
        return Estimate(value=value, ci=(0.0, value + half))
    # On the scale of the logarithm: neither can be below 0, and what is far away stays far away
    # where few segments make the interval wide.
    ratio = math.exp(half / value) if half / value < _FURTHEST_LOG else math.inf
    return Estimate(value=value, ci=(value / ratio, value * ratio if ratio < math.inf else None))


def percentile_ms(
    segments: Sequence[Segment], sample: Pool, percentile: int, tail: float
) -> Estimate | str:
    """A latency percentile, or why it is not known.

    The estimate is the order statistic of rank ``ceil(n p)``.
    """
    if not sample.latency_s.size:
        return _percentile_of_windows(segments, percentile, tail)
    value = quantile_s(sample, percentile)
    if not math.isfinite(value):
        return failures(sample) + f": p{percentile} is beyond any latency"
    factor = inflation(sample, percentile, tail)
    ci = percentile_interval_ms(sample, percentile, tail, factor)
    needs = None
    if None in ci:
        share = max(percentile, 100 - percentile) / 100
        enough = math.ceil(math.log(tail) / math.log(share) * (factor.later if factor else 1.0))
        missing = max(enough, BLOCKS * FEW_PER_BLOCK) - sample.latency_s.size
        needs = missing if missing > 0 else None
    return Estimate(value=1000 * value, ci=ci, needs=needs)


def quantile_s(sample: Pool, percentile: int) -> float:
    """The order statistic of rank ``ceil(n p)``; ``inf`` where so many requests failed."""
    rank = max(1, -(-percentile * sample.latency_s.size // 100))
    return float(sample.ordered_s[rank - 1])


@dataclass(frozen=True, kw_only=True)
class Inflation:
    """How many requests say as much as one independent request.

    ``now`` allows for how badly these few blocks tell it; ``later`` is what it comes to with
    twenty blocks, for telling how many requests are needed.
    """

    now: float
    later: float


def inflation(
    sample: Pool, percentile: int, tail: float, limit_s: float | None = None
) -> Inflation | None:
    """The inflation for a percentile's interval with ``tail`` beyond each end.

    From the variance of the share of requests beyond the percentile over blocks, and beyond
    one with twice as many requests behind it (p98 for p99), which shows bunches better; the
    larger counts, and never less than one. It is widened by Student's t. ``limit_s`` is taken
    as well where enough requests are beyond it.

    ``None`` where there are too few requests for two blocks.
    """
    if sample.segment.size < 2:
        return None
    beyond = [percentile] if percentile <= 60 else [percentile, 2 * percentile - 100]
    tails = [sample.latency_s > quantile_s(sample, p) for p in beyond]
    if limit_s is not None:
        over = sample.latency_s > limit_s
        tails += [over] if np.count_nonzero(over) >= TAIL_EVENTS else []
    now, variance = _student(sample.segment.size - 1, tail), 1.0
    for over in tails:
        share = np.count_nonzero(over) / over.size
        independent = share * (1 - share) / over.size
        if not independent > 0:
            continue
        for spread in spreads(sample.in_blocks(over), sample.requests, sample.segment):
            factor = max(1.0, spread.variance / independent)
            now = max(now, factor * _student(spread.freedom, tail))
            variance = max(variance, factor)
    return Inflation(now=now, later=variance * _student(BLOCKS - 1, tail))


def _student(freedom: int, tail: float) -> float:
    """By how much Student's t widens a variance."""
    return float(stdtrit(freedom, 1 - tail) / ndtri(1 - tail)) ** 2


def percentile_interval_ms(
    sample: Pool, percentile: int, tail: float, factor: Inflation | None
) -> Interval:
    """Order statistics between which the true percentile lies, ``tail`` beyond each.

    The exact binomial interval (W. J. Conover, "Practical Nonparametric Statistics", 1999,
    section 3.2, with the beta quantiles of Clopper and Pearson) at ``n / factor`` requests.
    """
    if factor is None:
        return None, None
    p, count = percentile / 100, sample.latency_s.size
    effective = count / factor.now
    low_level = float(betaincinv(p * effective, (1 - p) * effective + 1, tail))
    high_level = float(betaincinv(p * effective + 1, (1 - p) * effective, 1 - tail))
    low_rank = math.floor(low_level * count)
    high_rank = math.ceil(high_level * count)
    low = sample.ordered_s[low_rank - 1] if low_rank >= 1 else math.inf
    high = sample.ordered_s[min(high_rank, count) - 1] if p**effective <= tail else math.inf
    return _ms_or_none(float(low)), _ms_or_none(float(high))


def _ms_or_none(seconds: float) -> float | None:
    return 1000 * seconds if math.isfinite(seconds) else None


def _percentile_of_windows(
    segments: Sequence[Segment], percentile: int, tail: float
) -> Estimate | str:
    """A percentile where only those of whole windows are known.

    The estimate is their mean, weighted by requests. The interval is that of the sign test
    over windows, each of which may favour one side by ``WINDOW_SIDE``. A window with fewer than
    ``TAIL_EVENTS`` requests beyond the percentile favours one by more: windows so short that no
    more were to be expected are left out, and where all are, there is no interval. What a window
    did hold does not count for that, or the server's slow stretches would be left out.
    """
    known = [
        (window.percentiles_ms[percentile], window.requests, window.seconds)
        for segment in segments
        for window in segment.windows
        if window.percentiles_ms is not None and percentile in window.percentiles_ms
    ]
    if not known:
        return f"single requests were not recorded, and no window has its p{percentile}"
    if len(known) < sum(len(segment.windows) for segment in segments):
        return (
            "in some windows hardly a request was answered: the percentiles of the others would "
            "hide them"
        )
    values, requests, seconds = np.array(known).T
    expected = seconds * requests.sum() / seconds.sum()
    long_enough = expected * min(percentile, 100 - percentile) / 100 >= TAIL_EVENTS
    if not long_enough.any():
        return Estimate(value=float(np.average(values, weights=requests)))
    values, requests = values[long_enough], requests[long_enough]
    value = float(np.average(values, weights=requests))
    ordered = np.sort(values)
    ranks = np.arange(1, ordered.size + 1)
    sure = np.count_nonzero(bdtr(ranks - 1, ordered.size, 1 - WINDOW_SIDE) <= tail)
    if not sure:
        windows = math.ceil(math.log(tail) / math.log(WINDOW_SIDE)) - ordered.size
        needs = math.ceil(windows * float(requests.mean()))
        return Estimate(value=value, ci=(None, None), needs=needs)
    return Estimate(value=value, ci=(float(ordered[sure - 1]), float(ordered[-sure])))
