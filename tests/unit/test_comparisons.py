"""Comparisons: their size in the metric itself, what fails, and what is said of them."""

import json
from dataclasses import replace

import pytest
from sample_run import sample_run
from test_reports_terminal import Screen

from pytest_triton_perf.domain.comparisons import (
    Comparison,
    change_pct,
    from_json,
    interval_pct,
    tally,
    to_json,
)
from pytest_triton_perf.domain.levels import Load
from pytest_triton_perf.domain.metrics import find_metric
from pytest_triton_perf.domain.results import Run, merge
from pytest_triton_perf.domain.results import from_json as run_from_json
from pytest_triton_perf.domain.results import to_json as run_to_json
from pytest_triton_perf.reports.html import write_html
from pytest_triton_perf.reports.markdown import write_markdown
from pytest_triton_perf.reports.terminal import write_summary

SLOWER = Comparison(
    test="test_it.py::test_it[default]",
    model="m",
    variant="m_config_default",
    metric="throughput",
    load=Load(concurrency=8),
    max_slowdown_pct=5.0,
    change_pct=-16.44,
    ci_pct=(-18.04, -14.9),
    quads=8,
    mde_pct=2.94,
    status="regressed",
)
LATER = replace(SLOWER, metric="p99_latency_ms", gated=False, change_pct=21.0, ci_pct=(None, None))
OTHER = replace(SLOWER, test="test_it.py::test_b", status="unchanged", change_pct=0.1)
BROKEN = Comparison(
    test="test_it.py::test_c",
    model="c",
    metric="throughput",
    load=Load(concurrency=1),
    status="not_comparable",
    reason="the base: Triton refused c: no memory",
)
NEW = replace(BROKEN, test="test_it.py::test_d", model="d", status="no_baseline", reason="new")
GONE = Comparison(model="old", status="vanished", reason="the base has the model 'old'")


def a_run(*comparisons: Comparison) -> Run:
    run = sample_run()
    environment = {**run.environment, "gate": {"against": "main (1f0c2d3e4a5b)", "seed": 7}}
    return replace(run, environment=environment, comparisons=comparisons)


def test_a_worsening_is_a_rise_of_a_latency_and_a_fall_of_a_throughput() -> None:
    latency, throughput = find_metric("p99_latency_ms"), find_metric("throughput")
    assert change_pct(latency, 0.1) == pytest.approx(10.52, abs=0.01)
    assert change_pct(throughput, 0.1) == pytest.approx(-9.52, abs=0.01)
    assert interval_pct(latency, (0.1, None)) == (pytest.approx(10.52, abs=0.01), None)
    assert interval_pct(throughput, (0.1, None)) == (None, pytest.approx(-9.52, abs=0.01))
    assert SLOWER.limit_pct == pytest.approx(-4.76, abs=0.01)
    assert LATER.limit_pct == pytest.approx(5)


@pytest.mark.parametrize(
    ("status", "detect", "prove"),
    [
        ("unchanged", False, False),
        ("improved", False, False),
        ("inconclusive", False, True),
        ("regressed", True, True),
        ("not_comparable", True, True),
        ("no_baseline", False, False),
        ("vanished", True, True),
    ],
)
def test_what_fails_the_session(status, detect, prove) -> None:
    comparison = replace(SLOWER, status=status)
    assert comparison.fails is detect
    assert replace(comparison, mode="prove").fails is prove
    assert not replace(comparison, gated=False, mode="prove").fails


def test_they_survive_a_round_trip_through_json() -> None:
    everything = (SLOWER, LATER, OTHER, BROKEN, NEW, GONE)
    for comparison in everything:
        assert from_json(json.loads(json.dumps(to_json(comparison)))) == comparison
    run = a_run(*everything)
    assert run_from_json(json.loads(json.dumps(run_to_json(run)))).comparisons == everything


