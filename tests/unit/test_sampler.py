import re
import threading
import time
from collections.abc import Callable

import pytest

from pytest_triton_perf.probes import sampler as module
from pytest_triton_perf.probes.base import Reading, SourceLost, over_idle, totals
from pytest_triton_perf.probes.sampler import Sampler
from pytest_triton_perf.probes.summary import summarize

ONLY_WHEN_ASKED = 60.0
"""A period that no test lives through: after the first sample, only ``read_now`` takes one."""

Answer = Callable[[], Reading]


class Scripted:
    """A source that gives the answers of a list, the last one for ever, and knows when."""

    name = "the script"
    share = 0.005

    def __init__(
        self,
        metrics: tuple[str, ...],
        *answers: Answer | Reading,
        period_s: float = ONLY_WHEN_ASKED,
    ) -> None:
        self.period_s = period_s
        self.metrics = metrics
        self._answers = list(answers)
        self.times: list[float] = []
        self.closed = 0

    def read(self, *, fresh: bool = False) -> Reading:
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        self.times.append(time.monotonic())
        return answer() if callable(answer) else answer

    def close(self) -> None:
        self.closed += 1


def failing(error: Exception) -> Answer:
    def answer() -> Reading:
        raise error

    return answer


def burning(cpu_s: float) -> Answer:
    def answer() -> Reading:
        until = time.thread_time() + cpu_s
        while time.thread_time() < until:
            pass
        return Reading(cpu_memory_mb=1)

    return answer


def ram(*sizes_mb: float) -> Scripted:
    return Scripted(("cpu_memory_mb",), *(Reading(cpu_memory_mb=size) for size in sizes_mb))


def gpu(**values: float | str | None) -> Reading:
    return Reading(gpus={"GPU-a": values})


GPU = ("gpu_memory_mb", "gpu_memory_delta_mb", "gpu_utilization_pct", "power_w")


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def first_sample(probe: Scripted) -> None:
    wait_for(lambda: bool(probe.times))


def test_memory_is_the_peak_of_the_samples_of_the_interval_alone() -> None:
    probe = ram(900, 100, 300, 200, 800)
    with Sampler([probe]) as sampler:
        first_sample(probe)
        start = time.monotonic()
        assert [sampler.read_now().cpu_memory_mb for _ in range(3)] == [100, 300, 200]
        end = time.monotonic()
        assert sampler.read_now().cpu_memory_mb == 800
        assert sampler.summary(start, end) == Reading(cpu_memory_mb=300)


def test_the_series_of_each_probe_are_its_samples_of_the_interval() -> None:
    memory, device = ram(900, 100, 300), Scripted(GPU, gpu(memory_mb=7))
    with Sampler([memory, device]) as sampler:
        first_sample(device)
        start = time.monotonic()
        sampler.read_now()
        sampler.read_now()
        end = time.monotonic()
        sampler.read_now()
        first, second = sampler.series(start, end)
        assert sampler.series(start, start) == [[], []]
    assert [reading.cpu_memory_mb for _, reading in first] == [100, 300]
    assert [reading for _, reading in second] == [gpu(memory_mb=7)] * 2
    times = [at for at, _ in first]
    assert start <= times[0] < times[1] <= end


def test_utilization_and_power_are_means_over_time() -> None:
    probe = Scripted(GPU, gpu(), gpu(utilization_pct=0, power_w=100), gpu(utilization_pct=90))
    with Sampler([probe]) as sampler:
        first_sample(probe)
        start = time.monotonic()
        time.sleep(0.05)
        sampler.read_now()
        time.sleep(0.2)
        sampler.read_now()
        summary = sampler.summary(start, time.monotonic()).gpus["GPU-a"]
    _, first, second = probe.times
    expected = 90 * (second - first) / (second - start)
    assert summary["utilization_pct"] == pytest.approx(expected, rel=0.05)
    assert summary["power_w"] == 100  # the second sample had none, which is no zero


def test_samples_are_taken_without_being_asked_for() -> None:
    probe = Scripted(("cpu_memory_mb",), Reading(cpu_memory_mb=1), period_s=0.01)
    with Sampler([probe]):
        wait_for(lambda: len(probe.times) >= 3)


