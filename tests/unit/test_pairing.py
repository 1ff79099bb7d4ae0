"""Quads of two arms, on a server and a load generator that do as they are told."""

import itertools
import random
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from loops import closed_loop, lognormal

from pytest_triton_perf.collection import PerfTest
from pytest_triton_perf.domain.comparisons import Comparison, Gate
from pytest_triton_perf.domain.levels import Load
from pytest_triton_perf.domain.metrics import find_metric
from pytest_triton_perf.domain.variants import Variant
from pytest_triton_perf.errors import LoadError, ServerError, UsageError
from pytest_triton_perf.load.base import LoadReport, Traffic
from pytest_triton_perf.markers import SweepSpec
from pytest_triton_perf.measuring import Rules
from pytest_triton_perf.pairing import Asked, PairedRun, gone_models, in_turns
from pytest_triton_perf.probes.base import Reading
from pytest_triton_perf.probes.sampler import Sampler
from pytest_triton_perf.probes.watch import Watch
from pytest_triton_perf.servers.base import ServerSpec

ONE, TWO = Load(concurrency=1), Load(concurrency=2)
CONFIG = 'name: "m" platform: "ensemble" max_batch_size: {}'


class Server:
    """Notes which arm is loaded; ``refuses`` one of them, and dies at each of these loads."""

    grpc_url = http_url = "127.0.0.1:8001"

    def __init__(self, refuses: str = "", dies_at: Collection[int] = ()) -> None:
        self.events: list[str] = []
        self.arm = ""
        self.loads = 0
        self._refuses = refuses
        self._dies_at = dies_at

    def turn_to(self, repository: Path) -> None:
        self.arm = repository.name

    def load(self, variant: Variant) -> Mapping[str, Any]:
        self.events.append(f"load {self.arm} {variant.config['max_batch_size']}")
        self.loads += 1
        if self.loads in self._dies_at:
            raise ServerError("the connection was lost")
        if self.arm == self._refuses:
            raise ServerError("Triton refused m: no memory\nHint: …")
        return {}

    def settle(self) -> None: ...

    def ended(self, within_s: float = 0.0) -> str | None:
        return "was killed by SIGABRT" if self.loads in self._dies_at else None

    def logs(self) -> str:
        return "Signal (6) received."


class Generator:
    """Requests of 1 ms, in the head times ``factor``; the head's may fail, or the whole call."""

    def __init__(
        self, server: Server, factor: float, *, failed: bool = False, raises: str = ""
    ) -> None:
        self._server = server
        self._factor = factor
        self._failed = failed
        self._raises = raises
        self._made = 0
        self.asked_s: list[float] = []

    def warm_up(self, traffic: Traffic, load: Load, **how: Any) -> None:
        self._server.events.append(f"warm up {load}")

    def run(self, traffic: Traffic, load: Load, *, seconds: float, **how: Any) -> LoadReport:
        self._made += 1
        arm = self._server.arm
        if self._raises == arm:
            raise LoadError("perf_analyzer did not measure")
        if seconds:
            self.asked_s.append(seconds)
            self._server.events.append(f"{arm} {load.concurrency}")
        factor = self._factor if arm == "head" else 1.0
        latencies = factor * lognormal(self._made, 500)
        failed = [7] if self._failed and arm == "head" else []
        segment = closed_loop(latencies, load.concurrency or 1, failed=failed)
        return LoadReport(segment=segment, server_ms={}, missing={})


class Silent:
    """Progress that nobody sees."""

    def step(self, text: str) -> None: ...

    def finished(self, text: str) -> None:
        self.text = text


class Seen(Watch):
    """A watch that sees twice the memory in the head."""

    def __init__(self, server: Server) -> None:
        super().__init__(Sampler([]))
        self._server = server

    def level(self, start: float, end: float) -> Reading:
        memory = {"base": 100.0, "head": 200.0}[self._server.arm]
        return Reading(cpu_memory_mb=memory, missing={"gpu_memory_mb": "no GPU"})

    def look_again(self) -> None: ...


def repositories(folder: Path, head: str = "m", base: str = "m") -> ServerSpec:
    for arm, name, size in (("head", head, 8), ("base", base, 4)):
        (folder / arm / name / "1").mkdir(parents=True)
        (folder / arm / name / "config.pbtxt").write_text(CONFIG.format(size))
    return ServerSpec(repository=folder / "head", base=folder / "base")


def perf_test(
    spec: ServerSpec, *gates: Gate, nodeid: str = "test_it", **overrides: Any
) -> PerfTest:
    sweep = SweepSpec(
        model="m",
        loads=(ONE, TWO),
        auto=False,
        variants=({},),
        traffic=Traffic(model="m", input_data="zero", shapes={"X": (1,)}, percentiles=(50,)),
        server_args=(),
    )
    variant = Variant(
        model="m", name="m_config_default", config={"max_batch_size": 8}, overrides=overrides
    )
    return PerfTest(
        nodeid=nodeid, sweep=sweep, budgets=(), gates=gates, variant=variant, server=spec
    )


