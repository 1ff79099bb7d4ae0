"""How long levels are measured, and what comes of models that are hard to measure.

Service times are sleeps, and limits are so far away, or so exactly between two of them, that a
busy machine changes no verdict.
"""

import itertools
import re
import time

import pytest

SLEEPS = "time.sleep(0.005)"

ALTERNATES = (
    "pb.count = getattr(pb, 'count', 0) + 1; time.sleep(0.02 if pb.count % 15 % 2 else 0.001)"
)
"""Of 15 requests in a row, 7 take 20 ms and 8 take 1 ms."""

STALLS = (
    "stall = time.monotonic() - getattr(pb, 'stalled', 0) > 3; time.sleep(stall or 0.002); "
    "pb.stalled = time.monotonic() if stall else pb.stalled"
)
"""A second of sleep every four seconds."""

NEEDS_MORE = (
    r"[\d,]+ requests are too few to be sure on which side of the limit it is; "
    r"about [\d,]+ more \([\d,]+ s\) would do: raise --triton-perf-max-seconds"
)


def one_test(model: str, sweep: str, *budgets: str) -> str:
    marks = "\n".join(f"@pytest.mark.perf_budget({budget})" for budget in budgets)
    return (
        f"import pytest\n@pytest.mark.perf_sweep(model={model!r}, {sweep})\n{marks}\n"
        "def test_it(triton_sweep): pass\n"
    )


def measured(project):
    return project.results()["measurements"]


def test_a_budget_far_away_passes_in_about_the_floor(project):
    project.model("sleeps", SLEEPS)
    budgets = ("p90_latency_ms=1000", "min_throughput=5")
    project.tests(one_test("sleeps", "concurrency=2", *budgets))
    project.run().assert_outcomes(passed=1)
    (level,) = measured(project)
    assert 0.9 * 2 <= level["wall_s"] < 4
    assert {v["status"] for v in project.results()["verdicts"]} == {"passed"}


def test_a_budget_clearly_broken_fails_after_one_short_look(project):
    project.model("sleeps", SLEEPS)
    project.tests(one_test("sleeps", "concurrency=[1, 2, 4]", "p99_latency_ms=1"))
    project.run().assert_outcomes(failed=1)
    assert [level["concurrency"] for level in measured(project)] == [1, 2, 4]
    assert all(level["wall_s"] < 1 for level in measured(project))


@pytest.mark.parametrize(
    ("action", "outcome"),
    [("warn", {"passed": 1, "warnings": 1}), ("fail", {"failed": 1}), ("pass", {"passed": 1})],
)
def test_a_borderline_budget_is_inconclusive_in_time_and_says_what_it_takes(
    project, action, outcome
):
    project.model("alternates", ALTERNATES)
    project.tests(one_test("alternates", "concurrency=1", "p50_latency_ms=10"))
    result = project.run("--triton-perf-max-seconds=3", f"--triton-perf-inconclusive={action}")
    result.assert_outcomes(**outcome)
    assert project.statuses() == {"test_it[default]": "inconclusive"}
    (level,) = measured(project)
    assert level["wall_s"] < 3
    (verdict,) = project.results()["verdicts"]
    assert re.fullmatch(NEEDS_MORE, verdict["reason"])
    if action != "pass":
        result.stdout.fnmatch_lines(["*budget p50_latency_ms <= 10 ms at every load: inconcl*"])


def test_an_automatic_concurrency_ends_on_the_plateau(project):
    project.model("sleeps", SLEEPS)
    project.tests(one_test("sleeps", 'concurrency="auto"'))
    project.run().assert_outcomes(passed=1)
    found = {level["concurrency"]: level["throughput"] for level in measured(project)}
    assert list(found) == list(itertools.islice((2**i for i in itertools.count()), len(found)))
    assert 4 <= max(found) <= 16
    # One instance that sleeps for 5 ms answers 200 requests in a second, and no more.
    assert all(throughput["value"] < 203 for throughput in found.values())