def test_a_dear_probe_is_read_less_often_and_a_note_says_so() -> None:
    dear = Scripted(("cpu_memory_mb",), burning(0.02), period_s=0.01)
    cheap = Scripted(GPU, gpu(), period_s=0.01)
    start = time.monotonic()
    with Sampler([dear, cheap]) as sampler:
        time.sleep(0.5)
        notes = sampler.summary(start, time.monotonic()).notes
    assert 1 < len(dear.times) <= 4
    assert len(cheap.times) > 10
    assert (
        [note for note in notes if "ms of CPU time" in note]
        == [
            note
            for note in notes
            if re.match(r"only [2-4] of \d+ readings of the script were", note)
        ]
        != []
    )


def test_a_few_dear_readings_are_paid_for_in_advance() -> None:
    cheap = Reading(cpu_memory_mb=1)
    probe = Scripted(("cpu_memory_mb",), cheap, burning(0.01), cheap, period_s=0.02)
    with Sampler([probe]):
        wait_for(lambda: len(probe.times) >= 5)
    assert probe.times[4] - probe.times[0] < 0.8  # what the second took is paid for in 1 s


def test_the_first_reading_is_not_paid_for() -> None:
    cheap = Reading(cpu_memory_mb=1)
    probe = Scripted(("cpu_memory_mb",), burning(0.1), cheap, period_s=0.02)
    with Sampler([probe]):
        wait_for(lambda: len(probe.times) >= 5)
    assert probe.times[4] - probe.times[0] < 4  # it would be paid for after 8 s


def test_a_probe_may_take_what_others_leave() -> None:
    probe = Scripted(("cpu_memory_mb",), burning(0.02), period_s=0.02)
    probe.share = 1e-6  # of its own, four readings are paid for after hours
    with Sampler([probe]):
        wait_for(lambda: len(probe.times) >= 4)
    assert probe.times[3] - probe.times[0] > 0.5  # of the thread's, after a second


def test_samples_that_were_missed_are_counted() -> None:
    release = threading.Event()

    def stuck() -> Reading:
        release.wait(60)
        return gpu(memory_mb=1)

    slow = Scripted(GPU, gpu(memory_mb=1), stuck, gpu(memory_mb=1), period_s=0.05)
    other = Scripted(("cpu_memory_mb",), Reading(cpu_memory_mb=1), period_s=0.05)
    start = time.monotonic()
    with Sampler([slow, other]) as sampler:
        wait_for(lambda: len(slow.times) == 2)
        time.sleep(0.7)
        release.set()
        wait_for(lambda: len(slow.times) >= 5)
        notes = sampler.summary(start, time.monotonic()).notes
        after = time.monotonic()
        time.sleep(0.2)
        calm = sampler.summary(after, time.monotonic()).notes
    assert re.fullmatch(r"the script hung for 0\.[67] s, and was not read meanwhile", notes[0])
    assert re.fullmatch(
        r"only \d+ of \d+ readings of the script were taken, and a short peak may be missing: "
        "the machine was busy, or a source hung",
        notes[1],
    )
    assert not any("hung" in note.partition(":")[0] for note in calm)


def test_a_source_that_hangs_at_the_end_of_a_level_is_told_before_it_answers() -> None:
    release = threading.Event()

    def stuck() -> Reading:
        release.wait(60)
        return gpu(memory_mb=1)

    probe = Scripted(GPU, gpu(memory_mb=1), stuck, period_s=0.05)
    start = time.monotonic()
    with Sampler([probe]) as sampler:
        wait_for(lambda: len(probe.times) == 2)
        time.sleep(0.6)
        summary = sampler.summary(start, time.monotonic())
        release.set()
    assert summary.gpus["GPU-a"]["memory_mb"] == 1
    assert summary.notes[0].startswith("the script hung for 0.6 s")


def test_energy_is_what_the_counter_rose_by_over_the_whole_interval() -> None:
    samples = [(at, gpu(energy_j=joules, power_w=1000)) for at, joules in ((1, 500), (3, 700))]
    summary = summarize(samples, 0.5, 3.5)
    assert summary.gpus["GPU-a"]["energy_j"] == 300  # 100 W for 3 s
    assert totals(summary, inferences=600)["energy_per_inference_j"] == 0.5


@pytest.mark.parametrize("counters", [(None, None), (5, None), (700, 500)])
def test_energy_is_power_over_time_where_the_counter_does_not_tell(
    counters: tuple[float | None, float | None],
) -> None:
    samples = [
        (at, gpu(energy_j=joules, power_w=80)) for at, joules in zip((1, 3), counters, strict=True)
    ]
    assert summarize(samples, 0, 4).gpus["GPU-a"]["energy_j"] == 320


