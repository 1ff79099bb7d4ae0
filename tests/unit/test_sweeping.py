"""What a sweep makes of its segments and of what was seen meanwhile; the server is only a name."""

import contextlib
import gc
import time
import weakref
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from loops import closed_loop, lognormal

from pytest_triton_perf.collection import PerfTest
from pytest_triton_perf.domain.budgets import Budget
from pytest_triton_perf.domain.levels import Load
from pytest_triton_perf.domain.segments import Segment
from pytest_triton_perf.domain.variants import Variant
from pytest_triton_perf.errors import LoadError, ServerError
from pytest_triton_perf.journal import Journal
from pytest_triton_perf.load.base import LoadReport, Traffic
from pytest_triton_perf.markers import SweepSpec
from pytest_triton_perf.measuring import Measuring, Rules
from pytest_triton_perf.probes import host
from pytest_triton_perf.probes.base import Reading
from pytest_triton_perf.probes.sampler import Sampler
from pytest_triton_perf.probes.watch import Watch
from pytest_triton_perf.servers.base import ServerSpec
from pytest_triton_perf.session import PerfSession
from pytest_triton_perf.sweeping import SweepRun
from pytest_triton_perf.takes import Take

ONE, TWO = Load(concurrency=1), Load(concurrency=2)
RAM = Reading(cpu_memory_mb=100.0)


class Server:
    """A server that serves whatever it is asked for."""

    grpc_url, http_url, pid, version = "127.0.0.1:8001", "127.0.0.1:8000", None, "2.51.0"
    end: str | None = None

    def alive(self) -> bool:
        return True

    def load(self, variant: Variant) -> Mapping[str, Any]:
        return {"max_batch_size": 8}

    def settle(self) -> None:
        pass

    def ended(self, within_s: float = 0.0) -> str | None:
        return self.end

    def logs(self) -> str:
        return "its last words"


class Generator:
    """Reports segments of 500 requests around 1 ms."""

    def __init__(self, **report: Any) -> None:
        self._report = report
        self.made = 0
        self.gone_on: list[Load] = []

    def go_on(self, traffic: Traffic, measured: Mapping[Load, Any], *, url: str) -> None:
        self.gone_on += measured

    def warm_up(self, traffic: Traffic, load: Load, *, url: str, max_seconds: float) -> None:
        assert url == Server.grpc_url

    def run(self, traffic: Traffic, load: Load, **how: Any) -> LoadReport:
        self.made += 1
        clients = load.concurrency or 1
        segment = closed_loop(lognormal(self.made, 500), clients, started=10.0 * self.made)
        return LoadReport(segment=segment, **{"server_ms": {}, "missing": {}, **self._report})


class Silent:
    """Progress that nobody sees."""

    total = 0

    def step(self, text: str) -> None: ...

    def finished(self, text: str, *, reused: bool = False) -> None: ...

    def dropped(self, levels: int) -> None: ...

    def clear(self) -> None: ...


class Seen(Watch):
    """A watch that saw the same in every segment."""

    def __init__(self, reading: Reading) -> None:
        super().__init__(Sampler([]))
        self._reading = reading

    def level(self, start: float, end: float) -> Reading:
        return self._reading

    def look_again(self) -> None: ...

    def start(self) -> None: ...


def sweep(
    generator: Any,
    *budgets: Budget,
    reading: Reading = RAM,
    server: Server | None = None,
    loads: tuple[Load, ...] = (ONE, TWO),
    auto: bool = False,
    take: Take | None = None,
    rules: Rules | None = None,
) -> SweepRun:
    run = SweepRun(
        perf_test(*budgets, loads=loads, auto=auto),
        name="m_config_default",
        rules=rules or Rules(max_seconds=10),
        generator=generator,
        progress=Silent(),  # type: ignore[arg-type]
    )
    started: Any = (server or Server(), Seen(reading), {"version": "2.51.0"})
    try:
        run.measure(take or Take({"take": ""}), lambda: started)
    except (LoadError, ServerError) as error:
        run.ended_early(error)
    return run


def perf_test(*budgets: Budget, loads: tuple[Load, ...], auto: bool) -> PerfTest:
    spec = SweepSpec(
        model="m",
        loads=loads,
        auto=auto,
        variants=({},),
        traffic=Traffic(model="m"),
        server_args=(),
    )
    return PerfTest(
        nodeid="test_it",
        sweep=spec,
        budgets=budgets,
        variant=Variant(model="m", name="m_config_default"),
        server=ServerSpec(repository=None),
    )


