import dataclasses

import pytest
from sample_run import (
    ENVIRONMENT,
    GPU,
    IMAGES,
    NO_GPU,
    add_sub_sweeps,
    crowd_run,
    measurement,
    run_of,
    sample_run,
    sweep,
    two_image_run,
    variant,
)

from pytest_triton_perf.domain.budgets import Budget
from pytest_triton_perf.domain.levels import Estimate, Load
from pytest_triton_perf.domain.results import Run
from pytest_triton_perf.domain.sweeps import Sweep
from pytest_triton_perf.domain.variants import Variant
from pytest_triton_perf.reports.content import (
    best_level,
    best_note,
    environment_rows,
    facts,
    gpu_memory_sentence,
    hardware,
    levels_of,
    satisfies,
    summary_sentence,
    tally,
)
from pytest_triton_perf.reports.remarks import remarks
from pytest_triton_perf.reports.tables import (
    best_table,
    image_table,
    instances,
    level_table,
    verdict_table,
)


def budget(at=None, **limits):
    ((name, limit),) = limits.items()
    return Budget.from_keyword(name, limit, at)


def test_the_sentence_of_a_gain_under_constraints():
    run = run_of(add_sub_sweeps(), [budget(p99_latency_ms=5)])
    assert summary_sentence(run, "add_sub") == (
        "In 25 measurements across 5 configurations, add_sub_config_1 provides the best "
        "throughput: 5997 infer/sec. This is a 12% gain over the default configuration "
        "(5355 infer/sec), under the given constraints. At 95% confidence, the two lie in "
        "[5818, 6177] and [5194, 5516] infer/sec."
    )


def test_the_sentence_without_constraints():
    run = run_of(add_sub_sweeps(), [])
    assert summary_sentence(run, "add_sub") == (
        "In 25 measurements across 5 configurations, add_sub_config_1 provides the best "
        "throughput: 6512 infer/sec. This is a 12% gain over the default configuration "
        "(5814 infer/sec), with no constraints given. At 95% confidence, the two lie in "
        "[6316, 6707] and [5640, 5988] infer/sec."
    )


@pytest.mark.parametrize(
    ("peak", "words"),
    [
        (6877, "This is an 8% gain"),
        (7065, "This is an 11% gain"),
        (6385, "This is a 0.4% gain"),
        (6360, "This is a gain of less than 0.1% over the default configuration (5814 infer/sec)"),
    ],
)
def test_gains_of_all_sizes_read_well(peak, words):
    run = run_of(
        [sweep(variant("add_sub"), 6359, 181), sweep(variant("add_sub", 0), peak, 182)], []
    )
    assert words in summary_sentence(run, "add_sub")


def with_rate(one, ci):
    """The sweep with this interval of throughput at its highest load."""
    *others, last = one.measurements
    rate = dataclasses.replace(last.values["throughput"], ci=ci)
    last = dataclasses.replace(last, values={**last.values, "throughput": rate})
    return dataclasses.replace(one, measurements=[*others, last])


@pytest.mark.parametrize(
    ("ci", "words"),
    [
        ((6300.0, 6700.0), "lie in [6300, 6700] and [5640, 5988] infer/sec."),
        (
            (5900.0, None),
            "lie in [5900, ∞) and [5640, 5988] infer/sec. Their intervals overlap: the "
            "difference may be noise.",
        ),
        (
            (5988.0, 7000.0),
            "[5988, 7000] and [5640, 5988] infer/sec. Their intervals overlap: the difference "
            "may be noise.",
        ),
        (None, "constraints given. Not all of this has an interval: the difference may be noise."),
    ],
)
def test_a_gain_within_the_intervals_may_be_noise(ci, words):
    default, _, best, *_ = add_sub_sweeps()
    run = run_of([default, with_rate(best, ci)], [])
    sentence = summary_sentence(run, "add_sub")
    assert "This is a 12% gain over the default configuration (5814 infer/sec), " in sentence
    assert sentence.endswith(words)


