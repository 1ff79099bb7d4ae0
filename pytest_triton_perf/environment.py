"""What the results say about the machine and the tools they were measured with."""

import platform
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest_triton_perf


def describe(**parts: Mapping[str, Any]) -> dict[str, Any]:
    """The environment section of the results; ``parts`` describe the tools, by what they are."""
    import psutil

    from pytest_triton_perf.probes.nvml import driver_version, find_gpus

    environment = {
        "plugin_version": pytest_triton_perf.__version__,
        "python": platform.python_version(),
        "system": platform.platform(),
        "cpu": _cpu_model(),
        "cpu_count": psutil.cpu_count(),
        "memory_mb": round(psutil.virtual_memory().total / 1e6),
        "gpus": [
            {"uuid": gpu.uuid, "name": gpu.name, "memory_total_mb": gpu.memory_total_mb}
            for gpu in find_gpus()
        ],
        "driver": driver_version(),
        "command": sys.argv,
    }
    return environment | parts


def _cpu_model() -> str:
    """The processor's name from /proc/cpuinfo, else what Python knows."""
    try:
        with Path("/proc/cpuinfo").open(encoding="utf-8", errors="replace") as lines:
            for line in lines:
                key, _, value = line.partition(":")
                if key.strip() == "model name":
                    return value.strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