def test_a_level_has_its_figures_with_intervals_and_what_was_seen() -> None:
    run = sweep(Generator(server_ms={"queue_ms": 0.25}))
    assert run.sweep.variant.config == {"max_batch_size": 8}
    level = run.sweep.at(concurrency=2)
    assert level.requests == pytest.approx(500, abs=20)
    assert level.p99_latency_ms > level.p50_latency_ms > 0
    low, high = level.throughput.ci
    assert low < level.throughput < high
    assert (level.queue_ms, level.cpu_memory_mb) == (0.25, 100)
    assert (run.levels_left, run.judge()) == (0, [])


def test_energy_is_related_to_the_inferences_of_the_level() -> None:
    reading = Reading(gpus={"GPU-a": {"energy_j": 300.0}, "GPU-b": {"energy_j": 100.0}})
    level = sweep(Generator(), reading=reading).sweep.at(concurrency=1)
    inferences = level.throughput * level.measurement.wall_s
    assert level.energy_per_inference_j == pytest.approx(400 / inferences, rel=0.01)


def test_server_times_are_means_over_all_requests() -> None:
    class Slowing(Generator):
        def run(self, traffic: Traffic, load: Load, **how: Any) -> LoadReport:
            self._report = {"server_ms": {"queue_ms": float(self.made)}}
            return super().run(traffic, load, **how)

    limit = Budget.from_keyword("max_cpu_memory_mb", 200)
    level = sweep(Slowing(), limit, loads=(ONE,)).sweep.at(concurrency=1)
    assert level.queue_ms == pytest.approx(2, rel=0.3)  # of 0, 1, 2, 3 …


def test_a_client_that_cannot_keep_up_excuses_a_failure() -> None:
    limit = Budget.from_keyword("p50_latency_ms", 0.01)
    run = sweep(Generator(keeps_up=False), limit)
    assert run.sweep.at(concurrency=1).measurement.faults == (
        "perf_analyzer could not keep up with the load",
    )
    (verdict,) = run.judge()
    assert verdict.status == "inconclusive"
    assert "but perf_analyzer could not keep up with the load" in verdict.reason
    assert sweep(Generator(), limit).judge()[0].status == "failed"


def test_faults_of_the_machine_are_those_of_the_level(monkeypatch: pytest.MonkeyPatch) -> None:
    states = iter(range(10_000))

    def look(pids: Any = ()) -> host.HostState:
        at = float(next(states))
        return host.HostState(at=at, busy_s=at, stolen_s=at, throttled_s={})

    monkeypatch.setattr(host, "look", look)
    level = sweep(Generator()).sweep.at(concurrency=2)
    assert level.measurement.faults == (
        "the hypervisor gave 50% of the CPU time to other machines (steal)",
    )


class Broken(Generator):
    """Fails at the second level."""

    def run(self, traffic: Traffic, load: Load, **how: Any) -> LoadReport:
        if load == TWO:
            raise LoadError("it hung")
        return super().run(traffic, load, **how)


def test_what_was_measured_before_an_error_is_kept_and_judged() -> None:
    limit = Budget.from_keyword("p99_latency_ms", 100)
    run = sweep(Broken(), limit)
    assert [level.load for level in run.sweep] == [ONE]
    assert run.levels_left == 2  # the first was still to be decided
    (verdict,) = run.judge()
    assert verdict.status == "not_measured"
    assert "concurrency 2: m_config_default at concurrency 2: it hung" in verdict.reason


def test_a_server_that_died_of_the_load_is_named_with_its_last_words() -> None:
    server = Server()
    server.end = "was killed by SIGKILL"
    run = sweep(Broken(), Budget.from_keyword("p99_latency_ms", 100), server=server)
    (verdict,) = run.judge()
    assert "m_config_default at concurrency 2: tritonserver was killed by SIGKILL" in verdict.reason


class Killed(BaseException):
    """The process is gone."""


class Mortal(Generator):
    """Dies when it is to make a segment after so many."""

    def __init__(self, segments: int) -> None:
        super().__init__()
        self._segments = segments

    def run(self, traffic: Traffic, load: Load, **how: Any) -> LoadReport:
        if self.made == self._segments:
            raise Killed
        return super().run(traffic, load, **how)


def journaled(folder: Path, generator: Any, *, resume: bool = True, **how: Any) -> SweepRun:
    """A sweep of a session that has a journal, under two budgets that take several segments."""
    limits = [
        Budget.from_keyword("p99_latency_ms", 3.6),
        Budget.from_keyword("min_throughput", 100),
    ]
    journal = Journal(folder / "journal", session="s", resume=resume)
    return sweep(generator, *limits, take=journal.take("test_it", {}), **how)


def resumed_after(folder: Path, segments: int) -> tuple[SweepRun, Generator]:
    """The sweep that was killed after so many segments, resumed; and who made the rest."""
    with pytest.raises(Killed):
        journaled(folder, Mortal(segments), resume=False)
    rest = Generator()
    rest.made = segments  # The same segments as would have come.
    return journaled(folder, rest), rest


