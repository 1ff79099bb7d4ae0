"""A test's search from its markers to its result; only the server is arithmetic."""

import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from loops import closed_loop

from pytest_triton_perf.collection import PerfTest
from pytest_triton_perf.domain.budgets import Budget
from pytest_triton_perf.domain.levels import Load
from pytest_triton_perf.domain.searched import SearchedSweep, SearchResult
from pytest_triton_perf.domain.searches import SearchSpec
from pytest_triton_perf.domain.variants import Variant
from pytest_triton_perf.errors import LoadError, ServerError, SweepError
from pytest_triton_perf.load.base import LoadReport, Traffic
from pytest_triton_perf.markers import SweepSpec
from pytest_triton_perf.measuring import Rules
from pytest_triton_perf.probes.base import Reading
from pytest_triton_perf.probes.sampler import Sampler
from pytest_triton_perf.probes.watch import Watch
from pytest_triton_perf.search_plans import SearchPlan
from pytest_triton_perf.searching import SearchRun
from pytest_triton_perf.servers.base import ServerSpec
from pytest_triton_perf.sweeping import SweepRun
from pytest_triton_perf.takes import Take

LOADS = tuple(Load(concurrency=c) for c in (1, 2, 4, 8))
SERVICE_S = 0.005


class Machine:
    """A server, its load generator and its watch: each instance serves one request at a time.

    ``refused`` counts of instances do not load, and with ``deadly`` ones the server dies at the
    first load. An instance takes 100 MB.
    """

    grpc_url, http_url, pid = "127.0.0.1:8001", "127.0.0.1:8000", None

    def __init__(self, *, refused: tuple[int, ...] = (), deadly: tuple[int, ...] = ()) -> None:
        self._refused = refused
        self._deadly = deadly
        self._random = np.random.default_rng(3)
        self._alive = True
        self.starts = 0
        self.instances = 0
        self.loaded: list[int] = []
        self.made: list[tuple[int, int, float]] = []
        """(instances, concurrency, seconds) of every segment."""

    def start(self) -> Any:
        if not self._alive or not self.starts:
            self.starts += 1
            self._alive = True
        return self, Seen(self), {"version": "2.51.0"}

    def load(self, variant: Variant) -> Mapping[str, Any]:
        self.instances = variant.overrides.get("instance_group.count", 1)
        if self.instances in self._refused:
            raise ServerError(f"{variant.name}: Triton refused it: out of memory\nmore words")
        self.loaded.append(self.instances)
        return {"instance_group": [{"count": self.instances}]}

    def settle(self) -> None: ...

    def ended(self, within_s: float = 0.0) -> str | None:
        return None if self._alive else "was killed by SIGKILL"

    def logs(self) -> str:
        return "its last words"

    def warm_up(self, traffic: Traffic, load: Load, **how: Any) -> None:
        if self.instances in self._deadly:
            self._alive = False
            raise LoadError("no answer")

    def run(self, traffic: Traffic, load: Load, *, seconds: float, **how: Any) -> LoadReport:
        clients = load.concurrency or 1
        self.made.append((self.instances, clients, seconds))
        latency = SERVICE_S * max(1.0, clients / self.instances)
        count = int(seconds * clients / latency)
        latencies = latency * self._random.lognormal(0, 0.05, count)
        segment = closed_loop(latencies, clients, started=10.0 * len(self.made))
        return LoadReport(segment=segment, server_ms={}, missing={})


class Seen(Watch):
    """A watch that sees the memory of the instances."""

    def __init__(self, machine: Machine) -> None:
        super().__init__(Sampler([]))
        self._machine = machine

    def level(self, start: float, end: float) -> Reading:
        return Reading(cpu_memory_mb=100.0 * self._machine.instances)

    def look_again(self) -> None: ...


class Silent:
    """Progress that nobody sees."""

    total = 0

    def step(self, text: str) -> None: ...

    def finished(self, text: str, *, reused: bool = False) -> None: ...

    def dropped(self, levels: int) -> None:
        self.total -= levels


