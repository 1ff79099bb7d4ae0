"""Where a limit breaks, on servers that are curves: latency and throughput by concurrency."""

from collections.abc import Callable, Sequence

import numpy as np
import pytest

from pytest_triton_perf.domain.bracketing import Step, next_step, out_of_time
from pytest_triton_perf.domain.budgets import Budget
from pytest_triton_perf.domain.levels import Estimate, Interval, Load, Measurement

DOUBLINGS = (1, 2, 4, 8, 16, 32, 64)
ENOUGH_S = 2.0
P99 = Budget.from_keyword("p99_latency_ms", 25)


def level(
    concurrency: int,
    p99: float,
    *,
    ci: Interval | None = None,
    wall_s: float = 0.4,
    throughput: float | None = None,
) -> Measurement:
    values = {"p99_latency_ms": Estimate(value=p99, ci=ci or (0.99 * p99, 1.01 * p99))}
    if throughput is not None:
        values["throughput"] = Estimate(value=throughput, ci=(0.99 * throughput, 1.01 * throughput))
    return Measurement(
        load=Load(concurrency=concurrency), requests=100, wall_s=wall_s, values=values
    )


class Server:
    """``p99(concurrency)``, measured with an interval that halves with four times the load.

    With ``noise``, the figure is off by that much (standard deviation, relative) at first.
    """

    def __init__(
        self,
        p99: Callable[[int], float],
        *,
        spread: float = 0.01,
        noise: float = 0.0,
        seed: int = 5,
    ) -> None:
        self._p99 = p99
        self._spread = spread
        self._noise = noise
        self._random = np.random.default_rng(seed)
        self.loaded: list[int] = []

    def measure(self, concurrency: int, wall_s: float) -> Measurement:
        self.loaded.append(concurrency)
        shrink = (0.4 / wall_s) ** 0.5
        value = self._p99(concurrency) * np.exp(self._noise * shrink * self._random.normal())
        half = np.exp(self._spread * shrink)
        return level(concurrency, value, ci=(value / half, value * half), wall_s=wall_s)


def bracket(
    server: Server, ramp: Sequence[int] = DOUBLINGS, limits: Sequence[Budget] = (P99,)
) -> tuple[Step, list[int]]:
    """Where the bracket ends, and what was loaded for it, in order."""
    levels = {concurrency: server.measure(concurrency, 0.4) for concurrency in ramp}
    server.loaded.clear()
    for _ in range(60):
        step = next_step(levels, limits, enough_s=ENOUGH_S)
        if step.concurrency is None:
            return step, server.loaded
        before = levels.get(step.concurrency)
        wall_s = 0.4 if before is None else before.wall_s + 0.4
        levels[step.concurrency] = server.measure(step.concurrency, wall_s)
    raise AssertionError("it never ends")


@pytest.mark.parametrize("edge", [*range(1, 20), 23, 31, 32, 40, 50, 63])
def test_the_highest_level_within_the_limit_is_found_to_a_tenth(edge: int) -> None:
    step, loaded = bracket(Server(lambda c: 20.0 if c <= edge else 30.0))
    assert step.kept is not None
    assert step.broken is not None
    assert step.kept <= edge < step.broken
    assert step.broken - step.kept <= max(1, 0.1 * step.kept)
    assert step.note == ""
    assert len(loaded) <= 4  # 32, 16, 8, 4: of the widest bracket


def test_bisection_halves() -> None:
    step, loaded = bracket(Server(lambda c: 20.0 if c <= 21 else 30.0))
    assert loaded == [24, 20, 22]
    assert (step.kept, step.broken) == (20, 22)


def test_a_level_that_was_asked_for_is_an_end_of_the_bracket() -> None:
    step, loaded = bracket(Server(float), [*DOUBLINGS, 26])
    assert loaded == [21, 23, 24]
    assert (step.kept, step.broken) == (24, 26)


def test_if_even_the_last_level_keeps_the_limit_it_is_the_answer() -> None:
    step, loaded = bracket(Server(lambda c: 1.0))
    assert (step, loaded) == (Step(concurrency=None, kept=64), [])


def test_where_every_level_breaks_the_limit_there_is_nothing_between() -> None:
    step, loaded = bracket(Server(lambda c: 26.0 + c))
    assert (step, loaded) == (Step(concurrency=None), [])


def test_limits_on_throughput_break_as_load_falls() -> None:
    limit = Budget.from_keyword("min_throughput", 2200)
    levels = {c: level(c, 1.0, throughput=100.0 * c) for c in DOUBLINGS}
    step = next_step(levels, [limit], enough_s=ENOUGH_S)
    assert (step.concurrency, step.kept, step.broken) == (24, 32, 16)
    levels |= {c: level(c, 1.0, throughput=100.0 * c) for c in (20, 24)}
    assert next_step(levels, [limit], enough_s=ENOUGH_S).concurrency == 22
    levels[22] = level(22, 1.0, throughput=2199.0, wall_s=2.0)
    step = next_step(levels, [limit], enough_s=ENOUGH_S)
    assert (step.concurrency, step.kept, step.broken) == (None, 24, 22)


