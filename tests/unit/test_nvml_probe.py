"""The real ``pynvml`` on a scripted ``libnvidia-ml.so.1`` (tests/nvml/fake_nvml.c).

Each test runs its Python code in a process of its own: the dynamic linker finds the library by
``LD_LIBRARY_PATH``, which is read once, when a process starts.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SOURCE = Path(__file__).parents[1] / "nvml" / "fake_nvml.c"

NO_DRIVER = "no NVIDIA driver: libnvidia-ml.so.1 was not found"
GPU_METRICS = ("gpu_memory_mb", "gpu_memory_delta_mb", "gpu_utilization_pct", "power_w")

TWO_GPUS = """\
driver 550.54.15
device GPU-a 85000000000 NVIDIA Fake 80GB
device GPU-b 16000000000 NVIDIA Fake 16GB
memory 0 0 3000000000
memory 1 0 500000000
utilization 0 80
utilization 1 20
power 0 250500
power 1 60000
"""

PRELUDE = """\
import dataclasses, json, os, subprocess, sys, time
from pytest_triton_perf.probes.base import SourceLost, over_idle, totals
from pytest_triton_perf.probes.nvml import NvmlProbe, driver_version, find_gpus, why_no_gpu
from pytest_triton_perf.probes.sampler import Sampler

pid = os.getpid()
script = os.environ["FAKE_NVML"]
first = open(script).read() if os.path.exists(script) else ""

def play(more):
    with open(script + ".new", "w") as file:
        file.write(first + more)
    os.replace(script + ".new", script)

def show(*values):
    plain = [dataclasses.asdict(v) if dataclasses.is_dataclass(v) else v for v in values]
    print(json.dumps(plain))

"""


def build(folder: Path, *flags: str) -> Path:
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        problem = "needs a C compiler (apt-get install gcc) to build the scripted NVML library"
        if os.environ.get("CI"):
            pytest.fail(problem)
        pytest.skip(problem)
    subprocess.run(
        [
            compiler, "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC",
            "-Wl,-soname,libnvidia-ml.so.1", *flags,
            "-o", folder / "libnvidia-ml.so.1", SOURCE,
        ],
        check=True,
        timeout=60,
    )  # fmt: skip
    return folder


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the scripted library."""
    return build(tmp_path_factory.mktemp("nvml"))