def searched(
    machine: Machine, *budgets: Budget, most: int = 4, all_loads: bool = False, **spec: Any
) -> SearchRun:
    """The search among instance counts up to ``most``, after it ran."""
    variants = [
        Variant(model="m", name="m_config_default", config={"instance_group": [{"count": 1}]}),
        *(
            Variant(model="m", name=f"m_config_{n}", overrides={"instance_group.count": n})
            for n in range(2, most + 1)
        ),
    ]
    test = PerfTest(
        nodeid="test_it",
        sweep=SweepSpec(
            model="m",
            loads=LOADS,
            auto=False,
            variants=({},),
            traffic=Traffic(model="m"),
            server_args=(),
            searches=True,
        ),
        budgets=budgets,
        variant=variants[0],
        server=ServerSpec(repository=None),
    )
    plan = SearchPlan(spec=SearchSpec(**spec), candidates=tuple(variants), all_loads=all_loads)
    rules = Rules(max_seconds=60)

    def sweep_run(test: PerfTest, **how: Any) -> SweepRun:
        how = {"rules": rules, **how}
        return SweepRun(test, name=test.variant.name, generator=machine, progress=silent, **how)

    silent: Any = Silent()
    parts: set[str] = set()

    def measure(run: SweepRun, test: PerfTest, part: str) -> None:
        assert part not in parts
        parts.add(part)
        run.measure(Take({"take": ""}), machine.start)

    run = SearchRun(test, plan, rules=rules, measure=measure, progress=silent, sweep_run=sweep_run)
    run.measure()
    # Before, the test counted for each of its loads.
    assert silent.total == run.result.levels - len(LOADS)
    for sweep in run.sweeps:
        loads = [measurement.load for measurement in sweep.measurements]
        assert len(set(loads)) == len(loads)
    return run


def limit(name: str, value: float, **at: float) -> Budget:
    return Budget.from_keyword(name, value, at)


@pytest.mark.parametrize("mode", ["quick", "brute", "optuna"])
def test_the_best_configuration_is_found_and_compared_with_the_default(mode):
    run = searched(Machine(), mode=mode)
    sweep, result = run.sweep, run.result
    assert isinstance(sweep, SearchedSweep)
    assert sweep.best_variant.name == "m_config_4"
    assert sweep.best_variant.config == {"instance_group": [{"count": 4}]}
    assert result.best.load == LOADS[2]  # 8 requests wait for 4 instances, and gain nothing
    assert result.gain.value == pytest.approx(4, rel=0.05)
    low, high = result.gain.ci
    assert 3.6 < low < 4 < high < 4.4
    assert str(result).startswith(
        "m: m_config_4 is the best configuration at concurrency 4: throughput is "
    )


def test_without_budgets_the_best_and_the_default_get_load_enough_to_be_compared():
    machine = Machine()
    searched(machine)
    assert [made for made in machine.made if made[2] == 1.0] == [(4, 4, 1.0), (1, 1, 1.0)]


def test_the_default_is_measured_and_every_configuration_is_a_sweep_of_the_test():
    run = searched(Machine(), mode="brute")
    assert [sweep.variant.name for sweep in run.sweeps] == [
        "m_config_default",
        *("m_config_2", "m_config_3", "m_config_4"),
    ]
    assert {sweep.test for sweep in run.sweeps} == {"test_it"}
    assert all(len(sweep.measurements) == len(LOADS) for sweep in run.sweeps)


def test_a_configuration_is_loaded_once_for_levels_that_follow_each_other():
    machine = Machine()
    searched(machine, mode="brute")
    assert machine.loaded[:4] == [1, 2, 3, 4]


def test_the_best_is_chosen_within_the_limits_and_judged_by_new_load():
    machine = Machine()
    run = searched(machine, limit("p99_latency_ms", 9), limit("max_cpu_memory_mb", 250))
    assert run.sweep.best_variant.name == "m_config_2"
    assert run.result.best.load == LOADS[1]
    verdicts = run.judge()
    assert [verdict.status for verdict in verdicts] == ["passed", "passed"]
    assert [verdict.load for verdict in verdicts] == [LOADS[1], LOADS[1]]
    assert [verdict.budget.at for verdict in verdicts] == [{}, {}]
    assert run.verdicts == verdicts
    judged = [seconds for *level, seconds in machine.made if level == [2, 2]]
    assert sum(judged) > 2.3  # a glance and then the floor
    outside = {c.variant: c.why for c in run.result.candidates if c.standing == "outside"}
    assert outside.keys() <= {"m_config_3", "m_config_4"}
    assert all("cpu_memory_mb <= 250 MB: " in why for why in outside.values())


def test_a_limit_at_a_load_is_kept_there_wherever_the_best_load_is():
    run = searched(Machine(), limit("p99_latency_ms", 16, concurrency=8), mode="brute")
    assert run.sweep.best_variant.name == "m_config_4"
    (verdict,) = run.judge()
    assert (verdict.status, verdict.load, verdict.budget.at) == (
        "passed",
        LOADS[3],
        {"concurrency": 8},
    )


