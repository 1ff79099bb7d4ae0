import json
from dataclasses import replace

import pytest
from builders import LOADS, ramp

from pytest_triton_perf.domain.budgets import Budget
from pytest_triton_perf.domain.levels import Estimate
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
        server_only=[{"image": None, "version": "2.51.0", "cpu_memory_mb": 80.0, "gpus": {}}],
        wall_s=12.5,
        exit=1,
        confidence=0.99,
    )


def test_results_survive_a_round_trip_through_json():
    run = a_run()
    assert from_json(json.loads(json.dumps(to_json(run)))) == run


def test_a_record_from_before_the_confidence_was_kept_is_read():
    data = json.loads(json.dumps(to_json(a_run())))
    del data["session"]["confidence"]
    for verdict in data["verdicts"]:
        del verdict["needs"]
    assert from_json(data) == replace(a_run(), confidence=0.95)


def test_a_memory_timeline_survives_it_too():
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


def test_an_unbounded_end_keeps_what_it_needs():
    sweep = ramp()
    figure = Estimate(value=3.0, ci=(2.5, None), needs=400)
    values = {"throughput": Estimate(value=9.0), "p99_latency_ms": figure}
    sweep = replace(sweep, measurements=[replace(sweep.measurements[0], values=values)])
    data = to_json(replace(a_run(), sweeps=[sweep]))
    assert data["measurements"][0]["latency_ms"]["p99"] == {
        "value": 3.0,
        "ci": [2.5, None],
        "needs": 400,
    }
    (back,) = from_json(json.loads(json.dumps(data))).sweeps
    assert back.measurements[0].values["p99_latency_ms"] == figure


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


def on_images(*images: str) -> Run:
    run = a_run()
    return replace(
        run,
        sweeps=[replace(run.sweeps[0], image=image) for image in images],
        verdicts=[replace(run.verdicts[0], image=image) for image in images],
        server_only=[{**run.server_only[0], "image": image} for image in images],
    )


def test_the_same_variant_on_two_images_stays_two_configurations():
    run = on_images("r/t:24.10", "r/t:25.01")
    data = json.loads(json.dumps(to_json(run)))
    assert from_json(data) == run
    assert [row["image"] for row in data["measurements"][::4]] == ["r/t:24.10", "r/t:25.01"]
    assert [row["image"] for row in data["verdicts"]] == ["r/t:24.10", "r/t:25.01"]
    assert list(data["variants"]) == ["m_config_0@24.10", "m_config_0@25.01"]
    assert list(run.configurations) == ["m_config_0@24.10", "m_config_0@25.01"]


def test_on_one_image_a_variants_name_says_enough():
    run = on_images("r/t:24.10")
    assert list(run.configurations) == ["m_config_0"]
    assert {row["image"] for row in to_json(run)["measurements"]} == {"r/t:24.10"}


def test_workers_that_measured_other_images_are_merged():
    one, other = on_images("r/t:24.10"), on_images("r/t:25.01")
    newer = {**other.server_only[0], "version": "2.54.0"}
    merged = merge([one, replace(other, server_only=[newer])])
    assert merged.images == ["r/t:24.10", "r/t:25.01"]
    assert merged.server_only == [*one.server_only, newer]
    assert merged.environment["triton"] == {"version": "2.51.0, 2.54.0"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema": 99}, "has schema 99, and this version reads schema 1"),
        ({"measurements": [{}]}, "results.json is incomplete: KeyError"),
        ({"verdicts": None}, "results.json is incomplete: TypeError"),
    ],
)
def test_a_file_that_cannot_be_read_says_why(change, message):
    with pytest.raises(UsageError, match=message):
        from_json(to_json(a_run()) | change)


def test_parts_of_a_session_are_merged_in_order():
    first, second = a_run(), replace(a_run(), wall_s=20.0, exit=0, server_only=[])
    merged = merge([Run(environment={}, sweeps=[], verdicts=[]), first, second])
    assert len(merged.sweeps) == 2
    assert merged.environment == {"cpu": "a CPU", "triton": {"version": "2.51.0"}}
    assert merged.server_only == first.server_only
    assert (merged.wall_s, merged.exit) == (20.0, 1)


def test_what_was_reused_and_the_notes_of_all_parts_survive():
    run = a_run()
    (one,) = run.sweeps
    *others, last = one.measurements
    reused = replace(one, measurements=[*others, replace(last, reused=True)])
    first = replace(run, sweeps=[reused], notes=("torn", "again"))
    data = json.loads(json.dumps(to_json(first)))
    assert [row["reused"] for row in data["measurements"]] == [False] * len(others) + [True]
    assert from_json(data) == first
    assert merge([first, replace(run, notes=("torn", "full"))]).notes == ("torn", "again", "full")


def test_a_record_of_a_version_without_resume_is_read():
    data = to_json(a_run())
    del data["session"]["notes"]
    for row in data["measurements"]:
        del row["reused"]
    assert from_json(data) == a_run()
