import math
from dataclasses import replace

import numpy as np
import pytest
from loops import closed_loop, lognormal, windows
from scipy import stats
from scipy.special import betaincinv, ndtri, stdtrit

from pytest_triton_perf.domain.estimates import (
    Inflation,
    estimate,
    inflation,
    percentile_interval_ms,
)
from pytest_triton_perf.domain.levels import Estimate
from pytest_triton_perf.domain.metrics import METRICS, estimate_text, find_metric
from pytest_triton_perf.domain.pooling import pool
from pytest_triton_perf.domain.segments import Segment

PERCENTILES = (50, 90, 95, 99)


def segments(count: int, requests: int, clients: int = 1) -> list[Segment]:
    return [closed_loop(lognormal(seed, requests), clients) for seed in range(count)]


@pytest.mark.parametrize(
    ("found", "published"),
    [
        # Clopper and Pearson, Biometrika 26 (1934): 2 of 10 lies in 0.025 .. 0.556 at 95 %.
        (betaincinv(2, 9, 0.025), 0.0252),
        (betaincinv(3, 8, 0.975), 0.5561),
        (stdtrit(9, 0.975), 2.2622),
        (stdtrit(19, 0.995), 2.8609),
        (ndtri(0.975), 1.9600),
    ],
)
def test_quantiles_are_those_of_the_tables(found, published):
    assert found == pytest.approx(published, abs=5e-5)


