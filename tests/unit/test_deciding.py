import numpy as np
import pytest
from loops import closed_loop, lognormal, windows
from scipy import stats

from pytest_triton_perf.domain.budgets import Budget
from pytest_triton_perf.domain.deciding import LOOKS, Decision, decide
from pytest_triton_perf.domain.segments import Segment


def budget(**limit) -> Budget:
    ((name, value),) = limit.items()
    return Budget.from_keyword(name, value)


def loops(count: int, requests: int, clients: int = 1, first: int = 0) -> list[Segment]:
    """Segments of latencies with a median of 1 ms, a mean of 1.13 ms and a p99 of 3.2 ms."""
    return [
        closed_loop(lognormal(first + seed, requests), clients, started=100.0 * seed)
        for seed in range(count)
    ]


def looks(limit: Budget, segments: list[Segment], *, upto: int = LOOKS, **floors) -> Decision:
    """The decision after ``upto`` looks, each at twice the segments of the one before."""
    decision = None
    for look in range(1, upto + 1):
        share = segments[: len(segments) >> (upto - look)]
        decision = decide(limit, share, look=look, previous=decision, **floors)
    return decision


@pytest.mark.parametrize(
    ("limit", "status"),
    [
        ({"p99_latency_ms": 6}, "passed"),
        ({"p99_latency_ms": 3.2}, "undecided"),
        ({"p99_latency_ms": 2}, "failed"),
        ({"p50_latency_ms": 1.2}, "passed"),
        ({"p50_latency_ms": 0.8}, "failed"),
        ({"avg_latency_ms": 1.4}, "passed"),
        ({"avg_latency_ms": 1.133}, "undecided"),
        ({"avg_latency_ms": 0.9}, "failed"),
        ({"min_throughput": 700}, "passed"),
        ({"min_throughput": 882}, "undecided"),
        ({"min_throughput": 1200}, "failed"),
    ],
)
def test_a_budget_is_decided_by_its_distance_from_the_truth(limit, status):
    decision = looks(budget(**limit), loops(8, 500), upto=3)
    assert (decision.status, decision.leaning) == (status, status)
    assert 3900 < decision.requests <= 4000
    low, high = decision.ci
    assert low < decision.observed < high
    assert (decision.needs is not None) == (status == "undecided")


def test_nothing_over_the_limit_passes_only_with_enough_requests():
    """Of independent requests, 0.99^n has to be less than 1 % over the looks: n = 637."""
    limit = budget(p99_latency_ms=1000)
    few = decide(limit, loops(2, 400), look=1, pass_seconds=0)
    assert few.status == "undecided"
    assert 0 < few.needs < 1500
    many = decide(limit, loops(2, 400 + few.needs), look=1, pass_seconds=0)
    assert many.status == "passed"


