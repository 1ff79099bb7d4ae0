import json
import os
import re
import shutil
import time
import uuid
from pathlib import Path

import pytest
from support import PROJECT_MARK, missing_part

from pytest_triton_perf.errors import MissingPartError
from pytest_triton_perf.load.binaries import find_perf_analyzer
from pytest_triton_perf.servers.embedded import find_server

QUICKSTART = Path(__file__).parents[2] / "examples" / "quickstart"


@pytest.fixture(scope="session", autouse=True)
def real_parts():
    """A real tritonserver and a real perf_analyzer, or no test here."""
    try:
        find_server(None)
        find_perf_analyzer(None)
    except MissingPartError as error:
        missing_part(str(error))


class Project:
    """A user's project in a folder of its own, whose pytest runs as a process of its own."""

    def __init__(self, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
        self._pytester = pytester
        self._id = uuid.uuid4().hex
        monkeypatch.setenv(PROJECT_MARK, self._id)
        self.path = pytester.path
        self.repository = pytester.path / "model_repository"
        self.output = pytester.path / "triton-perf-results"
        shutil.copytree(QUICKSTART / "model_repository", self.repository)

    def model(self, name: str, execute: str, config: str = "") -> Path:
        """Add a python model with one FP32 input X[1] and output Y[1].

        ``execute`` is the body of the loop over requests; ``pb`` is Triton's module.
        """
        folder = self.repository / name / "1"
        folder.mkdir(parents=True)
        (folder / "model.py").write_text(
            "import time, os\n"
            "import numpy as np\n"
            "import triton_python_backend_utils as pb\n"
            "class TritonPythonModel:\n"
            "    def execute(self, requests):\n"
            "        answers = []\n"
            "        for request in requests:\n"
            f"            {execute}\n"
            "            y = pb.Tensor('Y', np.zeros((1, 1), np.float32))\n"
            "            answers.append(pb.InferenceResponse([y]))\n"
            "        return answers\n"
        )
        (folder.parent / "config.pbtxt").write_text(
            f'name: "{name}"\nbackend: "python"\nmax_batch_size: 8\n'
            "input { name: 'X' data_type: TYPE_FP32 dims: [ 1 ] }\n"
            "output { name: 'Y' data_type: TYPE_FP32 dims: [ 1 ] }\n"
            f"{config}\n"
        )
        return folder.parent

    def tests(self, source: str) -> None:
        """Write ``test_it.py``."""
        self._pytester.makepyfile(test_it=source)

    def arguments(self, *args: str) -> list[str]:
        """The command of ``run``, for tests that start it by themselves."""
        return ["-p", "no:cacheprovider", "--triton-perf", *args]

    def run(self, *args: str, reports: str = "json") -> pytest.RunResult:
        """Run pytest with the plugin enabled; with few reports, for speed.

        A run whose failures a busy hypervisor made inconclusive is made again, twice at most: that
        they become so is right, and no test's subject here. Not where the test itself says what
        becomes of them.
        """
        told = any(arg.startswith("--triton-perf-inconclusive") for arg in args)
        for _ in range(3):
            result = self._pytester.runpytest_subprocess(
                *self.arguments(f"--triton-perf-report={reports}", *args), timeout=120
            )
            if told or not re.search(r", but .*\(steal\)", result.stdout.str()):
                break
        return result

    def start(self, *args: str) -> "pytest.Popen":
        """Start such a run without waiting for it; its output goes to ``out.txt``."""
        import subprocess
        import sys

        with (self.path / "out.txt").open("wb") as out:
            return subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "pytest",
                    *self.arguments("--triton-perf-report=json", *args),
                ],
                cwd=self.path,
                stdout=out,
                stderr=subprocess.STDOUT,
            )

    def out(self) -> str:
        """What a started run has printed so far."""
        return (self.path / "out.txt").read_text()

    def results(self) -> dict:
        """What the last run left in ``results.json``."""
        return json.loads((self.output / "results.json").read_text())

    def statuses(self) -> dict[str, str]:
        """The status of each test's last verdict in ``results.json``."""
        return {v["test"].partition("::")[2]: v["status"] for v in self.results()["verdicts"]}

    def processes(self, name: str = "") -> list[int]:
        """Processes that this project's runs started and that still are, by executable name."""
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                mine = f"{PROJECT_MARK}={self._id}".encode() in (folder / "environ").read_bytes()
                state = (folder / "stat").read_text().rpartition(")")[2].split()[0]
                command = (folder / "cmdline").read_bytes().split(b"\0")[0].decode()
            except (OSError, IndexError):
                continue
            if mine and state != "Z" and name in Path(command).name:
                found.append(int(folder.name))
        return [pid for pid in found if pid != os.getpid()]

    def assert_nothing_left(self, within: float = 10.0) -> None:
        """No process of this project is left, nor a shared memory region of its server."""
        deadline = time.monotonic() + within
        while (left := self.processes()) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert not left, [Path(f"/proc/{pid}/cmdline").read_text() for pid in left]


@pytest.fixture
def project(pytester, monkeypatch):
    project = Project(pytester, monkeypatch)
    yield project
    project.assert_nothing_left()
