"""Stored baselines on the real server: save, compare, and what is told."""

import json

import pytest

TEST = """
import pytest

@pytest.mark.perf_sweep(model="add_sub", concurrency=[1, 2])
def test_it(): pass
"""
FILE = "perf.json"


@pytest.fixture
def saved(project):
    """A project with one session in its baseline."""
    project.tests(TEST)
    result = project.run(f"--triton-perf-save={FILE}", f"--triton-perf-compare={FILE}")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["baseline *perf.json (0 sessions): 1 no baseline"])
    return project


def test_a_session_is_compared_with_the_one_before_by_workers_too(saved):
    first = json.loads((saved.path / FILE).read_text())["sessions"][0]["figures"][0]
    assert first["value"] > 1
    result = saved.run(f"--triton-perf-compare={FILE}", "-n1")
    assert result.ret == 0
    result.stdout.fnmatch_lines(
        [
            "baseline *perf.json (1 session): 1 inconclusive",
            "inconclusive  throughput  * test_it.py::test_it* at concurrency 2",
            "*1 of the 10 sessions that tell how much they differ",
        ]
    )
    (found,) = saved.results()["comparisons"]
    assert (found["source"], found["sessions"]) == ("baseline", 1)
    assert len(json.loads((saved.path / FILE).read_text())["sessions"]) == 1


def test_a_baseline_of_another_machine_fails_the_session_and_says_what_differs(saved):
    data = json.loads((saved.path / FILE).read_text())
    data["sessions"][0]["machine"]["GPUs"] = "NVIDIA H100"
    (saved.path / FILE).write_text(json.dumps(data))
    result = saved.run(f"--triton-perf-compare={FILE}")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(
        ["*of another machine: GPUs was NVIDIA H100, is none; begin a baseline on this one: *"]
    )


def test_a_damaged_baseline_ends_the_session_before_a_server_starts(saved):
    (saved.path / FILE).write_text("{")
    result = saved.run(f"--triton-perf-save={FILE}")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*perf.json is no JSON, or was cut off*"])
    assert (saved.path / FILE).read_text() == "{"