@pytest.mark.parametrize(
    ("period", "status"), [(60, "failed"), (85, "undecided"), (110, "undecided"), (150, "passed")]
)
def test_the_share_over_the_limit_is_tested_as_clopper_and_pearson_do(period, status):
    """Requests that come evenly: only Student's t of 19 degrees widens the test."""
    latency = np.full(10_000, 0.001)
    latency[period // 2 :: period] = 0.009
    tail = 0.01 / LOOKS
    effective = 10_000 * (stats.norm.ppf(1 - tail) / stats.t.ppf(1 - tail, 19)) ** 2
    over = np.mean(latency > 0.005) * effective
    upper = stats.beta.ppf(1 - tail, over + 1, effective - over)
    lower = stats.beta.ppf(tail, over, effective - over + 1)
    expected = "passed" if upper < 0.01 else "failed" if lower > 0.01 else "undecided"
    decision = decide(
        budget(p99_latency_ms=5), [closed_loop(latency)], look=1, least_segments=1, pass_seconds=1
    )
    assert decision.status == expected == status


def test_a_pass_takes_its_floors():
    limit = budget(p99_latency_ms=10)
    short = decide(limit, loops(2, 1000), look=1)
    assert (short.status, short.leaning) == ("undecided", "passed")
    assert short.reason == ("a pass takes 3 s of load in 2 segments, so far there are 2.2 s in 2")
    assert decide(limit, loops(2, 1000), look=1, pass_seconds=2).status == "passed"
    single = decide(limit, loops(1, 4000), look=1)
    assert single.reason.endswith("so far there are 4.5 s in 1")
    assert decide(limit, loops(1, 4000), look=1, least_segments=1).status == "passed"


def test_a_failure_takes_two_segments_unless_it_is_beyond_doubt():
    limit = budget(p99_latency_ms=1.5)
    single = decide(limit, loops(1, 500), look=1)
    assert (single.status, single.leaning) == ("undecided", "failed")
    assert single.reason == "a failure takes 2 segments"
    assert decide(limit, loops(2, 500), look=1).status == "failed"
    assert decide(budget(p99_latency_ms=0.05), loops(1, 500), look=1).status == "failed"
    assert decide(budget(p50_latency_ms=0.05), loops(1, 500), look=1).status == "undecided"


def test_a_segment_that_cannot_be_used_is_no_floor():
    stepped = Segment(
        started=50, ended=60, in_flight=1, sent_s=np.zeros(1), answered_s=np.array([3600.0])
    )
    decision = decide(budget(p99_latency_ms=10), [*loops(1, 4000), stepped], look=1)
    assert decision.reason.endswith("so far there are 4.5 s in 1")


@pytest.mark.parametrize("limit", [{"avg_latency_ms": 0.5}, {"min_throughput": 2000}])
def test_a_mean_takes_two_looks_that_agree(limit):
    segments = loops(4, 500)
    first = decide(budget(**limit), segments[:2], look=1)
    assert (first.status, first.leaning) == ("undecided", "failed")
    assert first.reason == "the next look has to agree"
    same = decide(budget(**limit), segments[:2], look=2, previous=first)
    assert same.status == "undecided"
    second = decide(budget(**limit), segments, look=2, previous=first)
    assert second.status == "failed"


def test_failed_requests_are_over_any_limit():
    loop = closed_loop(lognormal(1, 4000), failed=range(0, 4000, 20))
    decision = decide(budget(p99_latency_ms=1e6), [loop], look=1)
    assert decision.status == "failed"
    assert decision.observed is None
    assert decision.reason == "200 of 4,000 requests failed: they count as over any limit"
    rare = [closed_loop(lognormal(seed, 4000), failed=[7]) for seed in range(2)]
    assert decide(budget(p99_latency_ms=100), rare, look=1).status == "passed"


def test_a_mean_with_a_failed_request_is_over_any_limit():
    loop = closed_loop(lognormal(1, 4000), failed=[7])
    decision = decide(budget(avg_latency_ms=1e6), [loop], look=1)
    assert (decision.status, decision.observed) == ("failed", None)
    assert decision.reason == "1 of 4,000 requests failed, and count as over any limit"


def test_all_failed_fails_everything():
    segments = [closed_loop([0.01] * 200, failed=range(200)) for _ in range(4)]
    for limit in ({"p50_latency_ms": 1e6}, {"avg_latency_ms": 1e6}, {"min_throughput": 0.001}):
        assert looks(budget(**limit), segments, upto=2).status == "failed"


@pytest.mark.parametrize(
    ("segments", "reason"),
    [
        ([], "no load was made"),
        ([Segment(started=0, ended=1)], "no request was sent"),
        ([closed_loop([30.0])], "1 request: too few to tell how they vary"),
        ([closed_loop([0.1, 0.2])], "2 requests: too few to tell how they vary"),
    ],
)
@pytest.mark.parametrize(
    "limit", [{"p99_latency_ms": 25}, {"avg_latency_ms": 25}, {"min_throughput": 1000}]
)
def test_what_can_decide_nothing_says_so(segments, reason, limit):
    decision = decide(budget(**limit), segments, look=1)
    assert (decision.status, decision.reason) == ("undecided", reason)


def test_even_latencies_at_the_limit_are_within_it():
    segments = [closed_loop([0.0078125] * 400) for _ in range(4)]
    assert looks(budget(p99_latency_ms=7.8125), segments, upto=2).status == "passed"
    assert looks(budget(avg_latency_ms=7.9), segments, upto=2).status == "passed"


def test_windows_decide_means_and_in_the_end_percentiles():
    segments = [windows(10.0, 12.0, 11.0, requests=1000, p99=20.0 + i) for i in range(16)]
    assert looks(budget(avg_latency_ms=13), segments, upto=4).status == "passed"
    assert looks(budget(avg_latency_ms=9), segments, upto=4).status == "failed"
    assert decide(budget(p99_latency_ms=40), segments[:5], look=1).needs == 1000
    assert decide(budget(p99_latency_ms=40), segments, look=1).status == "passed"
    assert decide(budget(p99_latency_ms=28), segments, look=1).status == "undecided"
    assert decide(budget(p99_latency_ms=19), segments, look=1).status == "failed"
    thin = [windows(10.0, 12.0, p99=20.0) for i in range(16)]
    reason = decide(budget(p99_latency_ms=40), thin, look=1).reason
    assert reason == "its windows hold too few requests for an interval"


def test_what_has_no_distribution_is_not_decided():
    with pytest.raises(ValueError, match="cpu_memory_mb is compared as it stands, not decided"):
        decide(budget(max_cpu_memory_mb=1), [], look=1)


def test_there_are_so_many_looks_and_no_more():
    for look in (0, LOOKS + 1):
        with pytest.raises(ValueError, match=f"look {look} of 6"):
            decide(budget(p99_latency_ms=1), [], look=look)


def regimes(*scales: float, requests: int = 400) -> list[Segment]:
    """Segments in which the machine was that much slower than in others."""
    return [
        closed_loop(scale * lognormal(seed, requests), 2, started=100.0 * seed)
        for seed, scale in enumerate(scales)
    ]


@pytest.mark.parametrize(
    ("scales", "limit_ms", "status"),
    [
        ((1.0, 1.6, 0.8, 1.4, 0.7), 2000, "passed"),
        ((1.0, 1.6, 0.8, 1.4), 2000, "undecided"),  # four segments bound nothing
        ((1.0, 1.6, 0.8, 1.4, 0.7), 8, "undecided"),
        ((1.0, 60.0, 0.8, 1.4, 0.7), 2000, "undecided"),
    ],
)
def test_a_limit_far_from_the_slowest_requests_is_kept_though_segments_differ(
    scales, limit_ms, status
):
    decision = decide(budget(p99_latency_ms=limit_ms), regimes(*scales), look=2, pass_seconds=0)
    assert decision.status == status


def test_a_far_limit_still_takes_as_many_requests_as_independent_ones_would() -> None:
    few = regimes(1.0, 1.6, 0.8, 1.4, 0.7, requests=120)
    assert decide(budget(p99_latency_ms=2000), few, look=2, pass_seconds=0).status == "undecided"


def test_a_failed_request_is_near_every_limit():
    segments = [*regimes(1.0, 1.6, 0.8, 1.4), closed_loop(lognormal(9, 400), 2, failed=[7])]
    assert decide(budget(p99_latency_ms=2000), segments, look=2, pass_seconds=0).status != "passed"