def test_the_sentence_where_the_default_is_the_best():
    run = run_of(add_sub_sweeps()[::3], [budget(p99_latency_ms=5)])
    assert summary_sentence(run, "add_sub") == (
        "In 10 measurements across 2 configurations, the default configuration "
        "add_sub_config_default provides the best throughput: 5355 infer/sec. No other "
        "configuration gains over it, under the given constraints. At 95% confidence, the best "
        "throughput lies in [5194, 5516] infer/sec."
    )


def test_of_equals_the_default_is_the_best():
    run = run_of([sweep(variant("add_sub", 0), 6359, 1), sweep(variant("add_sub"), 6359, 1)], [])
    assert "the default configuration add_sub_config_default provides" in summary_sentence(
        run, "add_sub"
    )


def test_the_sentence_of_a_single_configuration():
    run = run_of(add_sub_sweeps()[2:3], [])
    assert summary_sentence(run, "add_sub") == (
        "In 5 measurements of 1 configuration, add_sub_config_1 provides at best 6512 infer/sec "
        "[6316, 6707], with no constraints given."
    )


def test_the_sentence_where_the_default_was_not_measured():
    run = run_of(add_sub_sweeps()[1:], [budget(p99_latency_ms=5)])
    assert summary_sentence(run, "add_sub").endswith(
        "add_sub_config_1 provides the best throughput: 5997 infer/sec, under the given "
        "constraints. The default configuration was not measured. At 95% confidence, the best "
        "throughput lies in [5818, 6177] infer/sec."
    )


def test_the_sentence_where_the_default_breaks_the_constraints():
    run = run_of(add_sub_sweeps(), [budget(min_throughput=6500)])
    assert summary_sentence(run, "add_sub").endswith(
        "add_sub_config_1 provides the best throughput: 6512 infer/sec, under the given "
        "constraints. The default configuration is within them at no measured load "
        "(5814 infer/sec where it comes nearest). At 95% confidence, the best throughput lies in "
        "[6316, 6707] infer/sec."
    )


def test_the_sentence_where_nothing_satisfies_the_constraints():
    run = run_of(add_sub_sweeps(), [budget(p99_latency_ms=0.5)])
    assert summary_sentence(run, "add_sub") == (
        "In 25 measurements across 5 configurations, no configuration satisfies the constraints. "
        "add_sub_config_1 at concurrency 1 (2849 infer/sec [2763, 2934]) comes nearest: "
        "p99 latency 0.78 ms [0.74, 0.82], 55.2% over the limit of 0.5 ms."
    )


def test_the_nearest_names_the_load_that_breaks_the_limit():
    run = run_of(add_sub_sweeps(), [budget({"concurrency": 8}, p99_latency_ms=2)])
    words = "comes nearest: p99 latency 2.95 ms [2.80, 3.12] at concurrency 8, "
    assert words in summary_sentence(run, "add_sub")


def test_the_sentence_where_a_constraint_was_not_measured():
    run = run_of(add_sub_sweeps(), [budget(max_gpu_memory_mb=4000)])
    assert summary_sentence(run, "add_sub").endswith(
        "no configuration is known to satisfy the constraints: GPU memory at every load was not "
        f"measured ({NO_GPU})."
    )


def test_the_sentence_where_no_throughput_was_measured():
    level = dataclasses.replace(
        measurement(Load(concurrency=1), 100, 1), values={}, missing={"throughput": "it broke"}
    )
    chosen = Sweep(test="t", variant=variant("add_sub"), measurements=[level])
    assert summary_sentence(run_of([chosen], []), "add_sub") == (
        "In 1 measurement of 1 configuration, no throughput was measured: it broke."
    )


