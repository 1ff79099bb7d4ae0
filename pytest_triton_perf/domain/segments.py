"""What one uninterrupted stretch of load gave, and which part of it is steady."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtr

Numbers = NDArray[np.float64]

EDGE = 0.05
"""Of an open loop, this share of its time is left out at both ends."""

MUCH_WARM_UP = 0.25
"""A larger share at the front is rather the machine that changed than a model that warmed up."""

TREND_LEVEL = 0.001
"""A trend is noted where it would be this rare by chance."""

WARM_UP_REQUESTS = 100
TREND_REQUESTS = 500
"""In fewer requests, warm-up and trend cannot be told from requests that come in bunches."""

_CLOCK_SLACK_S = 0.25
"""How much longer than its load a segment may look before its clock is not believed."""


_CLOCK_GRAIN_S = 1e-6

_EVEN = 1e-6
"""Latencies that differ by a smaller share are the same but for rounding."""


@dataclass(frozen=True, kw_only=True)
class Window:
    """One measuring window of the load generator, where single requests were too dear.

    ``percentiles_ms`` is keyed by percentile (``99``), ``None`` where the generator did not
    give them for this window. ``parts`` are the requests and the mean latency in ms of stretches
    of equal length that make it up, as far as the generator told them.
    """

    requests: int
    seconds: float
    avg_latency_ms: float
    percentiles_ms: Mapping[int, float] | None = None
    parts: tuple[tuple[float, float], ...] = ()


def _nothing() -> Numbers:
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
    sent_s: Numbers = field(default_factory=_nothing)
    answered_s: Numbers = field(default_factory=_nothing)
    windows: tuple[Window, ...] = ()

    def __post_init__(self) -> None:
        if self.sent_s.shape != self.answered_s.shape or self.sent_s.ndim != 1:
            raise ValueError("a segment has one answer per request")
        if self.windows and self.sent_s.size:
            raise ValueError("a segment is either requests or windows")

    @property
    def seconds(self) -> float:
        """How long the load lasted, ramp and warm-up included."""
        return self.ended - self.started

    @property
    def requests(self) -> int:
        """How many requests it recorded, one by one or in windows."""
        return self.sent_s.size or sum(window.requests for window in self.windows)

    @cached_property
    def steady(self) -> "Steady":
        """The part of its requests that figures are computed from."""
        return _steady_part(self)


@dataclass(frozen=True, kw_only=True, eq=False)
class Steady:
    """The requests of a segment between its ramp and warm-up and its drain.

    ``sent_s`` and ``latency_s`` belong together, in order of sending; ``latency_s`` is ``inf``
    for a failed request. They lie between ``begin_s`` and ``end_s``; requests that failed
    outside are kept, moved to the nearer end. ``flow_sent_s`` and ``flow_answered_s`` are all
    requests that were answered, by time of answer: what throughput is counted from.

    ``warm_up`` is how many requests were left out at the front. ``reason`` says why nothing
    can be computed (and then there are no requests); ``notes`` are remarks that a reader of the
    figures must see.
    """

    sent_s: Numbers = field(default_factory=_nothing)
    latency_s: Numbers = field(default_factory=_nothing)
    begin_s: float = 0.0
    end_s: float = 0.0
    flow_sent_s: Numbers = field(default_factory=_nothing)
    flow_answered_s: Numbers = field(default_factory=_nothing)
    warm_up: int = 0
    notes: tuple[str, ...] = ()
    reason: str = ""

    def answers_until(self, times_s: Numbers) -> Numbers:
        """Requests answered until each of ``times_s``; one in flight counts by its elapsed share.

        The difference over a span, divided by its length, estimates the rate of answers without
        bias wherever the span begins and ends: the relation H = λG (W. Whitt, "A review of
        L = λW and extensions", Queueing Systems 9, 1991) with 1/latency as the rate at which a
        request counts. Whole answers would favour ends that lie just behind an answer.
        """
        sent, answered = self.flow_sent_s, self.flow_answered_s
        counts = np.searchsorted(answered, times_s, side="right").astype(np.float64)
        for i, (time, done) in enumerate(zip(times_s, counts, strict=True)):
            later_sent, later_answered = sent[int(done) :], answered[int(done) :]
            flying = later_sent < time
            begun = later_sent[flying]
            counts[i] += np.sum((time - begun) / (later_answered[flying] - begun))
        return counts


def _steady_part(segment: Segment) -> Steady:
    if not segment.sent_s.size:
        return Steady(reason="" if segment.windows else "no request was sent")
    if reason := _clock_trouble(segment):
        return Steady(reason=reason)
    answered = np.isfinite(segment.answered_s)
    order = np.argsort(segment.sent_s, kind="stable")
    sent = segment.sent_s[order]
    latency = segment.answered_s[order] - sent
    begin, end, note = _full_load(segment)
    notes = [note] if note else []
    inside = (sent >= begin) & (sent <= end)
    cut = mser5(latency[inside])
    if cut is None:
        notes.append("not stationary: latency kept settling for half of the segment or longer")
    elif cut:
        begin = float(sent[inside][cut])
        if cut > MUCH_WARM_UP * np.count_nonzero(inside):
            notes.append("more than a quarter of the requests were left out as warm-up")
    keep = ((sent >= begin) & (sent <= end)) | ~np.isfinite(latency)
    if trend := _trend(latency[keep]):
        notes.append(trend)
    return Steady(
        sent_s=np.clip(sent[keep], begin, end),
        latency_s=latency[keep],
        begin_s=begin,
        end_s=end,
        flow_sent_s=segment.sent_s[answered],
        flow_answered_s=segment.answered_s[answered],
        warm_up=cut or 0,
        notes=tuple(notes),
    )


def _clock_trouble(segment: Segment) -> str:
    """Why the segment's clock cannot be believed, or an empty string.

    Load generators stamp requests with the wall clock, which is stepped now and then.
    """
    sent, answered = segment.sent_s, segment.answered_s
    if not np.all(np.isfinite(sent)) or np.any(np.isnan(answered)):
        return "a request has no time of sending or of answer"
    answered = answered[np.isfinite(answered)]
    if np.any(segment.answered_s < sent) or np.any(np.diff(answered) < 0):
        return "the clock was stepped back while the load ran"
    if (
        segment.in_flight is not None
        and answered.size == sent.size
        and _in_flight(np.sort(sent) + _CLOCK_GRAIN_S, answered).max() >= 2 * segment.in_flight
    ):
        return "the clock was stepped back while the load ran: more requests than clients"
    last = float(np.max(answered, initial=float(sent.max())))
    if last - float(sent.min()) > segment.seconds + _CLOCK_SLACK_S:
        return "the clock was stepped forward while the load ran"
    return ""


def _full_load(segment: Segment) -> tuple[float, float, str]:
    """(begin, end, note) of the time at full load.

    In a closed loop that is from the first to the last moment at which all clients have a
    request in flight.
    """
    sent = np.sort(segment.sent_s)
    first, last = float(sent[0]), float(sent[-1])
    if segment.in_flight is None:
        edge = EDGE * (last - first)
        return first + edge, last - edge, ""
    gone = _gone(segment)
    count = _in_flight(sent, gone)
    most = int(count.max())
    full = np.flatnonzero(count >= min(segment.in_flight, most))
    begin, last_full = sent[full[0]], sent[full[-1]]
    end = gone[min(np.searchsorted(gone, last_full, side="right"), gone.size - 1)]
    note = ""
    if most < segment.in_flight:
        note = f"never more than {most} of {segment.in_flight} requests were in flight"
    return float(begin), float(end), note


def _in_flight(sent: Numbers, gone: Numbers) -> NDArray[np.intp]:
    """How many requests were in flight just after each was sent; both arrays ascend.

    Of events at one time the answers come first: a client sends when it has its answer.
    """
    return np.arange(1, sent.size + 1) - np.searchsorted(gone, sent, side="right")


def _gone(segment: Segment) -> Numbers:
    """When each request was no longer in flight.

    A failed one is taken to be until the next answer; where there is none, as behind a server
    that hangs, until the load ended.
    """
    gone = np.minimum.accumulate(segment.answered_s[::-1])[::-1]
    answered = np.isfinite(gone)
    last = float(np.max(gone[answered], initial=float(segment.sent_s.max())))
    return np.where(answered, gone, max(last, float(segment.sent_s.min()) + segment.seconds))


def mser5(latency_s: Numbers) -> int | None:
    """How many requests at the front are warm-up; ``None`` where half of them would not do.

    MSER-5 (K. P. White, M. J. Cobb and S. C. Spratt, "A comparison of five steady-state
    truncation heuristics for simulation", WSC 2000) on the logarithm of latency, winsorised at
    its 5th and 95th percentile so that single stragglers do not decide. It would also cut off
    a burst of slow requests in the first half, and these are no warm-up: only where the very
    first requests are unlike those of any other twentieth of the rest is anything left out.
    """
    size = latency_s.size // 5
    finite = latency_s[np.isfinite(latency_s) & (latency_s > 0)]
    if latency_s.size < WARM_UP_REQUESTS or finite.size < size:
        return 0
    low, high = np.percentile(finite, [5, 95])
    batches = np.log(np.clip(latency_s[: size * 5], low, high)).reshape(size, 5).mean(axis=1)
    if np.ptp(batches) < _EVEN:
        return 0
    batches -= batches.mean()
    left = np.arange(size, 0, -1)
    tail_sum = np.cumsum(batches[::-1])[::-1]
    tail_squares = np.cumsum(batches[::-1] ** 2)[::-1]
    scores = (tail_squares - tail_sum**2 / left) / left**2
    cut = int(np.argmin(scores[: size // 2 + 1]))
    length = max(1, (size - cut) // 20)
    stretches = (size - cut) // length
    rest = batches[cut : cut + stretches * length].reshape(stretches, length).mean(axis=1)
    if not cut or rest.min() <= batches[:length].mean() <= rest.max():
        return 0
    return None if cut == size // 2 else cut * 5


def _trend(latency_s: Numbers) -> str:
    """A note where latency rose or fell: Spearman's correlation of 20 batch means with time."""
    finite = latency_s[np.isfinite(latency_s)]
    if finite.size < TREND_REQUESTS:
        return ""
    size = finite.size // 20
    means = finite[: size * 20].reshape(20, size).mean(axis=1)
    if np.ptp(means) < _EVEN * means.mean():
        return ""
    ranks = np.argsort(np.argsort(means))
    rho = 1 - 6 * float(np.sum((ranks - np.arange(20)) ** 2)) / (20 * (20**2 - 1))
    t = abs(rho) * np.sqrt(18 / max(1 - rho**2, 1e-12))
    if 2 * stdtr(18, -t) >= TREND_LEVEL:
        return ""
    return f"latency {'rose' if rho > 0 else 'fell'} while a segment ran"
