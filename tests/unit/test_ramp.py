import pytest

from pytest_triton_perf.domain.levels import Estimate
from pytest_triton_perf.domain.ramp import TOP, next_concurrency


def ramp(*values: float, spread: float = 0.01) -> dict[int, Estimate]:
    """Throughput at 1, 2, 4, …, each with an interval of plus and minus ``spread``."""
    return {
        2**i: Estimate(value=v, ci=(v * (1 - spread), v * (1 + spread)))
        for i, v in enumerate(values)
    }


def measured(truth: list[float], spread: float = 0.01) -> list[int]:
    """The levels that are measured on a server with that throughput at 1, 2, 4, …"""
    seen: dict[int, Estimate] = {}
    while (concurrency := next_concurrency(seen)) is not None:
        step = min(len(seen), len(truth) - 1)
        seen[concurrency] = ramp(truth[step], spread=spread)[1]
    return list(seen)


def test_it_starts_at_one() -> None:
    assert next_concurrency({}) == 1


def test_it_follows_a_server_that_doubles_to_the_top() -> None:
    assert measured([100.0 * 2**i for i in range(11)]) == [2**i for i in range(11)]
    assert TOP == 1024


def test_it_stops_two_doublings_after_the_plateau_began() -> None:
    assert measured([100, 200, 390, 400]) == [1, 2, 4, 8, 16]


def test_one_flat_step_is_no_plateau() -> None:
    assert measured([100, 100, 200, 400, 400]) == [1, 2, 4, 8, 16, 32]


def test_throughput_that_falls_is_no_gain() -> None:
    assert measured([100, 90, 80]) == [1, 2, 4]


@pytest.mark.parametrize(
    ("gain", "spread", "goes_on"),
    [
        (1.04, 0.001, False),  # certainly less than 5 %
        (1.06, 0.001, True),
        (1.04, 0.015, True),  # a gain, and it may be more than 5 %
        (1.03, 0.10, False),  # not a gain that these intervals show
        (1.06, 0.10, True),
    ],
)
def test_the_intervals_decide_what_is_flat(gain: float, spread: float, goes_on: bool) -> None:
    levels = ramp(100.0, 100.0, 100.0 * gain, spread=spread)
    assert (next_concurrency(levels) is not None) == goes_on


def test_a_level_beside_the_doublings_does_not_count() -> None:
    assert next_concurrency({**ramp(100.0, 200.0), 3: Estimate(value=1e9)}) == 4


def test_without_intervals_the_values_decide() -> None:
    levels = {1: Estimate(value=100), 2: Estimate(value=104), 4: Estimate(value=104)}
    assert next_concurrency(levels) is None
    assert next_concurrency({**levels, 2: Estimate(value=106)}) == 8