def test_a_configuration_that_breaks_its_limit_at_one_load_is_no_choice_at_another():
    run = run_of(add_sub_sweeps(), [budget({"concurrency": 8}, p99_latency_ms=3)])
    level, missed = best_level(run, levels_of(run, "add_sub"))
    assert (level.sweep.variant.name, level.concurrency) == ("add_sub_config_1", 16)
    assert missed.share == 0


def test_a_test_without_budgets_gives_no_evidence_where_others_have_them():
    judged, unjudged = add_sub_sweeps()[0], add_sub_sweeps()[2]
    run = run_of([judged], [budget(p99_latency_ms=5)])
    run = dataclasses.replace(run, sweeps=[judged, unjudged])
    level, _ = best_level(run, levels_of(run, "add_sub"))
    assert level.sweep.variant.name == "add_sub_config_default"


def test_a_level_satisfies_only_what_applies_and_was_measured():
    run = run_of(add_sub_sweeps()[:1], [budget({"concurrency": 8}, max_power_w=200)])
    found = {level.concurrency: satisfies(run, level) for level in levels_of(run, "add_sub")}
    assert found == {1: None, 2: None, 4: None, 8: False, 16: None}


def test_the_facts_name_the_hardware_and_the_targets():
    run = sample_run()
    assert dict(facts(run, "resnet")) == {
        "Model": "resnet",
        "Measured on": f"NVIDIA A10G (24.1 GB, {GPU})",
        "Triton": "2.51.0",
        "Constraint targets": "GPU memory ≤ 3000 MB at every load",
    }
    assert hardware(run, "add_sub") == "CPU"
    bare = Run(environment={}, sweeps=run.sweeps, verdicts=[])
    assert facts(bare, "resnet")[1:] == [("Measured on", GPU), ("Constraint targets", "none")]


def test_the_memory_of_all_gpus_together():
    run = sample_run()
    assert gpu_memory_sentence(run, "resnet") == "Total Available GPU Memory: 24.1 GB"
    assert gpu_memory_sentence(run, "add_sub") == ""
    bare = Run(environment={}, sweeps=run.sweeps, verdicts=[])
    assert gpu_memory_sentence(bare, "resnet") == ""


def test_a_remote_servers_gpus_are_known_by_its_own_metrics():
    level = measurement(Load(concurrency=1), 100, 1)
    gpus = {"GPU-a": {"memory_total_mb": 15_000.0}, "GPU-b": {"memory_total_mb": 700.0}}
    one = Sweep(
        test="t",
        variant=variant("m", kind="KIND_GPU"),
        measurements=[dataclasses.replace(level, gpus=gpus)],
    )
    run = run_of([one], [])
    assert gpu_memory_sentence(run, "m") == "Total Available GPU Memory: 15.7 GB"
    assert hardware(run, "m") == "GPU-a (15.0 GB) and GPU-b (0.7 GB)"


def test_the_table_of_best_configurations():
    table = best_table(sample_run(), "resnet")
    assert table.header == [
        "Model Config Name", "Load", "Within Constraints", "Dynamic Batching", "Max Batch Size",
        "Total Instance Count", "p99 Latency (ms)", "Throughput (infer/sec)", "Gain over Default",
        "Max CPU Memory Usage (MB)", "Max GPU Memory Usage (MB)", "Average GPU Utilization (%)",
    ]  # fmt: skip
    assert [row[:6] for row in table.rows] == [
        ["resnet_config_default", "concurrency 8", "yes", "enabled, 50 µs", "8", "1"],
        ["resnet_config_0", "concurrency 8", "no", "enabled, 50 µs", "8", "2"],
    ]
    assert [row[-2:] for row in table.rows] == [["2,310.5", "42.5"], ["3,120.0", "42.5"]]


def test_a_budget_on_another_metric_has_its_column():
    table = best_table(run_of(add_sub_sweeps(), [budget(p50_latency_ms=9)]), "add_sub")
    assert table.header[9] == "p50 Latency (ms)"
    assert {row[9] for row in table.rows} != {"–"}