def test_where_none_keeps_the_limits_the_test_fails_and_shows_the_nearest():
    run = searched(Machine(), limit("p99_latency_ms", 3))
    assert run.result.best is None
    assert run.result.gain is None
    text = run.why_none
    assert text.startswith("m: no configuration keeps the budgets (")
    assert "the nearest are\n" in text
    assert "p99_latency_ms <= 3 ms: 5." in text
    (verdict,) = run.judge()
    assert verdict.status == "failed"


def test_a_metric_that_is_missing_fails_its_limit():
    run = searched(Machine(), limit("max_gpu_memory_mb", 1000))
    assert "gpu_memory_mb <= 1000 MB: not measured (" in run.why_none
    assert [verdict.status for verdict in run.judge()] == ["not_measured"]


def test_where_the_time_is_up_the_finals_begin(monkeypatch):
    now = itertools.count(0.0, 7.0)
    monkeypatch.setattr("pytest_triton_perf.searching.time.monotonic", lambda: next(now))
    run = searched(Machine(), most=40)
    assert run.result.levels < 20
    assert run.result.note == "its time was up; --triton-perf-max-seconds gives it more"
    assert f"; {run.result.note})" in str(run.result)


def test_a_configuration_that_triton_refuses_is_told_and_the_search_goes_on():
    run = searched(Machine(refused=(3,)), mode="brute")
    assert run.sweep.best_variant.name == "m_config_4"
    lost = [candidate for candidate in run.result.candidates if candidate.standing == "lost"]
    assert [(each.variant, each.why) for each in lost] == [
        ("m_config_3", "m_config_3: Triton refused it: out of memory")
    ]
    assert "Triton refused it" in run.sweep.search_table()


def test_a_model_that_dies_is_a_result_and_what_needs_more_is_not_tried():
    machine = Machine(deadly=(3, 4))
    run = searched(machine)
    assert run.sweep.best_variant.name == "m_config_2"
    lost = {c.variant: c.why for c in run.result.candidates if c.standing == "lost"}
    assert any("tritonserver was killed by SIGKILL" in why for why in lost.values())
    assert machine.starts == 1 + sum("was killed" in why for why in lost.values())


def test_a_search_in_which_nothing_can_be_measured_ends_soon_with_the_reasons():
    machine = Machine(refused=tuple(range(1, 9)))
    with pytest.raises(ServerError, match="no configuration that can be measured:\n") as caught:
        searched(machine, most=8, mode="brute")
    assert "m_config_default: Triton refused it: out of memory" in str(caught.value)
    assert len(str(caught.value).splitlines()) == 4


def test_the_default_may_be_the_best():
    run = searched(Machine(refused=(2,)), limit("max_cpu_memory_mb", 150))
    assert run.sweep.best_variant.name == "m_config_default"
    assert run.result.gain is None
    assert "m_config_default is the best configuration, the model as it stands, at" in str(
        run.result
    )


def test_loads_that_the_test_lists_are_all_measured_on_the_best():
    run = searched(Machine(), all_loads=True)
    assert [level.concurrency for level in run.sweep] == [1, 2, 4, 8]


def test_an_objective_of_which_less_is_better():
    run = searched(Machine(), objectives={"avg_latency_ms": 1.0}, mode="brute")
    assert run.result.best.load == LOADS[0]
    weighted = searched(Machine(), objectives={"throughput": 1, "cpu_memory_mb": 9}, mode="brute")
    assert weighted.sweep.best_variant.name == "m_config_default"


def test_the_pareto_levels_trade_latency_for_throughput():
    sweep = searched(Machine(), mode="brute").sweep
    assert isinstance(sweep, SearchedSweep)
    front = sweep.pareto("throughput", "cpu_memory_mb")
    assert [level.cpu_memory_mb for level in front] == [400, 300, 200, 100]
    assert all(a.throughput > b.throughput for a, b in itertools.pairwise(front))
    assert {level.concurrency for level in sweep.pareto("p50_latency_ms")} <= {1, 2, 4}
    with pytest.raises(SweepError, match=r"unknown metric 'troughput' \(did you mean 'throughpu"):
        sweep.pareto("troughput")
    with pytest.raises(SweepError, match="no level has all of gpu_memory_mb measured"):
        sweep.pareto("gpu_memory_mb")


def test_a_result_survives_its_way_through_json():
    result = searched(Machine(refused=(3,)), limit("p99_latency_ms", 9), mode="brute").result
    assert SearchResult.from_json(result.to_json()) == result
