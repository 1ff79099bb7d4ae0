"""NVML against Triton's own metrics, in local mode: both scripted, the server between them real.

The embedded Triton sees no GPU. Its own metrics are switched off, and another endpoint stands at
their port, which says what a Triton with GPUs says.
"""

import json
from pathlib import Path

import metrics_server
from scripted_nvml import build_library

TESTS_FOLDER = Path(metrics_server.__file__).parent

NVML = """\
driver 550.54.15
device GPU-aaaa 16000000000 NVIDIA Fake 16GB
memory 0 0 3000000000
utilization 0 80
power 0 100000
error processes 0 4 0
"""

TESTS = """
import pytest
from metrics_server import A, metrics_text, serving

@pytest.fixture(autouse=True)  # and so before the sweep is measured
def endpoint(triton_server):
    # 20 % more memory than NVML says, and 5 % more power.
    with serving(lambda: metrics_text((A, 3600, 16000, 0.5, 105)), at=triton_server.metrics_url):
        yield

@pytest.mark.perf_sweep(model="add_sub", concurrency=[1, 2], server_args=["--allow-metrics=false"])
@pytest.mark.perf_budget(max_gpu_memory_mb=3001)
def test_it():
    pass
"""


def test_a_disagreement_is_a_note_on_each_level(project, tmp_path_factory, monkeypatch):
    library = build_library(tmp_path_factory.mktemp("nvml"))
    script = project.path / "script"
    script.write_text(NVML)
    monkeypatch.setenv("LD_LIBRARY_PATH", str(library))
    monkeypatch.setenv("FAKE_NVML", str(script))
    monkeypatch.setenv("PYTHONPATH", str(TESTS_FOLDER))
    project.tests(TESTS)
    project.run(reports="json,md,html").assert_outcomes(passed=1)
    data = json.loads((project.output / "results.json").read_text())
    said = (
        "GPU GPU-aaaa: Triton's metrics say 3,600 MB, NVML 3,000 MB of device memory: the figures "
        "here are NVML's"
    )
    for level in data["measurements"]:
        assert level["gpu_memory_mb"] == 3000
        assert [note for note in level["notes"] if "Triton's metrics" in note] == [said]
    assert "Triton&#39;s metrics say 3,600 MB" in (project.output / "index.html").read_text()