def gate(metric: str = "throughput", *loads: Load, **keys: Any) -> Gate:
    return Gate(
        metric=find_metric(metric), **{"max_slowdown_pct": 5.0, **keys}, loads=loads or (ONE,)
    )


def paired(
    *tests: PerfTest,
    factor: float = 1.0,
    server: Server | None = None,
    seed: int = 1,
    max_seconds: float = 1000.0,
    **generator: Any,
) -> PairedRun:
    server = server or Server()
    run = PairedRun(
        [
            Asked(test=test, gate=g, load=load)
            for test in tests
            for g in test.gates
            for load in g.loads
        ],
        name="m_config_default",
        gates=1,
        coin=random.Random(seed),
        rules=Rules(max_seconds=max_seconds),
        generator=Generator(server, factor, **generator),  # type: ignore[arg-type]
        progress=Silent(),  # type: ignore[arg-type]
    )
    if run.is_new:
        return run
    try:
        run.measure(in_turns(lambda: (server, Seen(server)), tests[0].server))  # type: ignore[arg-type]
    except (LoadError, ServerError, UsageError) as error:
        run.ended_early(error)
    return run


def told(run: PairedRun, metric: str = "throughput") -> Comparison:
    (found,) = [c for c in run.comparisons() if c.metric == metric]
    return found


def test_a_quad_loads_each_arm_afresh_in_an_order_that_a_coin_decides(tmp_path: Path) -> None:
    server = Server()
    paired(perf_test(repositories(tmp_path), gate()), server=server)
    events = [event for event in server.events if not event.startswith("warm up")]
    quads = [tuple(events[i : i + 7]) for i in range(0, len(events), 7)]
    base, head = ("load base 4", "base 1"), ("load head 8", "head 1")
    abba, baab = (
        (*first, *second, second[1], *first) for first, second in ((base, head), (head, base))
    )
    assert set(quads) == {abba, baab}
    assert len(quads) >= 7


@pytest.mark.parametrize(("max_seconds", "longest"), [(1000.0, 1.5), (64.0, 1.0), (6.0, 0.45)])
def test_segments_are_as_long_as_loading_takes_but_some_quads_fit_into_the_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, max_seconds: float, longest: float
) -> None:
    clock = itertools.count()
    slow = SimpleNamespace(monotonic=lambda: 1.5 * next(clock))
    monkeypatch.setattr("pytest_triton_perf.pairing.time", slow)
    run = paired(perf_test(repositories(tmp_path), gate()), max_seconds=max_seconds)
    generator: Any = run._generator
    assert generator.asked_s[:4] == [0.45] * 4
    assert generator.asked_s[4:] == [pytest.approx(longest)] * (len(generator.asked_s) - 4)
    assert len(generator.asked_s) >= 8


def test_the_seed_decides_the_orders(tmp_path: Path) -> None:
    spec = repositories(tmp_path)
    orders = []
    for seed in (1, 1, 2):
        server = Server()
        paired(perf_test(spec, gate()), server=server, seed=seed)
        orders.append(server.events)
    assert orders[0] == orders[1] != orders[2]


def test_equal_arms_are_unchanged(tmp_path: Path) -> None:
    found = told(paired(perf_test(repositories(tmp_path), gate(max_slowdown_pct=20))))
    assert (found.status, found.quads, found.fails) == ("unchanged", 7, False)
    assert found.ci_pct is not None
    low, high = found.ci_pct
    assert low is not None
    assert high is not None
    assert low < 0 < high


def test_a_slower_head_is_told_with_its_size_in_the_metric_itself(tmp_path: Path) -> None:
    run = paired(perf_test(repositories(tmp_path), gate()), factor=1.25)
    slower, later = told(run), told(run, "avg_latency_ms")
    assert (slower.status, slower.fails, slower.gated) == ("regressed", True, True)
    assert slower.change_pct == pytest.approx(-20, abs=4)
    assert slower.ci_pct is not None
    assert slower.ci_pct[1] is not None
    assert slower.ci_pct[1] < 0
    assert slower.limit_pct == pytest.approx(-4.76, abs=0.01)
    assert (later.status, later.fails, later.gated) == ("regressed", False, False)
    assert later.change_pct == pytest.approx(25, abs=5)


def test_a_faster_head_is_improved(tmp_path: Path) -> None:
    found = told(paired(perf_test(repositories(tmp_path), gate()), factor=0.8))
    assert (found.status, found.fails) == ("improved", False)
    assert found.change_pct is not None
    assert found.change_pct > 15


