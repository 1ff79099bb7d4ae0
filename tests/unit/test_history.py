"""What the past says of a new value: replay of made-up sessions, with fixed seeds."""

import math

import numpy as np
import pytest

from pytest_triton_perf.domain.history import FEWEST, Judgement, judge


def sessions(rng: np.random.Generator, count: int, spread: float = 0.02) -> list[float]:
    return list(rng.normal(5.0, spread, count))


def outcomes(values: list[float], first: int = FEWEST) -> list[Judgement]:
    """Each value judged by all before it."""
    return [judge(values[:place], values[place]) for place in range(first, len(values))]


def test_fewer_than_ten_sessions_decide_nothing() -> None:
    past = sessions(np.random.default_rng(0), FEWEST - 1)
    found = judge(past, past[0] + 1)
    assert (found.outcome, found.sessions, found.interval) == ("inconclusive", FEWEST - 1, None)
    assert found.change == pytest.approx(past[0] + 1 - np.mean(past))
    assert judge([1.0], 2.0).change == 1


def test_sessions_like_those_before_are_rarely_suspect() -> None:
    rng = np.random.default_rng(1)
    found = [judge(sessions(rng, 20), sessions(rng, 1)[0]) for _ in range(1000)]
    share = sum(each.outcome == "suspect" for each in found) / len(found)
    assert 0.003 < share < 0.02
    # The interval holds a further session with 95 %.
    inside = [each.interval[0] <= 0 <= each.interval[1] for each in found if each.interval]
    assert np.mean(inside) == pytest.approx(0.95, abs=0.015)


def test_a_whole_history_of_equal_sessions_hardly_alarms() -> None:
    rng = np.random.default_rng(2)
    found = [each for _ in range(15) for each in outcomes(sessions(rng, 40))]
    assert sum(each.outcome == "suspect" for each in found) / len(found) < 0.025


def test_what_is_said_to_be_found_is_found() -> None:
    rng = np.random.default_rng(3)
    seen = []
    for _ in range(300):
        past = sessions(rng, 20)
        detectable = judge(past, past[0]).detectable
        assert detectable is not None
        seen.append(judge(past, 5.0 + rng.normal(0, 0.02) + detectable).outcome == "suspect")
    assert np.mean(seen) > 0.9


def test_a_step_is_suspect_until_three_sessions_in_a_row_have_it() -> None:
    values = [5.0 + 0.004 * (-1) ** i for i in range(20)] + [5.1] * 6
    found = outcomes(values)
    assert [each.outcome for each in found] == ["unchanged"] * 10 + ["suspect"] * 3 + [
        "unchanged"
    ] * 3
    assert [each.steps for each in found[-3:]] == [1, 1, 1]
    assert (found[-1].first, found[-1].sessions) == (20, 5)
    assert found[10].change == pytest.approx(0.1, abs=0.002)


def test_one_wild_session_changes_nothing() -> None:
    values = [5.0 + 0.004 * (-1) ** i for i in range(20)]
    found = judge([*values[:10], 6.0, *values[10:]], 5.03)
    assert (found.outcome, found.steps, found.sessions) == ("suspect", 0, 20)
    assert judge([*values[:10], 6.0, *values[10:], 4.0, 6.0], 5.0).steps == 0


def test_what_became_faster_is_improved() -> None:
    values = [5.0 + 0.004 * (-1) ** i for i in range(20)]
    assert judge(values, 4.9).outcome == "improved"


@pytest.mark.parametrize("seed", range(10))
def test_a_slow_drift_is_told_before_it_is_a_tenth(seed: int) -> None:
    """0.3 % a session: none of them is out of line with those before it."""
    rng = np.random.default_rng(seed)
    values = [5.0 + 0.003 * max(0, i - 10) + rng.normal(0, 0.01) for i in range(60)]
    told = [i + FEWEST for i, each in enumerate(outcomes(values)) if each.outcome == "suspect"]
    assert told
    assert 0.003 * (told[0] - 10) < 0.1
    # And it goes on being told.
    crept = judge(values[:50], values[50])
    assert crept.outcome == "suspect" or crept.steps


def test_sessions_that_agree_to_the_last_digit_are_taken_for_lucky() -> None:
    found = judge([5.0] * 10, 5.01)
    assert found.outcome == "unchanged"
    assert found.detectable is not None
    assert found.detectable > 0.02
    assert judge([5.0] * 10, 5.0 + math.log(1.05)).outcome == "suspect"
