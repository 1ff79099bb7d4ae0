"""The gate's statistics on simulated quads, whose truth is known; seeds are fixed."""

import math
from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest

from pytest_triton_perf.domain.gating import (
    CONFIDENCE,
    FALSE_ALARMS,
    FEWEST_QUADS,
    MOST_QUADS,
    Finding,
    decide,
    find,
)

ALLOWED = math.log1p(0.05)
Rng = np.random.Generator


def normal(rng: Rng) -> float:
    return float(rng.standard_normal())


def heavy(rng: Rng) -> float:
    return float(rng.standard_t(3)) / math.sqrt(3)


def spiky(rng: Rng) -> float:
    return float(rng.standard_normal()) * (6 if rng.random() < 0.1 else 1)


def quads(rng: Rng, true: float, sd: float, noise: Callable[[Rng], float]) -> list[float]:
    """As many as there can be; the coin makes the noise symmetric."""
    return [true + sd * noise(rng) * rng.choice([-1, 1]) for _ in range(MOST_QUADS)]


def play(values: list[float], *, gates: int = 1, allowed: float = ALLOWED) -> tuple[Finding, int]:
    """What is found when one stops as the gate does, and after how many quads."""
    count = stop(values, gates=gates, allowed=allowed)
    return find(values[:count], allowed=allowed, gates=gates), count


def stop(values: list[float], *, gates: int = 1, allowed: float = ALLOWED) -> int:
    for count in range(FEWEST_QUADS, len(values)):
        if decide(values[:count], allowed=allowed, gates=gates)[1]:
            return count
    return len(values)


def outcome_of(values: list[float], *, gates: int = 1) -> str:
    return decide(values[: stop(values, gates=gates)], allowed=ALLOWED, gates=gates)[0]


def outcomes(
    true: float,
    sd: float,
    noise: Callable[[Rng], float] = normal,
    *,
    times: int = 150,
    seed: int = 1,
    gates: int = 1,
) -> Counter[str]:
    rng = np.random.default_rng(seed)
    return Counter(outcome_of(quads(rng, true, sd, noise), gates=gates) for _ in range(times))


@pytest.mark.parametrize("noise", [normal, heavy, spiky])
@pytest.mark.parametrize("sd", [0.005, 0.05])
def test_equal_arms_raise_hardly_any_alarm(noise: Callable[[Rng], float], sd: float) -> None:
    found = outcomes(0.0, sd, noise, times=300)
    # Of 300 decisions at 1 % there are more than 7 in one of a hundred such tests.
    assert found["regressed"] <= 7
    assert found["unchanged"] > 0.8 * 300


def test_drift_within_quads_raises_no_alarm_because_a_coin_decides_their_order() -> None:
    """Each quad's second and third segment are slower: what ABBA cannot cancel, the coin can."""
    rng = np.random.default_rng(2)
    alarms = 0
    for _ in range(300):
        values = [0.03 * rng.choice([-1, 1]) + 0.002 * normal(rng) for _ in range(MOST_QUADS)]
        alarms += outcome_of(values) == "regressed"
    assert alarms <= 7


def test_many_gates_share_the_false_alarms_of_one_session() -> None:
    rng = np.random.default_rng(3)
    sessions = [
        any(outcome_of(quads(rng, 0.0, 0.03, heavy), gates=20) == "regressed" for _ in range(20))
        for _ in range(40)
    ]
    assert sum(sessions) <= 2
    assert outcomes(0.05, 0.015, gates=20)["regressed"] >= 0.95 * 150


@pytest.mark.parametrize(("sd", "noise"), [(0.005, normal), (0.015, heavy), (0.03, normal)])
def test_a_change_of_what_is_allowed_is_found(sd: float, noise: Callable[[Rng], float]) -> None:
    assert outcomes(ALLOWED, sd, noise)["regressed"] >= 0.95 * 150


def test_a_clear_change_takes_few_quads_and_equal_arms_the_fewest() -> None:
    rng = np.random.default_rng(4)
    clear = [stop(quads(rng, 0.1, 0.015, normal)) for _ in range(100)]
    equal = [stop(quads(rng, 0.0, 0.015, normal)) for _ in range(100)]
    assert np.median(clear) == FEWEST_QUADS + 1
    assert np.median(equal) == FEWEST_QUADS


def test_what_is_far_below_the_allowed_passes_however_exact_it_is_measured() -> None:
    assert outcomes(0.01, 0.001)["unchanged"] == 150


def test_a_clear_gain_is_an_improvement() -> None:
    assert outcomes(-0.1, 0.015)["improved"] >= 0.95 * 150


