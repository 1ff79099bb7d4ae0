"""What the installed plugin costs a session that does not use it: almost no imports."""

import json
import subprocess
import sys
from pathlib import Path

from test_architecture import HEAVY

SCRIPT = """\
import json, sys
import pytest
code = pytest.main(sys.argv[1:])
print(json.dumps(sorted(sys.modules)))
sys.exit(code)
"""


def modules_after(tmp_path: Path, *args: str) -> set[str]:
    (tmp_path / "test_empty.py").write_text("def test_empty(): pass\n")
    process = subprocess.run(
        [sys.executable, "-c", SCRIPT, "-q", "-p", "no:cacheprovider", *args],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return set(json.loads(process.stdout.splitlines()[-1]))


def test_without_the_flag_nothing_heavy_is_imported(tmp_path: Path) -> None:
    bare = modules_after(tmp_path, "-p", "no:triton_perf")
    added = modules_after(tmp_path) - bare
    assert "pytest_triton_perf.plugin" in added
    assert {name.split(".")[0] for name in added} & HEAVY == set()
    ours = {name.partition(".")[2] for name in added if name.startswith("pytest_triton_perf.")}
    assert ours <= {
        "plugin",
        "hookspecs",
        "options",
        "fixtures",
        "errors",
        "domain",
        "domain.names",
    }


def test_a_config_file_costs_what_reads_it_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "it.triton-perf.yaml").write_text("profile_models: [a]\nconcurrency: 1\n")
    added = modules_after(tmp_path) - modules_after(tmp_path, "-p", "no:triton_perf")
    assert {name.split(".")[0] for name in added} & HEAVY == {"yaml"}
