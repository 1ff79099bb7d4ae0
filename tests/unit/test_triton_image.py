"""The fixture ``triton_image`` and the launch mode: decided at collection, before any server."""

import shutil
from pathlib import Path

import pytest

from pytest_triton_perf.collection import PERF_TEST
from pytest_triton_perf.errors import MissingPartError
from pytest_triton_perf.options import DEFAULT_IMAGE
from pytest_triton_perf.servers import embedded
from pytest_triton_perf.settings import Settings

QUICKSTART = Path(__file__).parents[2] / "examples" / "quickstart"
TESTS = """
import pytest

@pytest.mark.perf_sweep(model="add_sub", concurrency=1, variants=[{}, {"max_batch_size": 4}])
def test_it(): pass
"""
PARAMS = """
import pytest

@pytest.fixture(params=["r/t:24.10-py3", "r/t:25.01-py3"])
def triton_image(request):
    return request.param
"""
MARK = "@pytest.mark.parametrize('triton_image', ['r/t:24.10-py3', 'r/t:25.01-py3']{})\n@pytest"


class Seen:
    """Keeps what was collected."""

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        tests = [item.stash[PERF_TEST] for item in session.items if PERF_TEST in item.stash]
        self.servers = [(test.server.image, test.variant.name) for test in tests]


@pytest.fixture
def collect(pytester):
    shutil.copytree(QUICKSTART / "model_repository", pytester.path / "model_repository")

    def collect(tests, conftest, *args):
        pytester.makepyfile(test_it=tests)
        pytester.makeconftest(conftest)
        seen = Seen()
        arguments = ["--triton-perf", "--collect-only", "-p", "no:cacheprovider", *args]
        result = pytester.runpytest(*arguments, plugins=[seen])
        return result, seen.servers

    return collect


@pytest.mark.parametrize("launch", ["auto", "docker"])
@pytest.mark.parametrize(
    ("tests", "conftest"),
    [
        (TESTS, PARAMS),
        (TESTS + PARAMS.replace("params", "scope='session', params"), ""),
        (TESTS.replace("@pytest", MARK.format(", indirect=True")), ""),
        (TESTS.replace("@pytest", MARK.format("")), ""),
    ],
)
def test_tests_run_on_each_image_and_each_image_is_started_once(collect, tests, conftest, launch):
    result, servers = collect(tests, conftest, f"--triton-launch={launch}")
    assert result.ret == pytest.ExitCode.OK
    assert servers == [
        ("r/t:24.10-py3", "add_sub_config_default"),
        ("r/t:24.10-py3", "add_sub_config_0"),
        ("r/t:25.01-py3", "add_sub_config_default"),
        ("r/t:25.01-py3", "add_sub_config_0"),
    ]


def test_a_test_that_names_no_image_takes_the_one_of_the_option(collect):
    other = TESTS.replace("test_it", "test_other").replace(
        '1, variants=[{}, {"max_b', '1) #{"max_b'
    )
    tests = TESTS.replace("@pytest", MARK.format("")) + other
    _, servers = collect(tests, "", "--triton-image=mine:1")
    assert servers[-1] == ("mine:1", "add_sub_config_default")
    _, servers = collect(tests, "")
    assert servers[-1] == (DEFAULT_IMAGE, "add_sub_config_default")


@pytest.mark.parametrize(
    ("conftest", "args", "message"),
    [
        (
            PARAMS,
            "--triton-launch=local",
            "triton_image: --triton-launch=local starts no container of 'r/t:24.10-py3'; --triton-",
        ),
        (
            PARAMS,
            "--triton-url=127.0.0.1:8001",
            "triton_image: --triton-launch=remote starts no container of 'r/t:24.10-py3'; --triton",
        ),
        (
            PARAMS.replace('"r/t:24.10-py3"', "24.10"),
            "--triton-launch=docker",
            "triton_image: the name of an image is text, not 24.1",
        ),
        (
            "import pytest\n\n@pytest.fixture\ndef triton_image(): return 'r/t:1'\n",
            "--triton-launch=docker",
            "the fixture triton_image at {path}/conftest.py:3 says its image only while the test "
            "runs, after images are fetched; make the images its params: @pytest.fixture(params=",
        ),
    ],
)
def test_an_image_that_cannot_be_used_is_a_usage_error(collect, pytester, conftest, args, message):
    result, _ = collect(TESTS, conftest, args)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    message = message.format(path=pytester.path)
    assert f"test_it.py:3: test_it: {message}" in result.stderr.str()


def settings(pytester, *args):
    return Settings.from_config(pytester.parseconfig("--triton-perf", *args))


@pytest.mark.parametrize(
    ("args", "image_given", "launch", "image"),
    [
        ([], False, "local", None),
        ([], True, "docker", DEFAULT_IMAGE),
        (["--triton-image=mine:1"], False, "docker", "mine:1"),
        (["--triton-launch=docker"], False, "docker", DEFAULT_IMAGE),
        (["--triton-launch=local", "--triton-image=mine:1"], False, "local", None),
        (["--triton-url=h:1", "--triton-image=mine:1"], False, "remote", None),
    ],
)
def test_auto_is_decided(pytester, args, image_given, launch, image, monkeypatch):
    monkeypatch.setattr(embedded, "find_server", lambda explicit: None)
    decided = settings(pytester, *args).decided(image_given=image_given)
    assert (decided.launch, decided.image, decided.no_server) == (launch, image, "")


def test_auto_without_any_server_is_a_container_of_the_default_image(pytester, monkeypatch):
    def nothing(explicit):
        raise MissingPartError("no tritonserver: none anywhere")

    monkeypatch.setattr(embedded, "find_server", nothing)
    decided = settings(pytester).decided(image_given=False)
    assert (decided.launch, decided.image) == ("docker", DEFAULT_IMAGE)
    assert decided.no_server == "no tritonserver: none anywhere"
