"""perf_analyzer's process ends with ours, whichever way it was started; a script stands for it."""

import shutil
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from support import wait_for

CODE = """
import sys
from pathlib import Path
from pytest_triton_perf.load.runner import LocalRunner, PerfAnalyzerBinary
binary = PerfAnalyzerBinary(path=Path(sys.argv[1]), version="0", origin="test")
LocalRunner(binary).run([sys.argv[2]], url="127.0.0.1:1", seconds=60)
"""


@pytest.mark.parametrize(
    "path",
    [
        pytest.param(
            None,
            id="setpriv",
            marks=pytest.mark.skipif(not shutil.which("setpriv"), reason="no setpriv"),
        ),
        pytest.param("", id="python"),
    ],
)
def test_perf_analyzer_dies_with_a_killed_parent(
    tmp_path: Path, path: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    script, started = tmp_path / "perf_analyzer", tmp_path / "started"
    script.write_text('#!/bin/sh\necho $$ > "$1"\nexec /bin/sleep 60\n')
    script.chmod(0o755)
    if path is not None:
        monkeypatch.setenv("PATH", path)
    with subprocess.Popen([sys.executable, "-c", CODE, script, started]) as parent:
        try:
            wait_for(lambda: started.exists() and started.read_text().endswith("\n"), 15)
            child = psutil.Process(int(started.read_text()))
            assert child.ppid() == parent.pid
        finally:
            parent.kill()
    child.wait(5)