def test_a_column_that_would_be_empty_is_left_out():
    table = best_table(run_of(add_sub_sweeps(), [budget(max_power_w=200)]), "add_sub")
    assert "GPU Power Usage (W)" not in table.header


def gains(table):
    at = table.header.index("Gain over Default")
    return {row[0].removeprefix("add_sub_config_"): row[at] for row in table.rows}


def test_gains_are_over_the_default_and_may_be_unsure():
    table = best_table(run_of(add_sub_sweeps(), []), "add_sub")
    assert gains(table) == {
        "1": "+12.0%", "0": "+0.7%, unsure", "default": "–", "2": "-7.4%", "3": "-18.1%",
    }  # fmt: skip


def test_a_sheet_of_paper_has_the_three_best_and_the_default():
    run = crowd_run(40)
    few, all_of_them = best_table(run, "add_sub", most=3), best_table(run, "add_sub")
    assert len(all_of_them.rows) == 40
    assert [row[0] for row in few.rows] == [
        *(row[0] for row in all_of_them.rows[:3]), "add_sub_config_default",
    ]  # fmt: skip


def test_without_a_default_there_is_no_gain():
    assert "Gain over Default" not in best_table(run_of(add_sub_sweeps()[1:], []), "add_sub").header


def test_what_is_not_known_of_a_config_is_not_made_up():
    bare = Variant(model="add_sub", name="add_sub_config_default")
    assert best_table(run_of([sweep(bare, 100, 10)], []), "add_sub").rows[0][2:5] == ["–"] * 3


@pytest.mark.parametrize(
    ("groups", "gpu", "expected"),
    [
        ([{"kind": "KIND_CPU", "count": 2}], False, {"CPU": 2}),
        ([{"kind": "KIND_GPU", "count": 2, "gpus": [0, 1]}], True, {"GPU": 4}),
        ([{"kind": "KIND_GPU"}, {"kind": "KIND_CPU", "count": "3"}], True, {"GPU": 1, "CPU": 3}),
        ([{"count": 2}], True, {"GPU": 2}),
        ([], False, {"CPU": 1}),
    ],
)
def test_instances_follow_tritons_rules(groups, gpu, expected):
    config = {"name": "m", "instance_group": groups}
    chosen = Variant(model="m", name="m_config_0", config=config)
    assert instances(chosen, has_gpu=gpu) == expected


def test_columns_in_which_nothing_stands_are_left_out():
    run = run_of(add_sub_sweeps(), [budget(p99_latency_ms=50)])
    assert verdict_table(run, run.verdicts).header == [
        "Verdict", "Configuration", "Budget", "Measured", "Test",
    ]  # fmt: skip
    one = level_table(run, levels_of(run, "add_sub")[:5], {"client"})
    assert one.header[:3] == ["Load", "Within Constraints", "Throughput (infer/sec)"]
    assert one.texts == 2


def test_notes_say_each_reason_once():
    run = run_of(add_sub_sweeps(), [])
    assert remarks(run, levels_of(run, "add_sub")) == [
        "GPU memory, GPU memory over idle server, GPU utilization, GPU power and GPU energy per "
        "inference not measured: " + NO_GPU
    ]


def test_images_are_compared_and_never_mixed_up():
    run = two_image_run()
    assert summary_sentence(run, "add_sub") == (
        "In 20 measurements across 4 configurations, add_sub_config_0@25.01-py3 provides the best "
        "throughput: 6583 infer/sec. This is a 9% gain over the default configuration on that "
        "image (6034 infer/sec), under the given constraints. At 95% confidence, the two lie in "
        "[6385, 6780] and [5853, 6215] infer/sec."
    )
    assert best_note(run, "add_sub_config_0@24.10-py3") == (
        "add_sub_config_0@24.10-py3 provides at best 5851 infer/sec [5676, 6027] at concurrency "
        "16 under the given constraints; the default configuration, 5486 infer/sec [5321, 5650] "
        "at concurrency 16."
    )
    assert [row[0] for row in best_table(run, "add_sub").rows] == [
        "add_sub_config_0@25.01-py3",
        "add_sub_config_default@25.01-py3",
        "add_sub_config_0@24.10-py3",
        "add_sub_config_default@24.10-py3",
    ]
    assert ("Images", f"{IMAGES[0]} and {IMAGES[1]}") in facts(run, "add_sub")


