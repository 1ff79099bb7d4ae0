"""Which configs need no completion, and which stubs need not be waited for: with real processes."""

import os
import subprocess
import sys
import time
import uuid
from pathlib import Path

import psutil
import pytest

from pytest_triton_perf.servers.python_backend import (
    completion_args,
    end_idle_stubs,
    leaving,
    nothing_to_end,
    wait_ended,
)

MODEL = "class TritonPythonModel:\n    def execute(self, requests):\n        return []\n"
COMPLETES = "    @staticmethod\n    def auto_complete_config(config):\n        return config\n"
TENSORS = 'input { name: "X" data_type: TYPE_FP32 dims: [ 4 ] }\n' + (
    'output { name: "Y" data_type: TYPE_FP32 dims: [ 4 ] }\n'
)
PYTHON = f'backend: "python"\n{TENSORS}'
ENSEMBLE = f'platform: "ensemble"\n{TENSORS}'


def add_model(repository, name, *, config=PYTHON, source=MODEL):
    folder = repository / name / "1"
    folder.mkdir(parents=True)
    if config is not None:
        (folder.parent / "config.pbtxt").write_text(config)
    if source is not None:
        (folder / "model.py").write_text(source)
    return folder / "model.py"


def test_complete_python_models_and_ensembles_need_no_completion(tmp_path):
    add_model(tmp_path, "one")
    add_model(tmp_path, "two")
    add_model(tmp_path, "both", config=ENSEMBLE, source=None)
    (tmp_path / "notes").mkdir()
    assert completion_args(tmp_path) == ["--disable-auto-complete-config"]


@pytest.mark.parametrize(
    "other",
    [
        pytest.param({"source": MODEL + COMPLETES}, id="completes"),
        pytest.param({"source": "from library import TritonPythonModel\n"}, id="imported"),
        pytest.param(
            {"source": MODEL.replace("Model:", "Model(Base):")}, id="may inherit a completion"
        ),
        pytest.param({"source": f"@decorated\n{MODEL}"}, id="may be given one"),
        pytest.param({"source": "class TritonPythonModel(:\n"}, id="syntax error"),
        pytest.param({"source": None}, id="no source"),
        pytest.param({"config": None}, id="no config file"),
        pytest.param({"config": "max_batch_size: what"}, id="broken config file"),
        pytest.param({"config": PYTHON.partition("output")[0]}, id="no output"),
        pytest.param({"config": PYTHON.replace("dims: [ 4 ]", "")}, id="no dimensions"),
        pytest.param({"config": TENSORS}, id="no backend"),
        pytest.param({"config": f'backend: "onnxruntime"\n{TENSORS}'}, id="another backend"),
    ],
)
def test_one_other_model_keeps_completion_for_all(tmp_path, other):
    add_model(tmp_path, "complete")
    add_model(tmp_path, "other", **other)
    assert completion_args(tmp_path) == []


def test_without_python_models_nothing_is_changed(tmp_path):
    add_model(tmp_path, "both", config=ENSEMBLE, source=None)
    assert completion_args(tmp_path) == []


@pytest.fixture
def stub(tmp_path):
    """Starts processes with a stub's command line, children of this one; and their memory."""
    started, regions = [], []

    def start(model, ready="", source=MODEL):
        script = add_model(
            tmp_path, model, source=f"{source}\n{ready}\nimport time\ntime.sleep(60)"
        )
        region = Path("/dev/shm", f"triton-perf-test-{uuid.uuid4()}")
        region.touch()
        regions.append(region)
        started.append(
            subprocess.Popen(
                ["/somewhere/triton_python_backend_stub", script, region.name, "1048576"],
                executable=sys.executable,
            )
        )
        return started[-1], region

    yield start
    for process in started:
        process.kill()
        process.wait()
    for region in regions:
        region.unlink(missing_ok=True)


def here():
    return psutil.Process(os.getpid())


def test_an_idle_stub_of_the_model_is_ended_with_its_memory(stub):
    process, region = stub("mine")
    other, kept = stub("other")
    asked = []
    end_idle_stubs(here(), "mine".__eq__, lambda path: asked.append(path) or path)
    assert wait_ended([psutil.Process(process.pid)], 5) == []
    assert (process.wait(5), region.exists()) == (-9, False)
    assert (other.poll(), kept.exists()) == (None, True)
    assert len(asked) == 1, "the source is looked for where this machine has it"


@pytest.mark.parametrize(
    "end",
    [
        "    def finalize(self):\n        pass\n",
        "    def __del__(self):\n        pass\n",
        "    log = open('/dev/null', 'w')\n",
        "    print('a line in a buffer')\n",
        "    def execute(self, requests):\n        import onnxruntime\n",
        "    def execute(self, requests):\n        from . import helper\n",
    ],
)
def test_a_stub_whose_end_matters_is_left_to_triton(stub, end):
    process, region = stub("mine", source=MODEL + end)
    end_idle_stubs(here(), "mine".__eq__, str)
    assert wait_ended([psutil.Process(process.pid)], 0.2)
    assert region.exists()


def test_a_stub_that_started_a_process_is_left_to_triton(stub):
    process, _ = stub("mine", ready="import subprocess\nsubprocess.Popen(['sleep', '60'])")
    deadline = time.monotonic() + 10
    while not (children := psutil.Process(process.pid).children()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    end_idle_stubs(here(), "mine".__eq__, str)
    assert set(leaving(here(), lambda model: False)) == {psutil.Process(process.pid), *children}
    children[0].kill()


def test_a_server_is_killed_where_all_that_it_serves_is_idle_stubs(stub):
    stub("one")
    ended, _ = stub("two")
    assert nothing_to_end(here(), {"one", "two"}, str)
    assert not nothing_to_end(here(), {"one", "two", "an onnx model"}, str)
    ended.kill()
    assert wait_ended([psutil.Process(ended.pid)], 5) == []
    assert nothing_to_end(here(), {"one"}, str), "an ended process is nothing to wait for"
    assert not nothing_to_end(here(), {"one", "two"}, str)


def test_a_server_with_anything_else_to_end_is_not_killed(stub):
    stub("idle")
    stub("finalizes", source=MODEL + "    def finalize(self):\n        pass\n")
    assert not nothing_to_end(here(), {"idle"}, str)


def test_a_server_with_a_process_that_is_no_stub_is_not_killed(stub):
    stub("idle")
    other = subprocess.Popen(["sleep", "60"])
    try:
        assert not nothing_to_end(here(), {"idle"}, str)
    finally:
        other.kill()
        other.wait()


def test_stubs_of_served_models_do_not_leave(stub):
    gone, _ = stub("gone")
    stub("served")
    assert [p.pid for p in leaving(here(), lambda model: model == "served")] == [gone.pid]


def test_a_process_that_is_not_collected_yet_has_ended(stub):
    process, _ = stub("mine")
    process.kill()
    assert wait_ended([psutil.Process(process.pid)], 5) == []
    assert psutil.Process(process.pid).status() == psutil.STATUS_ZOMBIE
