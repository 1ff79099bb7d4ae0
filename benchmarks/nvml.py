"""What NVML's calls cost on the first GPU of this machine while it is busy, and what power means.

Prints the CPU time of each call that the sampler makes or could make, the two figures of power
after load begins and ends, and the CPU time of the sampler's thread. The load is torch's.
"""

import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pynvml
from sampler import cpu_s

from pytest_triton_perf.probes.gpu_figures import MEMORY, PROCESSES, STATE
from pytest_triton_perf.probes.nvml import NvmlProbe
from pytest_triton_perf.probes.sampler import Sampler

CALLS = 60
LOAD_S = 3.0

BUSY = """
import sys, time, torch
matrix = torch.rand(4096, 4096, device="cuda")
(matrix @ matrix).sum().item()
print("ready", flush=True)
end = time.monotonic() + float(sys.argv[1])
while time.monotonic() < end:
    matrix @ matrix
    torch.cuda.synchronize()
"""


@contextmanager
def busy(seconds: float) -> Iterator[None]:
    """Load on the GPU for so long, from now on; ended on leaving."""
    command = [sys.executable, "-c", BUSY, str(seconds)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            if process.stdout.readline() != "ready\n":
                sys.exit("torch makes no load on a GPU here")
            yield
        finally:
            process.kill()


def calls(handle: Any) -> dict[str, Callable[[], Any]]:
    """The calls by name; those of the sampler are its own."""
    found: dict[str, Callable[[], Any]] = {
        figure.key: lambda figure=figure: figure.question(pynvml, handle)
        for figure in (MEMORY, *STATE, PROCESSES)
    }
    return found | {
        "power of the last second": lambda: pynvml.nvmlDeviceGetPowerUsage(handle),
        "energy counter": lambda: pynvml.nvmlDeviceGetTotalEnergyConsumption(handle),
        "buffer of power": lambda: pynvml.nvmlDeviceGetSamples(
            handle, pynvml.NVML_TOTAL_POWER_SAMPLES, 0
        ),
        "buffer of utilisation": lambda: pynvml.nvmlDeviceGetSamples(
            handle, pynvml.NVML_GPU_UTILIZATION_SAMPLES, 0
        ),
    }


def tell_costs(handle: Any) -> None:
    """Print the median and the most CPU time of each call, in microseconds."""
    for name, call in calls(handle).items():
        took = []
        try:
            for _ in range(CALLS):
                before = time.thread_time()
                call()
                took.append(1e6 * (time.thread_time() - before))
                time.sleep(0.005)
        except pynvml.NVMLError as error:
            print(f"{name:<26} {error}")
            continue
        print(f"{name:<26}{statistics.median(took):>9.0f} us{max(took):>9.0f} us at most")


def tell_power(handle: Any) -> None:
    """Print both figures of power, every 0.1 s through the beginning and the end of a load."""
    (instant,) = (figure for figure in STATE if figure.key == "power_w")
    print("    s  last second, W   moment, W")
    with busy(LOAD_S):
        began = time.monotonic()
        while (at := time.monotonic() - began) < 2 * LOAD_S:
            average_w = pynvml.nvmlDeviceGetPowerUsage(handle) / 1000
            moment_w = instant.question(pynvml, handle)
            print(f"{at:>5.2f}{average_w:>16.0f}{moment_w:>12.0f}")
            time.sleep(0.1)


def tell_sampler(uuid: str) -> None:
    """Print the share of a core that the sampler's thread takes, in three windows of 5 s."""
    with Sampler([NvmlProbe(None, [uuid])]):
        (thread,) = (t for t in threading.enumerate() if t.name == "triton-perf-sampler")
        assert thread.native_id is not None
        time.sleep(2)
        for _ in range(3):
            before, at = cpu_s(thread.native_id), time.monotonic()
            time.sleep(5)
            share = (cpu_s(thread.native_id) - before) / (time.monotonic() - at)
            print(f"the sampler takes {share:.2%} of one core")


def main() -> None:
    """Print all of it for the first GPU."""
    pynvml.nvmlInit()
    handle = pynvml.nvmlDeviceGetHandleByIndex(0)
    uuid = pynvml.nvmlDeviceGetUUID(handle)
    print(pynvml.nvmlDeviceGetName(handle), uuid, pynvml.nvmlSystemGetDriverVersion())
    with busy(60):
        tell_costs(handle)
    time.sleep(2)
    tell_power(handle)
    tell_sampler(uuid)


if __name__ == "__main__":
    main()