def test_what_each_worker_of_xdist_sees_is_told_once() -> None:
    merged = merge([a_run(SLOWER, GONE), a_run(OTHER, GONE)])
    assert list(merged.comparisons) == [SLOWER, GONE, OTHER]
    assert tally(merged.comparisons) == "1 regressed, 1 vanished, 1 unchanged"


def test_the_terminal_names_test_metric_size_and_interval_what_fails_first() -> None:
    screen = Screen()
    write_summary(screen, a_run(OTHER, NEW, LATER, SLOWER, BROKEN, GONE), "out", [])
    start = next(i for i, line in enumerate(screen.lines) if line.startswith("gate against"))
    block = screen.lines[start : screen.lines.index("", start)]
    assert [" ".join(line.split()) for line in block] == [
        "gate against main (1f0c2d3e4a5b): 1 regressed, 1 not comparable, 1 vanished, "
        "1 unchanged, 1 no baseline",
        "gate metric change [95% interval] limit would see quads test",
        "regressed throughput -16.4% [-18.0%, -14.9%] -4.8% 2.9% 8 "
        "test_it.py::test_it[default] at concurrency 8",
        "not comparable throughput - - - - test_it.py::test_c at concurrency 1",
        "gone - - - - - model old",
        "unchanged throughput +0.1% [-18.0%, -14.9%] -4.8% 2.9% 8 "
        "test_it.py::test_b at concurrency 8",
        "new throughput - - - - test_it.py::test_d at concurrency 1",
        "test_it.py::test_c: the base: Triton refused c: no memory",
        "old: the base has the model 'old'",
        "test_it.py::test_d: new",
        "test_it.py::test_it[default] at concurrency 8, not gated: p99 latency +21.0% (-∞, ∞)",
    ]
    assert "red" in screen.colours[block[0]]
    assert screen.colours[block[2]] == {"red"}
    assert screen.colours[block[5]] == {"green"}
    assert screen.colours[block[6]] == {"yellow"}


def test_of_many_gates_only_what_fails_is_listed() -> None:
    many = [replace(OTHER, test=f"test_{n}") for n in range(40)]
    screen = Screen()
    write_summary(screen, a_run(*many, SLOWER), "out", [])
    text = "\n".join(screen.lines)
    assert "gate against main (1f0c2d3e4a5b): 1 regressed, 40 unchanged" in text
    assert "test_39" not in text
    assert "-16.4% [-18.0%, -14.9%]" in text


def test_the_summary_has_a_section(tmp_path) -> None:
    write_markdown(a_run(SLOWER, BROKEN), tmp_path / "summary.md")
    text = (tmp_path / "summary.md").read_text()
    assert "### gate against main (1f0c2d3e4a5b): 1 regressed, 1 not comparable\n" in text
    assert (
        "| **regressed** | throughput | -16.4% \\[-18.0%, -14.9%\\] | -4.8% | 2.9% | 8 | "
        "test_it.py::test_it\\[default\\] at concurrency 8 |"
    ) in text
    assert "test_it.py::test_c: the base: Triton refused c: no memory" in text


def test_the_page_has_a_section(tmp_path) -> None:
    write_html(a_run(SLOWER, LATER, OTHER), tmp_path / "index.html")
    text = (tmp_path / "index.html").read_text()
    assert ">gate against main (1f0c2d3e4a5b): 1 regressed, 1 unchanged</h2>" in text
    assert '<tr class="bad">\n<td>regressed</td>' in text
    assert '<tr class="good">\n<td>unchanged</td>' in text
    assert "not gated: p99 latency +21.0%" in text


def test_a_run_without_a_gate_says_nothing_of_one(tmp_path) -> None:
    screen = Screen()
    write_summary(screen, sample_run(), "out", [])
    write_markdown(sample_run(), tmp_path / "summary.md")
    write_html(sample_run(), tmp_path / "index.html")
    assert "gate" not in "\n".join(screen.lines)
    # What a person reads ends where the scripts begin.
    assert "gate" not in (tmp_path / "index.html").read_text().partition("<script")[0]
    assert "gate" not in (tmp_path / "summary.md").read_text()
