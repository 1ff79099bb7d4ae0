"""Annotations, JUnit properties and GitLab's metrics: the same verdicts where CI shows them."""

from dataclasses import replace
from pathlib import Path

import pytest
from sample_run import sample_run
from test_comparisons import BROKEN, GONE, LATER, OTHER, SLOWER, a_run

from pytest_triton_perf.domain.budgets import Budget
from pytest_triton_perf.domain.levels import Load
from pytest_triton_perf.domain.results import Run
from pytest_triton_perf.domain.verdicts import Verdict
from pytest_triton_perf.reports.annotations import annotations
from pytest_triton_perf.reports.open_metrics import write_open_metrics
from pytest_triton_perf.reports.properties import of_comparisons, of_verdicts

SOURCE = """\
import pytest


@pytest.mark.perf_sweep(model="m", concurrency=[1, 8])
@pytest.mark.perf_budget(
    min_throughput=10,
    p99_latency_ms=25,
)
def test_it(): pass


class TestB:
    @pytest.mark.perf_sweep(model="m", concurrency=8)
    @pytest.mark.perf_gate(max_slowdown_pct=3)
    def test_b(self): pass
"""
FAILED = Verdict(
    test="tests/test_it.py::test_it[default]",
    variant="m_config_default",
    budget=Budget.from_keyword("p99_latency_ms", 25, {}),
    status="failed",
    observed=31.2,
    ci=(30.0, None),
    load=Load(concurrency=8),
    reason="6.20 ms (24.8%) over, 100% sure:\nsee below",
)


def commands(tmp_path: Path, run: Run) -> list[str]:
    file = tmp_path / "project" / "tests" / "test_it.py"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(SOURCE)
    return annotations(run, tmp_path / "project", tmp_path)


def only(*verdicts: Verdict) -> Run:
    return replace(sample_run(), verdicts=verdicts)


def test_a_broken_budget_is_an_error_on_the_line_of_its_limit(tmp_path) -> None:
    assert commands(tmp_path, only(FAILED)) == [
        "::error file=project/tests/test_it.py,line=7,"
        "title=budget p99_latency_ms <= 25 ms at every load (m_config_default)::"
        "failed: 31.20 ms [30.00, ∞) at concurrency 8, 6.20 ms (24.8%25) over, 100%25 sure:%0A"
        "see below"
    ]


def test_what_is_not_decided_is_a_warning_after_the_errors_and_a_pass_is_none(tmp_path) -> None:
    undecided = replace(FAILED, status="inconclusive", variant="a,b:c")
    passed = replace(FAILED, status="passed")
    lost = replace(FAILED, status="not_measured", observed=None, reason="it died")
    found = commands(tmp_path, only(undecided, passed, lost))
    assert [command.partition(" ")[0] for command in found] == ["::error", "::warning"]
    assert "(a%2Cb%3Ac)::inconclusive: 31.20 ms" in found[1]
    assert found[0].endswith("::not measured: it died")


def test_a_regression_is_on_the_line_of_its_gate_or_of_its_test(tmp_path) -> None:
    marked = replace(SLOWER, test="tests/test_it.py::TestB::test_b[x]")
    unmarked = replace(SLOWER, test="tests/test_it.py::test_it[x]")
    run = replace(a_run(marked, unmarked, OTHER, LATER, GONE), verdicts=())
    found = commands(tmp_path, run)
    assert found[0] == (
        "::error file=project/tests/test_it.py,line=14,"
        "title=gate against main (1f0c2d3e4a5b)%3A 2 regressed%2C 1 vanished%2C 1 unchanged::"
        "regressed: throughput -16.4%25 [-18.0%25, -14.9%25] of "
        "tests/test_it.py::TestB::test_b[x] at concurrency 8"
    )
    assert found[1].startswith("::error file=project/tests/test_it.py,line=9,title=")
    assert found[2].startswith("::error title=")
    assert found[2].endswith("gone: - - of model old, the base has the model 'old'")
    assert len(found) == 3


@pytest.mark.parametrize(
    ("test", "where"),
    [
        ("tests/gone.py::test_it", "title="),
        ("tests/test_it.py::test_other", "file=project/tests/test_it.py,title="),
        ("tests/models.triton-perf.yaml::m", "file=project/tests/models.triton-perf.yaml,title="),
        ("tests/broken.py::test_it", "file=project/tests/broken.py,title="),
    ],
)
def test_a_line_that_is_not_known_is_left_out(tmp_path, test, where) -> None:
    (tmp_path / "project" / "tests").mkdir(parents=True)
    (tmp_path / "project" / "tests" / "models.triton-perf.yaml").write_text("")
    (tmp_path / "project" / "tests" / "broken.py").write_text("def (")
    (command,) = commands(tmp_path, only(replace(FAILED, test=test)))
    assert command.startswith(f"::error {where}")


def test_junit_properties() -> None:
    assert of_verdicts([replace(FAILED, reason="")]) == [
        (
            "triton_perf p99_latency_ms <= 25 ms at every load",
            "failed: 31.20 ms [30.00, ∞) at concurrency 8",
        )
    ]
    assert of_comparisons([SLOWER, LATER, SLOWER, BROKEN]) == [
        (
            "triton_perf gate throughput of test_it.py::test_it[default] at concurrency 8",
            "regressed: -16.4% [-18.0%, -14.9%], limit -4.8%",
        ),
        (
            "triton_perf gate throughput of test_it.py::test_c at concurrency 1",
            "not comparable: the base: Triton refused c: no memory",
        ),
    ]


def test_gitlabs_metrics_have_a_line_per_figure(tmp_path) -> None:
    run = sample_run()
    sweep = run.sweeps[0]
    odd = replace(sweep, test='test_it.py::test_a["x\\y\nz"]')
    write_open_metrics(replace(run, sweeps=[odd]), tmp_path / "metrics.txt")
    *lines, end = (tmp_path / "metrics.txt").read_text().splitlines()
    assert end == "# EOF"
    level = sweep.measurements[0]
    labels = (
        '{model="add_sub",configuration="add_sub_config_default",load="concurrency 1",'
        'test="test_it.py::test_a[\\"x\\\\y\\nz\\"]"}'
    )
    p99 = level.values["p99_latency_ms"].value
    assert f"triton_perf_p99_latency_ms{labels} {p99!r}" in lines
    throughput = level.values["throughput"].value
    assert f"triton_perf_throughput_infer_per_second{labels} {throughput!r}" in lines
    assert len(lines) == sum(len(m.values) for m in sweep.measurements)
    # What was not measured has no line: there is no GPU.
    assert not any("gpu" in line.partition("{")[0] for line in lines)
