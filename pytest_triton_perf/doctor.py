"""``triton-perf doctor``: what was found, what is missing, and the command that mends it."""

import contextlib
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from pytest_triton_perf.errors import MissingPartError, TritonPerfError

Status = Literal["ok", "missing", "optional"]

_COLOURS: dict[Status, int] = {"ok": 32, "missing": 31, "optional": 33}
_GLIBC = (2, 35)
_SHARED_MEMORY_MB = 64
"""What Docker gives a container; an instance of a Python model takes about 1 MB of it."""


@dataclass(frozen=True, kw_only=True)
class Check:
    """One part of the machine: what was found of it, and what to do where it is not right.

    ``optional`` is a part that is absent and can stay so.
    """

    part: str
    status: Status
    found: str
    mend: str = ""


def examine() -> list[Check]:
    """Look at every part; starts nothing that outlives the call."""
    return [
        _python(),
        _glibc(),
        _server(),
        _perf_analyzer(),
        _docker(),
        _gpu(),
        _pdf_engine(),
        _shared_memory(),
    ]


def can_measure(checks: Iterable[Check]) -> bool:
    """Whether ``pytest --triton-perf`` can work here: in processes, else in containers."""
    found = {check.part for check in checks if check.status == "ok"}
    return {"tritonserver", "perf_analyzer"} <= found or "Docker engine" in found


def as_text(checks: Iterable[Check], *, colour: bool) -> str:
    """The checks as aligned text, the mending command below what it mends."""
    lines = []
    for check in checks:
        status = f"{check.status:8}"
        if colour:
            status = f"\033[{_COLOURS[check.status]}m{status}\033[0m"
        first, *more = check.found.splitlines()
        lines.append(f"{check.part:13}  {status}  {first}")
        more += [f"mend: {check.mend}"] if check.mend else []
        lines += [f"{'':25}{line}" for line in more]
    return "\n".join(lines)


def _python() -> Check:
    found = f"{platform.python_version()} ({sys.executable})"
    if sys.version_info < (3, 14):
        return Check(part="Python", status="ok", found=found)
    return Check(
        part="Python",
        status="missing",
        found=f"{found}: the embedded Triton runs models with Python 3.10 to 3.13",
        mend="python3.13 -m venv .venv",
    )


def _glibc() -> Check:
    name, version = platform.libc_ver()
    if name != "glibc":
        found = f"this is no glibc system ({name or 'unknown C library'})"
    elif tuple(map(int, version.split(".")[:2])) >= _GLIBC:
        return Check(part="glibc", status="ok", found=version)
    else:
        found = version
    return Check(
        part="glibc",
        status="missing",
        found=f"{found}: the embedded Triton needs 2.35, as in Debian 12 and Ubuntu 22.04",
        mend="pytest --triton-perf --triton-server=PATH --perf-analyzer=PATH",
    )


def _server() -> Check:
    from pytest_triton_perf.servers.embedded import find_server

    try:
        server = find_server(None)
        found = f"{server.version()} ({server.origin}: {server.path})"
    except TritonPerfError as error:
        return Check(part="tritonserver", status="missing", found=str(error))
    return Check(part="tritonserver", status="ok", found=found)


def _perf_analyzer() -> Check:
    from pytest_triton_perf.load.binaries import find_perf_analyzer

    try:
        analyzer = find_perf_analyzer(None)
        found = f"{analyzer.version} ({analyzer.origin}: {analyzer.path})"
    except TritonPerfError as error:
        return Check(part="perf_analyzer", status="missing", found=str(error))
    return Check(part="perf_analyzer", status="ok", found=found)


def _docker() -> Check:
    from pytest_triton_perf.servers.engine import connect, leftovers

    part = "Docker engine"
    try:
        with contextlib.closing(connect(timeout_s=2)) as client:
            version = client.version()["Version"]
            dead = [str(container.name) for container in leftovers(client)]
    except MissingPartError as error:
        found, _, mend = str(error).partition("\n  Hint: ")
        return Check(part=part, status="optional", found=found, mend=mend)
    if not dead:
        return Check(part=part, status="ok", found=version)
    found = f"{version}; sessions that were killed left {', '.join(dead)}"
    return Check(part=part, status="ok", found=found, mend=f"docker rm -f {' '.join(dead)}")


def _gpu() -> Check:
    from pytest_triton_perf.probes.nvml import driver_version, find_gpus, why_no_gpu

    gpus = find_gpus()
    if not gpus:
        return Check(part="GPU", status="optional", found=f"none: {why_no_gpu()}")
    names = ", ".join(f"{gpu.name} ({gpu.uuid})" for gpu in gpus)
    return Check(part="GPU", status="ok", found=f"{len(gpus)}: {names}; driver {driver_version()}")


def _pdf_engine() -> Check:
    binary = shutil.which("wkhtmltopdf")
    if binary is None:
        import fpdf

        found = f"fpdf2 {fpdf.__version__} (takes over where there is no wkhtmltopdf)"
        return Check(part="PDF engine", status="ok", found=found)
    answer = subprocess.run([binary, "--version"], capture_output=True, text=True, check=False)
    return Check(part="PDF engine", status="ok", found=f"{answer.stdout.strip()} ({binary})")


def _shared_memory() -> Check:
    try:
        disk = os.statvfs("/dev/shm")
    except OSError as error:
        found, free = str(error), 0.0
    else:
        free = disk.f_bavail * disk.f_frsize / 10**6
        found = f"{free:.0f} MB free"
    if free >= _SHARED_MEMORY_MB:
        return Check(part="/dev/shm", status="ok", found=found)
    return Check(
        part="/dev/shm",
        status="missing",
        found=f"{found}: each instance of a Python model takes about 1 MB of it",
        mend="mount -o remount,size=1G /dev/shm",
    )