def test_an_idle_gpu_uses_no_energy_and_that_is_a_figure() -> None:
    samples = [(at, gpu(energy_j=7.0, power_w=80)) for at in (1, 3)]
    assert totals(summarize(samples, 0, 4), inferences=1)["energy_per_inference_j"] == 0


def test_reasons_of_throttling_are_those_of_all_samples() -> None:
    texts = ("", "power limit", "temperature, power limit", None)
    samples = [(at, gpu(throttle_reasons=text)) for at, text in enumerate(texts)]
    assert summarize(samples, 0, 4).gpus["GPU-a"] == {
        "throttle_reasons": "power limit, temperature"
    }


def test_memory_is_the_devices_where_one_sample_could_not_attribute_it() -> None:
    own = gpu(memory_mb=900, process_memory_mb=300)
    unknown, unread = gpu(memory_mb=800, process_memory_mb=None), gpu(memory_mb=950)

    def source(*readings: Reading) -> tuple[float | str | None, float]:
        with_samples = Scripted(GPU, *readings)
        with Sampler([with_samples]) as sampler:
            start = time.monotonic()
            for _ in readings:
                sampler.read_now()
            summary = sampler.summary(start, time.monotonic())
        return summary.gpus["GPU-a"]["memory_source"], totals(summary)["gpu_memory_mb"]

    assert source(own, own, unread, own) == ("process", 300)
    assert source(own, own, unknown, own) == ("device", 900)


def test_cpu_utilization_is_a_mean_over_time() -> None:
    samples = [(1.0, Reading(cpu_utilization_pct=100)), (3.0, Reading(cpu_utilization_pct=250))]
    assert summarize(samples, 0, 3).cpu_utilization_pct == pytest.approx(200)


def test_readings_of_all_probes_are_merged() -> None:
    seen = Reading(gpus=gpu(memory_mb=7).gpus, notes=("n", "n"))
    probes = [ram(5), Scripted(("gpu_memory_mb",), seen)]
    with Sampler(probes) as sampler:
        reading = sampler.read_now()
    gpus = gpu(memory_mb=7, memory_source="device").gpus
    assert reading == Reading(cpu_memory_mb=5, gpus=gpus, notes=("n",))


def test_a_reason_is_dropped_where_another_sample_has_the_figure() -> None:
    busy = Reading(gpus=gpu(power_w=None).gpus, missing={"power_w": "busy"})
    probe = Scripted(("power_w",), busy, gpu(power_w=50))
    start = time.monotonic()
    with Sampler([probe]) as sampler:
        first_sample(probe)
        sampler.read_now()
        summary = sampler.summary(start, time.monotonic())
    assert summary.gpus["GPU-a"]["power_w"] == 50
    assert summary.missing == {}


def test_a_lost_source_is_missing_with_its_words_and_the_others_go_on() -> None:
    lost = Scripted(GPU, gpu(memory_mb=1), failing(SourceLost("GPU a fell off the bus")))
    with Sampler([lost, ram(5, 6)]) as sampler:
        first_sample(lost)
        start = time.monotonic()
        reading = sampler.read_now()
        summary = sampler.summary(start, time.monotonic())
        sampler.read_now()
    assert reading == Reading(cpu_memory_mb=6, missing=dict.fromkeys(GPU, "GPU a fell off the bus"))
    assert summary == reading
    assert len(lost.times) == 2


def test_a_level_before_the_loss_keeps_its_figures() -> None:
    probe = Scripted(("cpu_memory_mb",), Reading(cpu_memory_mb=5), failing(SourceLost("gone")))
    start = time.monotonic()
    with Sampler([probe]) as sampler:
        first_sample(probe)
        end = time.monotonic()
        sampler.read_now()
        assert sampler.summary(start, end) == Reading(cpu_memory_mb=5)


def test_a_level_during_which_the_source_was_lost_has_no_figure() -> None:
    probe = Scripted(("cpu_memory_mb",), Reading(cpu_memory_mb=5), failing(SourceLost("gone")))
    start = time.monotonic()
    with Sampler([probe]) as sampler:
        first_sample(probe)
        sampler.read_now()
        summary = sampler.summary(start, time.monotonic())
    assert summary == Reading(missing={"cpu_memory_mb": "gone"})


