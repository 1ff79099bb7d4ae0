"""Whole sessions in docker mode on a real engine: what they measure, and what they leave."""

import contextlib
import io
import json
import re
import signal
from pathlib import Path

import pytest
from docker_images import IMAGE, OTHER_IMAGE
from support import missing_part, wait_for

from pytest_triton_perf.cli import main
from pytest_triton_perf.options import DEFAULT_IMAGE
from pytest_triton_perf.servers import engine

QUICKSTART = Path(__file__).parents[2] / "examples" / "quickstart"
SWEEP = """
import pytest

@pytest.mark.perf_sweep(model="add_sub", concurrency=[1, 2], variants=[{}, {"max_batch_size": 4}])
@pytest.mark.perf_budget(min_throughput=1, max_cpu_memory_mb=4000)
def test_first():
    pass
"""
TROUBLED = """
import pytest

@pytest.mark.perf_sweep(model="add_sub", concurrency=[1])
@pytest.mark.perf_budget(min_throughput=1)
def test_first():
    pass

@pytest.mark.perf_sweep(model="troubled", concurrency=[1, 2])
@pytest.mark.perf_budget(min_throughput=1, at={"concurrency": 2})
def test_troubled():
    pass

@pytest.mark.perf_sweep(model="untroubled", concurrency=[1])
@pytest.mark.perf_budget(min_throughput=1)
def test_last():
    pass
"""


@pytest.fixture
def docker_project(docker_engine, built_image, project):
    """A project whose sessions leave no container."""
    yield project
    left = [container.name for container in engine.leftovers(docker_engine)]
    assert left == []


def servers_of(project, client):
    """Containers that serve the project's models."""
    return [
        container
        for container in client.containers.list(ignore_removed=True)
        if any(mount["Source"] == str(project.repository) for mount in container.attrs["Mounts"])
    ]


def hanging(project, client, *args):
    """A session that measures a slow model, with a level finished."""
    project.model("troubled", "time.sleep(0.04)")
    project.model("untroubled", "pass")
    project.tests(TROUBLED)
    run = project.start(f"--triton-image={IMAGE}", "--triton-perf-max-seconds=60", *args)
    wait_for(lambda: "troubled_config_default at concurrency 1: " in project.out())
    return run


@pytest.mark.parametrize("image", [IMAGE, OTHER_IMAGE])
def test_a_sweep_has_the_shape_that_it_has_locally(docker_project, image):
    docker_project.tests(SWEEP)
    docker_project.run(f"--triton-image={image}").assert_outcomes(passed=2)
    run = docker_project.results()
    levels = [(m["variant"], m["concurrency"]) for m in run["measurements"]]
    assert len(levels) == 4
    assert all(m["cpu_memory_mb"] > 0 for m in run["measurements"])
    assert all(m["cpu_utilization_pct"] > 10 for m in run["measurements"])
    assert not any("resident" in note for m in run["measurements"] for note in m["notes"])
    assert {v["status"] for v in run["verdicts"]} == {"passed"}
    assert {m["image"] for m in run["measurements"]} == {v["image"] for v in run["verdicts"]}
    server, load = run["environment"]["server"], run["environment"]["load_generator"]
    assert (server["launch"], list(server["images"])) == ("docker", [image])
    assert server["images"][image].startswith("sha256:")
    assert list(load["images"]) == [f"{image}-sdk"]
    # Nothing of python's was written beside the models.
    assert not list(docker_project.repository.rglob("__pycache__"))


def test_the_quickstart_gives_the_same_verdicts_and_files_as_local_mode(docker_project):
    modes = {"local": ["--triton-launch=local"], "docker": [f"--triton-image={IMAGE}"]}
    files, verdicts = {}, {}
    for mode, options in modes.items():
        folder = docker_project.path / mode
        docker_project.run(
            str(QUICKSTART), f"--triton-perf-output={folder}", *options, reports="all"
        ).assert_outcomes(passed=4)
        files[mode] = {path.relative_to(folder) for path in folder.rglob("*")}
        rows = json.loads((folder / "results.json").read_text())["verdicts"]
        keys = ("test", "variant", "budget", "limit", "at", "status")
        verdicts[mode] = [[row[key] for key in keys] for row in rows]
    assert files["docker"] == files["local"]
    assert verdicts["docker"] == verdicts["local"]
    assert len(verdicts["docker"]) == 12


