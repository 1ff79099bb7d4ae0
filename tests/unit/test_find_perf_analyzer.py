import os
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path

import pytest
from support import missing_part

import pytest_triton_perf
from pytest_triton_perf.errors import MissingPartError
from pytest_triton_perf.load.binaries import find_perf_analyzer

MakeScript = Callable[[str, str], Path]

CONSOLE_SCRIPT = f"""#!{sys.executable}
import sys
from perf_analyzer.cli import main
sys.exit(main())
"""


@pytest.fixture
def script(tmp_path: Path) -> MakeScript:
    """Make an executable ``perf_analyzer`` in a folder of its own; gives its path."""

    def make(folder: str, text: str) -> Path:
        path = tmp_path / folder / "perf_analyzer"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        path.chmod(0o755)
        return path

    return make


def test_the_embedded_one_runs_with_the_libraries_of_the_wheel(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    scripts = Path(sysconfig.get_path("scripts"))
    if not (scripts / "perf_analyzer").exists():
        missing_part("no perf_analyzer in this environment")
    # An activated environment has its scripts on PATH, and the embedded one among them.
    monkeypatch.setenv("PATH", f"{scripts}{os.pathsep}/usr/bin")
    monkeypatch.setenv("LD_LIBRARY_PATH", "/somewhere")
    found = find_perf_analyzer(None)
    assert re.fullmatch(r"2\.\d+\.\d+", found.version)
    assert found.origin in ("the package perf-analyzer", "the package tritonclient")
    if found.env:
        folder, inherited = found.env["LD_LIBRARY_PATH"].split(os.pathsep)
        assert inherited == "/somewhere"
        assert {link.name for link in Path(folder).iterdir()} == {
            "libb64.so.0d",
            "libcudart.so",
            "libcudart.so.12",
        }
        assert Path(folder).stat().st_mode & 0o077 == 0, "nobody else may write there"


def test_one_on_path_comes_before_the_embedded_ones(
    script: MakeScript, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = script("sdk", "#!/bin/sh\necho 'Perf Analyzer Version 2.70.1 (commit abc123)'\n")
    monkeypatch.setenv("PATH", f"{own.parent}{os.pathsep}{os.environ['PATH']}")
    found = find_perf_analyzer(None)
    assert (found.path, found.origin, found.env) == (own, "PATH", {})
    assert found.version == "2.70.1 (commit abc123)"


def test_an_explicit_one_comes_first(script: MakeScript, monkeypatch: pytest.MonkeyPatch) -> None:
    on_path = script("sdk", "#!/bin/sh\necho 'Perf Analyzer Version 1.0.0'\n")
    given = script("given", "#!/bin/sh\necho 'Perf Analyzer Version 2.0.0 (commit unknown)'\n")
    monkeypatch.setenv("PATH", str(on_path.parent))
    assert find_perf_analyzer(given).version == "2.0.0"


def test_an_explicit_one_that_does_not_exist(tmp_path: Path) -> None:
    with pytest.raises(MissingPartError, match=r"(?s)nowhere does not run: .*does not exist") as e:
        find_perf_analyzer(tmp_path / "nowhere")
    assert "Hint: correct --perf-analyzer" in str(e.value)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("#!/bin/sh\necho no such library >&2\nexit 127\n", "no such library"),
        ("#!/bin/sh\nexit 3\n", "--version ended with 3"),
        ("#!/nowhere/sh\n", "No such file or directory"),
        (CONSOLE_SCRIPT, "pip's console script, which hides perf_analyzer's exit code"),
    ],
)
def test_an_explicit_one_that_does_not_run(script: MakeScript, text: str, why: str) -> None:
    with pytest.raises(MissingPartError) as caught:
        find_perf_analyzer(script("given", text))
    assert "does not run: " in str(caught.value)
    assert why in str(caught.value)


def test_nothing_found_says_why_for_each_and_the_one_command(
    tmp_path: Path, script: MakeScript
) -> None:
    console_script = script("other-environment", CONSOLE_SCRIPT)
    bare = tmp_path / "bare"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", bare], check=True)
    placeholder = Path(sysconfig.get_path("purelib", vars={"base": str(bare)})) / "perf_analyzer"
    placeholder.mkdir()
    (placeholder / "__init__.py").touch()
    code = (
        "from pytest_triton_perf.errors import MissingPartError\n"
        "from pytest_triton_perf.load.binaries import find_perf_analyzer\n"
        "try:\n    find_perf_analyzer(None)\nexcept MissingPartError as error:\n    print(error)\n"
    )
    message = subprocess.run(
        [bare / "bin" / "python", "-c", code],
        env={
            "PATH": f"{bare / 'bin'}:{console_script.parent}",
            "PYTHONPATH": str(Path(pytest_triton_perf.__file__).parent.parent),
        },
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert message.startswith("no perf_analyzer runs on this machine:\n")
    assert f"PATH: {console_script} is pip's console script" in message
    assert "the package perf-analyzer: only its empty placeholder is installed" in message
    assert "needs glibc 2.38, this machine has" in message
    assert f"the package tritonclient: {bare}/bin/perf_analyzer does not exist" in message
    assert message.endswith("  Hint: pip install 'pytest-triton-perf[embedded]'\n")


def test_a_library_that_is_missing_is_named(tmp_path: Path) -> None:
    """Outside the environment that has nvidia-pytriton, the embedded one lacks libraries."""
    embedded = Path(sysconfig.get_path("scripts"), "perf_analyzer")
    if not embedded.exists():
        missing_part("no perf_analyzer in this environment")
    bare = tmp_path / "bare"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", bare], check=True)
    shutil.copy(embedded, bare / "bin" / "perf_analyzer")
    code = "from pytest_triton_perf.load.binaries import *; find_perf_analyzer(None)"
    answer = subprocess.run(
        [bare / "bin" / "python", "-c", code],
        env={"PATH": "", "PYTHONPATH": str(Path(pytest_triton_perf.__file__).parent.parent)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "MissingPartError" in answer.stderr
    assert "the package tritonclient: " in answer.stderr
    assert "error while loading shared libraries: lib" in answer.stderr
