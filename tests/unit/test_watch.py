import time

from pytest_triton_perf.probes.base import Reading
from pytest_triton_perf.probes.sampler import Sampler
from pytest_triton_perf.probes.watch import Watch


class Device:
    """A GPU whose memory a test sets."""

    name = "a device"
    period_s = 60.0
    share = 0.01
    metrics = ("gpu_memory_mb", "gpu_memory_delta_mb")

    def __init__(self, memory_mb: float) -> None:
        self.memory_mb = memory_mb

    def read(self, *, fresh: bool = False) -> Reading:
        return Reading(gpus={"GPU-a": {"memory_mb": self.memory_mb}}, notes=("by the probe",))

    def close(self) -> None:
        pass


class Reviewer:
    def remarks(self, sampler: Sampler, start: float, end: float) -> list[str]:
        return [f"{len(sampler.series(start, end))} source, {end - start:.0f} s"]


def test_a_level_is_read_over_idle_and_reviewed() -> None:
    device = Device(400)
    watch = Watch(Sampler([device]), reviewer=Reviewer())
    watch.start()
    device.memory_mb = 1000
    start = time.monotonic()
    level = watch.level(start, start)
    watch.stop()
    watch.stop()
    assert watch.idle.gpus["GPU-a"]["memory_mb"] == 400
    assert level.gpus["GPU-a"]["memory_delta_mb"] == 600
    assert "by the probe" in level.notes
    assert level.notes[-1] == "1 source, 0 s"


def test_what_a_server_took_before_we_came_is_not_known() -> None:
    watch = Watch(Sampler([Device(400)]), ours=False)
    watch.start()
    level = watch.level(1.0, 2.0)
    watch.stop()
    assert watch.idle == Reading()
    assert level.gpus["GPU-a"]["memory_delta_mb"] is None
    assert level.missing["gpu_memory_delta_mb"] == "the idle server has no GPU memory figure"