def test_a_perf_analyzer_of_this_machine_uses_the_published_ports(docker_project):
    from pytest_triton_perf.load.binaries import find_perf_analyzer

    binary = find_perf_analyzer(None)
    script = docker_project.path / "perf_analyzer"
    libraries = binary.env.get("LD_LIBRARY_PATH", "")
    script.write_text(f'#!/bin/sh\nLD_LIBRARY_PATH={libraries} exec {binary.path} "$@"\n')
    script.chmod(0o755)
    docker_project.tests(SWEEP)
    result = docker_project.run(
        "--triton-launch=docker", f"--triton-image={IMAGE}", f"--perf-analyzer={script}"
    )
    result.assert_outcomes(passed=2)
    assert docker_project.results()["environment"]["load_generator"]["path"] == str(script)


def test_an_absent_image_is_one_usage_error(docker_project):
    docker_project.tests(SWEEP)
    result = docker_project.run("--triton-image=127.0.0.1:9/no/such:24.10-py3")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(
        ["*127.0.0.1:9/no/such:24.10-py3 is not on this machine and cannot be pulled*"]
    )


def test_a_wrong_size_is_a_usage_error(project):
    project.tests(SWEEP)
    result = project.run("--triton-shm-size=much")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*--triton-shm-size: 'much' is not valid; expected a size*"])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_session_keeps_what_it_measured(docker_project, docker_engine, number):
    run = hanging(docker_project, docker_engine)
    run.send_signal(number)
    assert run.wait(30) == (2 if number == signal.SIGINT else 143), docker_project.out()
    assert len(docker_project.results()["measurements"]) == 2
    assert servers_of(docker_project, docker_engine) == []


def test_what_a_killed_session_left_is_shown_and_removed_by_the_next(
    docker_project, docker_engine, capsys
):
    run = hanging(docker_project, docker_engine)
    (server,) = servers_of(docker_project, docker_engine)
    assert server.name not in [c.name for c in engine.leftovers(docker_engine)]
    run.kill()
    run.wait()
    left = engine.leftovers(docker_engine)
    assert server.name in [container.name for container in left]
    folders = [Path(container.labels[engine.FOLDER]) for container in left]
    main(["doctor"])
    assert f"sessions that were killed left {left[0].name}" in capsys.readouterr().out
    docker_project.run(f"--triton-image={IMAGE}", "-k", "first").assert_outcomes(passed=1)
    assert [folder for folder in folders if folder.exists()] == []


def test_a_killed_container_is_an_error_and_the_next_test_gets_another(
    docker_project, docker_engine
):
    run = hanging(docker_project, docker_engine)
    (server,) = servers_of(docker_project, docker_engine)
    server.kill()
    assert run.wait(60) == 1
    text = docker_project.out()
    assert "concurrency 2: tritonserver was killed by SIGKILL; it was being measured" in text
    assert "successfully loaded 'troubled'" in text
    assert "Traceback" not in text
    assert docker_project.statuses() == {
        "test_first[default]": "passed",
        "test_troubled[default]": "not_measured",
        "test_last[default]": "passed",
    }


def test_a_model_that_runs_out_of_memory_ends_its_sweep_and_the_next_test_goes_on(
    docker_project, docker_engine
):
    eat = "kept = b'x' * 10**9 if os.path.exists(__file__ + '.eat') else time.sleep(0.02)"
    model = docker_project.model("troubled", eat)
    docker_project.model("untroubled", "pass")
    docker_project.tests(TROUBLED)
    run = docker_project.start(f"--triton-image={IMAGE}", "--triton-perf-max-seconds=60")
    wait_for(lambda: "troubled_config_default at concurrency 1: " in docker_project.out())
    (server,) = servers_of(docker_project, docker_engine)
    server.update(mem_limit="500m", memswap_limit="500m")
    (model / "1" / "model.py.eat").touch()
    assert run.wait(60) == 1
    text = docker_project.out()
    assert "troubled_config_default at concurrency 2: perf_analyzer did not measure" in text
    assert "died: was it killed for want of memory?" in text
    assert "Stub process 'troubled_0' is not healthy" in text
    assert "Traceback" not in text
    assert docker_project.statuses() == {
        "test_first[default]": "passed",
        "test_troubled[default]": "not_measured",
        "test_last[default]": "passed",
    }


