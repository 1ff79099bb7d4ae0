"""How what the requests say of single levels becomes the verdict on a budget."""

from dataclasses import replace

import pytest
from builders import LOADS, ramp

from pytest_triton_perf.domain.budgets import Budget, Decision
from pytest_triton_perf.domain.levels import Estimate, Load
from pytest_triton_perf.domain.metrics import estimate_text, find_metric
from pytest_triton_perf.domain.sweeps import Sweep
from pytest_triton_perf.domain.tables import figure
from pytest_triton_perf.domain.verdicts import judge

P99 = Budget.from_keyword("p99_latency_ms", 9.0)  # ramp() has 3, 4, 6 and 10 ms


def decided(*statuses: str, needs: int | None = None) -> dict[Load, Decision]:
    pairs = zip(LOADS, statuses, strict=True)
    return {load: Decision(status=status, needs=needs) for load, status in pairs}  # type: ignore[arg-type]


def with_faults(sweep: Sweep, *loads: Load) -> Sweep:
    measurements = [
        replace(m, faults=("the machine was stolen",)) if m.load in loads else m
        for m in sweep.measurements
    ]
    return replace(sweep, measurements=measurements)


def test_every_level_has_to_pass() -> None:
    verdict = judge(P99, ramp(), LOADS, decisions=decided(*["passed"] * 4))
    assert (verdict.status, verdict.load, verdict.reason) == ("passed", LOADS[3], "")


def test_the_decision_counts_and_not_the_bare_figure() -> None:
    # 10 ms against a limit of 9, yet the requests do not tell them apart.
    verdict = judge(
        P99, ramp(), LOADS, decisions=decided("passed", "passed", "passed", "undecided")
    )
    assert verdict.status == "inconclusive"
    assert (verdict.load, verdict.observed) == (LOADS[3], 10.0)


def test_what_would_settle_it_is_told() -> None:
    decisions = decided("passed", "passed", "passed", "undecided", needs=20_000)
    verdict = judge(P99, ramp(), LOADS, decisions=decisions)
    assert verdict.reason == (
        "1,000 requests are too few to be sure on which side of the limit it is; about 20,000 "
        "more (20 s) would do: raise --triton-perf-max-seconds"
    )


def test_what_else_kept_it_from_being_decided_is_told() -> None:
    why = "9 requests: too few to tell how they vary"
    decisions = {LOADS[0]: Decision(status="undecided", reason=why)}
    verdict = judge(P99, ramp(), LOADS[:1], decisions=decisions)
    assert verdict.reason == f"not decided: {why}; raise --triton-perf-max-seconds"


def test_one_level_that_failed_is_enough() -> None:
    decisions = decided("passed", "undecided", "undecided", "failed")
    verdict = judge(P99, ramp(), LOADS, decisions=decisions)
    assert (verdict.status, verdict.load) == ("failed", LOADS[3])
    assert verdict.reason == "1.00 ms (11.1%) over the limit"


def test_a_decision_that_was_held_back_says_by_what() -> None:
    reason = "a pass takes 3 s of load in 2 segments, so far there are 1.4 s in 2"
    decisions = decided("passed", "passed", "passed", "undecided")
    decisions[LOADS[3]] = replace(decisions[LOADS[3]], leaning="passed", reason=reason)
    verdict = judge(P99, ramp(), LOADS, decisions=decisions)
    assert verdict.status == "inconclusive"
    assert verdict.reason == f"almost passed, but {reason}; raise --triton-perf-max-seconds"


def test_a_failure_on_a_disturbed_machine_proves_nothing() -> None:
    decisions = decided("passed", "passed", "passed", "failed")
    verdict = judge(P99, with_faults(ramp(), LOADS[3]), LOADS, decisions=decisions)
    assert verdict.status == "inconclusive"
    assert verdict.reason == "1.00 ms (11.1%) over the limit, but the machine was stolen"


def test_a_failure_beside_a_disturbed_one_stands() -> None:
    decisions = decided("passed", "passed", "failed", "failed")
    verdict = judge(P99, with_faults(ramp(), LOADS[3]), LOADS, decisions=decisions)
    assert (verdict.status, verdict.load) == ("failed", LOADS[2])


def test_a_pass_on_a_disturbed_machine_is_a_pass() -> None:
    verdict = judge(P99, with_faults(ramp(), *LOADS), LOADS, decisions=decided(*["passed"] * 4))
    assert verdict.status == "passed"


def test_a_level_without_a_figure_outweighs_one_that_is_undecided() -> None:
    loads = (*LOADS, Load(concurrency=16))
    decisions = decided("passed", "passed", "passed", "undecided")
    verdict = judge(P99, ramp(), loads, decisions=decisions, why="it hung")
    assert verdict.status == "not_measured"
    assert verdict.reason == "concurrency 8 and concurrency 16: it hung"


def test_a_level_that_was_still_undecided_when_the_sweep_broke_off_has_that_reason() -> None:
    decisions = decided("passed", "passed", "passed", "undecided")
    verdict = judge(P99, ramp(), LOADS, decisions=decisions, why="the server died")
    assert (verdict.status, verdict.reason) == ("not_measured", "concurrency 8: the server died")


def test_a_disturbed_machine_does_not_excuse_memory() -> None:
    # A peak that was seen was there, whoever else used the machine.
    level = replace(ramp().measurements[0], values={"cpu_memory_mb": Estimate(value=100.0)})
    sweep = with_faults(replace(ramp(), measurements=[level]), level.load)
    verdict = judge(Budget.from_keyword("max_cpu_memory_mb", 50), sweep, (level.load,))
    assert verdict.status == "failed"


@pytest.mark.parametrize(
    ("estimate", "text", "cell"),
    [
        (Estimate(value=23.1), "23.10 ms", "23.10"),
        (Estimate(value=23.1, ci=(21.8, 25.9)), "23.10 ms [21.80, 25.90]", "23.10 ±12.1%"),
        (Estimate(value=23.1, ci=(21.8, None)), "23.10 ms [21.80, ∞)", "23.10 ±∞"),
        (Estimate(value=23.1, ci=(None, None)), "23.10 ms [0, ∞)", "23.10 ±∞"),
        (Estimate(value=0.0, ci=(0.0, 1.0)), "0.00 ms [0.00, 1.00]", "0.00"),
    ],
)
def test_an_interval_for_people(estimate: Estimate, text: str, cell: str) -> None:
    p99 = find_metric("p99_latency_ms")
    assert estimate_text(p99, estimate) == text
    assert figure(p99, estimate) == cell
