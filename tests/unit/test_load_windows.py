import pytest

from pytest_triton_perf.domain.levels import Load
from pytest_triton_perf.load.windows import (
    BASE_MS,
    Lesson,
    enough_window,
    first_window,
    longer_window,
    longest_window,
    run_seconds,
)


def lesson(load: Load, rate: float, latency_s: float = 0.01) -> Lesson:
    return Lesson(load=load, rate=rate, latency_s=latency_s)


def test_three_windows_of_a_fifth_more_than_the_interval() -> None:
    assert run_seconds(500) == pytest.approx(1.8)


def test_without_experience_the_base_window() -> None:
    assert first_window(Load(concurrency=8), []) == BASE_MS
    assert first_window(Load(concurrency=8), [], at_least_ms=600) == 600


def test_a_low_request_rate_needs_a_long_window_from_the_start() -> None:
    window = first_window(Load(request_rate=10), [])
    assert 10 * run_seconds(window) == pytest.approx(120)
    assert first_window(Load(request_rate=1000), []) == BASE_MS


def test_a_fast_model_keeps_the_base_window() -> None:
    assert first_window(Load(concurrency=2), [lesson(Load(concurrency=1), 2000)]) == BASE_MS


def test_a_slow_level_lengthens_the_window_of_the_next() -> None:
    # 2.5 requests a second at concurrency 1: at least as many at 4, a quarter of that at least
    # the other way round.
    seen = [lesson(Load(concurrency=1), 2.5, 0.4)]
    assert 2.5 * run_seconds(first_window(Load(concurrency=4), seen)) == pytest.approx(120)
    seen = [lesson(Load(concurrency=4), 10, 0.4)]
    assert 2.5 * run_seconds(first_window(Load(concurrency=1), seen)) == pytest.approx(120)


def test_other_batch_sizes_and_kinds_of_load_teach_nothing() -> None:
    seen = [
        lesson(Load(concurrency=1, batch_size=64), 2.5),
        lesson(Load(request_rate=2.5), 2.5),
    ]
    assert first_window(Load(concurrency=4), seen) == BASE_MS


def test_the_window_outlasts_the_latency_of_a_long_queue() -> None:
    seen = [lesson(Load(concurrency=1), 100)]
    # 1000 clients on a model of 100 requests a second wait 10 s each.
    assert first_window(Load(concurrency=1000), seen) == pytest.approx(20_000)
    assert enough_window(1000, 3) == pytest.approx(6000)
    rates = [lesson(Load(request_rate=50), 50, latency_s=2)]
    assert first_window(Load(request_rate=100), rates) == pytest.approx(4000)


def test_after_an_empty_window_a_longer_one_within_bounds() -> None:
    assert longer_window(250, 0.3) == 1000
    assert longer_window(250, 2) == 2500
    assert longer_window(250, 60) == 4000


def test_the_longest_window_leaves_time_for_the_last_requests() -> None:
    assert run_seconds(longest_window(10)) < 10
    assert run_seconds(longest_window(10, 5)) < 5
    assert longest_window(1, 5) == 0
