"""The figures that NVML gives of a GPU, each with its question; units are converted here, once."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

MB = 10**6


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One figure of a GPU: its key in a reading, the question to a handle, the metric it is for.

    A question raises ``pynvml.NVMLError`` where the GPU does not give the figure.
    """

    key: str
    question: Callable[[Any], Any]
    metric: str | None = None


def memory_info(handle: Any) -> Any:
    """``used`` as nvidia-smi shows it; drivers before 510 count what they reserve as used."""
    import pynvml

    try:
        return pynvml.nvmlDeviceGetMemoryInfo(handle, version=pynvml.nvmlMemory_v2)
    except pynvml.NVMLError_FunctionNotFound:
        return pynvml.nvmlDeviceGetMemoryInfo(handle)


def _used_mb(handle: Any) -> float:
    return float(memory_info(handle).used / MB)


def _utilization_pct(handle: Any) -> float:
    import pynvml

    return float(pynvml.nvmlDeviceGetUtilizationRates(handle).gpu)


def _power_w(handle: Any) -> float:
    import pynvml

    return float(pynvml.nvmlDeviceGetPowerUsage(handle) / 1000)


def _energy_j(handle: Any) -> float:
    import pynvml

    return float(pynvml.nvmlDeviceGetTotalEnergyConsumption(handle) / 1000)


def _temperature_c(handle: Any) -> float:
    import pynvml

    return float(pynvml.nvmlDeviceGetTemperature(handle, pynvml.NVML_TEMPERATURE_GPU))


def _sm_clock_mhz(handle: Any) -> float:
    import pynvml

    return float(pynvml.nvmlDeviceGetClockInfo(handle, pynvml.NVML_CLOCK_SM))


def _throttle_reasons(handle: Any) -> str:
    """Why the clocks are below what they could be; idling and set clocks are no reasons."""
    import pynvml

    bits = pynvml.nvmlDeviceGetCurrentClocksThrottleReasons(handle)
    reasons = {
        pynvml.nvmlClocksThrottleReasonSwPowerCap: "power limit",
        pynvml.nvmlClocksThrottleReasonHwPowerBrakeSlowdown: "power brake of the machine",
        pynvml.nvmlClocksThrottleReasonSwThermalSlowdown: "temperature",
        pynvml.nvmlClocksThrottleReasonHwThermalSlowdown: "temperature (hardware slowdown)",
        pynvml.nvmlClocksThrottleReasonHwSlowdown: "hardware slowdown",
        pynvml.nvmlClocksThrottleReasonSyncBoost: "sync boost with other GPUs",
    }
    return ", ".join(words for bit, words in reasons.items() if bits & bit)


def _processes(handle: Any) -> Any:
    import pynvml

    return pynvml.nvmlDeviceGetComputeRunningProcesses_v3(handle)


MEMORY = Figure(key="memory_mb", question=_used_mb, metric="gpu_memory_mb")
PROCESSES = Figure(key="process_memory_mb", question=_processes)
SLOW = (
    Figure(key="utilization_pct", question=_utilization_pct, metric="gpu_utilization_pct"),
    Figure(key="power_w", question=_power_w, metric="power_w"),
    Figure(key="energy_j", question=_energy_j),
    Figure(key="temperature_c", question=_temperature_c),
    Figure(key="sm_clock_mhz", question=_sm_clock_mhz),
    Figure(key="throttle_reasons", question=_throttle_reasons),
)
"""What NVML itself renews a few times a second."""
