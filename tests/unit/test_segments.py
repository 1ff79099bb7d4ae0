import re

import numpy as np
import pytest
from loops import closed_loop, lognormal

from pytest_triton_perf.domain.segments import Segment, Window, mser5


def segment(sent, answered, *, seconds=100.0, in_flight=None) -> Segment:
    return Segment(
        started=5.0,
        ended=5.0 + seconds,
        in_flight=in_flight,
        sent_s=np.array(sent, dtype=float),
        answered_s=np.array(answered, dtype=float),
    )


def test_a_segment_is_requests_or_windows():
    with pytest.raises(ValueError, match="one answer per request"):
        segment([0, 1], [1])
    window = Window(requests=1, seconds=1.0, avg_latency_ms=1.0)
    with pytest.raises(ValueError, match="either requests or windows"):
        Segment(started=0, ended=1, sent_s=np.zeros(1), answered_s=np.ones(1), windows=(window,))


def test_a_closed_loop_is_cut_to_the_time_when_all_clients_have_a_request_in_flight():
    # Two clients; the second starts at 0.5, the first does not send again after 3.0.
    steady = segment([0, 0.5, 1, 1.5, 2.5], [1, 1.5, 2.5, 3, 4], in_flight=2).steady
    assert (steady.begin_s, steady.end_s) == (0.5, 3.0)
    assert steady.sent_s.tolist() == [0.5, 1, 1.5, 2.5]
    assert steady.latency_s.tolist() == [1, 1.5, 1.5, 1.5]


def test_an_open_loop_loses_a_twentieth_of_its_time_at_both_ends():
    sent = np.arange(101.0)
    steady = segment(sent, sent + 0.5, seconds=102.0).steady
    assert (steady.begin_s, steady.end_s) == (5, 95)
    assert steady.sent_s.size == 91


def test_a_request_in_flight_counts_by_its_share():
    steady = segment([0, 1, 3], [1, 3, 4], in_flight=1).steady
    assert steady.answers_until(np.array([0, 0.5, 1, 2, 3.25, 9])).tolist() == [
        0, 0.5, 1, 1.5, 2.25, 3,
    ]  # fmt: skip


def test_the_rate_of_a_synchronous_loop_is_exact_wherever_it_is_cut():
    """Four clients and 10 ms: 400 a second, though all answers come at once."""
    steady = closed_loop([0.01] * 80, clients=4).steady
    edges = np.array([steady.begin_s, 0.0333, 0.0891, steady.end_s])
    assert np.diff(steady.answers_until(edges)) / np.diff(edges) == pytest.approx([400] * 3)


def test_slow_requests_at_the_end_are_not_lost():
    """Whoever drops what the end of the span cuts, drops slow requests first."""
    kept, dropped = [], []
    for seed in range(400):
        steady = closed_loop(lognormal(seed, 60), clients=8).steady
        within = steady.sent_s + steady.latency_s <= steady.end_s
        kept.append(steady.latency_s.mean())
        dropped.append(steady.latency_s[within].mean())
    truth = 0.001 * np.exp(0.125)
    assert np.mean(kept) == pytest.approx(truth, rel=0.02)
    assert np.mean(dropped) < 0.97 * truth


def test_failed_requests_stay_wherever_they_are():
    loop = closed_loop([0.01] * 300, failed=[0, 150, 299])
    assert np.count_nonzero(np.isinf(loop.steady.latency_s)) == 3
    latency = lognormal(4, 300)
    latency[:20] *= 10
    slow_start = closed_loop(latency, failed=[3]).steady
    assert slow_start.warm_up >= 20
    assert np.count_nonzero(np.isinf(slow_start.latency_s)) == 1


def test_a_server_that_hangs_at_the_end_has_answered_nothing_meanwhile():
    answered = np.concatenate([np.arange(1, 101) / 100, [np.inf]])
    steady = segment(np.arange(101) / 100, answered, seconds=3.0, in_flight=1).steady
    assert (steady.begin_s, steady.end_s) == (0, 3)
    assert steady.answers_until(np.array([3.0])) == [100]


def test_a_client_that_never_has_all_its_requests_in_flight_is_told():
    steady = segment([0, 0, 1, 1], [1, 1, 2, 2], in_flight=8).steady
    assert steady.notes == ("never more than 2 of 8 requests were in flight",)
    assert steady.sent_s.size == 4


def test_warm_up_is_cut_and_counted():
    latency = lognormal(1, 2000)
    assert closed_loop(latency).steady.warm_up == 0
    latency[:60] *= 5
    steady = closed_loop(latency).steady
    assert 55 <= steady.warm_up <= 75
    assert steady.latency_s.size == 2000 - steady.warm_up
    assert steady.begin_s == steady.sent_s[0] > 0


def test_much_warm_up_is_noted():
    latency = lognormal(1, 2000)
    latency[:700] *= 5
    steady = closed_loop(latency).steady
    assert 690 <= steady.warm_up <= 720
    assert steady.notes == ("more than a quarter of the requests were left out as warm-up",)


def test_a_burst_in_the_first_half_is_no_warm_up():
    latency = lognormal(1, 2000)
    latency[300:360] *= 5
    assert closed_loop(latency).steady.warm_up == 0


def test_what_settles_for_half_of_the_segment_is_not_stationary():
    latency = lognormal(2, 1000) * np.exp(-np.arange(1000) / 100)
    notes = closed_loop(latency).steady.notes
    assert notes[0] == "not stationary: latency kept settling for half of the segment or longer"


@pytest.mark.parametrize(("factor", "word"), [(2.0, "rose"), (0.5, "fell")])
def test_a_trend_is_noted(factor, word):
    latency = lognormal(3, 2000) * np.linspace(1, factor, 2000)
    assert f"latency {word} while a segment ran" in closed_loop(latency).steady.notes


def test_even_latencies_have_neither_warm_up_nor_trend():
    steady = closed_loop([0.1] * 1000).steady
    assert (steady.warm_up, steady.notes) == (0, ())


def test_few_requests_have_no_warm_up():
    assert mser5(np.array([9.0] * 9 + [1.0] * 90)) == 0


@pytest.mark.parametrize(
    ("sent", "answered", "in_flight", "reason"),
    [
        ([], [], 1, "no request was sent"),
        ([0, 1], [1, np.nan], 1, "a request has no time of sending or of answer"),
        ([0, np.inf], [1, np.inf], 1, "a request has no time of sending or of answer"),
        ([0, 1], [1, 0.5], 1, "the clock was stepped back while the load ran"),
        ([0, 1, 1.5], [1, 2.5, 2], 2, "the clock was stepped back while the load ran"),
        ([0, 1, 0.5, 1.5], [1, 1.5, 2, 2.5], 1, "stepped back .*: more requests than clients"),
        ([0, 1], [1, 3602], 1, "the clock was stepped forward while the load ran"),
    ],
)
def test_a_segment_that_cannot_be_used_says_why(sent, answered, in_flight, reason):
    steady = segment(sent, answered, in_flight=in_flight).steady
    assert steady.sent_s.size == 0
    assert re.search(reason, steady.reason)


def test_a_stall_is_no_clock_step():
    latency = np.full(300, 0.01)
    latency[100] = 1.5
    assert closed_loop(latency).steady.latency_s.max() == pytest.approx(1.5)


def test_one_request_is_a_segment():
    steady = closed_loop([30.0]).steady
    assert (steady.begin_s, steady.end_s, steady.latency_s.tolist()) == (0, 30, [30])