def test_three_sessions_leave_the_engine_as_it_was(docker_project, docker_engine):
    def there():
        containers = docker_engine.containers.list(all=True, ignore_removed=True)
        networks, volumes = docker_engine.networks.list(), docker_engine.volumes.list()
        return [{one.id for one in kind} for kind in (containers, networks, volumes)]

    before = there()
    docker_project.tests(SWEEP)
    for _ in range(3):
        docker_project.run(f"--triton-image={IMAGE}").assert_outcomes(passed=2)
    assert there() == before


def test_an_engine_that_is_restarted_ends_one_sweep_and_no_more(
    docker_project, docker_engine, own_engine
):
    if own_engine is None:
        missing_part("the Docker engine here is not the tests' own, which they could restart")
    run = hanging(docker_project, docker_engine)
    own_engine.stop()
    own_engine.start()
    assert run.wait(60) == 1, docker_project.out()
    text = docker_project.out()
    assert re.search("concurrency 2: tritonserver (exited|was killed|cannot be seen)", text)
    assert "Traceback" not in text
    assert docker_project.statuses() == {
        "test_first[default]": "passed",
        "test_troubled[default]": "not_measured",
        "test_last[default]": "passed",
    }
    assert [m["variant"] for m in docker_project.results()["measurements"]] == [
        "add_sub_config_default",
        "troubled_config_default",
        "untroubled_config_default",
    ]
    assert servers_of(docker_project, docker_engine) == []


IMAGES = """
import pytest

@pytest.fixture(params={images!r})
def triton_image(request):
    return request.param
"""


def test_the_same_tests_run_on_several_images(docker_project, docker_engine):
    docker_project.tests(SWEEP)
    conftest = docker_project.path / "conftest.py"
    conftest.write_text(IMAGES.format(images=[IMAGE, OTHER_IMAGE]))
    result = docker_project.run(reports="all")
    result.assert_outcomes(passed=4)
    run = docker_project.results()
    assert [(m["image"], m["variant"], m["concurrency"]) for m in run["measurements"]] == [
        (image, f"add_sub_config_{name}", concurrency)
        for image in (IMAGE, OTHER_IMAGE)
        for name in ("default", "0")
        for concurrency in (1, 2)
    ]
    assert {v["image"] for v in run["verdicts"]} == {IMAGE, OTHER_IMAGE}
    digests = {image: docker_engine.images.get(image).id for image in (IMAGE, OTHER_IMAGE)}
    assert run["environment"]["server"]["images"] == digests
    assert [server["image"] for server in run["server_only"]] == [IMAGE, OTHER_IMAGE]
    # Two of each, in the terminal and in the files.
    result.stdout.fnmatch_lines(["*add_sub_config_0@24.10-py3 at concurrency 2: *"])
    result.stdout.fnmatch_lines(["passed *add_sub_config_default@25.01-py3"])
    detailed = docker_project.output / "reports" / "detailed"
    assert len(list(detailed.glob("add_sub_config_*@*/detailed_report.pdf"))) == 4


NAPS = """
import pytest

@pytest.mark.perf_sweep(model="naps", concurrency=1)
@pytest.mark.perf_gate(max_slowdown_pct=20)
def test_it(): pass
"""


@pytest.fixture
def faster_image(docker_engine, built_image):
    """The image with a variable that lets the model ``naps`` sleep for a third of the time."""
    tag = f"{IMAGE}-faster"
    recipe = f"FROM {built_image}\nENV NAP_S=0.004\n"
    docker_engine.images.build(fileobj=io.BytesIO(recipe.encode()), tag=tag, rm=True)
    yield tag
    docker_engine.images.remove(tag)