def test_memory_is_compared_where_it_was_seen(tmp_path: Path) -> None:
    test = perf_test(repositories(tmp_path), gate("cpu_memory_mb"), gate("gpu_memory_mb"))
    run = paired(test)
    memory, gpu = told(run, "cpu_memory_mb"), told(run, "gpu_memory_mb")
    assert (memory.status, memory.change_pct) == ("regressed", pytest.approx(100))
    assert (gpu.status, gpu.change_pct, gpu.fails) == ("not_comparable", None, True)
    assert gpu.reason in ("GPU memory of the base: no GPU", "GPU memory of the head: no GPU")


def test_tests_of_one_load_share_its_segments(tmp_path: Path) -> None:
    spec, server = repositories(tmp_path), Server()
    first = perf_test(spec, gate("throughput", ONE, TWO), nodeid="test_one")
    second = perf_test(spec, gate("p50_latency_ms", TWO), nodeid="test_two")
    run = paired(first, second, server=server, factor=2.0)
    assert {(c.test, c.metric, c.load) for c in run.comparisons() if c.gated} == {
        ("test_one", "throughput", ONE),
        ("test_one", "throughput", TWO),
        ("test_two", "p50_latency_ms", TWO),
    }
    assert all(c.status == "regressed" for c in run.comparisons() if c.gated)
    quads = max(c.quads for c in run.comparisons())
    segments = [event for event in server.events if event in ("base 2", "head 2")]
    assert len(segments) == 4 * quads


def test_an_arm_in_which_requests_fail_has_no_mean_to_compare(tmp_path: Path) -> None:
    found = told(
        paired(perf_test(repositories(tmp_path), gate("avg_latency_ms")), failed=True),
        "avg_latency_ms",
    )
    assert (found.status, found.fails) == ("not_comparable", True)
    assert found.reason.startswith("average latency of the head: 1 of 500 requests failed")


@pytest.mark.parametrize("arm", ["base", "head"])
def test_an_arm_that_does_not_load_is_not_comparable(tmp_path: Path, arm: str) -> None:
    found = told(paired(perf_test(repositories(tmp_path), gate()), server=Server(refuses=arm)))
    assert (found.status, found.fails) == ("not_comparable", True)
    assert found.reason == f"the {arm}: Triton refused m: no memory"


def test_a_quad_in_which_the_server_dies_is_made_once_more(tmp_path: Path) -> None:
    test = perf_test(repositories(tmp_path), gate(max_slowdown_pct=20))
    run = paired(test, server=Server(dies_at=[5]))
    assert (told(run).status, told(run).quads) == ("unchanged", 7)
    (note,) = run.notes
    died = "tritonserver was killed by SIGABRT when it was to be measured"
    assert re.sub("base|head", "…", note) == (
        f"gate of m_config_default: the …: {died}; one more was started for it"
    )


def test_a_server_that_dies_again_is_not_comparable(tmp_path: Path) -> None:
    run = paired(perf_test(repositories(tmp_path), gate()), server=Server(dies_at=[5, 9]))
    assert (told(run).status, told(run).quads) == ("not_comparable", 2)
    assert told(run).reason.endswith(
        ": tritonserver was killed by SIGABRT when it was to be measured"
    )


def test_an_arm_that_cannot_be_measured_is_not_comparable(tmp_path: Path) -> None:
    found = told(paired(perf_test(repositories(tmp_path), gate()), raises="head"))
    assert (found.status, found.quads) == ("not_comparable", 0)
    assert found.reason == "the head: perf_analyzer did not measure"


def test_a_variant_that_the_base_cannot_have_is_not_comparable(tmp_path: Path) -> None:
    test = perf_test(repositories(tmp_path), gate(), max_batch_sise=4)
    found = told(paired(test))
    assert found.status == "not_comparable"
    assert "the base: model 'm': max_batch_sise: ModelConfig has no field" in found.reason


def test_time_that_does_not_do_is_inconclusive_which_prove_fails(tmp_path: Path) -> None:
    spec = repositories(tmp_path)
    for mode, fails in (("detect", False), ("prove", True)):
        found = told(paired(perf_test(spec, gate(mode=mode)), max_seconds=10))
        assert (found.status, found.fails) == ("inconclusive", fails)
        assert 0 < found.quads < 7
        assert found.reason == f"{found.quads} quads do not tell; raise --triton-perf-max-seconds"


def test_a_model_that_the_base_has_not_is_new_and_one_that_the_head_has_not_is_gone(
    tmp_path: Path,
) -> None:
    spec = repositories(tmp_path, base="old")
    (found,) = paired(perf_test(spec, gate())).comparisons()
    assert (found.status, found.fails) == ("no_baseline", False)
    (gone,) = gone_models([spec, spec])
    assert (gone.status, gone.model, gone.test, gone.fails) == ("vanished", "old", None, True)
    assert gone.reason == "the base has the model 'old', the head has not"
    (no_base,) = paired(perf_test(ServerSpec(repository=tmp_path), gate())).comparisons()
    assert no_base.status == "no_baseline"
