"""Sessions that are killed and resumed: nothing twice, and nothing that has changed."""

import re
import shlex

import pytest
from support import wait_for

from pytest_triton_perf.load.binaries import find_perf_analyzer

TESTS = """
import pytest

@pytest.mark.perf_sweep(model="first", concurrency=[1, 2])
@pytest.mark.perf_budget(min_throughput=1, max_cpu_memory_mb=4000)
def test_first(triton_sweep, triton_image):
    assert triton_sweep.variant.config["backend"] == "python"

@pytest.mark.perf_sweep(model="second", concurrency=[1, 2, 3], percentiles=[50, 99])
def test_second(triton_sweep):
    assert len(triton_sweep.levels) == 3
"""

NOTES_SERVERS = """
import subprocess

start = subprocess.Popen.__init__

def noted(self, args, *rest, **how):
    if "--model-control-mode=explicit" in args:
        with open("servers.txt", "a") as file:
            print(args[0], file=file)
    start(self, args, *rest, **how)

subprocess.Popen.__init__ = noted
"""


class Sessions:
    """Sessions of a project with two models; what they start is noted."""

    def __init__(self, project):
        self.project = project
        project.model("first", "time.sleep(0.002)")
        project.model("second", "time.sleep(0.002)")
        project.tests(TESTS)
        (project.path / "conftest.py").write_text(NOTES_SERVERS)
        self._runs, self._servers = project.path / "runs.txt", project.path / "servers.txt"
        real = find_perf_analyzer(None).path
        self._wrapper = project.path / "perf_analyzer"
        self._wrapper.write_text(
            f'#!/bin/sh\necho "$@" >> {shlex.quote(str(self._runs))}\nexec {real} "$@"\n'
        )
        self._wrapper.chmod(0o755)

    def arguments(self, *args):
        self._runs.write_text("")
        self._servers.write_text("")
        return [f"--perf-analyzer={self._wrapper}", *args]

    def run(self, *args):
        return self.project.run(*self.arguments("--triton-perf-resume", *args))

    @property
    def measured(self):
        """Model and concurrency of each level that perf_analyzer recorded requests of."""
        runs = [line.split() for line in self._runs.read_text().splitlines()]
        return {
            (run[run.index("-m") + 1], int(run[run.index("--concurrency-range") + 1]))
            for run in runs
            if "--profile-export-file" in run
        }

    @property
    def servers(self):
        return len(self._servers.read_text().splitlines())

    def rows(self):
        """The measurements of the last run without what says that they were reused."""
        rows = self.project.results()["measurements"]
        return [{key: row[key] for key in row if key != "reused"} for row in rows]

    def reused(self):
        rows = self.project.results()["measurements"]
        return [row["reused"] for row in rows]


@pytest.fixture
def sessions(project):
    return Sessions(project)


def told(out):
    """The figures of each level, by its name, as they were told while it was measured."""
    found = re.findall(r"triton-perf \[.*?\] (\S+ at concurrency \d): (.*?ms)", out)
    return dict(found)


