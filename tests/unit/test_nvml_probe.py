"""The real ``pynvml`` on a scripted ``libnvidia-ml.so.1`` (tests/nvml/fake_nvml.c).

Each test runs its Python code in a process of its own: the dynamic linker finds the library by
``LD_LIBRARY_PATH``, which is read once, when a process starts.
"""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from scripted_nvml import build_library

NO_DRIVER = "no NVIDIA driver: libnvidia-ml.so.1 was not found"
GPU_METRICS = (
    "gpu_memory_mb",
    "gpu_memory_delta_mb",
    "gpu_utilization_pct",
    "power_w",
    "energy_per_inference_j",
)

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
temperature 0 61
temperature 1 35
clock 0 1410
clock 1 1200
throttle 0 0
throttle 1 1
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
    time.sleep(0.01)  # the library looks at its script every 5 ms

def show(*values):
    plain = [dataclasses.asdict(v) if dataclasses.is_dataclass(v) else v for v in values]
    print(json.dumps(plain))

"""


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the scripted library."""
    return build_library(tmp_path_factory.mktemp("nvml"))


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
            "temperature_c": 61,
            "sm_clock_mhz": 1410,
            "throttle_reasons": "",
            "other_processes": 1,
        },
        "GPU-b": {
            "memory_mb": 500,
            "process_memory_mb": 0,
            "utilization_pct": 20,
            "power_w": 60,
            "temperature_c": 35,
            "sm_clock_mhz": 1200,
            "throttle_reasons": "",  # it idles, which is no reason
            "other_processes": 1,
        },
    }
    assert reading["missing"] == {}
    others = os.getpid()  # the parent of the process that read
    assert reading["notes"] == [
        f"GPU {uuid} has other users (pid {others}): its utilisation, power and energy, and the "
        "memory of the device, are theirs too"
        for uuid in ("GPU-a", "GPU-b")
    ]
    assert sums == {"gpu_memory_mb": 1500, "gpu_utilization_pct": 50, "power_w": 310.5}


DEVICE_NOTE = (
    "the memory of GPU GPU-a and its growth over the idle server are those of the whole device, "
    "its other users included: "
)


def test_the_servers_own_memory_is_read_again_soon_after_the_first_time(
    library: Path, tmp_path: Path
) -> None:
    code = """
probe = NvmlProbe(pid)
readings, until = [probe.read()], time.monotonic() + 5
while time.monotonic() < until and len(readings) < 2:
    time.sleep(0.05)
    reading = probe.read()
    readings += [reading] if "process_memory_mb" in reading.gpus["GPU-a"] else []
show(len(readings))
"""
    # Whose pid 1 is takes psutil, and its import is a hundred times as dear as what follows.
    script = TWO_GPUS + "process 0 1 1000000\n"
    assert run(library, script, code, tmp_path) == [2]


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
        "energy_per_inference_j": "GPU GPU-a: NVML says 'Not Supported'",
        "gpu_memory_mb": "GPU GPU-b: NVML says 'Not Supported'",
        "gpu_utilization_pct": "GPU GPU-b: NVML says 'Not Supported'",
    }
    assert sums == {}


def test_power_is_that_of_the_moment_where_the_driver_knows_it(
    library: Path, tmp_path: Path
) -> None:
    # 250.5 W are then what an Ampere GPU drew over the last second.
    (reading,) = run(
        library, TWO_GPUS + "instant 0 611000\n", "show(NvmlProbe(None).read())", tmp_path
    )
    assert [gpu["power_w"] for gpu in reading["gpus"].values()] == [611, 60]
    assert reading["missing"] == {}


def test_energy_is_power_over_time(library: Path, tmp_path: Path) -> None:
    code = """
with Sampler([NvmlProbe(None)]) as sampler:
    start = time.monotonic()
    time.sleep(0.5)
    end = time.monotonic()
    show(end - start, totals(sampler.summary(start, end), inferences=100))
"""
    seconds, sums = run(library, TWO_GPUS, code, tmp_path)
    assert sums["energy_per_inference_j"] == pytest.approx(310.5 * seconds / 100)


def test_energy_is_missing_where_power_is(library: Path, tmp_path: Path) -> None:
    code = "r = NvmlProbe(None).read(); show(r, totals(r, inferences=1))"
    reading, sums = run(library, TWO_GPUS + "error power 0 3 0\n", code, tmp_path)
    why = "GPU GPU-a: NVML says 'Not Supported'"
    assert reading["missing"] == {"power_w": why, "energy_per_inference_j": why}
    assert "energy_per_inference_j" not in sums


