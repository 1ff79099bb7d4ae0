"""What a sweep makes of its segments and of what was seen meanwhile; the server is only a name."""

from collections.abc import Mapping
from typing import Any

import pytest
from loops import closed_loop, lognormal

from pytest_triton_perf.collection import PerfTest
from pytest_triton_perf.domain.budgets import Budget
from pytest_triton_perf.domain.levels import Load
from pytest_triton_perf.domain.variants import Variant
from pytest_triton_perf.errors import LoadError, ServerError
from pytest_triton_perf.load.base import LoadReport, Traffic
from pytest_triton_perf.markers import SweepSpec
from pytest_triton_perf.measuring import Rules
from pytest_triton_perf.probes import host
from pytest_triton_perf.probes.base import Reading
from pytest_triton_perf.probes.sampler import Sampler
from pytest_triton_perf.probes.watch import Watch
from pytest_triton_perf.servers.base import ServerSpec
from pytest_triton_perf.sweeping import SweepRun

ONE, TWO = Load(concurrency=1), Load(concurrency=2)
RAM = Reading(cpu_memory_mb=100.0)


class Server:
    """A server that serves whatever it is asked for."""

    grpc_url, http_url, pid = "127.0.0.1:8001", "127.0.0.1:8000", None
    end: str | None = None

    def load(self, variant: Variant) -> Mapping[str, Any]:
        return {"max_batch_size": 8}

    def settle(self) -> None:
        pass

    def ended(self) -> str | None:
        return self.end

    def logs(self) -> str:
        return "its last words"


class Generator:
    """Reports segments of 500 requests around 1 ms."""

    def __init__(self, **report: Any) -> None:
        self._report = report
        self.made = 0

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

    def finished(self, text: str) -> None: ...


class Seen(Watch):
    """A watch that saw the same in every segment."""

    def __init__(self, reading: Reading) -> None:
        super().__init__(Sampler([]))
        self._reading = reading

    def level(self, start: float, end: float) -> Reading:
        return self._reading

    def look_again(self) -> None: ...


def sweep(
    generator: Any,
    *budgets: Budget,
    reading: Reading = RAM,
    server: Server | None = None,
    loads: tuple[Load, ...] = (ONE, TWO),
) -> SweepRun:
    spec = SweepSpec(
        model="m",
        loads=loads,
        auto=False,
        variants=({},),
        traffic=Traffic(model="m"),
        server_args=(),
    )
    test = PerfTest(
        nodeid="test_it",
        sweep=spec,
        budgets=budgets,
        variant=Variant(model="m", name="m_config_default"),
        server=ServerSpec(repository=None),
    )
    run = SweepRun(
        test,
        name="m_config_default",
        rules=Rules(max_seconds=10),
        generator=generator,
        progress=Silent(),  # type: ignore[arg-type]
    )
    try:
        run.measure(server or Server(), Seen(reading))  # type: ignore[arg-type]
    except (LoadError, ServerError) as error:
        run.ended_early(error)
    return run


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