def test_all_limits_have_to_hold() -> None:
    def measured(c: int) -> Measurement:
        average = Estimate(value=c / 2, ci=(c / 2, c / 2))
        found = level(c, float(c))
        return Measurement(
            load=found.load,
            requests=100,
            wall_s=0.4,
            values={**found.values, "avg_latency_ms": average},
        )

    limits = [P99, Budget.from_keyword("avg_latency_ms", 9.4)]
    levels = {c: measured(c) for c in DOUBLINGS}
    for concurrency in (24, 20, 18, 19):
        step = next_step(levels, limits, enough_s=ENOUGH_S)
        assert step.concurrency == concurrency
        levels[concurrency] = measured(concurrency)
    step = next_step(levels, limits, enough_s=ENOUGH_S)
    assert (step.kept, step.broken) == (18, 19)


def test_an_end_whose_interval_has_the_limit_inside_gets_load_before_the_bracket_is_halved() -> (
    None
):
    clear = {1: level(1, 10), 64: level(64, 100)}
    kept = {**clear, 8: level(8, 24, ci=(20, 30)), 16: level(16, 60)}
    assert next_step(kept, [P99], enough_s=ENOUGH_S).concurrency == 8
    broken = {**clear, 8: level(8, 20), 16: level(16, 26, ci=(20, 30))}
    assert next_step(broken, [P99], enough_s=ENOUGH_S).concurrency == 16
    # After enough load, a broken end that is still vague is halved towards all the same.
    broken[16] = level(16, 26, ci=(20, 30), wall_s=2.0)
    assert next_step(broken, [P99], enough_s=ENOUGH_S).concurrency == 12


def test_an_answer_that_stays_vague_ends_the_bisection_with_a_note() -> None:
    vague = {8: level(8, 24, ci=(20, 30), wall_s=2.0), 16: level(16, 60)}
    step = next_step(vague, [P99], enough_s=ENOUGH_S)
    assert step.concurrency is None
    assert step.kept == 8
    assert step.note == (
        "p99_latency_ms <= 25 ms breaks somewhere between concurrency 8 and 16: the interval at 8 "
        "has the limit inside"
    )


@pytest.mark.parametrize(
    ("ci", "vague"),
    [
        ((19.0, None), True),  # as far up as down: to 25.3
        ((21.0, None), False),
        ((None, 24.0), False),
        ((None, 26.0), True),
        ((None, None), True),
        ((0.0, None), True),
    ],
)
def test_an_open_end_is_taken_to_be_as_far_away_as_the_other(ci: Interval, vague: bool) -> None:
    levels = {8: level(8, 22, ci=ci), 16: level(16, 60)}
    assert next_step(levels, [P99], enough_s=ENOUGH_S).concurrency == (8 if vague else 12)


def test_a_figure_without_an_interval_counts_as_it_is() -> None:
    def plain(c: int, value: float) -> Measurement:
        values = {"p99_latency_ms": Estimate(value=value)}
        return Measurement(load=Load(concurrency=c), requests=9, wall_s=0.4, values=values)

    levels = {8: plain(8, 24.9), 16: plain(16, 25.1)}
    assert next_step(levels, [P99], enough_s=ENOUGH_S).concurrency == 12


def test_a_level_without_the_metric_does_not_keep_the_limit() -> None:
    gap = Measurement(load=Load(concurrency=16), requests=0, wall_s=0.4, values={})
    step = next_step({8: level(8, 10), 16: gap}, [P99], enough_s=ENOUGH_S)
    assert (step.kept, step.broken, step.concurrency) == (8, 16, 12)


def test_a_break_below_the_answer_is_told() -> None:
    levels = {1: level(1, 9), 2: level(2, 26), 4: level(4, 9), 5: level(5, 30)}
    step = next_step(levels, [P99], enough_s=ENOUGH_S)
    assert (step.concurrency, step.kept, step.broken) == (None, 4, 5)
    assert step.note == "p99_latency_ms <= 25 ms does not hold at concurrency 2"


def test_time_that_is_up_is_told_with_the_bracket() -> None:
    step = next_step({8: level(8, 10), 16: level(16, 60)}, [P99], enough_s=ENOUGH_S)
    assert out_of_time(step, [P99]) == (
        "p99_latency_ms <= 25 ms breaks somewhere between concurrency 8 and 16: the sweep's time "
        "is used up (--triton-perf-max-seconds)"
    )


@pytest.mark.parametrize(("noise", "least_right"), [(0.02, 0.99), (0.1, 0.9), (0.3, 0.6)])
def test_noise_ends_in_time_and_near_the_edge(noise: float, least_right: float) -> None:
    """Latency in proportion to concurrency: 25 ms at 25. Intervals are as wide as the noise."""
    near = loads = 0
    rounds = 200
    for seed in range(rounds):
        server = Server(float, spread=1.96 * noise, noise=noise, seed=seed)
        step, loaded = bracket(server)
        assert step.kept is not None
        near += abs(np.log(step.kept / 25)) < np.log(1.1) + 2 * noise
        loads = max(loads, len(loaded))
    assert near / rounds >= least_right
    assert loads <= 30
