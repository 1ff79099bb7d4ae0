"""Reading of recorded exports of real perf_analyzers, and of what may become of one."""

import math
import re

import numpy as np
import pytest
from test_load_parsing import VERSIONS, Recorded

from pytest_triton_perf.domain.levels import Load
from pytest_triton_perf.domain.segments import Segment
from pytest_triton_perf.load.export import (
    AFFORDABLE_MB_PER_S,
    UnreadableExport,
    affordable,
    read_export,
)

LEVELS = {
    "export_concurrency": Load(concurrency=2),
    "export_http_batch": Load(concurrency=2, batch_size=2),
    "export_request_rate": Load(request_rate=200),
    "export_sequence": Load(concurrency=2),
    "export_text": Load(concurrency=1),
}
START_NS = 1_795_647_000_000_000_000
"""A wall clock a little before that of the recordings."""


@pytest.fixture(params=VERSIONS)
def version(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def export_of(version: str, case: str) -> bytes:
    return (Recorded(version, case).folder / "export.json").read_bytes()


def made(*requests: tuple[int, list[int]], boundaries: tuple[int, ...] = (0, 100)) -> bytes:
    """An export of requests that were sent and answered at these nanoseconds."""
    listed = ",".join(
        f'{{"timestamp":{START_NS + sent},"request_inputs":{{"X":1}},"response_timestamps":'
        f'[{",".join(str(START_NS + time) for time in answered)}],"response_outputs":[{{}}]}}'
        for sent, answered in requests
    )
    edges = ",".join(str(START_NS + time) for time in boundaries)
    text = (
        f'{{"experiments":[{{"experiment":{{"mode":"concurrency","value":1}},"requests":[{listed}],'
        f'"window_boundaries":[{edges}]}}],"version":"2.60","service_kind":"triton"}}'
    )
    return text.encode()


def read(export: bytes, load: Load | None = None) -> Segment:
    return read_export(export, load or Load(concurrency=1), clock_offset_ns=START_NS)


@pytest.mark.parametrize("case", LEVELS)
def test_it_agrees_with_perf_analyzers_own_figures(version: str, case: str) -> None:
    load, recorded = LEVELS[case], Recorded(version, case)
    segment, report = read(export_of(version, case), load), recorded.parsed(load)
    latency_ms = np.sort(1000 * (segment.answered_s - segment.sent_s))
    assert latency_ms.size == report.requests
    # Its figures are whole microseconds, rounded down.
    assert latency_ms.mean() == pytest.approx(report.avg_latency_ms, abs=0.0011)
    for percentile, value in report.percentiles_ms.items():
        index = int(percentile / 100 * (latency_ms.size - 1) + 0.5)
        assert latency_ms[index] == pytest.approx(value, abs=0.0011)
    inferences = latency_ms.size * load.batch_size
    assert inferences / (segment.ended - segment.started) == pytest.approx(
        report.throughput, rel=0.1
    )
    assert segment.batch_size == load.batch_size
    assert segment.in_flight == load.concurrency
    assert np.all(np.diff(segment.answered_s) >= 0)
    assert segment.windows == ()


def test_a_stream_ends_with_its_last_response(version: str) -> None:
    """Three responses with data and an empty one; perf_analyzer's own latency is the third's."""
    export, recorded = export_of(version, "export_decoupled"), Recorded(version, "export_decoupled")
    segment, report = read(export), recorded.parsed(Load(concurrency=1))
    times = [
        [int(time) for time in times.split(b",")]
        for times in re.findall(rb'"response_timestamps":\[([\d,]+)\]', export)
    ]
    assert {len(responses) for responses in times} == {4}
    ends = [(responses[-1] - START_NS) / 1e9 for responses in times]
    assert list(segment.answered_s) == pytest.approx(ends, abs=1e-9)
    empty_ms = np.mean([(four - three) / 1e6 for *_, three, four in times])
    latency_ms = np.mean(1000 * (segment.answered_s - segment.sent_s))
    assert latency_ms - empty_ms == pytest.approx(report.avg_latency_ms, abs=0.0011)
    assert report.decoupled


def test_times_are_those_of_the_monotonic_clock_and_in_order_of_completion() -> None:
    segment = read(made((30, [90]), (10, [50]), (60, [70])))
    assert list(segment.sent_s) == pytest.approx([10e-9, 60e-9, 30e-9])
    assert list(segment.answered_s) == pytest.approx([50e-9, 70e-9, 90e-9])
    assert (segment.started, segment.ended) == (0, pytest.approx(100e-9))


def test_a_request_without_a_response_failed() -> None:
    segment = read(made((10, []), (20, [30])))
    assert list(segment.answered_s) == [pytest.approx(30e-9), math.inf]


def test_one_request_is_a_segment_of_one() -> None:
    assert read(made((10, [20]))).sent_s.size == 1


def test_a_clock_that_was_set_back_is_kept_for_the_statistics_to_refuse() -> None:
    segment = read(made((10, [20]), (50, [5]), (60, [70])))
    assert "clock" in segment.steady.reason


def test_an_empty_export(version: str) -> None:
    """A model that answers NaN: perf_analyzer cannot write that in JSON, and leaves nothing."""
    with pytest.raises(UnreadableExport, match=r"it is empty, .* NaN or infinity"):
        read(export_of(version, "export_nan"))


@pytest.mark.parametrize("share", [0.01, 0.5, 0.9, 0.999])
def test_an_export_that_was_cut_off(version: str, share: float) -> None:
    export = export_of(version, "export_concurrency")
    end = export.index(b'"window_boundaries"') + 40
    with pytest.raises(UnreadableExport, match="it is cut off: is the disk full"):
        read(export[: int(share * end)])


def test_an_export_without_requests() -> None:
    with pytest.raises(UnreadableExport, match="it has no requests"):
        read(made())


def test_an_export_of_another_format(version: str) -> None:
    export = export_of(version, "export_concurrency")
    renamed = export.replace(b'"response_timestamps"', b'"answers"')
    with pytest.raises(UnreadableExport, match="its format is not known"):
        read(renamed)


def test_what_can_be_recorded_at_the_lowest_and_at_the_highest_rate() -> None:
    limit = AFFORDABLE_MB_PER_S * 1e6
    assert affordable(limit / 100, (50, 100)) is True
    assert affordable(limit / 100, (101, 200)) is False
    assert affordable(limit / 100, (50, 200)) is None