def test_a_killed_session_is_resumed_where_it_was(sessions):
    project = sessions.project
    run = project.start(*sessions.arguments())
    wait_for(lambda: "second_config_default at concurrency 1: " in project.out())
    wait_for(lambda: ("second", 2) in sessions.measured)
    run.kill()
    run.wait()
    before = told(project.out())
    assert len(before) == 3
    project.assert_nothing_left(within=20)
    assert not (project.output / "results.json").exists()

    result = sessions.run()
    result.assert_outcomes(passed=2)
    assert sessions.measured == {("second", 2), ("second", 3)}
    assert sessions.reused() == [True, True, True, False, False]
    result.stdout.fnmatch_lines(
        [
            "triton-perf [[]1/5] first_config_default at concurrency ?: *, measured before*",
            "3 of 5 levels were measured before (--triton-perf-resume)",
        ]
    )
    after = told(result.stdout.str())
    assert {name: after[name] for name in before} == before
    data = project.results()
    assert {verdict["status"] for verdict in data["verdicts"]} == {"passed"}
    first, second = data["memory_timelines"]
    names = [phase["name"] for phase in second["phases"]]
    assert [phase["name"] for phase in first["phases"]][:2] == ["load", "warm-up"]
    assert names == [
        *("load", "warm-up", "concurrency 1"),
        *("load", "warm-up", "concurrency 2", "concurrency 3"),
    ]
    ends = [phase["end_s"] for phase in second["phases"]]
    assert ends == sorted(ends)

    # Now it is complete: nothing is measured or started, and the report is the same.
    rows, verdicts = sessions.rows(), data["verdicts"]
    result = sessions.run()
    result.assert_outcomes(passed=2)
    assert (sessions.measured, sessions.servers) == (set(), 0)
    result.stdout.fnmatch_lines(["5 of 5 levels were measured before (--triton-perf-resume)"])
    again = project.results()
    assert (sessions.rows(), again["verdicts"]) == (rows, verdicts)
    assert again["memory_timelines"] == data["memory_timelines"]
    assert again["variants"] == data["variants"]
    assert again["environment"]["triton"] == data["environment"]["triton"]


def test_a_level_that_was_killed_between_two_segments_goes_on(sessions):
    project = sessions.project
    # The floor of 4 s is reached in five segments.
    args = ["--triton-perf-floor-seconds=4", "-k", "first"]
    run = project.start(*sessions.arguments(*args))
    journal = project.output / "resume.journal"
    wait_for(lambda: journal.exists() and journal.read_bytes().count(b'"segment":{"load"') == 3)
    run.kill()
    run.wait()
    project.assert_nothing_left(within=20)
    kept = journal.read_bytes()

    result = sessions.run(*args)
    result.assert_outcomes(passed=1)
    assert sessions.reused() == [False, False]
    assert journal.read_bytes().startswith(kept)
    for row in sessions.rows():
        assert row["wall_s"] >= 0.9 * 4
        assert row["wall_s"] < 8, "load was made that was not needed"


def test_what_changed_is_measured_again_and_said_so(sessions):
    project = sessions.project
    sessions.run().assert_outcomes(passed=2)
    rows = sessions.rows()
    assert len(sessions.measured) == 5

    source = project.repository / "second" / "1" / "model.py"
    source.write_text(source.read_text().replace("0.002", "0.004"))
    result = sessions.run()
    result.assert_outcomes(passed=2)
    assert sessions.measured == {("second", concurrency) for concurrency in (1, 2, 3)}
    assert sessions.reused() == [True, True, False, False, False]
    assert sessions.rows()[:2] == rows[:2]
    assert sessions.rows()[2]["latency_ms"]["p50"]["value"] > 4
    why = "measured again, because model file second/1/model.py changed: test_it.py::test_second"
    result.stdout.fnmatch_lines([f"{why}*"])
    (note,) = project.results()["session"]["notes"]
    assert note.startswith(why)

    # Without the option nothing is reused, and the journal begins anew.
    project.run(*sessions.arguments("-k", "first")).assert_outcomes(passed=1)
    assert len(sessions.measured) == 2
    sessions.run()
    assert sessions.measured == {("second", concurrency) for concurrency in (1, 2, 3)}


def test_workers_share_a_journal(sessions):
    sessions.run("-n2").assert_outcomes(passed=2)
    assert len(sessions.measured) == 5
    notes = sessions.project.results()["session"]["notes"]
    assert [note.partition(":")[0] for note in notes] == ["nothing to resume"]
    result = sessions.run("-n2")
    result.assert_outcomes(passed=2)
    assert (sessions.measured, sessions.servers) == (set(), 0)
    result.stdout.fnmatch_lines(["5 of 5 levels were measured before (--triton-perf-resume)"])


def test_a_remote_servers_models_are_not_seen(project):
    project.tests(TESTS)
    result = project.run("--triton-url=127.0.0.1:1", "--triton-perf-resume")
    assert result.ret == 4
    result.stderr.fnmatch_lines(
        ["*--triton-perf-resume: the models of a Triton that runs already*"]
    )
