"""The quickstart of the README, as a newcomer runs it, except for where the results go."""

import doctest
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pytest_triton_perf.cli import main
from pytest_triton_perf.probes.nvml import why_no_gpu

REPOSITORY = Path(__file__).parents[2]
FILES = (
    "results/metrics-model-inference.csv",
    "results/metrics-model-gpu.csv",
    "results/metrics-server-only.csv",
    "plots/simple/add_sub/throughput_v_latency.png",
    "plots/detailed/add_sub_config_default/latency_breakdown.png",
    "plots/detailed/add_sub_config_default/memory_timeline.png",
    "reports/summaries/add_sub/result_summary.pdf",
    "reports/detailed/add_sub_config_default/detailed_report.pdf",
    "index.html",
    "summary.md",
    "results.json",
)


@pytest.fixture(scope="module")
def quickstart(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """What the quickstart printed, and the folder of its results."""
    output = tmp_path_factory.mktemp("quickstart") / "results"
    command = [sys.executable, "-m", "pytest", "--triton-perf", "examples/quickstart"]
    done = subprocess.run(
        [*command, f"--triton-perf-output={output}", "-p", "no:cacheprovider"],
        cwd=REPOSITORY,
        env={**os.environ, "GITHUB_STEP_SUMMARY": str(output.parent / "job.md")},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout, output


def test_every_variant_passes(quickstart: tuple[str, Path]) -> None:
    assert "4 passed" in quickstart[0]


def test_every_file_of_the_interface_is_left(quickstart: tuple[str, Path]) -> None:
    _, output = quickstart
    assert [name for name in FILES if not (output / name).is_file()] == []
    memory = [output / f"plots/simple/add_sub/{kind}_mem_v_latency.png" for kind in ("cpu", "gpu")]
    assert any(path.is_file() for path in memory)


def test_every_level_and_budget_is_recorded(quickstart: tuple[str, Path]) -> None:
    results = json.loads((quickstart[1] / "results.json").read_text("utf-8"))
    levels = {(m["variant"], m["concurrency"]) for m in results["measurements"]}
    assert {variant for variant, _ in levels} == {
        "add_sub_config_default",
        "add_sub_config_0",
        "add_sub_config_1",
        "add_sub_config_2",
    }
    assert len(levels) == 8
    assert [v["status"] for v in results["verdicts"]] == ["passed"] * 12


def test_the_page_of_the_ci_job_shows_the_summary(quickstart: tuple[str, Path]) -> None:
    _, output = quickstart
    shown = (output.parent / "job.md").read_text("utf-8")
    assert shown == (output / "summary.md").read_text("utf-8") + "\n"


def test_the_reports_can_be_rebuilt(quickstart: tuple[str, Path]) -> None:
    _, output = quickstart
    # A PDF has the time at which it was made in it.
    made = [p for p in output.rglob("*") if p.suffix in (".csv", ".md", ".txt", ".html", ".png")]
    before = {path: path.read_bytes() for path in made}
    assert len(before) == 3 + 1 + 1 + 1 + 2 + 2 * 4
    for path in before:
        path.unlink()
    assert main(["report", str(output)]) == 0
    assert [path for path, data in before.items() if path.read_bytes() != data] == []


def test_the_examples_of_the_documentation_hold_on_it(
    quickstart: tuple[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "triton-perf-results").symlink_to(quickstart[1])
    monkeypatch.chdir(tmp_path)
    told = doctest.testfile(str(REPOSITORY / "docs" / "results.md"), module_relative=False)
    assert told.attempted > 10
    assert told.failed == 0


def test_the_model_repository_is_left_alone(quickstart: tuple[str, Path]) -> None:
    repository = REPOSITORY / "examples" / "quickstart" / "model_repository"
    files = sorted(str(p.relative_to(repository)) for p in repository.rglob("*") if p.is_file())
    assert files == ["add_sub/1/model.py", "add_sub/config.pbtxt"]


@pytest.mark.gpu
@pytest.mark.skipif(bool(why_no_gpu()), reason=f"NEEDS a GPU: {why_no_gpu()}")
def test_on_a_gpu_every_level_has_its_memory(quickstart: tuple[str, Path]) -> None:
    results = json.loads((quickstart[1] / "results.json").read_text("utf-8"))
    for measurement in results["measurements"]:
        assert measurement["gpu"], measurement["missing"]
        assert measurement["gpu_memory_mb"] > 0
