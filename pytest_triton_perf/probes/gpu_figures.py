"""The figures that NVML gives of a GPU, each with its question; units are converted here, once.

A question is put to ``nvml``, the module ``pynvml``, and the handle of a GPU. It raises
``pynvml.NVMLError`` where the GPU does not give the figure.
"""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

MB = 10**6


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One figure of a GPU: its key in a reading, the question, the metric that it is for."""

    key: str
    question: Callable[[Any, Any], Any]
    metric: str | None = None


def memory_info(nvml: Any, handle: Any) -> Any:
    """``used`` as nvidia-smi shows it; drivers before 510 count what they reserve as used."""
    try:
        return nvml.nvmlDeviceGetMemoryInfo(handle, version=nvml.nvmlMemory_v2)
    except nvml.NVMLError_FunctionNotFound:
        return nvml.nvmlDeviceGetMemoryInfo(handle)


def _used_mb(nvml: Any, handle: Any) -> float:
    return float(memory_info(nvml, handle).used / MB)


def _processes(nvml: Any, handle: Any) -> Any:
    return nvml.nvmlDeviceGetComputeRunningProcesses_v3(handle)


def _utilization_pct(nvml: Any, handle: Any) -> float:
    return float(nvml.nvmlDeviceGetUtilizationRates(handle).gpu)


def _power_w(nvml: Any, handle: Any) -> float:
    """Of this moment, where the driver knows it.

    The older question gives the mean of the last second from Ampere on (GA100 excepted), which is
    that of the level before for most of a short one.
    """
    with suppress(nvml.NVMLError):
        (instant,) = nvml.nvmlDeviceGetFieldValues(handle, [nvml.NVML_FI_DEV_POWER_INSTANT])
        if instant.nvmlReturn == nvml.NVML_SUCCESS:
            return float(instant.value.uiVal / 1000)
    return float(nvml.nvmlDeviceGetPowerUsage(handle) / 1000)


def _temperature_c(nvml: Any, handle: Any) -> float:
    return float(nvml.nvmlDeviceGetTemperature(handle, nvml.NVML_TEMPERATURE_GPU))


def _sm_clock_mhz(nvml: Any, handle: Any) -> float:
    return float(nvml.nvmlDeviceGetClockInfo(handle, nvml.NVML_CLOCK_SM))


def _throttle_reasons(nvml: Any, handle: Any) -> str:
    """Why the clocks are below what they could be; idling and set clocks are no reasons."""
    bits = nvml.nvmlDeviceGetCurrentClocksThrottleReasons(handle)
    reasons = {
        nvml.nvmlClocksThrottleReasonSwPowerCap: "power limit",
        nvml.nvmlClocksThrottleReasonHwPowerBrakeSlowdown: "power brake of the machine",
        nvml.nvmlClocksThrottleReasonSwThermalSlowdown: "temperature",
        nvml.nvmlClocksThrottleReasonHwThermalSlowdown: "temperature (hardware slowdown)",
        nvml.nvmlClocksThrottleReasonHwSlowdown: "hardware slowdown",
        nvml.nvmlClocksThrottleReasonSyncBoost: "sync boost with other GPUs",
    }
    return ", ".join(words for bit, words in reasons.items() if bits & bit)


MEMORY = Figure(key="memory_mb", question=_used_mb, metric="gpu_memory_mb")
PROCESSES = Figure(key="process_memory_mb", question=_processes)
STATE = (
    Figure(key="utilization_pct", question=_utilization_pct, metric="gpu_utilization_pct"),
    Figure(key="power_w", question=_power_w, metric="power_w"),
    Figure(key="temperature_c", question=_temperature_c),
    Figure(key="sm_clock_mhz", question=_sm_clock_mhz),
    Figure(key="throttle_reasons", question=_throttle_reasons),
)
"""How busy a GPU is. The energy counter is not among them: an H200 takes 3 ms to tell it."""
