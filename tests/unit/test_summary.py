import pytest

from pytest_triton_perf.probes.base import Reading
from pytest_triton_perf.probes.summary import combined, summarize, with_last_processes


def gpu(**figures: float | str | None) -> Reading:
    return Reading(gpus={"GPU-a": figures})


def test_of_several_stretches_memory_is_the_peak_and_means_weigh_by_time() -> None:
    parts = [
        (1.0, Reading(cpu_memory_mb=50, cpu_utilization_pct=100)),
        (3.0, Reading(cpu_memory_mb=80, cpu_utilization_pct=20, notes=("odd",))),
        (1.0, Reading(cpu_memory_mb=60, missing={"power_w": "no GPU"}, notes=("odd",))),
    ]
    whole = combined(parts)
    assert (whole.cpu_memory_mb, whole.cpu_utilization_pct) == (80, 40)
    assert (whole.notes, whole.missing) == (("odd",), {"power_w": "no GPU"})


def test_figures_of_a_gpu_are_combined_by_what_they_are() -> None:
    one = gpu(memory_mb=4, power_w=100, energy_j=50, throttle_reasons="heat", other_processes=1)
    two = gpu(memory_mb=9, power_w=200, energy_j=300, throttle_reasons="power, heat")
    (whole,) = combined([(0.5, one), (1.5, two)]).gpus.values()
    assert whole["memory_mb"] == 9
    assert whole["power_w"] == 175
    assert whole["energy_j"] == pytest.approx(350)
    assert whole["throttle_reasons"] == "heat, power"
    assert whole["other_processes"] == 1
    assert whole["memory_source"] == "device"


def test_a_stretch_without_its_energy_is_taken_to_be_like_the_others() -> None:
    parts = [(1.0, gpu(energy_j=100)), (1.0, gpu(energy_j=None)), (2.0, gpu(power_w=7))]
    (whole,) = combined(parts).gpus.values()
    assert whole["energy_j"] == pytest.approx(400)  # 100 W over all of the four seconds
    assert combined([(1.0, gpu(energy_j=None))]).gpus["GPU-a"]["energy_j"] is None


def test_memory_that_was_attributed_for_a_part_of_the_time_is_the_devices() -> None:
    own = gpu(memory_mb=9, process_memory_mb=4, memory_delta_mb=3, memory_source="process")
    device = gpu(memory_mb=9, process_memory_mb=None, memory_delta_mb=8, memory_source="device")
    (whole,) = combined([(1.0, own), (1.0, device)]).gpus.values()
    assert (whole["process_memory_mb"], whole["memory_delta_mb"]) == (None, None)
    assert whole["memory_source"] == "device"
    (whole,) = combined([(1.0, own), (1.0, own)]).gpus.values()
    assert (whole["process_memory_mb"], whole["memory_source"]) == (4, "process")


def test_processes_that_were_not_listed_in_an_interval_are_as_they_were_before() -> None:
    samples = [
        (1.0, gpu(memory_mb=9, process_memory_mb=4)),
        (2.0, gpu(memory_mb=9)),
        (3.0, gpu(memory_mb=8)),
    ]
    part = with_last_processes(summarize(samples[2:], 2.5, 3.5), samples, 2.5)
    assert part.gpus["GPU-a"] == {"memory_mb": 8, "process_memory_mb": 4}
    alone = with_last_processes(summarize(samples[2:], 2.5, 3.5), samples[1:], 2.5)
    assert "process_memory_mb" not in alone.gpus["GPU-a"]
    listed = [*samples, (3.2, gpu(process_memory_mb=5))]
    part = with_last_processes(summarize(listed[2:], 2.5, 3.5), listed, 2.5)
    assert part.gpus["GPU-a"]["process_memory_mb"] == 5
