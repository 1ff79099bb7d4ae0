import time

import pytest
from metrics_server import A, B, metrics_text, serving

from pytest_triton_perf.probes.base import Reading
from pytest_triton_perf.probes.cross_check import CrossCheck
from pytest_triton_perf.probes.sampler import Sampler
from pytest_triton_perf.probes.triton_metrics import MetricsEndpoint


class Nvml:
    """Readings of a list, the last one for ever."""

    name = "a device"
    period_s = 60.0
    share = 0.01
    metrics = ("gpu_memory_mb", "power_w")

    def __init__(self, *readings: Reading) -> None:
        self._readings = list(readings)

    def read(self, *, fresh: bool = False) -> Reading:
        return self._readings.pop(0) if len(self._readings) > 1 else self._readings[0]

    def close(self) -> None:
        pass


def nvml(memory_mb: float | None, power_w: float | None, uuid: str = A) -> Reading:
    return Reading(gpus={uuid: {"memory_mb": memory_mb, "power_w": power_w}})


def remarks(check: CrossCheck, *readings: Reading) -> list[str]:
    with Sampler([Nvml(*readings)]) as sampler:
        for _ in readings:
            sampler.read_now()
        now = time.monotonic()
        return check.remarks(sampler, now, now)


def triton(memory_mb: float, power_w: float) -> str:
    return metrics_text((A, memory_mb, 16000, 0.5, power_w))


@pytest.mark.parametrize("theirs", [(4000, 200), (3601, 181), (4399, 219)])
def test_figures_within_ten_percent_agree(theirs: tuple[float, float]) -> None:
    with serving(lambda: triton(*theirs)) as address:
        assert remarks(CrossCheck(MetricsEndpoint.at(address)), nvml(4000, 200)) == []


def test_a_disagreement_names_both_figures() -> None:
    with serving(lambda: triton(3590, 221)) as address:
        found = remarks(CrossCheck(MetricsEndpoint.at(address)), nvml(4000, 200))
    assert found == [
        f"GPU {A}: Triton's metrics say 3,590 MB, NVML 4,000 MB of device memory: the figures here "
        "are NVML's",
        f"GPU {A}: Triton's metrics say 221 W, NVML 200 W of power: the figures here are NVML's",
    ]


def test_triton_may_be_as_old_as_what_nvml_said_lately() -> None:
    lately = [nvml(1000, 50), nvml(4000, 300)]
    with serving(lambda: triton(1000, 120)) as address:
        assert remarks(CrossCheck(MetricsEndpoint.at(address)), *lately) == []
    with serving(lambda: triton(800, 120)) as address:
        (found,) = remarks(CrossCheck(MetricsEndpoint.at(address)), *lately)
    assert "Triton's metrics say 800 MB, NVML 1,000 to 4,000 MB of device memory" in found


def test_what_either_does_not_know_is_not_compared() -> None:
    with serving(lambda: metrics_text((A, 0, 0, 0, 0))) as address:
        check = CrossCheck(MetricsEndpoint.at(address))
        assert remarks(check, nvml(4000, None)) == []
        assert remarks(check, nvml(4000, 100, uuid=B)) == []


def test_without_gpus_nobody_is_asked() -> None:
    asked = []
    with serving(lambda: asked.append(1) or metrics_text()) as address:
        assert remarks(CrossCheck(MetricsEndpoint.at(address)), Reading()) == []
    assert asked == []


@pytest.mark.parametrize("answer", [metrics_text(), "garbage\n"])
def test_an_endpoint_without_gpu_metrics_is_asked_once(answer: str) -> None:
    asked = []
    with serving(lambda: asked.append(1) or answer) as address:
        check = CrossCheck(MetricsEndpoint.at(address))
        assert [remarks(check, nvml(4000, 200)) for _ in range(3)] == [[], [], []]
    assert asked == [1]
