"""What the machine does to a session: a full disk, another session. Locally and in containers."""

import contextlib
import json
import os
import subprocess

import pytest
from support import missing_part, wait_for

TESTS = """
import pytest

@pytest.mark.perf_sweep(model="add_sub", concurrency=[1, 2])
@pytest.mark.perf_budget(min_throughput=1)
def test_kept(): pass

@pytest.mark.perf_sweep(model="add_sub", concurrency=[1])
@pytest.mark.perf_budget(p99_latency_ms=0.001)
def test_broken(): pass
"""


def containers(client):
    return {container.id for container in client.containers.list(all=True, ignore_removed=True)}


@pytest.fixture(params=["local", "docker"])
def launch(request):
    """The options of a launch mode that starts its server; no container is left."""
    if request.param == "local":
        yield ["--triton-launch=local"]
    else:
        image, client = map(request.getfixturevalue, ("built_image", "docker_engine"))
        before = containers(client)
        yield ["--triton-launch=docker", f"--triton-image={image}"]
        assert containers(client) == before


@pytest.fixture
def little_disk(project):
    """The project's output directory, on a disk with room for four kilobytes."""
    if os.geteuid():
        missing_part("a full disk needs root, to mount one")
    project.output.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4k", "tmpfs", str(project.output)]
    done = subprocess.run(mount, capture_output=True, text=True, check=False)
    if done.returncode:
        missing_part(f"a full disk cannot be mounted: {done.stderr}")
    try:
        yield project.output
    finally:
        subprocess.run(["umount", project.output], check=True)


def test_a_disk_that_fills_up_hides_no_verdict(project, launch, little_disk):
    project.tests(TESTS)
    # On a machine that others keep busy it is inconclusive, and with a full disk there is no rerun.
    result = project.run(*launch, "--triton-perf-inconclusive=fail", reports="all")
    result.assert_outcomes(passed=1, failed=1)
    broken = "(failed|inconclusive)"
    result.stdout.re_match_lines(
        [
            r".*add_sub_config_default at concurrency 2: throughput ",
            rf"budget p99_latency_ms <= 0\.001 ms at every load: {broken} \(add_sub_config_default",
            r"\(not kept: .*No space left on device\)",
            r"passed +throughput >= 1 infer/s",
            rf"{broken} +p99_latency_ms <= 0\.001 ms",
            r".*results\.json was not written: OSError: .*No space left on device",
        ]
    )
    assert "INTERNALERROR" not in result.stdout.str()
    assert not list(little_disk.glob("results.json*"))


def test_a_disk_that_is_full_is_told_before_anything_starts(project, little_disk):
    with contextlib.suppress(OSError):
        (little_disk / "in-the-way").write_bytes(bytes(5000))
    project.tests(TESTS)
    result = project.run()
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(
        [f"*results cannot be written to {little_disk}: No space left on device; name another *"]
    )


def test_two_sessions_at_once_take_turns(project, launch):
    project.tests(TESTS)
    first = project.start(*launch, "-k", "kept")
    wait_for(lambda: "at concurrency 1: " in project.out())
    project.run(*launch, "--triton-perf-output=other", "-k", "kept").assert_outcomes(passed=1)
    assert first.wait(60) == 0, project.out()
    other = json.loads((project.path / "other" / "results.json").read_text())
    for data in (project.results(), other):
        assert [m["concurrency"] for m in data["measurements"]] == [1, 2]