def test_the_images_stand_side_by_side():
    table = image_table(two_image_run(), "add_sub")
    assert table.header == [
        "Model Config Name", "Load",
        "Throughput (infer/sec) @24.10-py3", "Throughput (infer/sec) @25.01-py3",
        "p99 Latency (ms) @24.10-py3", "p99 Latency (ms) @25.01-py3",
    ]  # fmt: skip
    assert len(table.rows) == 10
    assert table.rows[4] == [
        "add_sub_config_default", "concurrency 16",
        "5,485.7 ±3.0%", "6,034.3 ±3.0%", "6.45 ±6.0%", "5.86 ±6.0%",
    ]  # fmt: skip
    assert image_table(sample_run(), "add_sub").rows == []


def test_what_one_image_lacks_is_not_made_up():
    run = two_image_run()
    table = image_table(dataclasses.replace(run, sweeps=run.sweeps[:3]), "add_sub")
    assert [row[3] for row in table.rows[5:]] == ["–"] * 5
    best = summary_sentence(dataclasses.replace(run, sweeps=run.sweeps[1:]), "add_sub")
    assert "over the default configuration on that image" in best
    alone = dataclasses.replace(run, sweeps=[run.sweeps[0], run.sweeps[3]])
    assert "The default configuration on that image was not measured." in summary_sentence(
        alone, "add_sub"
    )


def test_a_remark_on_many_levels_is_there_once():
    one, *_ = add_sub_sweeps()
    noted = [dataclasses.replace(m, notes=("slow", "odd")) for m in one.measurements[:3]]
    noted[1] = dataclasses.replace(noted[1], notes=("slow",))
    levels = dataclasses.replace(one, measurements=noted).levels
    assert remarks(sample_run(), levels)[1:] == [
        "add_sub_config_default at concurrency 1 and 2 more: slow",
        "add_sub_config_default at concurrency 1 and 1 more: odd",
    ]


def test_a_disturbed_level_and_an_open_interval_are_remarks():
    one = add_sub_sweeps()[0]
    first, second, *others = one.measurements
    faults = ("stolen time", "a CPU limit")
    open_end = Estimate(value=1.0, ci=(0.5, None), needs=1932)
    first = dataclasses.replace(first, faults=faults)
    second = dataclasses.replace(
        second, faults=faults, values={**second.values, "p99_latency_ms": open_end}
    )
    measured = dataclasses.replace(one, measurements=[first, second, *others])
    run = run_of([measured], [])
    assert [text for text in remarks(run, measured.levels) if NO_GPU not in text] == [
        "disturbed: add_sub_config_default at concurrency 1, stolen time and a CPU limit; "
        "1 more level in such ways",
        "add_sub_config_default at concurrency 2: the interval of p99 latency is open (∞); it "
        "needs about 1,900 more requests",
    ]
    assert "1.00 ±∞" in level_table(run, measured.levels).rows[1]


def test_the_tally_counts_the_worst_first():
    assert tally(sample_run()) == "6 failed, 1 not measured, 6 passed"
    assert tally(run_of(add_sub_sweeps(), [])) == "no budgets were set"


def test_the_environment_is_flat_for_reading():
    rows = environment_rows(run_of([], [], environment={**ENVIRONMENT, "args": ["-a", "-b"]}))
    assert ("triton version", "2.51.0") in rows
    assert ("gpus 1 name", "NVIDIA A10G") in rows
    assert ("args", "-a, -b") in rows