@pytest.mark.parametrize(("percentile", "count"), [(50, 100), (95, 400), (99, 1000), (99, 5000)])
def test_the_interval_of_independent_requests_is_the_binomial_one(percentile, count):
    sample = pool([closed_loop(np.arange(1, count + 1) / 1000)])
    low, high = percentile_interval_ms(sample, percentile, 0.025, Inflation(now=1.0, later=1.0))
    exact = stats.binomtest(count * percentile // 100, count).proportion_ci(0.95, "exact")
    assert low == pytest.approx(math.floor(exact.low * count))
    assert high == pytest.approx(math.ceil(exact.high * count))


def test_p99_is_bounded_from_368_independent_requests_on():
    def high(count):
        sample = pool([closed_loop(lognormal(1, count))])
        return percentile_interval_ms(sample, 99, 0.025, Inflation(now=1.0, later=1.0))[1]

    assert high(367) is None
    assert high(368) is not None


def test_an_unbounded_end_says_what_it_needs():
    found = estimate(segments(1, 300), PERCENTILES).values["p99_latency_ms"]
    assert found.ci[0] > 0
    assert found.ci[1] is None
    sample = pool(segments(1, 300))
    enough = math.ceil(368 * inflation(sample, 99, 0.025).later)
    assert found.needs == pytest.approx(enough - 300, abs=2)
    longer = [
        estimate([closed_loop(lognormal(seed, 300 + 2 * found.needs))], (99,)) for seed in range(9)
    ]
    bounded = [one for one in longer if one.values["p99_latency_ms"].ci[1] is not None]
    assert len(bounded) >= 7


def test_throughput_and_mean_of_a_closed_loop_are_one():
    found = estimate(segments(3, 2000, clients=4), PERCENTILES).values
    product = found["throughput"].value * found["avg_latency_ms"].value / 1000
    assert product == pytest.approx(4, rel=0.01)


def test_a_batch_is_so_many_inferences():
    single = closed_loop([0.01] * 100)
    batched = closed_loop([0.01] * 100, batch_size=8)
    assert estimate([single], ()).values["throughput"].value == pytest.approx(100)
    assert estimate([batched], ()).values["throughput"].value == pytest.approx(800)


def test_a_higher_confidence_is_a_wider_interval():
    sample = segments(4, 1000)
    usual, sure = (estimate(sample, (50,), level).values for level in (0.95, 0.99))
    for metric in usual:
        assert sure[metric].ci[0] < usual[metric].ci[0]
        assert usual[metric].ci[1] < sure[metric].ci[1]


def test_requests_that_come_in_bunches_say_less():
    def factors(each, bunch):
        loops = [closed_loop(np.repeat(lognormal(seed, each), bunch)) for seed in range(15)]
        return [inflation(pool([loop]), 95, 0.025).later for loop in loops]

    assert 1.1 < np.median(factors(4000, 1)) < 2
    assert 7 < np.median(factors(500, 8)) < 16


def test_segments_that_differ_widen_every_interval():
    same = segments(6, 500)
    apart = [closed_loop(lognormal(seed, 500, 0.001 * (1 + 0.3 * (seed % 2)))) for seed in range(6)]
    narrow, wide = (estimate(s, (50,)).values for s in (same, apart))
    for metric in narrow:
        assert width(wide[metric]) > 2 * width(narrow[metric])


def width(found: Estimate) -> float:
    return (found.ci[1] - found.ci[0]) / found.value


def test_no_load_has_no_figures():
    found = estimate([], (99,))
    assert found.values == {}
    assert found.missing == dict.fromkeys(
        ("throughput", "avg_latency_ms", "p99_latency_ms"), "no load was made"
    )


def test_only_segments_that_cannot_be_used_say_why():
    stepped = Segment(
        started=0, ended=1, in_flight=1, sent_s=np.zeros(1), answered_s=np.array([3600.0])
    )
    found = estimate([stepped, Segment(started=0, ended=1)], (99,))
    assert found.missing["throughput"] == (
        "the clock was stepped forward while the load ran; no request was sent"
    )
    beside = estimate([stepped, *segments(1, 100)], (99,))
    assert beside.requests == 100
    assert beside.notes == (
        "not used: the clock was stepped forward while the load ran (1 of 2 segments)",
    )


def test_one_request_is_a_figure_without_bounds():
    found = estimate([closed_loop([30.0])], (50, 99)).values
    assert found["throughput"].value == pytest.approx(1 / 30)
    assert found["p99_latency_ms"].value == found["avg_latency_ms"].value == 30_000
    assert {figure.ci for figure in found.values()} == {(None, None)}
    assert all(figure.needs > 90 for figure in found.values())


def test_one_request_at_a_given_rate_has_no_throughput():
    found = estimate(
        [Segment(started=0, ended=1, sent_s=np.zeros(1), answered_s=np.ones(1))], (50,)
    )
    assert found.missing == {"throughput": "one request at a given rate has no throughput"}
    assert found.values["p50_latency_ms"].value == 1000


def test_two_requests_bound_nothing():
    found = estimate([closed_loop([0.1, 0.2])], (50,)).values
    assert found["avg_latency_ms"].value == pytest.approx(150)
    assert {figure.ci for figure in found.values()} == {(None, None)}


def test_all_failed_is_no_latency_and_no_throughput():
    found = estimate([closed_loop([0.01] * 50, failed=range(50))], (50, 99))
    assert found.values == {"throughput": Estimate(value=0.0, ci=(0.0, 0.0))}
    assert found.missing["p50_latency_ms"] == (
        "50 of 50 requests failed: p50 is beyond any latency"
    )
    assert found.notes == ("50 of 50 requests failed",)


def test_failed_requests_are_the_slowest_ones():
    latency = np.arange(1, 1001) / 1000
    found = estimate([closed_loop(latency, failed=range(20))], (50, 95, 99))
    assert found.missing == {
        "avg_latency_ms": "20 of 1,000 requests failed; a mean of the others would hide them",
        "p99_latency_ms": "20 of 1,000 requests failed: p99 is beyond any latency",
    }
    assert found.values["p95_latency_ms"].value == pytest.approx(970)
    whole = estimate([closed_loop(latency)], ()).values["throughput"].value
    assert found.values["throughput"].value < whole


def test_even_latencies_have_intervals_without_width():
    found = estimate([closed_loop([0.01] * 1000, 4)], (50, 99)).values
    for metric, value in (("p50_latency_ms", 10), ("avg_latency_ms", 10), ("throughput", 400)):
        assert found[metric].ci == pytest.approx((value, value))
        assert found[metric].value == pytest.approx(value)


def test_percentiles_of_windows_are_not_those_of_the_calm_ones_only():
    calm, silent = windows(10.0, p99=12.0), windows(200.0)
    assert estimate([calm], (99,)).values["p99_latency_ms"].value == 12
    found = estimate([calm, silent], (99,))
    assert found.missing == {
        "p99_latency_ms": "in some windows hardly a request was answered: the percentiles of the "
        "others would hide them"
    }
    assert found.values["avg_latency_ms"].value == 105


def test_windows_give_batch_means():
    found = estimate([windows(10.0, 12.0, 11.0, 11.0, requests=500)], (99,))
    assert found.values["throughput"] == Estimate(value=500.0, ci=(500.0, 500.0))
    average = found.values["avg_latency_ms"]
    assert average.value == pytest.approx(11)
    half = stats.t.ppf(0.975, 3) * np.std([10, 12, 11, 11], ddof=1) / 2
    assert average.ci == pytest.approx((11 * np.exp(-half / 11), 11 * np.exp(half / 11)))
    assert found.missing == {
        "p99_latency_ms": "single requests were not recorded, and no window has its p99"
    }
    assert found.requests == 2000


def test_windows_without_an_answer_have_no_latency():
    found = estimate([windows(0.0, 0.0, requests=0)], (50,))
    assert found.values == {"throughput": Estimate(value=0.0, ci=(0.0, 0.0))}
    assert found.missing["avg_latency_ms"] == "no request was answered"


def test_percentiles_of_windows_have_the_interval_of_the_sign_test():
    few = [windows(1.0, requests=1000, p99=9.0 + i) for i in range(5)]
    found = estimate(few, (99,)).values["p99_latency_ms"]
    assert found == Estimate(value=11.0, ci=(None, None), needs=5000)
    many = [windows(1.0, requests=1000, p99=9.0 + i) for i in range(10)]
    assert estimate(many, (99,)).values["p99_latency_ms"] == Estimate(value=13.5, ci=(9.0, 18.0))
    thin = [windows(1.0, requests=999, p99=9.0 + i) for i in range(10)]
    assert estimate(thin, (99,)).values["p99_latency_ms"] == Estimate(value=13.5)


def test_short_windows_do_not_hide_what_long_ones_tell():
    many = [windows(1.0, requests=1200, p99=9.0 + i) for i in range(10)]
    first = windows(1.0, requests=360, p99=2.0)
    short = replace(first, windows=tuple(replace(w, seconds=0.3) for w in first.windows))
    found = estimate([short, *many], (99,)).values["p99_latency_ms"]
    assert found == Estimate(value=13.5, ci=(9.0, 18.0))


def test_a_window_is_not_left_out_for_how_slow_the_server_was():
    quick = [windows(1.0, requests=1200, p99=9.0) for _ in range(9)]
    slow = windows(1.0, requests=200, p99=90.0)
    found = estimate([*quick, slow], (99,)).values["p99_latency_ms"]
    assert found.ci == (9.0, 90.0)


@pytest.mark.parametrize("seed", range(20))
def test_an_interval_holds_its_figure(seed):
    rng = np.random.default_rng(seed)
    clients = int(rng.integers(1, 9))
    sample = [
        closed_loop(lognormal(100 * seed + i, int(rng.integers(1, 400))), clients, batch_size=2)
        for i in range(int(rng.integers(1, 14)))
    ]
    for figure in estimate(sample, PERCENTILES).values.values():
        low, high = figure.ci
        assert low is None or 0 <= low <= figure.value
        assert high is None or figure.value <= high < math.inf


@pytest.mark.parametrize(
    ("figure", "text"),
    [
        (Estimate(value=23.1), "23.10 ms"),
        (Estimate(value=23.1, ci=(21.8, 25.9)), "23.10 ms [21.80, 25.90]"),
        (
            Estimate(value=23.1, ci=(21.8, None), needs=1_934),
            "23.10 ms [21.80, ∞) needs about 1,900 more requests",
        ),
        (
            Estimate(value=23.1, ci=(None, None), needs=1),
            "23.10 ms [0, ∞) needs about 1 more request",
        ),
        (Estimate(value=23.1, ci=(21.8, None)), "23.10 ms [21.80, ∞)"),
    ],
)
def test_how_a_figure_with_its_interval_reads(figure, text):
    assert estimate_text(find_metric("p99_latency_ms"), figure) == text


def test_throughput_reads_in_its_own_unit():
    figure = Estimate(value=1234.5, ci=(1200.0, 1300.0))
    assert estimate_text(METRICS["throughput"], figure) == "1,234.5 infer/s [1,200.0, 1,300.0]"
