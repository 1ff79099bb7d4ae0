"""Finding a tritonserver, and saying what is missing."""

import importlib.util
import os
import shutil
import stat
import sys
from pathlib import Path

import pytest
from support import missing_part

from pytest_triton_perf.errors import MissingPartError, UsageError
from pytest_triton_perf.servers import embedded
from pytest_triton_perf.servers.embedded import (
    ServerBinary,
    check_libraries,
    find_embedded,
    find_server,
    judge_libraries,
)


@pytest.fixture
def server():
    try:
        return find_embedded()
    except MissingPartError as error:
        missing_part(str(error))


@pytest.fixture
def executable(tmp_path):
    """Makes an executable shell script."""

    def make(name, script):
        path = tmp_path / name
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
        return path

    return make


def test_a_given_server_comes_first(executable):
    path = executable("tritonserver", "exit 0")
    assert find_server(path) == ServerBinary(path=path, origin="--triton-server")


def test_a_given_server_must_be_an_executable_file(tmp_path, executable):
    with pytest.raises(UsageError, match=r"--triton-server=.*nowhere is not a file; give the path"):
        find_server(tmp_path / "nowhere")
    executable("server", "exit 0").chmod(0o644)
    with pytest.raises(UsageError, match=r"--triton-server=.*server is not executable; give"):
        find_server(tmp_path / "server")


def test_a_server_on_path_comes_before_the_embedded_one(tmp_path, executable, monkeypatch):
    path = executable("tritonserver", "exit 0")
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    found = find_server()
    assert (found.path, found.origin) == (path, "PATH")
    assert found.args(tmp_path) == []
    assert found.env() == dict(os.environ)


def test_no_server_at_all_names_the_command(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingPartError) as error:
        find_server()
    assert str(error.value).startswith("no tritonserver: none was given with --triton-server")
    assert str(error.value).endswith("Install it: pip install 'pytest-triton-perf[embedded]'")


def test_the_embedded_server_tells_its_version_and_is_not_imported(server):
    assert server.origin == "embedded"
    assert server.version().count(".") == 2
    assert "pytriton" not in sys.modules


def test_the_embedded_server_runs_models_in_this_environment(server, monkeypatch):
    monkeypatch.setenv("LD_LIBRARY_PATH", "/mine")
    monkeypatch.setenv("MINE", "1")
    env = server.env()
    assert env["PATH"].split(os.pathsep)[0] == str(Path(sys.prefix, "bin"))
    assert env["LD_LIBRARY_PATH"].split(os.pathsep)[0] == str(server.libraries)
    assert env["LD_LIBRARY_PATH"].split(os.pathsep)[-1] == "/mine"
    assert env["MINE"] == "1"


def test_the_python_backend_is_put_together_in_a_private_folder(server, tmp_path):
    (argument,) = server.args(tmp_path)
    option, _, folder = argument.partition("=")
    assert option == "--backend-directory"
    assert Path(folder).is_relative_to(tmp_path)
    stub = Path(folder, "python", "triton_python_backend_stub")
    assert stat.S_IMODE(stub.stat().st_mode) == 0o755
    check_libraries(stub, server.env())


def test_another_python_needs_its_shared_library(server):
    stubs = server.path.parents[1] / "python_backend_stubs"
    with pytest.raises(MissingPartError) as error:
        check_libraries(stubs / "3.9" / "triton_python_backend_stub", {})
    assert "libpython3.9.so.1.0, which this machine does not have" in str(error.value)
    assert "Install it: apt-get install -y libpython3.9 (or" in str(error.value)


def test_other_missing_libraries_are_named(server, tmp_path):
    copy = Path(shutil.copy(server.path, tmp_path))
    with pytest.raises(
        MissingPartError, match=r"needs .*libtritonserver-.*Install the wheel again"
    ):
        check_libraries(copy, {})


def test_an_old_glibc_is_named():
    words = "x: /lib/libc.so.6: version `GLIBC_2.35' not found (required by x)"
    with pytest.raises(MissingPartError, match=r"GLIBC_2.35' not found .*glibc 2.35 or newer"):
        judge_libraries(Path("x"), words)


def test_a_python_without_a_stub_is_told_which_have_one(server, monkeypatch):
    monkeypatch.setattr(embedded, "_PYTHON", "3.99")
    with pytest.raises(
        MissingPartError, match=r"no python backend for Python 3.99, only for 3.8, "
    ):
        find_embedded()


def test_numpy_2_is_refused_because_tensors_would_be_empty(server, tmp_path, monkeypatch):
    info = tmp_path / "numpy-2.1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: numpy\nVersion: 2.1.0\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(MissingPartError, match=r"empty tensors .* numpy 2.1.0; it needs numpy 1"):
        find_embedded()


def test_a_binary_that_is_no_tritonserver_says_so(executable):
    server = find_server(executable("tritonserver", "echo what is this; exit 3"))
    with pytest.raises(MissingPartError, match=r"(?s)does not run as a .*what is this.*Hint"):
        server.version()
