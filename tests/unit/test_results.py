import json
from dataclasses import replace

import pytest
from builders import LOADS, ramp

from pytest_triton_perf.domain.budgets import Budget
from pytest_triton_perf.domain.results import Run, from_json, merge, to_json
from pytest_triton_perf.domain.timelines import Curve, MemoryTimeline, Phase
from pytest_triton_perf.domain.verdicts import judge
from pytest_triton_perf.errors import UsageError


def a_run() -> Run:
    sweep = ramp()
    budgets = [
        Budget.from_keyword("p99_latency_ms", 5),
        Budget.from_keyword("max_gpu_memory_mb", 5),
        Budget.from_keyword("min_throughput", 5, {"concurrency": 4}),
    ]
    return Run(
        environment={"cpu": "a CPU"},
        sweeps=[sweep],
        verdicts=[judge(budget, sweep, LOADS) for budget in budgets],
        server_only={"cpu_memory_mb": 80.0, "gpus": {}},
        wall_s=12.5,
        exit=1,
    )


def test_results_survive_a_round_trip_through_json():
    run = a_run()
    assert from_json(json.loads(json.dumps(to_json(run)))) == run


def test_a_file_of_before_there_was_a_metric_is_read():
    data = to_json(a_run())
    for row in data["measurements"]:
        del row["cpu_utilization_pct"], row["energy_per_inference_j"]
    assert from_json(data) == a_run()


def test_a_memory_timeline_survives_it_too_and_may_be_absent():
    memory = MemoryTimeline(
        phases=(Phase(name="load", start_s=0.0, end_s=1.5),),
        curves={"cpu_memory_mb": Curve(at_s=[0.1, 1.2], mb=[20.0, 75.5])},
        gpus={"GPU-a": Curve(at_s=[0.1], mb=[300.0])},
    )
    run = replace(a_run(), sweeps=[replace(ramp(), memory=memory)])
    data = json.loads(json.dumps(to_json(run)))
    assert data["memory_timelines"] == [
        {
            "test": "test_it",
            "variant": "m_config_0",
            "phases": [{"name": "load", "start_s": 0.0, "end_s": 1.5}],
            "curves": {"cpu_memory_mb": {"at_s": [0.1, 1.2], "mb": [20.0, 75.5]}},
            "gpus": {"GPU-a": {"at_s": [0.1], "mb": [300.0]}},
        }
    ]
    assert from_json(data) == run
    del data["memory_timelines"]  # as written by the versions before
    assert from_json(data) == a_run()


def test_the_shape_of_the_contract():
    data = to_json(a_run())
    row = data["measurements"][-1]
    assert data["schema"] == 1
    assert row["throughput"] == {"value": 1000.0, "ci": None}
    assert row["latency_ms"]["p99"]["value"] == 3.0
    assert row["gpu_memory_mb"] is None
    assert row["missing"] == {"gpu_memory_mb": "no GPU"}
    verdict = data["verdicts"][0]
    assert (verdict["budget"], verdict["limit"]) == ("p99_latency_ms", 5)
    assert verdict["status"] == "failed"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema": 99}, "has schema 99; this version reads schema 1"),
        ({"measurements": [{}]}, "results.json is incomplete: KeyError"),
        ({"verdicts": None}, "results.json is incomplete: TypeError"),
    ],
)
def test_a_file_that_cannot_be_read_says_why(change, message):
    with pytest.raises(UsageError, match=message):
        from_json(to_json(a_run()) | change)


def test_parts_of_a_session_are_merged_in_order():
    first, second = a_run(), replace(a_run(), wall_s=20.0, exit=0, server_only={})
    merged = merge([Run(environment={}, sweeps=[], verdicts=[]), first, second])
    assert len(merged.sweeps) == 2
    assert merged.environment == {"cpu": "a CPU"}
    assert merged.server_only == first.server_only
    assert (merged.wall_s, merged.exit) == (20.0, 1)