def test_a_bug_of_a_probe_is_named_by_its_type() -> None:
    probe = Scripted(("cpu_memory_mb",), failing(KeyError("pss")))
    with Sampler([probe]) as sampler:
        reading = sampler.read_now()
    assert reading.missing == {"cpu_memory_mb": "the probe failed: KeyError: 'pss'"}


def test_an_interval_without_a_sample_is_read_after_it_for_memory_alone() -> None:
    probe = Scripted(GPU, gpu(memory_mb=1), gpu(memory_mb=2, utilization_pct=50, power_w=9))
    with Sampler([probe]) as sampler:
        first_sample(probe)
        start = time.monotonic()
        summary = sampler.summary(start, start + 1e-9)
    assert summary.gpus == gpu(memory_mb=2, memory_source="device").gpus
    why = "no sample was taken in the 1e-09 s of this interval"
    assert summary.missing == {"gpu_utilization_pct": why, "power_w": why}
    (note,) = summary.notes
    assert note.startswith(f"{why}; memory was read ")
    assert note.endswith(" s after it")


def test_a_source_that_hangs_is_missing_and_does_not_hold_the_session(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "_PATIENCE_S", 0.1)
    release = threading.Event()

    def hang() -> Reading:
        release.wait(60)
        return Reading(cpu_memory_mb=1)

    probe = Scripted(("cpu_memory_mb",), hang)
    start = time.monotonic()
    with Sampler([probe]) as sampler:
        summary = sampler.summary(start, time.monotonic())
    assert "the source hangs, or sampling has ended" in summary.missing["cpu_memory_mb"]
    assert probe.closed == 0
    release.set()


def test_leaving_closes_the_probes_once_and_ends_the_thread() -> None:
    probe = ram(1)
    before = set(threading.enumerate())  # one of an earlier test may hang on its probe still
    with Sampler([probe]) as sampler:
        first_sample(probe)
        (thread,) = set(threading.enumerate()) - before
    sampler.stop()
    assert probe.closed == 1
    assert not thread.is_alive()


def test_figures_can_be_asked_for_after_the_end() -> None:
    start = time.monotonic()
    with Sampler([ram(4)]) as sampler:
        sampler.read_now()
    assert sampler.summary(start, time.monotonic()).cpu_memory_mb == 4


def test_totals_sum_memory_and_power_and_average_utilization() -> None:
    reading = Reading(
        cpu_memory_mb=10,
        gpus={
            "GPU-a": {
                "memory_mb": 500, "process_memory_mb": 300, "memory_delta_mb": 200,
                "utilization_pct": 80, "power_w": 100,
            },
            "GPU-b": {
                "memory_mb": 400, "process_memory_mb": None, "memory_delta_mb": 100,
                "utilization_pct": 20, "power_w": 50,
            },
        },
    )  # fmt: skip
    assert totals(reading) == {
        "cpu_memory_mb": 10,
        "gpu_memory_mb": 700,  # GPU-a's own processes, GPU-b as a whole
        "gpu_memory_delta_mb": 300,
        "gpu_utilization_pct": 50,
        "power_w": 150,
    }


def test_totals_leave_out_what_one_gpu_lacks() -> None:
    reading = Reading(
        gpus={"GPU-a": {"memory_mb": 0, "power_w": 5}, "GPU-b": {"memory_mb": 4, "power_w": None}}
    )
    assert totals(reading) == {"gpu_memory_mb": 4}
    assert totals(Reading()) == {}


@pytest.mark.parametrize(
    ("idle", "delta"),
    [
        ({"memory_mb": 600, "process_memory_mb": 100}, 250),
        ({"memory_mb": 600, "process_memory_mb": None}, 300),
    ],
)
def test_delta_compares_like_with_like(idle: dict[str, float | None], delta: float) -> None:
    reading = over_idle(gpu(memory_mb=900, process_memory_mb=350), gpu(**idle))
    assert reading.gpus["GPU-a"]["memory_delta_mb"] == delta
    assert reading.missing == {}


def test_delta_without_an_idle_figure_is_missing_with_the_reason() -> None:
    reading = over_idle(gpu(memory_mb=900), Reading(missing={"gpu_memory_mb": "lost"}))
    assert reading.gpus["GPU-a"]["memory_delta_mb"] is None
    assert reading.missing == {"gpu_memory_delta_mb": "lost"}
    without = over_idle(gpu(memory_mb=900), Reading())
    assert without.missing == {"gpu_memory_delta_mb": "the idle server has no GPU memory figure"}
