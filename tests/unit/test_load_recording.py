"""What the load generator makes of perf_analyzer's runs, where the real one cannot be made to.

The runs are recorded ones; tests/e2e/test_perf_analyzer.py has the real ones.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from test_load_export import export_of, made
from test_load_parsing import Recorded

from pytest_triton_perf.domain.levels import Load
from pytest_triton_perf.domain.segments import Segment, Window
from pytest_triton_perf.errors import LoadError
from pytest_triton_perf.load.base import LoadReport, Traffic
from pytest_triton_perf.load.perf_analyzer import PerfAnalyzer
from pytest_triton_perf.load.runner import Run

RECORDED = Recorded("2.51.0", "export_concurrency")
EXPORT = export_of("2.51.0", "export_concurrency")
LOAD = Load(concurrency=2)
"""That of the recording: 391 inferences per second, 822 bytes of export each."""

GOOD = Run(
    exit_code=0,
    csv=RECORDED.csv,
    export=EXPORT,
    stdout=RECORDED.stdout,
    stderr="",
    started=100.0,
    ended=100.15,
    clock_offset_ns=0,
    clock_step_s=0.0,
)


class Scripted:
    """A runner that answers with ``make(nth)``; ``recorded`` has which runs had an export."""

    def __init__(self, make: Callable[[int], Run]) -> None:
        self._make = make
        self.recorded: list[bool] = []

    def run(self, args: Sequence[str], *, url: str, seconds: float) -> Run:
        self.recorded.append("--profile-export-file" in args)
        run = self._make(len(self.recorded))
        return run if self.recorded[-1] else replace(run, export=b"")

    def path(self, path: Path, *, url: str) -> str:
        return str(path)

    def describe(self) -> Mapping[str, str]:
        return {}


def generator(*runs: Run) -> tuple[PerfAnalyzer, Scripted]:
    """One that gets these runs one after the other, the last one for ever."""
    runner = Scripted(lambda nth: runs[min(nth, len(runs)) - 1])
    return PerfAnalyzer(runner), runner


def record(load_generator: PerfAnalyzer, load: Load = LOAD, seconds: float = 1.0) -> LoadReport:
    return load_generator.run(
        Traffic(model="m"), load, url="127.0.0.1:1", seconds=seconds, max_seconds=20
    )


def test_a_short_run_tells_the_size_of_an_export_once() -> None:
    load_generator, runner = generator(GOOD)
    report = record(load_generator)
    assert runner.recorded == [True, True]
    assert report.segment.sent_s.size == RECORDED.parsed(LOAD).requests
    record(load_generator)
    assert runner.recorded == [True, True, True]


def test_a_short_run_that_is_as_long_as_asked_for_is_the_segment() -> None:
    load_generator, runner = generator(GOOD)
    report = record(load_generator, seconds=0.1)
    assert runner.recorded == [True]
    assert report.segment.sent_s.size > 0


def test_the_same_traffic_on_another_variant_needs_no_second_short_run() -> None:
    load_generator, runner = generator(GOOD)
    record(load_generator)
    load_generator.warm_up(Traffic(model="m"), LOAD, url="127.0.0.1:1", max_seconds=5)
    record(load_generator)
    assert runner.recorded == [True, True, False, True]


def test_an_export_that_costs_too_much_is_left_out_and_the_segment_is_a_window() -> None:
    """Requests of 31 kB at 391 per second are 12 MB/s."""
    padding = b" " * 30_000 * RECORDED.parsed(LOAD).requests
    load_generator, runner = generator(replace(GOOD, export=EXPORT + padding))
    report = record(load_generator)
    assert runner.recorded == [True, False]
    (window,) = report.segment.windows
    assert window.requests == RECORDED.parsed(LOAD).requests
    assert window.avg_latency_ms == RECORDED.parsed(LOAD).avg_latency_ms
    assert window.percentiles_ms == RECORDED.parsed(LOAD).percentiles_ms
    # Three windows of 1.2 x 30 ms, when this was recorded.
    assert window.seconds == pytest.approx(0.108, rel=0.1)
    assert report.segment.in_flight == 2
    (note,) = report.notes
    assert note.startswith("requests were not recorded one by one: each takes 31 kB of ")
    record(load_generator)
    assert runner.recorded == [True, False, False]


def test_what_could_be_too_dear_at_another_load_is_tried_there() -> None:
    """Sixteen times the clients send up to sixteen times the requests, or as many as before."""
    csv = f"{RECORDED.csv}{RECORDED.csv.splitlines()[1].replace('2,', '32,', 1)}\n"
    padding = b" " * 3_000 * RECORDED.parsed(LOAD).requests
    load_generator, runner = generator(replace(GOOD, csv=csv, export=EXPORT + padding))
    record(load_generator)
    record(load_generator, Load(concurrency=32))
    assert runner.recorded == [True, True, True, True]


def test_an_export_that_takes_too_long_to_be_written_is_left_out() -> None:
    load_generator, runner = generator(replace(GOOD, hung=True, exit_code=-9), GOOD)
    report = record(load_generator)
    assert runner.recorded == [True, False]
    assert report.segment.windows
    assert "perf_analyzer took too long to write its export of a short run" in report.notes[0]


def test_a_hung_model_is_no_slow_export() -> None:
    load_generator, _ = generator(replace(GOOD, csv="", hung=True, exit_code=-9))
    with pytest.raises(LoadError, match=r"perf_analyzer hung on 'm' at concurrency 2"):
        record(load_generator)


def test_exports_that_are_cut_off_where_others_were_whole_are_an_error() -> None:
    load_generator, runner = generator(replace(GOOD), replace(GOOD, export=EXPORT[:-200]))
    with pytest.raises(LoadError) as caught:
        record(load_generator)
    assert runner.recorded == [True] * 5
    message = str(caught.value)
    assert message.startswith(
        "what perf_analyzer recorded of 'm' at concurrency 2 cannot be used: it is cut off"
    )
    assert "  Hint: look at what this model answers" in message


@pytest.mark.parametrize("export", [b"", EXPORT[:-200]], ids=["empty", "cut off"])
@pytest.mark.parametrize(
    "runs_before", [[], [GOOD]], ids=["the short run", "where others were whole"]
)
def test_an_export_that_is_no_good_is_asked_for_again(
    runs_before: list[Run], export: bytes
) -> None:
    bad = replace(GOOD, export=export)
    load_generator, runner = generator(*runs_before, bad, bad, bad, GOOD)
    report = record(load_generator)
    assert runner.recorded == [True] * 5
    assert report.segment.windows == ()
    assert report.notes == ()


def test_short_runs_without_any_good_export_leave_windows() -> None:
    load_generator, runner = generator(replace(GOOD, export=b""))
    report = record(load_generator)
    assert runner.recorded == [True, True, True, True, False]
    assert len(report.segment.windows) == 1
    assert "perf_analyzer's export cannot be used: it is empty" in report.notes[0]


def test_a_slow_short_run_without_a_good_export_leaves_the_time_to_a_window() -> None:
    slow = replace(GOOD, export=b"", started=100.0, ended=112.0)
    load_generator, runner = generator(slow, GOOD)
    assert len(record(load_generator).segment.windows) == 1
    assert runner.recorded == [True, False]


def test_exports_that_stay_empty_are_an_error() -> None:
    load_generator, runner = generator(GOOD, replace(GOOD, export=b""))
    with pytest.raises(LoadError) as caught:
        record(load_generator)
    assert runner.recorded == [True] * 5
    message = str(caught.value)
    assert message.startswith(
        "what perf_analyzer recorded of 'm' at concurrency 2 cannot be used: it is empty, as "
    )
    assert "(one that the model answers, or one of input_data=)" in message


def test_an_empty_export_is_not_asked_for_again_when_the_time_is_up() -> None:
    slow = replace(GOOD, export=b"", started=100.0, ended=130.0)
    load_generator, runner = generator(GOOD, slow)
    with pytest.raises(LoadError, match="cannot be used: it is empty"):
        record(load_generator)
    assert runner.recorded == [True, True]


def test_a_model_that_is_not_found_in_the_statistics_is_asked_for_once_more() -> None:
    said = "failed to find the requested model version\n"
    lost = replace(GOOD, csv="", stdout="", stderr=said, exit_code=99)
    load_generator, runner = generator(lost, lost, GOOD)
    load_generator.warm_up(Traffic(model="m"), LOAD, url="127.0.0.1:1", max_seconds=5)
    assert record(load_generator).segment.sent_s.size > 0
    assert runner.recorded == [False, True, True, True]
    load_generator, runner = generator(lost)
    with pytest.raises(LoadError, match=r"(?s)has not loaded this model.*requested model version"):
        record(load_generator)
    assert runner.recorded == [True, True]


def test_a_run_in_which_the_clock_was_set_is_repeated() -> None:
    load_generator, runner = generator(GOOD, replace(GOOD, clock_step_s=-1.5), GOOD)
    assert record(load_generator).notes == ()
    assert runner.recorded == [True, True, True]


def test_a_segment_that_is_longer_than_its_run_is_not_used() -> None:
    """A clock that was set forth, and back before the run had ended."""
    milli = 1_000_000
    late = [(i * milli, [(i + 1) * milli]) for i in (*range(50), *range(2050, 2100))]
    forth = made(*late, boundaries=(0, 2100 * milli))
    load_generator, _ = generator(replace(GOOD, export=forth))
    segment = record(load_generator, seconds=0.1).segment
    assert segment.steady.reason == "the clock was stepped forward while the load ran"


def test_a_clock_that_is_set_again_and_again_is_an_error() -> None:
    load_generator, runner = generator(replace(GOOD, clock_step_s=0.02))
    with pytest.raises(LoadError) as caught:
        record(load_generator)
    assert runner.recorded == [True, True]
    message = str(caught.value)
    assert message.startswith("'m' at concurrency 2 cannot be measured: this machine's clock")
    assert "was set while it ran, twice (by +0.020 s the second time)" in message


def test_requests_that_nobody_answered_at_the_end_are_told() -> None:
    """Perf_analyzer leaves out what was in flight: without a word a stall would not be seen."""
    milli = 1_000_000
    requests = [(i * milli, [(i + 1) * milli]) for i in range(100)]
    stalled = made(*requests, boundaries=(0, 700 * milli))
    load_generator, _ = generator(replace(GOOD, export=stalled, ended=100.8))
    (note,) = record(load_generator, seconds=0.5).notes
    assert note == (
        "at the end 2 requests had waited for 600 ms or more, longer than any that was answered "
        "(1 ms); they count as answered then"
    )
    steady = made(*requests, boundaries=(0, 100 * milli))
    load_generator, _ = generator(replace(GOOD, export=steady))
    assert record(load_generator, seconds=0.1).notes == ()


def test_a_run_that_a_silent_server_ended_is_told() -> None:
    """It is longer than the patience, and perf_analyzer leaves nothing of it."""
    said = "No valid requests recorded within time interval. Please use a larger time window.\n"
    silent = replace(GOOD, csv="", stdout="", stderr=said, exit_code=3, ended=108.4)
    load_generator, runner = generator(GOOD, silent, GOOD)
    (note,) = record(load_generator).notes
    assert note == (
        "for 8.4 s the server answered so rarely that perf_analyzer gave no report: they are not "
        "in these figures"
    )
    assert len(runner.recorded) == 3
    # A model that has never answered in time is slow, which is no news to anybody.
    load_generator, _ = generator(silent, GOOD)
    assert record(load_generator).notes == ()


def test_many_segments_take_little_memory() -> None:
    """Four hundred levels of five thousand requests: arrays, and nothing else of an export."""
    import tracemalloc

    large = made(*[(i * 1000, [i * 1000 + 900]) for i in range(5000)])
    load_generator, _ = generator(replace(GOOD, export=large))
    record(load_generator, seconds=0.0)
    tracemalloc.start()
    kept = [record(load_generator, seconds=0.0).segment for _ in range(20)]
    bytes_each = tracemalloc.get_traced_memory()[0] / len(kept)
    tracemalloc.stop()
    assert np.all([segment.sent_s.size == 5000 for segment in kept])
    assert bytes_each < 5000 * 16 * 1.1


def resumed(load_generator: PerfAnalyzer, segment: Segment) -> LoadReport:
    """A segment of a level of which an earlier session had another."""
    traffic, url = Traffic(model="m"), "127.0.0.1:1"
    load_generator.warm_up(traffic, LOAD, url=url, max_seconds=5)
    load_generator.go_on(traffic, {LOAD: segment}, url=url)
    return record(load_generator)


def test_a_level_of_an_earlier_session_is_gone_on_with_as_it_was_recorded() -> None:
    before = record(generator(GOOD)[0]).segment
    load_generator, runner = generator(GOOD)
    assert resumed(load_generator, before).segment.sent_s.size
    assert runner.recorded == [False, True]


def test_a_level_of_an_earlier_sessions_windows_goes_on_with_windows() -> None:
    window = Window(requests=10, seconds=0.1, avg_latency_ms=1.0)
    before = Segment(started=0.0, ended=0.1, in_flight=2, windows=(window,))
    load_generator, runner = generator(GOOD)
    report = resumed(load_generator, before)
    assert runner.recorded == [False, False]
    assert len(report.segment.windows) == 1
    assert report.notes == (), "why is known to the earlier session, which noted it"


@pytest.mark.parametrize(("request_s", "runs"), [(0.1, 2), (30, 1)])
def test_a_model_too_slow_for_the_short_warm_up_gets_a_longer_one(
    request_s: float, runs: int
) -> None:
    said = "No valid requests recorded within time interval.\n"
    slow = replace(GOOD, csv="", stdout="", stderr=said, exit_code=99, ended=100 + request_s)
    load_generator, runner = generator(slow, GOOD)
    load_generator.warm_up(Traffic(model="m"), LOAD, url="127.0.0.1:1", max_seconds=60)
    assert runner.recorded == [False] * runs, "one request may take as long as a warm-up"
