from pathlib import Path

import pytest

from pytest_triton_perf.domain.levels import Load
from pytest_triton_perf.errors import UsageError
from pytest_triton_perf.markers import parse_budgets, parse_gates, parse_sweep


def sweep(**keys):
    keys = {"model": "add_sub", "concurrency": [1, 2], **keys}
    given = {key: value for key, value in keys.items() if value is not ...}
    return parse_sweep(pytest.mark.perf_sweep(**given).mark, Path(__file__).parent)


def budgets(**limits):
    return parse_budgets([pytest.mark.perf_budget(**limits).mark], sweep())


def test_the_defaults():
    spec = sweep()
    assert spec.loads == (Load(concurrency=1), Load(concurrency=2))
    assert spec.variants == ({},)
    assert spec.traffic.protocol == "grpc"
    assert spec.traffic.percentiles == (50, 90, 95, 99)


def test_batch_sizes_are_swept_too():
    spec = sweep(concurrency=4, batch_size=[1, 8])
    assert spec.loads == (Load(concurrency=4), Load(concurrency=4, batch_size=8))


def test_an_automatic_ramp_starts_at_one_for_each_batch_size():
    spec = sweep(concurrency="auto", batch_size=[1, 8])
    assert spec.auto
    assert spec.loads == (Load(concurrency=1), Load(concurrency=1, batch_size=8))


def test_an_automatic_ramp_also_measures_what_budgets_name():
    spec = sweep(concurrency="auto", batch_size=[1, 8])
    marks = [
        pytest.mark.perf_budget(p99_latency_ms=5, at={"concurrency": 6}).mark,
        pytest.mark.perf_budget(p99_latency_ms=5, at={"concurrency": 9, "batch_size": 8}).mark,
        pytest.mark.perf_budget(min_throughput=5, at={"batch_size": 8}).mark,
        pytest.mark.perf_budget(min_throughput=5).mark,
    ]
    more = spec.with_loads_of(parse_budgets(marks, spec)).loads[2:]
    assert more == (
        Load(concurrency=6),
        Load(concurrency=6, batch_size=8),
        Load(concurrency=9, batch_size=8),
    )
    with pytest.raises(UsageError, match=r"at: concurrency: expected a whole number .* not 1.5"):
        parse_budgets(
            [pytest.mark.perf_budget(p99_latency_ms=5, at={"concurrency": 1.5}).mark], spec
        )


def test_a_list_of_loads_is_not_added_to():
    spec = sweep(concurrency=[1, 2])
    marks = [pytest.mark.perf_budget(p99_latency_ms=5, at={"concurrency": 2}).mark]
    assert spec.with_loads_of(parse_budgets(marks, spec)) == spec


def test_request_rates_may_be_fractions():
    spec = sweep(concurrency=..., request_rate=[0.5, 100])
    assert spec.loads == (Load(request_rate=0.5), Load(request_rate=100.0))


def test_input_data_is_looked_for_beside_the_test():
    assert sweep(input_data=Path(__file__).name).traffic.input_data == Path(__file__)
    assert sweep(input_data="zero").traffic.input_data == "zero"


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"concurency": [1]}, r"perf_sweep: unknown key 'concurency' \(did you mean 'concurrency'"),
        ({"model": ...}, "model='…' names the model to measure"),
        ({"concurrency": ...}, r"give the load: either concurrency=\[1, 2, 4\] or request_rate"),
        ({"request_rate": [5]}, "give the load: either"),
        ({"concurrency": 0}, "concurrency: expected a whole number of at least 1.* not 0"),
        ({"concurrency": [1, -2]}, "expected a whole number of at least 1.* not -2"),
        ({"concurrency": [1.5]}, "expected a whole number of at least 1.* not 1.5"),
        ({"concurrency": [True]}, "not True"),
        ({"concurrency": "full"}, "a whole number of at least 1, .* or 'auto', not 'full'"),
        ({"batch_size": "auto"}, "batch_size: expected a whole number of at least 1.* not 'auto'"),
        ({"concurrency": []}, "concurrency: the list is empty"),
        ({"concurrency": [2, 2]}, "a value appears twice"),
        ({"batch_size": 0}, "batch_size: expected a whole number of at least 1.* not 0"),
        ({"concurrency": ..., "request_rate": [0]}, "request_rate: expected a number above 0"),
        (
            {"concurrency": ..., "request_rate": [float("inf")]},
            "request_rate: expected a number above 0",
        ),
        ({"protocol": "tcp"}, "protocol: expected 'grpc' or 'http', not 'tcp'"),
        ({"shared_memory": "posix"}, "shared_memory: expected 'none', 'system' or 'cuda', not"),
        ({"streaming": 1}, "streaming: expected True or False, not 1"),
        ({"streaming": True, "protocol": "http"}, "streaming: needs protocol='grpc'"),
        ({"input_data": "gone.json"}, "input_data: there is no file or directory .*gone.json"),
        ({"input_data": 3}, "input_data: expected 'zero', 'random' or a path, not 3"),
        ({"shapes": [16]}, "shapes: expected a mapping"),
        ({"shapes": {"X": "16"}}, r"shapes\['X'\]: expected dimensions"),
        ({"shapes": {"X": (0,)}}, r"shapes\['X'\]: dimensions are whole numbers above 0"),
        ({"percentiles": 99}, "percentiles: expected a list"),
        ({"percentiles": (99.9,)}, "percentiles: expected whole numbers from 1 to 99, not 99.9"),
        ({"variants": "serach"}, "variants: expected a mapping .*, or 'search', not 'serach'"),
        ({"server_args": "--x"}, "server_args: expected a list of texts"),
        ({"perf_analyzer_args": ["-m", "other"]}, "-m"),
    ],
)
def test_what_is_wrong_with_a_sweep_is_said(keys, message):
    with pytest.raises(UsageError, match=message):
        sweep(**keys)


