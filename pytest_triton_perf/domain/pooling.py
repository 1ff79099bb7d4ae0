"""Segments of one level as one sample, in blocks whose spread tells how much it can say."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.special import fdtri, stdtrit

from pytest_triton_perf.domain.segments import Numbers, Segment, Window

BLOCKS = 20
FEW_PER_BLOCK = 5
"""Fewer requests than this to a block, and there are fewer blocks."""

ENOUGH_PER_PART = 100
"""A window's parts with fewer requests may be alike by their whole numbers alone."""

ENOUGH_SEGMENTS = 10
"""From here on the segments themselves are the blocks."""

LONG_MEMORY = 0.25
"""Lag-1 autocorrelation of the blocks above which they are also taken in pairs."""

SEGMENTS_DIFFER = 0.25
"""Level of the F-test that takes segments as blocks where they differ; high, because pooling
is the riskier error (T. A. Bancroft, "Analysis and inference for incompletely specified models
involving the use of preliminary test(s) of significance", Biometrics 20, 1964)."""

FEW_SEGMENTS = 3
FEW_SEGMENTS_DIFFER = 0.05
"""Up to so many segments tell so little on their own that a chance difference would leave no
interval at all; only a clear one counts."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Pool:
    """The steady parts of a level's segments.

    ``latency_s`` (``inf`` for failed requests) and ``block_of`` have one element per request;
    both are empty where there are windows. The others have one element per block, in order of
    time: the segment it is of, its length, the requests and the sum of their latencies, and the
    inferences that were answered in it.
    """

    latency_s: Numbers
    block_of: NDArray[np.intp]
    segment: NDArray[np.intp]
    seconds: Numbers
    requests: Numbers
    latency_sum_s: Numbers
    inferences: Numbers

    @cached_property
    def ordered_s(self) -> Numbers:
        """The latencies in ascending order."""
        return np.sort(self.latency_s)

    @property
    def failed(self) -> int:
        """Requests without an answer."""
        return int(self.latency_s.size - np.searchsorted(self.ordered_s, np.inf))

    def in_blocks(self, per_request: NDArray[np.generic]) -> Numbers:
        """The sum of a per-request value in each block."""
        return _sums(self.block_of, per_request, self.segment.size)


def pool(segments: Sequence[Segment]) -> Pool:
    """The segments as one sample.

    Twenty blocks of equal time, shared out by the segments' requests; from ten segments on,
    one block for each. Of windows, each is a block, or each of its parts.

    Raises:
        ValueError: requests and windows are mixed.
    """
    windowed = [segment for segment in segments if segment.windows]
    if windowed:
        if any(segment.sent_s.size for segment in segments):
            raise ValueError("segments of requests and of windows cannot be pooled")
        return _pool_windows(windowed)
    return _pool_requests([segment for segment in segments if segment.steady.sent_s.size])


def _pool_requests(segments: Sequence[Segment]) -> Pool:
    total = sum(segment.steady.sent_s.size for segment in segments)
    wanted = min(BLOCKS, total // FEW_PER_BLOCK)
    latency, block_of, segment_of, seconds, inferences = [], [], [], [], []
    first = 0
    for number, segment in enumerate(segments):
        steady = segment.steady
        many = len(segments) >= ENOUGH_SEGMENTS
        blocks = 1 if many else max(1, round(wanted * steady.sent_s.size / total))
        edges = np.linspace(steady.begin_s, steady.end_s, blocks + 1)
        latency.append(steady.latency_s)
        block_of.append(first + np.searchsorted(edges[1:-1], steady.sent_s, side="right"))
        segment_of += [number] * blocks
        seconds.append(np.diff(edges))
        inferences.append(np.diff(steady.answers_until(edges)) * segment.batch_size)
        first += blocks
    each = _joined(latency)
    blocks_of_each = _joined(block_of).astype(np.intp)
    return Pool(
        latency_s=each,
        block_of=blocks_of_each,
        segment=np.array(segment_of, dtype=np.intp),
        seconds=_joined(seconds),
        requests=np.bincount(blocks_of_each, minlength=first).astype(np.float64),
        latency_sum_s=_sums(blocks_of_each, each, first),
        inferences=_joined(inferences),
    )


def _pool_windows(segments: Sequence[Segment]) -> Pool:
    rows = np.array(
        [
            (i, seconds, requests, requests * latency_ms / 1000, s.batch_size)
            for i, s in enumerate(segments)
            for w in s.windows
            for seconds, requests, latency_ms in _blocks_of(w)
        ]
    ).T
    segment = rows[0].astype(np.intp)
    seconds, requests, latency_sum = rows[1], rows[2], rows[3]
    inferences = requests * rows[4]
    if len(segments) >= ENOUGH_SEGMENTS:
        seconds, requests, latency_sum, inferences = (
            _sums(segment, column, len(segments))
            for column in (seconds, requests, latency_sum, inferences)
        )
        segment = np.arange(len(segments), dtype=np.intp)
    return Pool(
        latency_s=np.empty(0),
        block_of=np.empty(0, dtype=np.intp),
        segment=segment,
        seconds=seconds,
        requests=requests,
        latency_sum_s=latency_sum,
        inferences=inferences,
    )


def _blocks_of(window: Window) -> Iterator[tuple[float, float, float]]:
    """Seconds, requests and mean latency in ms of each block that a window is."""
    counts = [requests for requests, _ in window.parts]
    if min(counts, default=0) < ENOUGH_PER_PART:
        yield window.seconds, window.requests, window.avg_latency_ms
        return
    for requests, latency_ms in window.parts:
        # The parts' are rates, rounded; the whole one's is a count.
        of_all = requests / sum(counts)
        yield window.seconds / len(counts), window.requests * of_all, latency_ms


def _sums(group: NDArray[np.intp], values: NDArray[np.generic], groups: int) -> Numbers:
    """The sum of the values in each group."""
    sums = np.bincount(group, weights=values.astype(np.float64), minlength=groups)
    return sums.astype(np.float64)


def _joined(parts: Sequence[NDArray[np.generic]]) -> Numbers:
    return np.concatenate(parts).astype(np.float64) if parts else np.empty(0)


@dataclass(frozen=True, kw_only=True)
class Spread:
    """A variance of an estimate, and the degrees of freedom that it rests on."""

    variance: float
    freedom: int

    def half_width(self, tail: float) -> float:
        """What lies between the estimate and the end of its interval, ``tail`` beyond it."""
        return float(np.sqrt(self.variance) * stdtrit(self.freedom, 1 - tail))


def spreads(above: Numbers, below: Numbers, segment: NDArray[np.intp]) -> list[Spread]:
    """Variances of the ratio ``sum(above) / sum(below)`` over blocks; the widest is to be used.

    ``above`` and ``below`` have one element per block. The first variance takes the blocks as
    independent (batch means; W. G. Cochran, "Sampling Techniques", 1977, section 6.4 for the
    ratio). Where they are not, there is one of pairs of blocks, and one of whole segments where
    these differ by more than their blocks explain. Empty where fewer than two blocks are there.
    """
    count = above.size
    if count < 2:
        return []
    total = below.sum()
    if not total > 0:
        return []
    errors = (above - above.sum() / total * below) / total
    squares = float(errors @ errors)
    found = [Spread(variance=count / (count - 1) * squares, freedom=count - 1)]
    if not squares > 0:
        return found
    if count >= 10 and float(errors[1:] @ errors[:-1]) > LONG_MEMORY * squares:
        found.append(_of_sums(np.add.reduceat(errors, np.arange(0, count, 2))))
    sizes = np.bincount(segment)
    if 1 < sizes.size < count:
        sums = _sums(segment, errors, sizes.size)
        between = float(np.sum(sums**2 / sizes))
        within = squares - between
        freedom = (sizes.size - 1, count - sizes.size)
        level = SEGMENTS_DIFFER if sizes.size > FEW_SEGMENTS else FEW_SEGMENTS_DIFFER
        critical = float(fdtri(*freedom, 1 - level))
        if between / freedom[0] > critical * within / freedom[1]:
            found.append(_of_sums(sums))
    return found


def _of_sums(errors: Numbers) -> Spread:
    freedom = errors.size - 1
    return Spread(variance=errors.size / freedom * float(errors @ errors), freedom=freedom)