def run(folder: Path, script: str, code: str, tmp_path: Path, *wrap: str) -> Any:
    """What ``code`` shows, with the library of ``folder`` playing ``script``."""
    path = tmp_path / "script"
    path.write_text(script, encoding="utf-8")
    done = subprocess.run(
        [*wrap, sys.executable, "-c", PRELUDE + code],
        env={**os.environ, "LD_LIBRARY_PATH": str(folder), "FAKE_NVML": str(path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_gpus_are_found_with_name_and_memory(library: Path, tmp_path: Path) -> None:
    shown = run(library, TWO_GPUS, "show(*find_gpus(), why_no_gpu(), driver_version())", tmp_path)
    assert shown == [
        {"uuid": "GPU-a", "name": "NVIDIA Fake 80GB", "memory_total_mb": 85000},
        {"uuid": "GPU-b", "name": "NVIDIA Fake 16GB", "memory_total_mb": 16000},
        "",
        "550.54.15",
    ]


FIND = "show(find_gpus(), why_no_gpu(), driver_version(), NvmlProbe(pid).read().missing)"


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        (
            "error init 0 9 0",
            "libnvidia-ml.so.1 is there, but the NVIDIA kernel driver is not loaded",
        ),
        (
            "error init 0 18 0",
            "libnvidia-ml.so.1 and the loaded NVIDIA driver differ in version: restart the machine",
        ),
        ("error init 0 4 0", "NVML does not start: Insufficient Permissions"),
    ],
)
def test_a_driver_that_does_not_start_is_a_reason(
    library: Path, tmp_path: Path, script: str, reason: str
) -> None:
    shown = run(library, script, FIND, tmp_path)
    assert shown == [[], reason, None, dict.fromkeys(GPU_METRICS, reason)]


def test_a_driver_without_a_gpu_is_a_reason(library: Path, tmp_path: Path) -> None:
    reason = "the NVIDIA driver finds no GPU"
    shown = run(library, "driver 550.54.15", FIND, tmp_path)
    assert shown == [[], reason, "550.54.15", dict.fromkeys(GPU_METRICS, reason)]


def test_no_driver_is_a_reason(tmp_path: Path) -> None:
    # An empty file hides a real library of the machine, and cannot be loaded.
    (tmp_path / "libnvidia-ml.so.1").touch()
    shown = run(tmp_path, "", FIND, tmp_path)
    assert shown == [[], NO_DRIVER, None, dict.fromkeys(GPU_METRICS, NO_DRIVER)]


def test_a_reading_tells_the_servers_processes_from_their_neighbours(
    library: Path, tmp_path: Path
) -> None:
    code = """
child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
play(f"process 0 {pid} 1000000000\\nprocess 0 {child.pid} 500000000\\n"
     f"process 0 {os.getppid()} 900000000\\nprocess 1 {os.getppid()} 400000000\\n")
probe = NvmlProbe(pid)
reading = probe.read()
probe.close()
child.communicate(b"\\n")
show(reading, totals(reading))
"""
    reading, sums = run(library, TWO_GPUS, code, tmp_path)
    assert reading["gpus"] == {
        "GPU-a": {
            "memory_mb": 3000,
            "process_memory_mb": 1500,
            "utilization_pct": 80,
            "power_w": 250.5,
        },
        "GPU-b": {
            "memory_mb": 500,
            "process_memory_mb": 0,
            "utilization_pct": 20,
            "power_w": 60,
        },
    }
    assert (reading["missing"], reading["notes"]) == ({}, [])
    assert sums == {"gpu_memory_mb": 1500, "gpu_utilization_pct": 50, "power_w": 310.5}


DEVICE_NOTE = "the memory of GPU GPU-a is that of the whole device, its other users included: "


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ("process 0 {pid} -1", "the driver does not say how much each process uses"),
        ("process 0 {pid} 0", "the driver does not say how much each process uses"),
        ("error processes 0 4 0", "GPU GPU-a: NVML says 'Insufficient Permissions'"),
    ],
)
def test_memory_that_cannot_be_attributed_is_the_devices_with_a_note(
    library: Path, tmp_path: Path, more: str, why: str
) -> None:
    code = f"play(f{more!r}); r = NvmlProbe(pid, ['GPU-a']).read(); show(r, totals(r))"
    reading, sums = run(library, TWO_GPUS, code, tmp_path)
    assert reading["gpus"]["GPU-a"]["process_memory_mb"] is None
    assert reading["notes"] == [DEVICE_NOTE + why]
    assert reading["missing"] == {}
    assert sums["gpu_memory_mb"] == 3000


def test_a_server_on_another_host_has_the_devices_memory(library: Path, tmp_path: Path) -> None:
    (reading,) = run(library, TWO_GPUS, "show(NvmlProbe(None, ['GPU-a']).read())", tmp_path)
    assert reading["notes"] == [DEVICE_NOTE + "the server's processes are not on this host"]


