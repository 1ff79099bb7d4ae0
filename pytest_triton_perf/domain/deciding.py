"""Whether one level keeps one budget: decided while it is measured, as soon as it is sure.

A level is looked at again and again as its load grows, ``looks`` times at most. Each look may
be wrong with probability ``alpha / looks`` a side, so all of them together with ``alpha``,
however they depend on each other (Bonferroni).
"""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from scipy.special import betaincinv, stdtrit

from pytest_triton_perf.domain.budgets import Budget, Decision, Outcome
from pytest_triton_perf.domain.estimates import (
    average_ms,
    failures,
    inflation,
    percentile_interval_ms,
    percentile_ms,
    quantile_s,
    throughput,
    why_unusable,
)
from pytest_triton_perf.domain.levels import Estimate
from pytest_triton_perf.domain.metrics import percentile_of
from pytest_triton_perf.domain.pooling import Pool, pool
from pytest_triton_perf.domain.segments import Segment

LOOKS = 6
PASS_SECONDS = 3.0
LEAST_SEGMENTS = 2

NEARLY = 0.9
"""Load is never exactly as long as it was asked for; so much of it will do."""

_BOUND_SEGMENTS = 5
"""With fewer segments, Student's t leaves no bound worth the name."""

_HIGH_PERCENTILE = 90
"""From here on, requests that are all over the limit are ten times as many as may be."""

_FURTHEST = 2.0**14
"""How many times more requests are considered when telling what a decision needs."""


def decide(
    budget: Budget,
    segments: Sequence[Segment],
    *,
    look: int,
    looks: int = LOOKS,
    alpha: float = 0.01,
    previous: Decision | None = None,
    pass_seconds: float = PASS_SECONDS,
    least_segments: int = LEAST_SEGMENTS,
) -> Decision:
    """The decision on a latency or throughput budget at one level after look ``look``.

    ``segments`` are all of the level so far, ``previous`` is the decision of the look before.
    A percentile budget is a test of the share of requests over the limit; a failed request is
    over any limit. A mean or a throughput is decided by batch means, and only where two looks
    in a row agree: their distribution is skewed. A pass also needs ``pass_seconds`` of load in
    ``least_segments`` segments, because a short stretch has not seen every state of the machine.
    A failure needs as many segments, because one does not show how much segments differ, unless
    it is beyond doubt: see :func:`_beyond_doubt`.

    Raises:
        ValueError: the budget's metric has no sampling distribution (memory, utilisation,
            power, server times), or there are no looks left.
    """
    if budget.metric.source != "client":
        raise ValueError(f"{budget.metric.name} is compared as it stands, not decided")
    if not 1 <= look <= looks:
        raise ValueError(f"look {look} of {looks}")
    sample = pool(segments)
    if not sample.requests.size:
        return Decision(status="undecided", reason=why_unusable(segments))
    tail = alpha / looks
    name = budget.metric.name
    percentile = percentile_of(name)
    if percentile is not None:
        decision = _on_percentile(budget, segments, sample, percentile, tail)
    elif name == "avg_latency_ms" and sample.failed:
        reason = f"{failures(sample)}, and count as over any limit"
        decision = Decision(status="failed", leaning="failed", reason=reason)
    else:
        figure = throughput if name == "throughput" else average_ms
        decision = _by_interval(budget, sample, figure(sample, tail))
        if decision.leaning != "undecided" and not _agree(previous, decision):
            return _withheld(decision, "the next look has to agree")
    used = [segment for segment in segments if not segment.steady.reason]
    seconds = sum(segment.seconds for segment in used)
    few = len(used) < least_segments
    sure = _beyond_doubt(decision, percentile, budget.limit, sample)
    if decision.leaning == "failed" and few and not sure:
        return _withheld(decision, f"a failure takes {least_segments} segments")
    if decision.leaning == "passed" and (few or seconds < NEARLY * pass_seconds):
        return _withheld(
            decision,
            f"a pass takes {pass_seconds:g} s of load in {least_segments} segments, so far "
            f"there are {seconds:.1f} s in {len(used)}",
        )
    return decision


def _agree(previous: Decision | None, decision: Decision) -> bool:
    """Whether the look before, at fewer requests, leant the same way."""
    return (
        previous is not None
        and previous.leaning == decision.leaning
        and previous.requests < decision.requests
    )


def _beyond_doubt(decision: Decision, percentile: int | None, limit: float, sample: Pool) -> bool:
    """Whether a budget fails whatever segments differ by.

    Too many requests failed, or even the fastest was over the limit of a high percentile. (All of
    a segment's requests are over the true median now and then, where a server has two regimes.)
    """
    if decision.observed is None:
        return True
    high = percentile is not None and percentile >= _HIGH_PERCENTILE
    return high and sample.latency_s.size > 0 and 1000 * float(sample.ordered_s[0]) > limit


def _withheld(decision: Decision, reason: str) -> Decision:
    return replace(decision, status="undecided", reason=reason)


