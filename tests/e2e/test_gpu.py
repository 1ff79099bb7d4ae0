"""What only a real GPU shows (``tox -e gpu``): see docs/gpu-validation.md."""

import importlib.util
import json
import subprocess
import sys
import time

import pytest

from pytest_triton_perf.probes.nvml import NvmlProbe, why_no_gpu
from pytest_triton_perf.probes.sampler import Sampler

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(bool(why_no_gpu()), reason=f"NEEDS a GPU: {why_no_gpu()}"),
    pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="NEEDS torch"),
]

MIB = 2**20 / 1e6
SMALL, LARGE = 256, 1280

# Its instance is one of the CPU for Triton, so that a server without CUDA runs it too.
MODEL = """\
import json
import numpy as np
import torch
import triton_python_backend_utils as pb


class TritonPythonModel:
    def initialize(self, args):
        parameters = json.loads(args["model_config"])["parameters"]
        mib = int(parameters["mib"]["string_value"])
        self.block = torch.zeros(mib * 2**20, dtype=torch.uint8, device="cuda")
        self.matrix = torch.rand(4096, 4096, device="cuda")
        torch.cuda.synchronize()

    def execute(self, requests):
        answers = []
        for request in requests:
            for _ in range(4):
                self.matrix @ self.matrix
            torch.cuda.synchronize()
            y = pb.Tensor("Y", np.zeros((1, 1), np.float32))
            answers.append(pb.InferenceResponse([y]))
        return answers
"""


@pytest.fixture
def results(project):
    """The results of a model that takes 256 MiB and of one that takes 1280 MiB of the GPU."""
    config = (
        "instance_group { kind: KIND_CPU }\n"
        f"parameters {{ key: 'mib' value: {{ string_value: '{SMALL}' }} }}"
    )
    folder = project.model("allocate", "pass", config)
    (folder / "1" / "model.py").write_text(MODEL)
    project.tests(
        f"""
        import pytest

        @pytest.mark.perf_sweep(
            model="allocate",
            concurrency=2,
            variants={{"parameters.mib.string_value": ["{SMALL}", "{LARGE}"]}},
        )
        def test_allocate(triton_sweep):
            pass
        """
    )
    project.run().assert_outcomes(passed=2)
    return json.loads((project.output / "results.json").read_text())


def test_memory_is_what_the_model_allocates(results):
    # The CUDA context and the workspace of the products are in both: the difference is known.
    small, large = results["measurements"]
    expected = (LARGE - SMALL) * MIB
    allowed = max(0.02 * expected, 16 * MIB)
    for name in ("gpu_memory_mb", "gpu_memory_delta_mb"):
        found = large[name] - small[name]
        assert found == pytest.approx(expected, abs=allowed), (name, small["gpu"], large["gpu"])
    assert small["gpu_memory_delta_mb"] >= SMALL * MIB


def test_power_and_utilization_move_with_the_load(results):
    idle = results["server_only"][0]["gpus"]
    for measurement in results["measurements"]:
        (uuid, gpu) = max(measurement["gpu"].items(), key=lambda pair: pair[1]["utilization_pct"])
        assert gpu["utilization_pct"] > max(50, idle[uuid]["utilization_pct"]), measurement
        assert gpu["power_w"] > 1.2 * idle[uuid]["power_w"], measurement
        inferences = measurement["throughput"]["value"] * measurement["wall_s"]
        total_j = sum(gpu["energy_j"] for gpu in measurement["gpu"].values())
        assert measurement["energy_per_inference_j"] == pytest.approx(
            total_j / inferences, rel=0.01
        )


BUSY = """\
import time, torch
matrix = torch.rand(4096, 4096, device="cuda")
(matrix @ matrix).sum().item()
print("ready", flush=True)
deadline = time.monotonic() + 30
while time.monotonic() < deadline:
    matrix @ matrix
    torch.cuda.synchronize()
"""


def test_energy_agrees_with_the_counter_of_the_gpu():
    import pynvml

    pynvml.nvmlInit()
    handle = pynvml.nvmlDeviceGetHandleByIndex(0)
    uuid = pynvml.nvmlDeviceGetUUID(handle)
    busy = subprocess.Popen([sys.executable, "-c", BUSY], stdout=subprocess.PIPE, text=True)
    try:
        assert busy.stdout.readline() == "ready\n"
        with Sampler([NvmlProbe(None, [uuid])]) as sampler:
            time.sleep(0.5)
            before, start = pynvml.nvmlDeviceGetTotalEnergyConsumption(handle), time.monotonic()
            time.sleep(3)
            after, end = pynvml.nvmlDeviceGetTotalEnergyConsumption(handle), time.monotonic()
            found = sampler.summary(start, end)
    finally:
        busy.kill()
        busy.communicate()
        pynvml.nvmlShutdown()
    counted_j = (after - before) / 1000
    # The counter is renewed ten times a second.
    assert found.gpus[uuid]["energy_j"] == pytest.approx(counted_j, rel=0.05)
    assert not [note for note in found.notes if "readings of NVML were taken" in note], found.notes
