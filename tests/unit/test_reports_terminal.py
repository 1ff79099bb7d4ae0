"""The terminal summary, as a screen of some width shows it."""

import dataclasses
import re
from types import SimpleNamespace

from sample_run import ENVIRONMENT, add_sub_sweeps, run_of, sample_run

from pytest_triton_perf.domain.budgets import Budget
from pytest_triton_perf.domain.levels import Estimate
from pytest_triton_perf.domain.results import Run
from pytest_triton_perf.reports.terminal import write_summary

LEGEND = (
    "[low, high]: 95% confidence interval; ±: its wider side; "
    "∞: an end that the requests cannot bound."
)
STEAL = "the hypervisor gave 12% of the CPU time to other machines (steal)"


class Screen:
    """The part of pytest's terminal reporter that the summary uses."""

    def __init__(self, width=80, *, isatty=False):
        self.isatty = isatty
        self.config = SimpleNamespace(get_terminal_writer=lambda: SimpleNamespace(fullwidth=width))
        self.lines = []
        self.colours = {}

    def section(self, title, sep):
        self.lines.append(f"{sep} {title} {sep}")

    def write_line(self, line, **markup):
        self.lines.append(line)
        self.colours[line] = set(markup)


def shown(run, **kwargs):
    screen = Screen(**kwargs)
    write_summary(screen, run, "out", [])
    return screen


def budgets(**limits):
    return [Budget.from_keyword(name, limit) for name, limit in limits.items()]


def test_a_log_has_a_line_per_verdict_with_its_interval_and_what_that_means():
    run = run_of(add_sub_sweeps()[:1], budgets(p99_latency_ms=5, min_throughput=2000))
    lines = shown(run).lines
    assert [re.split("  +", line) for line in lines[1:6]] == [
        ["verdict", "budget", "measured", "where", "variant"],
        [
            *("failed", "p99_latency_ms <= 5 ms", "6.08 ms [5.78, 6.45]", "concurrency 16"),
            "add_sub_config_default",
        ],
        ["", "1.08 ms (21.6%) over the limit"],
        [
            *("passed", "throughput >= 2000 infer/s", "2,543.6 infer/s [2,467.3, 2,619.9]"),
            *("concurrency 1", "add_sub_config_default"),
        ],
        [LEGEND],
    ]
    assert "results: out" in lines


def test_on_a_narrow_screen_variants_stand_above_their_verdicts():
    run = run_of(add_sub_sweeps()[:2], budgets(p99_latency_ms=9, min_throughput=2000))
    lines = shown(run, isatty=True).lines
    assert lines[1:5] == [
        "verdict  budget                      measured              where",
        "add_sub_config_default",
        "passed   p99_latency_ms <= 9 ms      6.08 [5.78, 6.45]     concurrency 16",
        "passed   throughput >= 2000 infer/s  2,544 [2,467, 2,620]  concurrency 1",
    ]
    assert lines.count("add_sub_config_0") == 1
    assert max(map(len, lines)) <= 80
    assert "variant" in shown(run, isatty=True, width=140).lines[1]


def disturbed_run():
    """One level with an open interval on a machine that was disturbed."""
    one = add_sub_sweeps()[0]
    *calm, last = one.measurements
    estimate = Estimate(value=6.08, ci=(4.9, None), needs=1932)
    last = dataclasses.replace(
        last, values={**last.values, "p99_latency_ms": estimate}, faults=(STEAL,)
    )
    one = dataclasses.replace(one, measurements=[*calm, last])
    return run_of([one], budgets(p99_latency_ms=5, p50_latency_ms=50, max_power_w=100))


def test_what_is_not_a_pass_says_why():
    screen = shown(disturbed_run())
    reason = f"  1.08 ms (21.6%) over the limit, but {STEAL}"
    assert screen.colours[reason] == {"yellow"}
    assert any(
        line.startswith("inconclusive  p99_latency_ms <= 5 ms   6.08 ms [4.90, ∞)")
        for line in screen.lines
    )
    (gap,) = [line for line in screen.lines if line.startswith("not measured: concurrency 1,")]
    assert screen.colours[gap] == {"red"}
    assert f"disturbed: add_sub_config_default at concurrency 16, {STEAL}" in screen.lines


def test_a_pass_whose_interval_is_open_says_what_it_needs():
    run = disturbed_run()
    passed = dataclasses.replace(run.verdicts[0], status="passed", reason="")
    assert (
        "  its interval needs about 1,900 more requests"
        in shown(dataclasses.replace(run, verdicts=[passed])).lines
    )


def test_of_many_passed_budgets_only_the_number_is_told():
    lines = shown(run_of(add_sub_sweeps() * 7, budgets(p99_latency_ms=50))).lines
    assert lines[1:3] == ["passed: 35 budgets, too many to list here", LEGEND]
    lines = shown(run_of(add_sub_sweeps() * 12, budgets(p99_latency_ms=6.5))).lines
    assert sum(line.startswith("failed ") for line in lines) == 24
    assert "passed: 36 budgets, too many to list here" in lines
    lines = shown(run_of(add_sub_sweeps() * 6, budgets(p99_latency_ms=50))).lines
    assert sum(line.startswith("passed ") for line in lines) == 30


def test_the_confidence_is_the_sessions():
    run = dataclasses.replace(sample_run(), confidence=0.999)
    assert LEGEND.replace("95%", "99.9%") in shown(run).lines


def test_without_intervals_there_is_no_legend():
    run = Run(environment=ENVIRONMENT, sweeps=[], verdicts=sample_run().verdicts)
    assert not any(line.startswith("[low, high]") for line in shown(run).lines)


def test_what_was_measured_before_is_counted_and_what_was_not_says_why():
    one = add_sub_sweeps()[0]
    *before, last = one.measurements
    reused = [dataclasses.replace(measurement, reused=True) for measurement in before]
    run = run_of([dataclasses.replace(one, measurements=[*reused, last])], budgets())
    note = "measured again, because the CPU changed from 2 x fast to 4 x fast: test_it"
    screen = shown(dataclasses.replace(run, notes=(note,)))
    told = f"{len(before)} of {len(before) + 1} levels were measured before (--triton-perf-resume)"
    assert told in screen.lines
    assert screen.colours[note] == {"yellow"}
    assert not any("measured before" in line for line in shown(sample_run()).lines)