def test_what_a_gpu_refuses_is_not_asked_for_again_and_a_passing_error_is(
    library: Path, tmp_path: Path
) -> None:
    code = f"""
probe = NvmlProbe(None, ["GPU-a"])
before = probe.read(fresh=True)
first = {TWO_GPUS!r}
play("")
show(before, probe.read(fresh=True))
"""
    script = TWO_GPUS + "error power 0 3 0\nerror utilization 0 999 0\n"
    before, after = run(library, script, code, tmp_path)
    refused = {"power_w", "energy_per_inference_j"}
    assert set(before["missing"]) == {*refused, "gpu_utilization_pct"}
    assert before["missing"]["gpu_utilization_pct"] == "GPU GPU-a: NVML says 'Unknown Error'"
    assert after["missing"] == dict.fromkeys(refused, "GPU GPU-a: NVML says 'Not Supported'")


def test_an_old_driver_gives_the_memory_of_the_device_and_says_what_it_cannot(
    tmp_path: Path,
) -> None:
    code = "show(*find_gpus(), NvmlProbe(pid, ['GPU-a']).read())"
    *gpus, reading = run(build_library(tmp_path, "-DOLD_DRIVER"), TWO_GPUS, code, tmp_path)
    assert [gpu["uuid"] for gpu in gpus] == ["GPU-a", "GPU-b"]
    assert reading["gpus"]["GPU-a"]["memory_mb"] == 3000
    assert reading["gpus"]["GPU-a"]["power_w"] == 250.5
    assert reading["notes"] == [DEVICE_NOTE + "GPU GPU-a: this NVIDIA driver is too old to tell"]


def test_throttling_names_its_reasons(library: Path, tmp_path: Path) -> None:
    # power limit 0x4, temperature 0x20, and clocks that somebody set, which is no throttling: 0x2
    script = TWO_GPUS.replace("throttle 0 0", f"throttle 0 {0x4 | 0x20 | 0x2}")
    (reading,) = run(library, script, "show(NvmlProbe(None, ['GPU-a']).read())", tmp_path)
    assert reading["gpus"]["GPU-a"]["throttle_reasons"] == "power limit, temperature"
    assert "GPU GPU-a held its clocks down: power limit, temperature" in reading["notes"]


MIG = """\
driver 550.54.15
device GPU-a 85000000000 NVIDIA Fake 80GB
mig 0 MIG-1 10000000000 NVIDIA Fake 80GB MIG 1g.10gb
mig 0 MIG-2 20000000000 NVIDIA Fake 80GB MIG 2g.20gb
device GPU-b 16000000000 NVIDIA Fake 16GB
memory 1 0 3000000000
memory 2 0 700000000
memory 3 0 500000000
power 0 250500
power 3 60000
utilization 3 20
"""


def test_of_a_gpu_with_mig_its_instances_are_the_devices(library: Path, tmp_path: Path) -> None:
    shown = run(library, MIG, "show(*find_gpus(), why_no_gpu())", tmp_path)
    assert shown == [
        {"uuid": "MIG-1", "name": "NVIDIA Fake 80GB MIG 1g.10gb", "memory_total_mb": 10000},
        {"uuid": "MIG-2", "name": "NVIDIA Fake 80GB MIG 2g.20gb", "memory_total_mb": 20000},
        {"uuid": "GPU-b", "name": "NVIDIA Fake 16GB", "memory_total_mb": 16000},
        "",
    ]


def test_doctor_names_the_instances(library: Path, tmp_path: Path) -> None:
    code = """
from pytest_triton_perf.doctor import examine
show(*(check for check in examine() if check.part == "GPU"))
"""
    (check,) = run(library, MIG, code, tmp_path)
    assert check["found"] == (
        "3: NVIDIA Fake 80GB MIG 1g.10gb (MIG-1), NVIDIA Fake 80GB MIG 2g.20gb (MIG-2), "
        "NVIDIA Fake 16GB (GPU-b); driver 550.54.15"
    )


