"""A real tritonserver under a scripted NVML: what its model writes there reaches the results.

The model plays the GPU: it writes into the script of ``tests/nvml/fake_nvml.c`` what the driver
would say of its process. The embedded server itself sees no GPU.
"""

import csv
import json
from pathlib import Path

import pytest
from scripted_nvml import build_library

IDLE = """\
driver 550.54.15
device GPU-a 80000000000 NVIDIA Fake 80GB
device GPU-b 16000000000 NVIDIA Fake 16GB
memory 0 0 3000000000
memory 1 0 500000000
utilization 0 80
utilization 1 20
power 0 200000
power 1 50000
temperature 0 61
temperature 1 35
clock 0 1410
clock 1 1200
throttle 0 4
throttle 1 0
process 0 tritonserver 300000000
process 1 tritonserver 100000000
"""

MODEL = """\
import os, time
import numpy as np
import triton_python_backend_utils as pb


def play(text):
    with open(os.environ["FAKE_NVML"], "a") as script:
        script.write(text.replace("PID", str(os.getpid())))


class TritonPythonModel:
    def initialize(self, args):
        self.high = False
        play("process 0 PID 1000000000\\nmemory 0 0 4000000000\\n")

    def execute(self, requests):
        high = time.monotonic() % 0.6 < 0.3
        if high != self.high:
            self.high = high
            play(HIGH if high else LOW)
        y = pb.Tensor("Y", np.zeros((1, 1), np.float32))
        return [pb.InferenceResponse([y]) for _ in requests]


HIGH = "process 0 PID 2500000000\\nmemory 0 0 5500000000\\n"
LOW = "process 0 PID 1200000000\\nmemory 0 0 4200000000\\n"
"""

TESTS = """
import pytest

@pytest.mark.perf_sweep(model="curve", concurrency=1)
@pytest.mark.perf_budget(max_gpu_memory_mb={limit} - 1)
def test_a_megabyte_too_much(triton_sweep):
    pass

@pytest.mark.perf_sweep(model="curve", concurrency=1)
@pytest.mark.perf_budget(max_gpu_memory_mb={limit} + 1, max_gpu_memory_delta_mb=2501)
@pytest.mark.perf_budget(max_power_w=251, max_gpu_utilization_pct=51)
def test_a_megabyte_to_spare(triton_sweep):
    level = triton_sweep.levels[0]
    assert level.gpu_memory_mb == {limit}
    assert level.energy_per_inference_j == pytest.approx(250 / level.throughput, rel=0.1)
"""

PEAK_MB = 2900  # 300 + 2500 on the first GPU, 100 on the second


@pytest.fixture
def script(project, tmp_path_factory, monkeypatch) -> Path:
    """The script that the library plays, for the processes of the project."""
    path = project.path / "nvml.script"
    path.write_text(IDLE)
    monkeypatch.setenv("FAKE_NVML", str(path))
    monkeypatch.setenv("LD_LIBRARY_PATH", str(build_library(tmp_path_factory.mktemp("nvml"))))
    project.model("curve", "pass")
    (project.repository / "curve" / "1" / "model.py").write_text(MODEL)
    return path


def rows(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file))


def test_the_scripted_peak_is_in_the_files_and_decides_budgets(project, script):
    project.tests(TESTS.format(limit=PEAK_MB))
    result = project.run(reports="json,csv,plots")
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(
        [
            "budget gpu_memory_mb <= 2899 MB at every load: failed (curve_config_default)",
            "  measured 2,900.0 MB at concurrency 1: 1.00 MB (0.0%) over the limit",
        ]
    )

    for row in rows(project.output / "results" / "metrics-model-gpu.csv")[::2]:
        assert row["GPU UUID"] == "GPU-a"
        assert float(row["GPU Memory Usage (MB)"]) == 5500
        assert float(row["GPU Process Memory (MB)"]) == 2800
        assert float(row["GPU Memory Delta (MB)"]) == 2500
        assert float(row["GPU Power Usage (W)"]) == pytest.approx(200)
        assert row["GPU Memory Source"] == "process"
        assert row["Throttle Reasons"] == "power limit"
    server = rows(project.output / "results" / "metrics-server-only.csv")
    assert [row["GPU Memory Usage (MB)"] for row in server] == ["3000.0", "500.0"]
    assert (project.output / "plots" / "simple" / "curve" / "gpu_mem_v_latency.png").is_file()

    data = json.loads((project.output / "results.json").read_text())
    assert data["server_only"][0]["gpus"]["GPU-a"]["process_memory_mb"] == 300
    for measurement in data["measurements"]:
        assert measurement["gpu_memory_mb"] == PEAK_MB
        assert measurement["gpu_memory_delta_mb"] == 2500
        gpu = measurement["gpu"]["GPU-b"]
        assert (gpu["process_memory_mb"], gpu["memory_source"]) == (100, "process")
        assert "GPU GPU-a held its clocks down: power limit" in measurement["notes"]
        assert measurement["missing"] == {}


def test_a_gpu_that_is_lost_fails_its_budgets_in_words_and_ram_is_measured(project, script):
    model = project.repository / "curve" / "1" / "model.py"
    model.write_text(MODEL.replace('LOW = "', 'LOW = "error memory 0 15 0\\n'))
    project.tests(TESTS.format(limit=PEAK_MB))
    result = project.run("-k", "too_much")
    result.assert_outcomes(failed=1)
    words = "GPU GPU-a no longer answers (NVML: GPU is lost); see the Xid lines of dmesg"
    result.stdout.fnmatch_lines([f"  not measured: concurrency 1: {words}"])
    (measurement,) = json.loads((project.output / "results.json").read_text())["measurements"]
    assert measurement["gpu"] == {}
    assert measurement["missing"]["power_w"] == words
    assert measurement["cpu_memory_mb"] > 10


def test_a_mig_instance_can_be_chosen_and_its_power_has_no_budget(project, script):
    script.write_text(
        "driver 550.54.15\ndevice GPU-a 80000000000 NVIDIA Fake 80GB\n"
        "mig 0 MIG-1 10000000000 NVIDIA Fake 80GB MIG 1g.10gb\n"
        "mig 0 MIG-2 10000000000 NVIDIA Fake 80GB MIG 1g.10gb\n"
        "process 1 tritonserver 300000000\nmemory 1 0 400000000\nmemory 2 0 7000000000\n"
    )
    project.tests(
        """
        import pytest

        @pytest.mark.perf_sweep(model="add_sub", concurrency=1)
        @pytest.mark.perf_budget(max_gpu_memory_mb=301)
        @pytest.mark.perf_budget(max_power_w=500)
        def test_add_sub(triton_sweep):
            pass
        """
    )
    result = project.run("--triton-gpus=MIG-1")
    result.assert_outcomes(failed=1)
    why = "GPU MIG-1: NVML does not tell it of a MIG instance"
    result.stdout.fnmatch_lines([f"  not measured: concurrency 1: {why}"])
    data = json.loads((project.output / "results.json").read_text())
    (measurement,) = data["measurements"]
    assert list(measurement["gpu"]) == ["MIG-1"]
    assert measurement["gpu_memory_mb"] == 300
    assert [gpu["uuid"] for gpu in data["environment"]["gpus"]] == ["MIG-1", "MIG-2"]
    assert [verdict["status"] for verdict in data["verdicts"]] == ["passed", "not_measured"]
