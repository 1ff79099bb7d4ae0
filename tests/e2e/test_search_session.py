"""A search on the real server: the best is found, written, and loads again."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

from support import wait_for

from pytest_triton_perf.cli import main

SERVES_ONE_AT_A_TIME = "time.sleep(0.005)"
KILLED_WITH_FOUR = (
    "\n    def initialize(self, args):\n"
    "        if args['model_instance_name'].endswith('_3'):\n"
    "            os.kill(os.getppid(), 9)\n"
)
"""As the kernel does where the memory is not enough."""


def test_the_best_is_found_and_written_whatever_triton_refuses_and_dies_of(project):
    folder = project.model("slow", SERVES_ONE_AT_A_TIME, "instance_group { kind: KIND_CPU }")
    source = folder / "1" / "model.py"
    source.write_text(source.read_text() + KILLED_WITH_FOUR)
    project.tests(
        """
        import pytest

        @pytest.mark.perf_sweep(model="slow", variants="search", concurrency=[4, 8])
        @pytest.mark.perf_search(
            mode="brute",
            parameters={
                "instance_group.count": [2, 3, 4],
                "dynamic_batching.preferred_batch_size": [[1], [99]],
            },
        )
        @pytest.mark.perf_budget(p99_latency_ms=1000)
        def test_slow(triton_sweep):
            assert triton_sweep.best_variant.overrides["instance_group.count"] == 3
            assert triton_sweep.best_variant.config["instance_group"][0]["count"] == 3
            assert [level.concurrency for level in triton_sweep] == [4, 8]
            assert triton_sweep.pareto()[0].sweep.variant.name == triton_sweep.best_variant.name
            print(triton_sweep.search_table())
        """
    )
    result = project.run("--triton-perf-write-config=won", "-s", reports="json,csv")
    assert result.ret == 0, result.stdout.str()
    result.stdout.fnmatch_lines(
        ["slow: slow_config_? is the best configuration at concurrency *: throughput is *% [[]*[]] "
         "higher than the default configuration's (* levels of 7 configurations were measured in *"]
    )  # fmt: skip
    (search,) = project.results()["searches"]
    lost = [each for each in search["candidates"] if each["standing"] == "lost"]
    assert len(lost) == 4
    assert sum("tritonserver was killed by SIGKILL" in each["why"] for each in lost) == 1
    low, high = search["gain"]["ci"]
    assert 1 < low < search["gain"]["value"] < high < 4
    variants = {row["variant"] for row in project.results()["measurements"]}
    assert variants == {"slow_config_default", *(c["variant"] for c in search["candidates"][:2])}

    assert main(["suggest", str(project.output), "--margin-pct", "10"]) == 0
    shutil.copy(project.path / "won" / "slow" / "config.pbtxt", folder / "config.pbtxt")
    project.tests(
        """
        import pytest

        @pytest.mark.perf_sweep(model="slow", concurrency=4)
        def test_slow(triton_sweep, triton_server):
            served = triton_server.client.get_model_config("slow").config
            assert [group.count for group in served.instance_group] == [3]
        """
    )
    project.run().assert_outcomes(passed=1)


def test_where_no_configuration_keeps_the_budgets_the_test_fails_with_the_nearest(project):
    project.model("slow", SERVES_ONE_AT_A_TIME)
    project.tests(
        """
        import pytest

        @pytest.mark.perf_sweep(model="slow", variants="search", concurrency="auto")
        @pytest.mark.perf_search(max_model_batch_size=2, max_instance_count=2, max_concurrency=2)
        @pytest.mark.perf_budget(p99_latency_ms=2)
        def test_slow(): pass
        """
    )
    result = project.run("--triton-perf-write-config=won")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "*slow: no configuration keeps the budgets (*",
            "*configuration * at * infer/s * p99 ms*",
            "*p99_latency_ms <= 2 ms: *ms",
            "no test found a best configuration: *won was not written",
        ]
    )
    assert not (project.path / "won").exists()
    (search,) = project.results()["searches"]
    assert search["gain"] is None
    assert {each["standing"] for each in search["candidates"]} == {"outside"}

    before = project.results()["measurements"]
    project.run("--triton-perf-resume").assert_outcomes(failed=1)
    after = project.results()["measurements"]
    assert all(row["reused"] for row in after)
    assert [{**row, "reused": False} for row in after] == before


def told(out):
    """Each level that was measured, with its figures, in the order in which they were told."""
    return re.findall(r"triton-perf \[.*?\] (\S+ at concurrency \d): (.*? ms)", out)


def test_a_killed_search_goes_on_from_what_it_had_measured(project):
    project.model("slow", SERVES_ONE_AT_A_TIME, "instance_group { kind: KIND_CPU }")
    project.tests(
        """
        import pytest

        @pytest.mark.perf_sweep(model="slow", variants="search", concurrency=[1, 2, 4])
        @pytest.mark.perf_search(max_model_batch_size=2, max_instance_count=2)
        def test_slow(triton_sweep): pass
        """
    )
    run = project.start()
    wait_for(lambda: len(told(project.out())) >= 4)
    run.kill()
    run.wait()
    before = told(project.out())
    project.assert_nothing_left(within=20)

    result = project.run("--triton-perf-resume")
    result.assert_outcomes(passed=1)
    after = told(result.stdout.str())
    assert len(after) > len(before)
    assert after[: len(before)] == before
    assert result.stdout.str().count(", measured before") == len(before)
    (search,) = project.results()["searches"]
    assert search["candidates"][0]["standing"] == "best"


def test_the_example_beats_the_default_and_says_by_how_much(tmp_path):
    command = [sys.executable, "-m", "pytest", "--triton-perf", "examples/search"]
    options = ["-p", "no:cacheprovider", f"--triton-perf-output={tmp_path}"]
    done = subprocess.run(
        [*command, *options, "--triton-perf-report=json,md"],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert "higher than the default configuration's" in done.stdout
    (search,) = json.loads((tmp_path / "results.json").read_text())["searches"]
    assert search["gain"]["ci"][0] > 2
    assert str(search["levels"]) + " of 96 levels" in (tmp_path / "summary.md").read_text()
