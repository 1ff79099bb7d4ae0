import math

import pytest
from builders import LOADS, ramp

from pytest_triton_perf.domain.budgets import Budget
from pytest_triton_perf.domain.explain import explain_comparison, explain_verdict, verdict_text
from pytest_triton_perf.domain.levels import Load
from pytest_triton_perf.domain.verdicts import judge
from pytest_triton_perf.errors import UsageError


def budget(at=None, **limit):
    ((name, value),) = limit.items()
    return Budget.from_keyword(name, value, at)


@pytest.mark.parametrize(
    ("limit", "at", "status", "load"),
    [
        ({"p99_latency_ms": 10}, {}, "passed", 8),
        ({"p99_latency_ms": 9.99}, {}, "failed", 8),
        ({"p99_latency_ms": 6}, {"concurrency": 4}, "passed", 4),
        ({"p99_latency_ms": 5.5}, {"concurrency": 4}, "failed", 4),
        ({"min_throughput": 1000}, {}, "passed", 1),
        ({"min_throughput": 1001}, {}, "failed", 1),
        ({"min_throughput": 8000}, {"concurrency": 8}, "passed", 8),
    ],
)
def test_the_worst_level_that_the_budget_names_decides(limit, at, status, load):
    verdict = judge(budget(at, **limit), ramp(), LOADS)
    assert (verdict.status, verdict.load) == (status, Load(concurrency=load))


@pytest.mark.parametrize(
    "metric",
    [
        "gpu_memory_mb", "gpu_memory_delta_mb", "cpu_memory_mb", "gpu_utilization_pct",
        "cpu_utilization_pct", "power_w", "energy_per_inference_j",
    ],
)  # fmt: skip
def test_what_the_server_takes_has_a_budget_each(metric):
    limit = budget(**{f"max_{metric}": 5})
    assert limit.metric.name == metric
    assert not limit.metric.violates(5, limit.limit)
    assert limit.metric.violates(5.01, limit.limit)


def test_a_metric_that_was_not_measured_is_no_pass():
    verdict = judge(budget(max_gpu_memory_mb=1e9), ramp(), LOADS)
    assert verdict.status == "not_measured"
    assert verdict.observed is None
    assert verdict.reason == (
        "concurrency 1, concurrency 2, concurrency 4 and concurrency 8: no GPU"
    )


def test_a_level_that_was_not_measured_is_no_pass():
    verdict = judge(
        budget(p99_latency_ms=100), ramp(), (*LOADS, Load(concurrency=16)), why="it hung"
    )
    assert verdict.status == "not_measured"
    assert verdict.reason == "concurrency 16: it hung"


def test_a_measured_failure_outweighs_a_level_that_is_missing():
    verdict = judge(budget(p99_latency_ms=5), ramp(), (*LOADS, Load(concurrency=16)))
    assert verdict.status == "failed"


def test_a_failed_budget_explains_itself():
    limit = budget(p99_latency_ms=5)
    text = explain_verdict(judge(limit, ramp(), LOADS), ramp())
    assert text == (
        "budget p99_latency_ms <= 5 ms at every load: failed (m_config_0)\n"
        "  measured 10.00 ms at concurrency 8: 5.00 ms (100%) over the limit\n"
        "  highest load within the limit: concurrency 2 (4.00 ms)\n"
        "\n"
        "  load           infer/s   avg ms   p99 ms\n"
        "  concurrency 1  1,000.0     1.25     3.00\n"
        "  concurrency 2  2,000.0     1.50     4.00\n"
        "  concurrency 4  4,000.0     2.00     6.00!\n"
        "> concurrency 8  8,000.0     3.00    10.00!"
    )


def test_a_budget_that_no_load_keeps_says_so():
    limit = budget(p99_latency_ms=1)
    assert "no measured load is within the limit" in explain_verdict(
        judge(limit, ramp(), LOADS), ramp()
    )


def test_a_budget_on_an_unmeasured_metric_gives_the_reason():
    limit = budget(max_gpu_memory_mb=100)
    text = explain_verdict(judge(limit, ramp(), LOADS), ramp())
    assert "concurrency 8: no GPU" in text
    assert "GPU MB" in text


def test_a_verdict_in_one_line():
    failed = judge(budget(p99_latency_ms=5), ramp(), LOADS)
    assert verdict_text(failed) == (
        "failed: 10.00 ms at concurrency 8, 5.00 ms (100%) over the limit"
    )
    assert verdict_text(judge(budget(p99_latency_ms=50), ramp(), LOADS)) == (
        "passed: 10.00 ms at concurrency 8"
    )


def test_a_failing_assert_on_a_figure_explains_itself():
    figure = ramp().at(concurrency=8).p99_latency_ms
    lines = explain_comparison("<", figure, 6)
    assert lines[:3] == [
        "p99_latency_ms is 10.00 ms, not below 6 ms",
        "  missed by 4.00 ms (66.7%) at concurrency 8 of m_config_0",
        "  highest load within the limit: concurrency 2 (4.00 ms)",
    ]
    assert lines[-1].startswith("> concurrency 8")


def test_the_limit_may_stand_on_the_left():
    figure = ramp().at(concurrency=1).throughput
    assert explain_comparison("<", 5000, figure)[0] == (
        "throughput is 1,000.0 infer/s, not above 5000 infer/s"
    )


def test_at_most_counts_the_limit_as_within():
    figure = ramp().at(concurrency=8).p99_latency_ms
    assert "concurrency 4 (6.00 ms)" in explain_comparison("<=", figure, 6)[2]


def test_other_comparisons_are_left_to_pytest():
    figure = ramp().levels[0].throughput
    assert explain_comparison("==", figure, 1) is None
    assert explain_comparison("<", 1.0, 2.0) is None
    assert explain_comparison("<", figure, "x") is None


@pytest.mark.parametrize(
    ("name", "limit", "message"),
    [
        ("p99_latncy_ms", 1, r"unknown budget 'p99_latncy_ms' \(did you mean 'p99_latency_ms'\?\)"),
        ("max_throughput", 1, r"unknown budget 'max_throughput' \(did you mean 'min_throughput'"),
        ("p99_latency_ms", "25", "the limit is a number, not '25'"),
        ("p99_latency_ms", True, "the limit is a number, not True"),
        ("p99_latency_ms", 0, "must be a positive number, not 0"),
        ("p99_latency_ms", -1, "must be a positive number, not -1"),
        ("p99_latency_ms", math.nan, "must be a positive number, not nan"),
        ("p99_latency_ms", math.inf, "must be a positive number, not inf"),
    ],
)
def test_what_is_no_budget(name, limit, message):
    with pytest.raises(UsageError, match=message):
        Budget.from_keyword(name, limit)
