"""Which level is loaded, for how long and how often: on a server that is only arithmetic."""

import itertools
from collections.abc import Sequence

import numpy as np
import pytest

from pytest_triton_perf import measuring
from pytest_triton_perf.domain.budgets import Budget
from pytest_triton_perf.domain.levels import Load
from pytest_triton_perf.domain.segments import Segment
from pytest_triton_perf.errors import LoadError
from pytest_triton_perf.load.base import LoadReport
from pytest_triton_perf.measuring import FIRST_S, MeasuredLevel, Measuring, Rules

ONE, TWO, FOUR = (Load(concurrency=c) for c in (1, 2, 4))


class Clock:
    """Time that passes only while load is made."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


class Server:
    """Answers after a lognormal time around ``latency_ms`` at each concurrency."""

    def __init__(
        self, clock: Clock, latency_ms: dict[int, float], *, startup_s: float = 0.1
    ) -> None:
        self._clock = clock
        self._latency_ms = latency_ms
        self._startup_s = startup_s
        self._random = np.random.default_rng(7)
        self.made: list[tuple[Load, float]] = []

    def make(self, load: Load, seconds: float, max_seconds: float) -> LoadReport:
        assert load.concurrency is not None
        self.made.append((load, seconds))
        started = self._clock.now
        self._clock.now += seconds + self._startup_s
        assert seconds <= max_seconds, "more load was asked for than there was time"
        mean_s = self._latency_ms[load.concurrency] / 1000
        count = int(seconds / mean_s)
        sent, answered = [], []
        for _ in range(load.concurrency):  # each client sends when it has its answer
            took = mean_s * self._random.lognormal(0, 0.2, count)
            ends = started + np.cumsum(took)
            sent.append(ends - took)
            answered.append(ends)
        order = np.argsort(np.concatenate(answered))
        segment = Segment(
            started=started,
            ended=started + seconds,
            in_flight=load.concurrency,
            sent_s=np.concatenate(sent)[order],
            answered_s=np.concatenate(answered)[order],
        )
        return LoadReport(segment=segment, server_ms={}, missing={})


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(measuring.time, "monotonic", clock.monotonic)
    return clock


def sweep(
    server: Server,
    loads: Sequence[Load],
    *budgets: Budget,
    auto: bool = False,
    rules: Rules | None = None,
) -> tuple[Measuring, list[Load]]:
    """What was measured, and the levels in the order in which they were done."""
    done: list[Load] = []

    def note(level: MeasuredLevel) -> None:
        done.append(level.load)

    swept = Measuring(
        loads=loads,
        auto=auto,
        budgets=budgets,
        rules=rules or Rules(),
        make=server.make,
        done=note,
    )
    swept.run()
    return swept, done


def budget(at: dict[str, float] | None = None, **limit: float) -> Budget:
    ((name, value),) = limit.items()
    return Budget.from_keyword(name, value, at)


def statuses(swept: Measuring, of: Budget) -> dict[Load, str]:
    return {load: decision.status for load, decision in swept.decisions(of).items()}


def test_without_budgets_each_level_is_loaded_once_and_briefly(clock: Clock) -> None:
    server = Server(clock, {1: 1, 2: 1, 4: 1})
    swept, done = sweep(server, [ONE, TWO, FOUR])
    assert server.made == [(ONE, FIRST_S), (TWO, FIRST_S), (FOUR, FIRST_S)]
    assert done == [level.load for level in swept.levels] == [ONE, TWO, FOUR]


def test_a_clear_pass_takes_the_floor_in_segments_that_are_apart(clock: Clock) -> None:
    limit = budget(p99_latency_ms=10)
    server = Server(clock, {1: 1, 2: 1})
    swept, _ = sweep(server, [ONE, TWO], limit)
    assert statuses(swept, limit) == {ONE: "passed", TWO: "passed"}
    assert [load for load, _ in server.made] == [ONE, TWO, *[TWO, ONE] * 4]
    assert [level.loaded_s for level in swept.levels] == [pytest.approx(2.0)] * 2


def test_a_level_that_no_budget_is_about_gets_no_more(clock: Clock) -> None:
    limit = budget({"concurrency": 2}, p99_latency_ms=10)
    server = Server(clock, {1: 1, 2: 1, 4: 1})
    swept, _ = sweep(server, [ONE, TWO, FOUR], limit)
    assert [load for load, _ in server.made] == [ONE, TWO, FOUR, *[TWO] * 4]
    assert statuses(swept, limit) == {TWO: "passed"}


def test_one_clear_failure_settles_the_budget_for_all_levels(clock: Clock) -> None:
    limit = budget(p99_latency_ms=10)
    server = Server(clock, {1: 1, 2: 1, 4: 20})
    swept, done = sweep(server, [ONE, TWO, FOUR], limit)
    assert statuses(swept, limit)[FOUR] == "failed"
    assert {load for load, _ in server.made[3:]} <= {FOUR}
    assert set(done) == {ONE, TWO, FOUR}


def test_the_time_goes_to_the_borderline_level(clock: Clock) -> None:
    # The p99 of lognormal(0, 0.2) is 1.593 times its median.
    limit = budget(p99_latency_ms=1.6)
    server = Server(clock, {1: 0.5, 2: 1.0})
    swept, _ = sweep(server, [ONE, TWO], limit, rules=Rules(max_seconds=20))
    one, two = swept.levels
    assert statuses(swept, limit) == {ONE: "passed", TWO: "undecided"}
    assert one.loaded_s < 5
    assert two.loaded_s > 10
    assert clock.now - 1000 < 20 + 1
    assert swept.decisions(limit)[TWO].needs


def test_a_throughput_takes_two_looks_that_agree(clock: Clock) -> None:
    limit = budget(min_throughput=100)
    server = Server(clock, {1: 1})
    swept, _ = sweep(server, [ONE], limit)
    assert statuses(swept, limit) == {ONE: "passed"}
    assert swept.levels[0].looks == 2


def test_a_budget_that_is_compared_gets_the_floor_too(clock: Clock) -> None:
    limit = budget(max_cpu_memory_mb=100)
    server = Server(clock, {1: 1, 2: 1})
    swept, _ = sweep(server, [ONE, TWO], limit)
    assert [level.loaded_s for level in swept.levels] == [pytest.approx(2.0)] * 2
    assert swept.decisions(limit) == {}


def test_a_level_is_looked_at_only_as_often_as_its_error_rate_allows_for(clock: Clock) -> None:
    rules = Rules(max_seconds=30, floor_seconds=2)
    limit = budget(p99_latency_ms=1.593)
    swept, _ = sweep(Server(clock, {1: 1.0}), [ONE], limit, rules=rules)
    (level,) = swept.levels
    assert level.looks <= rules.looks == 9
    assert statuses(swept, limit) == {ONE: "undecided"}


def test_a_fast_model_is_loaded_in_segments_that_can_be_read(clock: Clock) -> None:
    limit = budget(p99_latency_ms=0.032)
    server = Server(clock, {1: 0.02})
    sweep(server, [ONE], limit, rules=Rules(max_seconds=10))
    assert max(seconds for _, seconds in server.made) * 50_000 < 31_000


def test_a_slow_model_gets_its_share_of_the_time_and_no_more(clock: Clock) -> None:
    asked: list[float] = []

    class Slow(Server):
        def make(self, load: Load, seconds: float, max_seconds: float) -> LoadReport:
            asked.append(max_seconds)
            return super().make(load, 10.0, max_seconds)

    limit = budget(p99_latency_ms=50_000)
    server = Slow(clock, {1: 500, 2: 500})
    _, done = sweep(server, [ONE, TWO], limit, rules=Rules(max_seconds=40))
    assert asked[0] == pytest.approx(20)
    assert clock.now - 1000 <= 41
    assert set(done) == {ONE, TWO}


def test_what_was_measured_before_an_error_is_kept(clock: Clock) -> None:
    server = Server(clock, {1: 1, 2: 1})

    def make(load: Load, seconds: float, max_seconds: float) -> LoadReport:
        if load == TWO:
            raise LoadError("it hung")
        return server.make(load, seconds, max_seconds)

    swept = Measuring(
        loads=[ONE, TWO], auto=False, budgets=[], rules=Rules(), make=make, done=lambda _: None
    )
    with pytest.raises(LoadError, match="it hung"):
        swept.run()
    assert [level.load for level in swept.levels] == [ONE]


def test_an_automatic_ramp_doubles_until_the_plateau_for_each_batch_size(clock: Clock) -> None:
    # Four clients saturate it: latency grows with every one that is added.
    latency_ms = {c: 2.0 * max(1, c / 4) for c in (1, 2, 4, 8, 16, 32)}
    batches = [Load(concurrency=1), Load(concurrency=1, batch_size=8)]
    swept, _ = sweep(Server(clock, latency_ms), batches, auto=True)
    found = [(level.load.batch_size, level.load.concurrency) for level in swept.levels]
    assert sorted(found) == list(itertools.product([1, 8], [1, 2, 4, 8, 16]))


@pytest.mark.parametrize(("floor", "max_seconds", "looks"), [(2, 120, 13), (2, 2, 2), (3, 1, 2)])
def test_the_looks_fill_the_time(floor: float, max_seconds: float, looks: int) -> None:
    rules = Rules(floor_seconds=floor, max_seconds=max_seconds)
    assert rules.looks == looks
    assert rules.loaded_s(looks) >= max_seconds or looks == 2


def test_more_levels_are_measured_when_asked_for_with_their_budgets(clock: Clock) -> None:
    limit = budget(p99_latency_ms=10)
    server = Server(clock, {1: 1, 2: 1, 3: 1})
    swept, done = sweep(server, [ONE, TWO], limit)
    server.made.clear()
    three = Load(concurrency=3)
    wanted = iter([three, ONE])
    assert swept.measure_more(lambda: next(wanted, None))
    # A new level, another segment of one that was there, and what the budget at the new one takes.
    assert [load for load, _ in server.made] == [three, ONE, *[three] * 4]
    assert statuses(swept, limit) == {ONE: "passed", TWO: "passed", three: "passed"}
    assert done[-1] == three


def test_time_that_the_test_takes_for_itself_is_not_the_sweeps(clock: Clock) -> None:
    server = Server(clock, {1: 1, 2: 1})
    swept, _ = sweep(server, [ONE], rules=Rules(max_seconds=5))
    clock.now += 100
    wanted = iter([TWO])
    assert swept.measure_more(lambda: next(wanted, None))
    assert [level.load for level in swept.levels] == [ONE, TWO]


def test_a_level_whose_budgets_could_not_be_decided_is_not_begun(clock: Clock) -> None:
    """It would make an undecided budget of one that every level so far keeps."""
    limit = budget(p99_latency_ms=10)
    for budgets, begun in [((), True), ((limit,), False)]:
        server = Server(clock, {1: 1, 2: 1})
        swept, _ = sweep(server, [ONE], *budgets, rules=Rules(max_seconds=4.5 if budgets else 2))
        wanted = iter([TWO])
        assert swept.measure_more(lambda wanted=wanted: next(wanted, None)) == begun
        assert (TWO in [level.load for level in swept.levels]) == begun
        assert set(statuses(swept, limit).values()) == ({"passed"} if budgets else set())


def test_a_slow_level_is_not_begun_where_it_does_not_fit(clock: Clock) -> None:
    class Slow(Server):
        def make(self, load: Load, seconds: float, max_seconds: float) -> LoadReport:
            return super().make(load, 3.0, max_seconds)

    swept, _ = sweep(Slow(clock, {1: 500, 2: 500}), [ONE], rules=Rules(max_seconds=6))
    assert not swept.measure_more(lambda: TWO)
    assert [level.load for level in swept.levels] == [ONE]
