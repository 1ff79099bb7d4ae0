import pytest

from pytest_triton_perf.domain.levels import Load
from pytest_triton_perf.load.windows import (
    SHORTEST_MS,
    Lesson,
    expected_rates,
    longer_window,
    longest_window,
    run_seconds,
    window_for,
)


def lesson(load: Load, rate: float, latency_s: float = 0.01) -> Lesson:
    return Lesson(load=load, rate=rate, latency_s=latency_s)


def test_three_windows_of_a_fifth_more_than_the_interval() -> None:
    assert run_seconds(500) == pytest.approx(1.8)
    assert run_seconds(window_for(Load(concurrency=8), 0.5, [])) == pytest.approx(0.5)


def test_never_shorter_than_perf_analyzer_can_report_or_than_told() -> None:
    assert window_for(Load(concurrency=8), 0, []) == SHORTEST_MS
    assert window_for(Load(concurrency=8), 0.5, [], at_least_ms=600) == 600


def test_a_low_request_rate_needs_a_long_window_from_the_start() -> None:
    assert window_for(Load(request_rate=10), 0.5, []) == pytest.approx(300)
    assert run_seconds(window_for(Load(request_rate=1000), 0.5, [])) == pytest.approx(0.5)


def test_a_fast_model_gets_the_seconds_that_were_asked_for() -> None:
    window = window_for(Load(concurrency=2), 0.5, [lesson(Load(concurrency=1), 2000)])
    assert run_seconds(window) == pytest.approx(0.5)


def test_a_slow_level_lengthens_the_window_of_the_next() -> None:
    # 2.5 requests a second at concurrency 1: at least as many at 4, a quarter of that at least
    # the other way round.
    seen = [lesson(Load(concurrency=1), 2.5, 0.4)]
    assert window_for(Load(concurrency=4), 0.5, seen) == pytest.approx(2000 * 4 / 2.5)
    assert window_for(Load(concurrency=1), 0.5, seen) == pytest.approx(3000 / 2.5)
    seen = [lesson(Load(concurrency=4), 10, 0.4)]
    assert window_for(Load(concurrency=1), 0.5, seen) == pytest.approx(3000 / 2.5)


def test_other_batch_sizes_and_kinds_of_load_teach_nothing() -> None:
    seen = [
        lesson(Load(concurrency=1, batch_size=64), 2.5),
        lesson(Load(request_rate=2.5), 2.5),
    ]
    assert window_for(Load(concurrency=4), 0, seen) == SHORTEST_MS
    assert expected_rates(Load(concurrency=4), seen) is None


def test_the_window_outlasts_the_latency_of_a_long_queue() -> None:
    seen = [lesson(Load(concurrency=1), 100)]
    # 1000 clients on a model of 100 requests a second wait 10 s each.
    assert window_for(Load(concurrency=1000), 0.5, seen) == pytest.approx(20_000)
    rates = [lesson(Load(request_rate=50), 50, latency_s=2)]
    assert window_for(Load(request_rate=100), 0.5, rates) == pytest.approx(4000)


def test_the_rates_to_expect_lie_between_those_of_other_loads() -> None:
    seen = [lesson(Load(concurrency=2), 100), lesson(Load(concurrency=8), 300)]
    assert expected_rates(Load(concurrency=4), seen) == (150, 200)
    assert expected_rates(Load(concurrency=1), seen) == (50, 100)
    assert expected_rates(Load(concurrency=64), seen) == (300, 2400)
    assert expected_rates(Load(concurrency=8), seen) == (300, 300)
    assert expected_rates(Load(request_rate=50), seen) == (50, 50)


def test_after_an_empty_window_a_longer_one_within_bounds() -> None:
    assert longer_window(250, 0.3) == 1000
    assert longer_window(250, 2) == 2500
    assert longer_window(250, 60) == 4000
    assert longer_window(20, 60) == 1600


def test_the_longest_window_leaves_time_for_the_last_requests() -> None:
    assert run_seconds(longest_window(10)) < 10
    assert run_seconds(longest_window(10, 5)) < 5
    assert longest_window(1, 5) == 0