def test_a_mig_instance_has_its_memory_and_says_what_it_lacks(
    library: Path, tmp_path: Path
) -> None:
    code = """
play(f"process 1 {pid} 1000000000\\nprocess 2 {pid} 600000000\\n")
reading = NvmlProbe(pid, ["MIG-1", "MIG-2"]).read()
show(reading, totals(reading))
"""
    reading, sums = run(library, MIG, code, tmp_path)
    instance = reading["gpus"]["MIG-1"]
    assert (instance["memory_mb"], instance["process_memory_mb"]) == (3000, 1000)
    assert instance["power_w"] is instance["utilization_pct"] is None
    why = "GPU MIG-2: NVML does not tell it of a MIG instance"
    assert reading["missing"] == {
        "gpu_utilization_pct": why,
        "power_w": why,
        "energy_per_inference_j": why,
    }
    assert sums == {"gpu_memory_mb": 1600}


def test_mig_without_an_instance_is_a_reason(library: Path, tmp_path: Path) -> None:
    script = "driver 550.54.15\ndevice GPU-a 85000000000 NVIDIA Fake 80GB\nmigmode 0\n"
    reason = "MIG is on, and no GPU has an instance: make one with nvidia-smi mig -cgi … -C"
    shown = run(library, script, FIND, tmp_path)
    assert shown == [[], reason, "550.54.15", dict.fromkeys(GPU_METRICS, reason)]


def test_a_gpu_that_mig_divides_cannot_be_chosen_itself(library: Path, tmp_path: Path) -> None:
    code = """
from pytest_triton_perf.errors import UsageError
try:
    NvmlProbe(None, ["GPU-a"])
except UsageError as error:
    show(str(error))
"""
    (words,) = run(library, MIG, code, tmp_path)
    assert words == "--triton-gpus: no GPU GPU-a here: NVML finds MIG-1, MIG-2, GPU-b"


def test_a_process_that_has_ended_is_nobodys_memory(library: Path, tmp_path: Path) -> None:
    code = """
child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
child.communicate(b"\\n")
play(f"process 0 {pid} 1000000000\\nprocess 0 {child.pid} 500000000\\n")
show(NvmlProbe(pid, ["GPU-a"]).read())
"""
    (reading,) = run(library, TWO_GPUS, code, tmp_path)
    gpu = reading["gpus"]["GPU-a"]
    assert (gpu["process_memory_mb"], gpu["other_processes"]) == (1000, 0)
    assert reading["notes"] == []


def test_a_call_that_hangs_is_told(library: Path, tmp_path: Path) -> None:
    code = """
probe = NvmlProbe(pid, ["GPU-a"])
start = time.monotonic()
with Sampler([probe]) as sampler:
    time.sleep(1.5)
    show(sampler.summary(start, time.monotonic()))
"""
    (summary,) = run(library, TWO_GPUS + "hang memory 0 1 5\n", code, tmp_path)
    assert summary["gpus"]["GPU-a"]["memory_mb"] == 3000
    hung, missed = summary["notes"]
    assert re.fullmatch(r"NVML hung for 1\.\d s, and was not read meanwhile", hung)
    assert re.match(r"only \d+ of (29|30) readings of NVML were taken, and a short peak", missed)


def test_a_device_that_grows_without_the_server_has_another_user(
    library: Path, tmp_path: Path
) -> None:
    code = """
step = "memory 0 0 {0}000000\\nprocess 0 {1} {2}000000\\n".format
probe = NvmlProbe(pid, ["GPU-a"])
def level(device, own):
    play(step(3000, pid, 1000))
    idle = probe.read(fresh=True)
    play(step(device, pid, own))
    return over_idle(probe.read(fresh=True), idle)
show(level(3550, 1500), level(5500, 1500))
"""
    own, shared = run(library, TWO_GPUS, code, tmp_path)
    assert own["notes"] == []
    assert shared["notes"] == [
        "GPU GPU-a has another user: since the server was idle its memory grew by 2000 MB that "
        "are not the server's; its memory_mb has them, the server's own figures do not"
    ]
    assert shared["gpus"]["GPU-a"]["memory_delta_mb"] == 500


def test_a_lost_gpu_is_missing_in_words_and_never_zero(library: Path, tmp_path: Path) -> None:
    code = """
start = time.monotonic()
probe = NvmlProbe(pid)
probe.period_s = 60
with Sampler([probe]) as sampler:
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
with Sampler([NvmlProbe(pid, ["GPU-a"])]) as sampler:
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