def test_a_sweep_that_was_killed_anywhere_ends_as_if_it_had_not(tmp_path: Path) -> None:
    generator = Generator()
    whole = journaled(tmp_path / "whole", generator, resume=False)
    assert generator.made > 6
    for segments in (1, 2, generator.made // 2, generator.made - 1):
        run, rest = resumed_after(tmp_path / str(segments), segments)
        assert rest.made == generator.made
        assert [replace(level.measurement, reused=False) for level in run.sweep] == [
            level.measurement for level in whole.sweep
        ]
        assert run.judge() == whole.judge()
        assert set(rest.gone_on) == ({ONE} if segments == 1 else {ONE, TWO})


def test_a_complete_sweep_is_resumed_without_a_server(tmp_path: Path) -> None:
    whole = journaled(tmp_path, Generator(), resume=False)
    before = (tmp_path / "journal").read_bytes()
    run = journaled(tmp_path, None, server=None)
    assert [level.measurement.reused for level in run.sweep] == [True, True]
    assert run.sweep.variant.config == {"max_batch_size": 8}
    assert run.judge() == whole.judge()
    assert (tmp_path / "journal").read_bytes() == before


def test_only_levels_without_new_load_count_as_reused(tmp_path: Path) -> None:
    run, _ = resumed_after(tmp_path / "first", 1)
    assert [level.measurement.reused for level in run.sweep] == [False, False]
    with pytest.raises(Killed):
        sweep(Mortal(1), take=Journal(tmp_path / "j", session="s", resume=False).take("t", {}))
    run = sweep(Generator(), take=Journal(tmp_path / "j", session="s", resume=True).take("t", {}))
    assert [level.measurement.reused for level in run.sweep] == [True, False]


def test_a_sweep_whose_time_was_up_is_not_gone_on_with(tmp_path: Path) -> None:
    class Slow(Generator):
        def run(self, traffic: Traffic, load: Load, **how: Any) -> LoadReport:
            time.sleep(0.3)
            return super().run(traffic, load, **how)

    rules = Rules(max_seconds=2, floor_seconds=1)
    limit = Budget.from_keyword("p99_latency_ms", 2.95)  # about what it is: never decided
    journal = Journal(tmp_path / "j", session="s", resume=False)
    whole = sweep(Slow(), limit, loads=(ONE,), take=journal.take("t", {}), rules=rules)
    assert whole.judge()[0].status == "inconclusive"
    again = Journal(tmp_path / "j", session="s", resume=True).take("t", {})
    run = sweep(None, limit, loads=(ONE,), take=again, rules=rules)
    assert run.judge() == whole.judge()


def test_other_limits_take_what_was_measured_and_go_on(tmp_path: Path) -> None:
    first = Generator()
    take = Journal(tmp_path / "j", session="s", resume=False).take("t", {})
    sweep(first, take=take)
    assert first.made == 2
    rest = Generator()
    rest.made = 2
    take = Journal(tmp_path / "j", session="s", resume=True).take("t", {})
    run = sweep(rest, Budget.from_keyword("p99_latency_ms", 100), take=take)
    assert run.judge()[0].status == "passed"
    assert rest.made > 2


def test_a_measured_sweep_keeps_figures_and_no_requests() -> None:
    made: list[weakref.ref[Segment]] = []

    class Watched(Generator):
        def run(self, traffic: Traffic, load: Load, **how: Any) -> LoadReport:
            report = super().run(traffic, load, **how)
            made.append(weakref.ref(report.segment))
            return report

    run = sweep(Watched(), Budget.from_keyword("p99_latency_ms", 1000))
    (verdict,) = run.judge()
    gc.collect()
    assert (verdict.status, len(run.sweep.levels)) == ("passed", 2)
    assert len(made) > 4, "each level was loaded several times"
    assert [reference() for reference in made] == [None] * len(made)

    # One that could be narrowed down lets them go once the test is over.
    made.clear()
    run = sweep(Watched(), auto=True)
    run.judge()
    gc.collect()
    assert [reference() for reference in made] == [None] * len(made) != []


class Queue(Generator):
    """A millisecond, and an eighth more for each client; throughput grows up to 128 of them."""

    def run(self, traffic: Traffic, load: Load, **how: Any) -> LoadReport:
        self.made += 1
        clients = load.concurrency or 1
        noise = lognormal(self.made, 20 * clients, 1.0) ** 0.02
        segment = closed_loop(0.001 * (1 + clients / 8) * noise, clients, started=10.0 * self.made)
        return LoadReport(segment=segment, server_ms={}, missing={})


LIMIT = Budget.from_keyword("p50_latency_ms", 1 + 10.5 / 8)
"""Between ten and eleven clients."""


def test_a_limit_is_narrowed_down_with_levels_like_all_others() -> None:
    ample = Budget.from_keyword("p99_latency_ms", 10_000)
    run = sweep(Queue(), ample, loads=(ONE,), auto=True, rules=Rules(max_seconds=1e6))
    held = run.sweep
    assert {level.concurrency for level in held} >= {1, 2, 4, 8, 16}
    run.narrow([LIMIT])
    assert {level.concurrency for level in held} >= {8, 10, 11, 12, 16}
    assert held.highest_load(p50_latency_ms=LIMIT.limit).concurrency == 10
    assert len(run.sweep.measurements) == len(held.measurements)
    (verdict,) = run.judge()
    assert verdict.status == "passed"  # at every level, the new ones too
    assert run.levels_left == 0


def test_nothing_more_is_measured_once_the_test_is_judged() -> None:
    generator = Queue()
    run = sweep(generator, loads=(ONE,), auto=True)
    run.judge()
    made = generator.made
    run.narrow([LIMIT])
    assert generator.made == made


def test_a_bracket_that_the_time_leaves_wide_is_told_at_its_level(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = sweep(Queue(), loads=(ONE,), auto=True)
    monkeypatch.setattr(Measuring, "_fits", lambda *_: False)
    run.narrow([LIMIT])
    (note,) = run.sweep.highest_load(p50_latency_ms=LIMIT.limit).measurement.notes
    assert note == (
        "p50_latency_ms <= 2.3125 ms breaks somewhere between concurrency 8 and 16: the sweep's "
        "time is used up (--triton-perf-max-seconds)"
    )


class Fragile(Queue):
    """Hangs with ten clients."""

    def run(self, traffic: Traffic, load: Load, **how: Any) -> LoadReport:
        if load.concurrency == 10:
            raise LoadError("it hung")
        return super().run(traffic, load, **how)


class Launcher:
    """Has one server running."""

    def start(self, spec: ServerSpec) -> Server:
        return Server()


def session(generator: Generator, folder: Path, *, resume: bool = False) -> PerfSession:
    return PerfSession(
        launcher=Launcher(),  # type: ignore[arg-type]
        generator=generator,
        watch=lambda _: Seen(RAM),
        turn=contextlib.nullcontext(),
        rules=Rules(max_seconds=10),
        journal=Journal(folder / "journal", session="s", resume=resume),
        ingredients=lambda _: {},
        environment={},
        images=[],
        progress=Silent(),  # type: ignore[arg-type]
    )


def test_a_test_asks_its_own_sweep_of_automatic_concurrency_for_more(
    tmp_path: Path,
) -> None:
    measured = session(Queue(), tmp_path).measure(perf_test(loads=(ONE,), auto=True))
    assert measured.highest_load(p50_latency_ms=LIMIT.limit).concurrency == 10
    assert measured.at(concurrency=11).throughput > 0
    as_listed = session(Queue(), tmp_path).measure(
        perf_test(loads=(ONE, Load(concurrency=16)), auto=False)
    )
    assert as_listed.highest_load(p50_latency_ms=LIMIT.limit).concurrency == 1
    assert len(as_listed.levels) == 2


def test_a_level_that_fails_while_narrowing_leaves_the_others_with_their_verdicts(
    tmp_path: Path,
) -> None:
    ample = Budget.from_keyword("min_throughput", 0.001, {"concurrency": 2})
    test = perf_test(ample, loads=(ONE, TWO), auto=True)
    fragile = session(Fragile(), tmp_path)
    measured = fragile.measure(test)
    with pytest.raises(LoadError, match="m_config_default at concurrency 10: it hung"):
        measured.highest_load(p50_latency_ms=LIMIT.limit)
    assert {level.concurrency for level in measured} >= {8, 12, 16}
    kept = fragile.sweep(test)
    assert kept is not None
    assert kept.measurements == measured.measurements
    ((verdict, _),) = fragile.judge(test)
    assert verdict.status == "passed"  # it was decided before


def test_what_was_narrowed_down_is_resumed_as_well(tmp_path: Path) -> None:
    test = perf_test(loads=(ONE,), auto=True)
    first = session(Queue(), tmp_path).measure(test)
    first.highest_load(p50_latency_ms=LIMIT.limit)
    again = Queue()
    resumed = session(again, tmp_path, resume=True).measure(test)
    assert resumed.highest_load(p50_latency_ms=LIMIT.limit).concurrency == 10
    assert again.made == 0
    assert [level.load for level in resumed] == [level.load for level in first]
    assert all(level.measurement.reused for level in resumed)
