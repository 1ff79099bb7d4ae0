"""The pipelines of examples/ci: by the schemas of GitHub and GitLab, with options that exist."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from pytest_triton_perf.options import OPTIONS

CI = Path(__file__).parents[2] / "examples" / "ci"
SCHEMAS = {"github-actions.yml": "vendor.github-workflows", "gitlab-ci.yml": "vendor.gitlab-ci"}


def lint(file: Path, schema: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", schema, str(file)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_every_pipeline_has_its_schema() -> None:
    assert {file.name for file in CI.iterdir()} == set(SCHEMAS)


@pytest.mark.parametrize(("name", "schema"), SCHEMAS.items())
def test_a_pipeline_keeps_its_schema(name: str, schema: str, tmp_path: Path) -> None:
    done = lint(CI / name, schema)
    assert done.returncode == 0, done.stdout + done.stderr
    wrong = tmp_path / name
    wrong.write_text((CI / name).read_text().replace("timeout", "time-out"))
    assert lint(wrong, schema).returncode == 1


@pytest.mark.parametrize("name", SCHEMAS)
def test_a_pipeline_uses_options_and_commands_that_exist(name: str) -> None:
    text = (CI / name).read_text()
    known = {"--triton-perf", *(option.flag for option in OPTIONS)}
    used = set(re.findall(r"--triton-[a-z-]+", text))
    assert "--triton-perf-against" in used
    assert used <= known
    assert set(re.findall(r"triton-perf (doctor|report|merge|compare|suggest)\b", text)) == {
        "doctor"
    }