def test_an_empty_process_list_in_a_container_is_no_zero(library: Path, tmp_path: Path) -> None:
    namespace = ("unshare", "--user", "--map-root-user", "--pid", "--fork", "--mount-proc")
    if subprocess.run([*namespace, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this machine forbids new process namespaces (unshare)")
    code = "show(NvmlProbe(pid, ['GPU-a']).read())"
    (reading,) = run(library, TWO_GPUS, code, tmp_path, *namespace)
    assert reading["gpus"]["GPU-a"]["process_memory_mb"] is None
    assert reading["notes"] == [
        DEVICE_NOTE + "NVML lists processes by their pid on the host, and this is a container; "
        "--pid=host lets it tell them apart"
    ]


def test_a_figure_that_the_gpu_does_not_give_is_missing_and_the_others_are_there(
    library: Path, tmp_path: Path
) -> None:
    script = TWO_GPUS + "error power 0 3 0\nerror memory 1 3 0\nerror utilization 1 3 0\n"
    code = "r = NvmlProbe(None).read(); show(r, totals(r))"
    reading, sums = run(library, script, code, tmp_path)
    assert reading["gpus"]["GPU-a"]["power_w"] is None
    assert reading["gpus"]["GPU-b"]["memory_mb"] is None
    assert reading["missing"] == {
        "power_w": "GPU GPU-a: NVML says 'Not Supported'",
        "gpu_memory_mb": "GPU GPU-b: NVML says 'Not Supported'",
        "gpu_utilization_pct": "GPU GPU-b: NVML says 'Not Supported'",
    }
    assert sums == {}


def test_a_driver_before_510_gives_the_memory_of_the_device(tmp_path: Path) -> None:
    (reading,) = run(
        build(tmp_path, "-DOLD_DRIVER"),
        TWO_GPUS,
        "show(NvmlProbe(pid, ['GPU-a']).read())",
        tmp_path,
    )
    assert reading["gpus"]["GPU-a"]["memory_mb"] == 3000
    assert reading["notes"] == [DEVICE_NOTE + "GPU GPU-a: NVML says 'Function Not Found'"]


def test_a_lost_gpu_is_missing_in_words_and_never_zero(library: Path, tmp_path: Path) -> None:
    code = """
start = time.monotonic()
with Sampler([NvmlProbe(pid)], period_s=60) as sampler:
    fine = [sampler.read_now().missing for _ in range(2)]
    while not sampler.read_now().missing:
        pass
    show(*fine, sampler.summary(start, time.monotonic()))
"""
    *fine, summary = run(library, TWO_GPUS + "error memory 1 15 6\n", code, tmp_path)
    assert fine == [{}, {}]
    words = "GPU GPU-b no longer answers (NVML: GPU is lost); see the Xid lines of dmesg"
    assert summary["missing"] == dict.fromkeys(GPU_METRICS, words)
    assert summary["gpus"] == {}


def test_the_servers_end_is_not_read_as_an_empty_gpu(library: Path, tmp_path: Path) -> None:
    code = """
child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
probe = NvmlProbe(child.pid)
child.communicate(b"\\n")
try:
    probe.read()
except SourceLost as error:
    show(str(error) == f"the server's process (pid {child.pid}) is gone: see the server's log")
"""
    assert run(library, TWO_GPUS, code, tmp_path) == [True]


def test_the_peak_of_a_curve_and_its_height_over_idle(library: Path, tmp_path: Path) -> None:
    code = """
step = "memory 0 0 {0}000000\\nprocess 0 {1} {2}000000\\n".format
play(step(3000, pid, 1000))
with Sampler([NvmlProbe(pid, ["GPU-a"])], period_s=0.02) as sampler:
    idle = sampler.read_now()
    start = time.monotonic()
    for device, own in ((4000, 1500), (9000, 2500), (5000, 1200)):
        play(step(device, pid, own))
        sampler.read_now()
    end = time.monotonic()
    play(step(20000, pid, 9000))
    sampler.read_now()
    level = over_idle(sampler.summary(start, end), idle)
    show(level, totals(level))
"""
    level, sums = run(library, TWO_GPUS, code, tmp_path)
    gpu = level["gpus"]["GPU-a"]
    assert (gpu["memory_mb"], gpu["process_memory_mb"]) == (9000, 2500)
    assert gpu["memory_delta_mb"] == 1500
    assert sums["gpu_memory_mb"] == 2500
    assert sums["gpu_memory_delta_mb"] == 1500


def test_the_scripted_curve_follows_time(library: Path, tmp_path: Path) -> None:
    code = """
probe = NvmlProbe(None, ["GPU-a"])
play("memory 0 0.3 7000000000\\nmemory 0 3600 1")
seen = set()
deadline = time.monotonic() + 20
while 7000 not in seen and time.monotonic() < deadline:
    seen.add(probe.read().gpus["GPU-a"]["memory_mb"])
    time.sleep(0.02)
show(max(seen), min(seen) >= 3000)
"""
    assert run(library, TWO_GPUS, code, tmp_path) == [7000, True]


def test_a_gpu_that_is_not_there_is_a_usage_error(library: Path, tmp_path: Path) -> None:
    code = """
from pytest_triton_perf.errors import UsageError
try:
    NvmlProbe(None, ["GPU-b", "GPU-c"])
except UsageError as error:
    show(str(error))
"""
    (words,) = run(library, TWO_GPUS, code, tmp_path)
    assert words == "--triton-gpus: no GPU GPU-c here: NVML finds GPU-a, GPU-b"
    (tmp_path / "libnvidia-ml.so.1").touch()
    (words,) = run(tmp_path, "", code, tmp_path)
    assert words == f"--triton-gpus: no GPU GPU-b, GPU-c here: {NO_DRIVER}"


def test_no_gpu_is_watched_where_none_is_asked_for(library: Path, tmp_path: Path) -> None:
    (reading,) = run(library, TWO_GPUS, "show(NvmlProbe(pid, ()).read())", tmp_path)
    assert reading["missing"] == dict.fromkeys(
        GPU_METRICS, "no GPU is watched (--triton-gpus=none)"
    )