def test_everything_wrong_with_a_marker_is_said_at_once():
    with pytest.raises(UsageError) as caught:
        sweep(model=..., concurrency=0, variant={}, protocol="x")
    lines = str(caught.value).splitlines()
    assert len(lines) == 4
    assert all(line.startswith("perf_sweep: ") for line in lines)


def test_budgets_of_one_marker_share_their_load():
    first, second = budgets(p99_latency_ms=25, min_throughput=800, at={"concurrency": 2})
    assert (first.name, first.limit, first.at) == ("p99_latency_ms", 25.0, {"concurrency": 2})
    assert second.metric.name == "throughput"


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        ({"p99_latncy_ms": 3}, r"perf_budget: unknown budget 'p99_latncy_ms' \(did you mean"),
        ({"p99_latency_ms": -1}, "must be a positive number"),
        ({}, "names no limit"),
        ({"p99_latency_ms": 3, "at": 8}, "at: expected a mapping such as"),
        ({"p99_latency_ms": 3, "at": {"concurency": 1}}, "at: unknown key 'concurency'"),
        (
            {"p99_latency_ms": 3, "at": {"concurrency": 8}},
            "at: the sweep has no level with concurrency 8; it measures concurrency 1 and",
        ),
        ({"p75_latency_ms": 3}, r"add 75 to perf_sweep\(percentiles=…\)"),
    ],
)
def test_what_is_wrong_with_a_budget_is_said(limits, message):
    with pytest.raises(UsageError, match=message):
        budgets(**limits)


def gates(*marks, **spec):
    given = [pytest.mark.perf_gate(**keys).mark for keys in marks]
    return parse_gates(given, sweep(**spec), max_slowdown_pct=7)


def test_without_a_marker_a_test_is_gated_on_throughput_at_its_highest_load():
    (gate,) = gates()
    assert (gate.metric.name, gate.max_slowdown_pct, gate.mode) == ("throughput", 7, "detect")
    assert gate.loads == (Load(concurrency=2),)
    (at_rate,) = gates(concurrency=..., request_rate=[50, 100])
    assert (at_rate.metric.name, at_rate.loads) == ("avg_latency_ms", (Load(request_rate=100),))


def test_a_gate_says_what_is_allowed_of_what_and_where():
    keys = {"max_slowdown_pct": 3, "metric": "p99_latency_ms", "mode": "prove"}
    first, second = gates({**keys, "at": {"concurrency": 1}}, {"metric": "cpu_memory_mb"})
    assert (first.max_slowdown_pct, first.mode, first.loads) == (3, "prove", (Load(concurrency=1),))
    assert (second.metric.name, second.max_slowdown_pct) == ("cpu_memory_mb", 7)
    assert len(gates({}, {})) == 1


def test_a_gate_may_be_about_several_levels():
    (gate,) = gates({"at": {"concurrency": 2}}, batch_size=[1, 8])
    assert gate.loads == (Load(concurrency=2), Load(concurrency=2, batch_size=8))


def test_of_an_automatic_ramp_the_highest_level_is_known_later_unless_it_is_named():
    assert gates(concurrency="auto")[0].loads == ()
    (named,) = gates({"at": {"concurrency": 8}}, concurrency="auto")
    assert named.loads == (Load(concurrency=8),)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"max_slowdwn_pct": 5}, r"unknown key 'max_slowdwn_pct' \(did you mean 'max_slowdown_pct"),
        ({"max_slowdown_pct": 0}, "max_slowdown_pct: expected a number above 0, such as 5, not 0"),
        ({"max_slowdown_pct": "5%"}, "max_slowdown_pct: expected a number above 0, .* not '5%'"),
        ({"metric": "troughput"}, r"metric: .* \(did you mean 'throughput'\?\)"),
        ({"metric": "power_w"}, "metric: expected one of throughput, avg_latency_ms, "),
        ({"metric": "p98_latency_ms"}, "p98_latency_ms: the sweep measures p50, p90, p95 and p99"),
        ({"mode": "strict"}, "mode: expected 'detect' or 'prove', not 'strict'"),
        ({"at": {"concurrency": 9}}, "at: the sweep has no level with concurrency 9"),
    ],
)
def test_a_gate_that_is_wrong(keys, message):
    with pytest.raises(UsageError, match=f"^perf_gate: {message}"):
        gates(keys)


def test_a_gate_on_the_throughput_of_a_request_rate_is_wrong():
    with pytest.raises(UsageError, match="at a request rate the throughput is that rate"):
        gates({"metric": "throughput"}, concurrency=..., request_rate=50)


def test_what_is_wrong_with_a_gate_is_told_beside_a_sweep_that_is_wrong():
    mark = pytest.mark.perf_gate(mode="strict").mark
    with pytest.raises(UsageError, match="perf_gate: mode: expected"):
        parse_gates([mark], None, max_slowdown_pct=5)
    assert parse_gates([], None, max_slowdown_pct=5) == ()