def _on_percentile(
    budget: Budget, segments: Sequence[Segment], sample: Pool, percentile: int, tail: float
) -> Decision:
    if not sample.latency_s.size:
        return _by_interval(budget, sample, percentile_ms(segments, sample, percentile, tail))
    limit_s = budget.limit / 1000
    value = quantile_s(sample, percentile)
    observed = 1000 * value if math.isfinite(value) else None
    count = sample.latency_s.size
    allowed = 1 - percentile / 100
    share = np.count_nonzero(sample.latency_s > limit_s) / count
    factor = inflation(sample, percentile, tail, limit_s)
    if factor is None:
        return Decision(status="undecided", observed=observed, requests=count, reason=_few(count))
    leaning = _test_share(share, count / factor.now, allowed, tail)
    if leaning == "undecided" and _well_within(segments, limit_s, percentile, tail):
        leaning = "passed"
    return Decision(
        status=leaning,
        observed=observed,
        ci=percentile_interval_ms(sample, percentile, tail, factor),
        needs=_needs(share, count, factor.later, allowed, tail) if leaning == "undecided" else None,
        leaning=leaning,
        requests=count,
        reason=f"{failures(sample)}: they count as over any limit" if sample.failed else "",
    )


def _well_within(segments: Sequence[Segment], limit_s: float, percentile: int, tail: float) -> bool:
    """Whether even the slowest request of a further segment would be within the limit.

    The share of requests over a limit that none came near tells little where slow requests come
    in bunches; how far away the limit is tells more. That is a prediction bound for one more of
    the segments' slowest requests, on the scale of the logarithm and with normal theory (W. Q.
    Meeker, G. J. Hahn and L. A. Escobar, "Statistical Intervals", 2017, section 4.6), where there
    were as many requests as independent ones would take.
    """
    latencies = [s.steady.latency_s for s in segments if s.steady.latency_s.size]
    count = sum(each.size for each in latencies)
    if len(latencies) < _BOUND_SEGMENTS or (percentile / 100) ** count > tail:
        return False
    slowest = np.array([each.max() for each in latencies])
    if not np.all(np.isfinite(slowest)):
        return False
    logs = np.log(slowest)
    spread = float(stdtrit(logs.size - 1, 1 - tail) * logs.std(ddof=1) * (1 + 1 / logs.size) ** 0.5)
    return float(logs.mean()) + spread < math.log(limit_s)


def _few(requests: int) -> str:
    return f"{requests:,} request{'s' * (requests != 1)}: too few to tell how they vary"


def _test_share(share: float, effective: float, allowed: float, tail: float) -> Outcome:
    """The binomial test of a share of ``effective`` requests (Clopper and Pearson, 1934)."""
    over, within = share * effective, (1 - share) * effective
    if within > 0 and betaincinv(over + 1, within, 1 - tail) < allowed:
        return "passed"
    if over > 0 and betaincinv(over, within + 1, tail) > allowed:
        return "failed"
    return "undecided"


def _needs(share: float, count: int, factor: float, allowed: float, tail: float) -> int | None:
    """How many more requests would decide, were the share of those over the limit to stay."""
    enough = 2.0
    while _test_share(share, enough * count / factor, allowed, tail) == "undecided":
        enough *= 2
        if enough > _FURTHEST:
            return None
    low, high = enough / 2, enough
    while high - low > 0.02 * high:
        middle = (low + high) / 2
        if _test_share(share, middle * count / factor, allowed, tail) == "undecided":
            low = middle
        else:
            high = middle
    return math.ceil((high - 1) * count)


def _by_interval(budget: Budget, sample: Pool, figure: Estimate | str) -> Decision:
    """The decision by whether the interval lies on one side of the limit."""
    if isinstance(figure, str):
        return Decision(status="undecided", reason=figure)
    low, high = figure.ci or (None, None)
    count = round(sample.requests.sum())
    if low is None or high is None:
        reason = _few(count) if figure.ci else "its windows hold too few requests for an interval"
        return Decision(
            status="undecided",
            observed=figure.value,
            ci=figure.ci,
            needs=figure.needs,
            requests=count,
            reason=reason,
        )
    below, above = high <= budget.limit, low >= budget.limit
    kept, broken = (below, above) if budget.metric.better == "lower" else (above, below)
    if kept:
        leaning: Outcome = "passed"
    elif broken:
        leaning = "failed"
    else:
        leaning = "undecided"
    needs = None
    if leaning == "undecided" and (gap := abs(figure.value - budget.limit)) > 0:
        half = max(high - figure.value, figure.value - low)
        times = (half / gap) ** 2
        needs = math.ceil((times - 1) * count) if 1 < times <= _FURTHEST else None
    return Decision(
        status=leaning,
        observed=figure.value,
        ci=figure.ci,
        needs=needs,
        leaning=leaning,
        requests=count,
    )