def test_a_noisy_machine_leaves_a_small_change_open() -> None:
    found = outcomes(0.025, 0.2, spiky)
    assert found["inconclusive"] > 0.7 * 150


@pytest.mark.parametrize("noise", [normal, heavy, spiky])
def test_the_interval_holds_the_truth_at_every_quad_at_once(noise: Callable[[Rng], float]) -> None:
    rng, always = np.random.default_rng(5), 0
    for _ in range(150):
        values = quads(rng, 0.02, 0.02, noise)
        # It holds what no quad before spoke against: the last is within all that were told.
        low, high = find(values, allowed=ALLOWED, gates=1).interval
        assert low is not None
        assert high is not None
        always += low <= 0.02 <= high
    assert always >= (CONFIDENCE - 0.02) * 150


def test_the_interval_narrows_and_is_not_bounded_by_few_quads() -> None:
    values = quads(np.random.default_rng(6), 0.0, 0.02, normal)
    few, some, many = (find(values[:n], allowed=ALLOWED, gates=1) for n in (3, 10, 32))
    assert few.interval == (None, None)
    for earlier, later in ((8, 9), (10, 20), (20, 32)):
        first, second = (find(values[:n], allowed=ALLOWED, gates=1) for n in (earlier, later))
        assert width(second) <= width(first) + 1e-3
    assert width(many) < width(some) < 0.2
    low, high = many.interval
    assert low is not None
    assert high is not None
    assert low < many.change < high


def width(finding: Finding) -> float:
    low, high = finding.interval
    assert low is not None
    assert high is not None
    return high - low


def test_the_interval_of_what_is_unchanged_excludes_what_is_allowed() -> None:
    rng, beyond = np.random.default_rng(11), 0
    for _ in range(50):
        finding, _ = play(quads(rng, 0.0, 0.025, heavy))
        assert finding.outcome == "unchanged"
        assert finding.interval[1] is not None
        beyond += finding.interval[1] > ALLOWED
    assert beyond <= 1


def test_a_regression_has_an_interval_above_nothing() -> None:
    rng = np.random.default_rng(7)
    for _ in range(50):
        finding, _ = play(quads(rng, 0.08, 0.02, heavy))
        assert finding.outcome == "regressed"
        assert finding.interval[0] is not None
        assert finding.interval[0] > 0


@pytest.mark.parametrize(("sd", "noise"), [(0.004, normal), (0.02, heavy), (0.05, normal)])
def test_the_smallest_detectable_change_agrees_with_what_is_detected(
    sd: float, noise: Callable[[Rng], float]
) -> None:
    rng = np.random.default_rng(8)
    told = [play(quads(rng, 0.0, sd, noise))[0].detectable for _ in range(50)]
    size = float(np.median([pct for pct in told if pct is not None]))
    assert outcomes(size, sd, noise, seed=9)["regressed"] >= 0.88 * 150
    assert outcomes(size / 2, sd, noise, seed=10)["regressed"] < 0.75 * 150


def test_the_change_is_within_its_interval_however_wild_the_quads_are() -> None:
    rng = np.random.default_rng(12)
    for _ in range(150):
        finding, _ = play(quads(rng, 0.0, 0.08, spiky))
        low, high = finding.interval
        assert low is None or low <= finding.change
        assert high is None or finding.change <= high


def test_one_wild_quad_decides_nothing() -> None:
    calm = [0.002, -0.001, 0.0, 0.001, -0.002, 0.001]
    finding = find([*calm, 3.0], allowed=ALLOWED, gates=1)
    assert finding.outcome == "inconclusive"
    assert abs(finding.change) < 0.01
    assert outcome_of([*calm, 3.0, *calm, *calm]) == "unchanged"


def test_fewer_quads_than_the_fewest_decide_nothing() -> None:
    finding = find([0.2] * (FEWEST_QUADS - 1), allowed=ALLOWED, gates=1)
    assert (finding.outcome, finding.settled) == ("inconclusive", False)


@pytest.mark.parametrize(("size", "outcome"), [(0.0, "unchanged"), (0.09, "regressed")])
def test_quads_without_any_spread_as_of_memory(size: float, outcome: str) -> None:
    finding = find([size] * 8, allowed=ALLOWED, gates=1)
    assert finding.outcome == outcome
    assert finding.change == size


def test_the_evidence_that_an_alarm_takes_is_what_the_documentation_says() -> None:
    assert FALSE_ALARMS == 0.01
    # Of the clearest quads, eight are enough for one gate; each doubles what one has at most.
    needed = {gates: stop([0.5] * 20, gates=gates) for gates in (1, 20, 100)}
    assert needed == {1: 8, 20: 13, 100: 16}
