import contextlib
import time

import pytest

from pytest_triton_perf.domain.timelines import MOST_POINTS, Curve, MemoryTimeline, Phase
from pytest_triton_perf.probes.base import Reading
from pytest_triton_perf.probes.recorder import MemoryRecorder


def test_a_short_curve_is_kept_as_it_is():
    assert Curve.through([(0.0, 5.0), (0.5, 7.0)]) == Curve(at_s=[0.0, 0.5], mb=[5.0, 7.0])
    assert Curve.through([]) == Curve(at_s=[], mb=[])


def test_of_a_long_curve_the_peaks_and_the_troughs_are_kept():
    points = [(i / 20, 100.0) for i in range(20_000)]
    points[7_001] = (7_001 / 20, 900.0)
    points[7_002] = (7_002 / 20, 3.0)
    points[19_999] = (19_999 / 20, 101.0)
    curve = Curve.through(points)
    assert len(curve.at_s) <= MOST_POINTS
    kept = list(zip(curve.at_s, curve.mb, strict=True))
    assert {(350.05, 900.0), (350.1, 3.0), (999.95, 101.0)} <= set(kept)
    assert kept == sorted(kept)


class Samples:
    """A sampler whose samples a test hands out: lists per probe of (time, reading)."""

    def __init__(self, *sources):
        self._sources = sources

    def series(self, start, end):
        return [[s for s in source if start <= s[0] <= end] for source in self._sources]


@pytest.fixture
def clock(monkeypatch):
    """``time.monotonic`` of the recorder; a list whose one item a test changes."""
    now = [1000.0]
    monkeypatch.setattr("pytest_triton_perf.probes.recorder.time.monotonic", lambda: now[0])
    return now


def gpus(**devices):
    return Reading(gpus={uuid.replace("_", "-"): figures for uuid, figures in devices.items()})


def test_phases_and_samples_are_recorded_in_seconds_since_the_beginning(clock):
    ram = [(999.0 + i, Reading(cpu_memory_mb=10.0 * i)) for i in range(6)]
    recorder = MemoryRecorder(Samples(ram))
    with recorder.phase("load"):
        clock[0] = 1002.0
    with recorder.phase("concurrency 1"):
        clock[0] = 1003.5
    timeline = recorder.timeline()
    assert [(p.name, p.start_s, p.end_s) for p in timeline.phases] == [
        ("load", 0.0, 2.0),
        ("concurrency 1", 2.0, 3.5),
    ]
    # The sample at 1000.0 is of before, the one at the border of two phases is there once.
    assert timeline.curves == {"cpu_memory_mb": Curve(at_s=[1.0, 2.0, 3.0], mb=[20.0, 30.0, 40.0])}
    assert timeline.gpus == {}


def test_gpu_memory_is_what_the_budget_sees_and_each_gpus_part(clock):
    device = [
        (1000.1, gpus(GPU_a={"memory_mb": 500.0}, GPU_b={"memory_mb": 40.0})),
        (1000.3, gpus(GPU_a={"memory_mb": 900.0}, GPU_b={"memory_mb": 40.0})),
    ]
    own = [(1000.2, gpus(GPU_a={"process_memory_mb": 300.0}))]
    recorder = MemoryRecorder(Samples(device, own))
    with recorder.phase("load"):
        clock[0] = 1001.0
    timeline = recorder.timeline()
    # From 1000.2 on, the first GPU's memory is that of the server's own processes.
    assert timeline.curves["gpu_memory_mb"] == Curve(at_s=[0.1, 0.2, 0.3], mb=[540, 340, 340])
    assert timeline.gpus["GPU-a"].mb == [500, 300, 300]
    assert timeline.gpus["GPU-b"].mb == [40, 40]


def test_what_was_not_read_has_no_curve(clock):
    lost = [
        (1000.5, Reading(missing={"cpu_memory_mb": "gone"}, gpus={"GPU-a": {"memory_mb": None}}))
    ]
    recorder = MemoryRecorder(Samples(lost, []))
    with recorder.phase("load"):
        clock[0] = 1001.0
    assert (recorder.timeline().curves, recorder.timeline().gpus) == ({}, {})


def test_a_phase_that_fails_is_recorded(clock):
    recorder = MemoryRecorder(Samples([(1000.5, Reading(cpu_memory_mb=1.0))]))
    clock[0] = 1001.0
    with contextlib.suppress(RuntimeError), recorder.phase("load"):
        raise RuntimeError
    assert [phase.name for phase in recorder.timeline().phases] == ["load"]
    assert recorder.timeline().curves["cpu_memory_mb"].mb == [1.0]


def test_time_is_the_samplers():
    recorder = MemoryRecorder(Samples())
    with recorder.phase("load"):
        time.sleep(0.01)
    (phase,) = recorder.timeline().phases
    assert 0.01 <= phase.end_s - phase.start_s < 1


def test_a_sweep_that_is_resumed_goes_on_where_its_timeline_ended(clock):
    before = MemoryTimeline(
        phases=(Phase(name="load", start_s=0.0, end_s=2.5),),
        curves={"cpu_memory_mb": Curve(at_s=[1.0], mb=[50.0])},
        gpus={"GPU-a": Curve(at_s=[1.0], mb=[500.0])},
    )
    recorder = MemoryRecorder(Samples([(1001.0, Reading(cpu_memory_mb=70.0))]), before)
    assert recorder.timeline() == before
    with recorder.phase("concurrency 1"):
        clock[0] = 1002.0
    assert recorder.timeline() == MemoryTimeline(
        phases=(*before.phases, Phase(name="concurrency 1", start_s=2.5, end_s=4.5)),
        curves={"cpu_memory_mb": Curve(at_s=[1.0, 3.5], mb=[50.0, 70.0])},
        gpus=before.gpus,
    )