def test_a_gate_between_two_images_starts_each_arm_from_its_own(docker_project, faster_image):
    docker_project.model("naps", "time.sleep(float(os.environ.get('NAP_S', '0.012')))")
    docker_project.tests(NAPS)
    brief = "--triton-perf-max-seconds=30"
    args = (f"--triton-image={IMAGE}", f"--triton-perf-against-image={faster_image}", brief)
    result = docker_project.run(*args)
    result.assert_outcomes(passed=1)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    run = docker_project.results()
    (found,) = [c for c in run["comparisons"] if c["gated"]]
    assert (found["status"], found["metric"], found["image"]) == ("regressed", "throughput", IMAGE)
    assert -80 < found["change_pct"] < -40  # 12 ms of sleep in place of 4
    assert set(run["environment"]["server"]["images"]) == {IMAGE, faster_image}
    result.stdout.fnmatch_lines([f"gate against {faster_image}: 1 regressed"])


def test_a_fixture_that_gives_another_image_than_its_param_is_told(docker_project):
    docker_project.tests(SWEEP)
    conftest = docker_project.path / "conftest.py"
    conftest.write_text(IMAGES.format(images=[IMAGE]).replace(".param", ".param + '-sdk'"))
    result = docker_project.run("-k", "default")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(
        [f"the fixture triton_image gives '{IMAGE}-sdk', but Triton was to run from its param*"]
    )


NO_TRITONSERVER = "import sys\nsys.modules['pytriton'] = None\n"


@pytest.fixture
def default_image(docker_engine, built_image):
    """The default image and its SDK image, under their own names where they are not here."""
    from docker.errors import ImageNotFound

    with contextlib.ExitStack() as stack:
        for suffix in ("", "-sdk"):
            try:
                docker_engine.images.get(DEFAULT_IMAGE + suffix)
            except ImageNotFound:
                docker_engine.images.get(built_image + suffix).tag(DEFAULT_IMAGE + suffix)
                stack.callback(docker_engine.images.remove, DEFAULT_IMAGE + suffix)
        yield DEFAULT_IMAGE


def test_without_any_tritonserver_the_default_image_is_used(docker_project, default_image):
    docker_project.tests(SWEEP)
    (docker_project.path / "conftest.py").write_text(NO_TRITONSERVER)
    docker_project.run().assert_outcomes(passed=2)
    server = docker_project.results()["environment"]["server"]
    assert (server["launch"], list(server["images"])) == ("docker", [default_image])
    assert server["because"].startswith("no tritonserver: none was given with --triton-server")


def test_without_any_tritonserver_and_without_an_engine_both_are_told(project, monkeypatch):
    monkeypatch.setenv("DOCKER_HOST", f"unix://{project.path}/docker.sock")
    project.tests(SWEEP)
    (project.path / "conftest.py").write_text(NO_TRITONSERVER)
    result = project.run()
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(
        [
            "*no tritonserver: none was given with --triton-server, none is on PATH, and *",
            f"A container was tried instead, but no Docker engine answers at *{project.path}*",
        ]
    )


def test_mounts_and_variables_reach_the_server(docker_project, tmp_path):
    (tmp_path / "weights").write_text("the real weights")
    docker_project.model(
        "asking",
        "raise ValueError(open('/weights').read() + os.environ['WHOSE'])",
    )
    docker_project.tests(TROUBLED.replace("troubled", "asking"))
    result = docker_project.run(
        *(f"--triton-image={IMAGE}", f"--triton-mount={tmp_path}/weights:/weights"),
        *("--triton-env=WHOSE= are mine=yes", "-k", "asking and not un"),
    )
    result.stdout.fnmatch_lines(["*the real weights are mine=yes*"])


@pytest.mark.parametrize(
    "given", ["--triton-mount=/no/such:/there", "--triton-mount=/tmp", "--triton-env=WHOSE"]
)
def test_a_wrong_mount_or_variable_is_a_usage_error(project, given):
    project.tests(SWEEP)
    result = project.run(given)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    option, _, value = given.partition("=")
    result.stderr.fnmatch_lines([f"*{option}: '{value}' is not valid; expected *"])