def test_the_highest_load_within_a_limit_is_narrowed_down(project):
    """Four instances that sleep for 40 ms: with c clients, the mean is 10 ms times c from 4 on."""
    four = "instance_group [ { kind: KIND_CPU, count: 4 } ]"
    project.model("sleeps", "time.sleep(0.04)", config=four)
    project.tests(
        """
        import pytest

        @pytest.mark.perf_sweep(model="sleeps", concurrency="auto")
        @pytest.mark.perf_budget(min_throughput=5)
        def test_it(triton_sweep):
            ramp = len(triton_sweep.levels)
            level = triton_sweep.highest_load(avg_latency_ms=110)
            assert 8 < level.concurrency < 12
            assert len(triton_sweep.levels) > ramp
            best = triton_sweep.best("throughput", avg_latency_ms=110)
            assert best.avg_latency_ms <= 110
        """
    )
    project.run("--triton-perf-floor-seconds=0.5").assert_outcomes(passed=1)
    found = {level["concurrency"] for level in measured(project)}
    assert found >= {1, 2, 4, 8, 16}
    assert found & {9, 10, 11}
    (verdict,) = project.results()["verdicts"]
    assert verdict["status"] == "passed"  # at every level, the new ones too


def test_a_server_that_stalls_is_measured_with_its_stalls(project):
    project.model("stalls", STALLS)
    budgets = ("p50_latency_ms=500", "avg_latency_ms=1", "p99_latency_ms=1.5")
    project.tests(one_test("stalls", "concurrency=1", *budgets))
    project.run("--triton-perf-floor-seconds=8").assert_outcomes(failed=1)
    (level,) = measured(project)
    latency = {name: found["value"] for name, found in level["latency_ms"].items()}
    assert level["wall_s"] > 0.9 * 8
    assert latency["avg"] > 1.1 * latency["p50"]
    assert latency["p50"] < 500
    statuses = {v["budget"]: v["status"] for v in project.results()["verdicts"]}
    assert statuses == {
        "p50_latency_ms": "passed",
        "avg_latency_ms": "failed",
        "p99_latency_ms": "failed",
    }


def test_a_model_slower_than_the_time_allowed_is_an_error_in_time(project):
    project.model("slow", "time.sleep(30)")
    project.tests(one_test("slow", "concurrency=1", "p99_latency_ms=60_000"))
    started = time.monotonic()
    result = project.run("--triton-perf-max-seconds=6")
    assert time.monotonic() - started < 30
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(
        [
            "*slow_config_default at concurrency 1: perf_analyzer hung on 'slow' at *",
            "*Hint: the model did not answer in that time: *raise --triton-perf-max-seconds",
        ]
    )
    assert project.statuses() == {"test_it[default]": "not_measured"}
    assert measured(project) == []


def test_a_model_of_few_requests_gets_figures_without_bounds(project):
    project.model("slow", "time.sleep(0.5)")
    project.tests(one_test("slow", "concurrency=1", "p99_latency_ms=60_000"))
    project.run("--triton-perf-max-seconds=12").assert_outcomes(passed=1, warnings=1)
    (level,) = measured(project)
    assert 3 <= level["requests"] < 30
    assert level["latency_ms"]["p99"]["ci"][1] is None
    assert level["latency_ms"]["p99"]["needs"] > 300
    (verdict,) = project.results()["verdicts"]
    assert verdict["status"] == "inconclusive"
    assert re.fullmatch(NEEDS_MORE, verdict["reason"])


@pytest.mark.parametrize("fails", ["True", "np.random.random() < 0.02"])
def test_requests_that_fail_are_no_pass(project, fails):
    project.model("fails", f"time.sleep(0.002); assert not ({fails}), 'no more weights'")
    project.tests(one_test("fails", "concurrency=2", "p99_latency_ms=60_000"))
    result = project.run()
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*fails_config_default at concurrency 2: *", "*no more weights*"])
    assert project.statuses() == {"test_it[default]": "not_measured"}


def test_a_model_of_large_tensors_is_judged_by_windows(project):
    folder = project.model("large", SLEEPS)
    config = (folder / "config.pbtxt").read_text()
    (folder / "config.pbtxt").write_text(config.replace("dims: [ 1 ]", "dims: [ 50000 ]", 1))
    budgets = ("p50_latency_ms=1000", "min_throughput=5")
    project.tests(one_test("large", "concurrency=2, input_data='zero'", *budgets))
    project.run().assert_outcomes(passed=1)
    assert {v["status"] for v in project.results()["verdicts"]} == {"passed"}
    (level,) = measured(project)
    (note,) = [note for note in level["notes"] if "one by one" in note]
    assert re.search(r"each takes \d+ kB of perf_analyzer's export", note)
    assert level["latency_ms"]["p99"]["ci"] is None
