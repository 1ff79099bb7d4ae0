"""A server that is silent for a while; test_perf_analyzer.py has a real one."""

import numpy as np
import pytest
from loops import closed_loop

from pytest_triton_perf.domain.estimates import estimate
from pytest_triton_perf.domain.levels import Load
from pytest_triton_perf.domain.segments import Segment
from pytest_triton_perf.load.parsing import ParsedReport
from pytest_triton_perf.load.stalls import whole_window, with_the_unanswered
from pytest_triton_perf.load.windows import PATIENCE_S, most_windows, run_seconds

CALM = closed_loop([0.004] * 200, clients=2, started=50.0)
"""Two clients for 0.4 s, until 50.4."""


def monotonic(segment: Segment) -> Segment:
    return Segment(
        started=segment.started,
        ended=segment.ended,
        in_flight=segment.in_flight,
        sent_s=segment.sent_s + segment.started,
        answered_s=segment.answered_s + segment.started,
    )


def test_requests_in_flight_wait_until_perf_analyzer_ends() -> None:
    whole, note = with_the_unanswered(monotonic(CALM), ended=51.5, export_bytes=2_500_000)
    # 0.3 s to end, 0.1 s to write the export.
    assert whole.ended == pytest.approx(51.1)
    assert whole.sent_s.size == CALM.sent_s.size + 2
    waited = (whole.answered_s - whole.sent_s)[-2:]
    assert waited == pytest.approx([0.7, 0.7])
    assert note == (
        "at the end 2 requests had waited for 700 ms or more, longer than any that was answered "
        "(4 ms); they count as answered then"
    )
    assert whole.steady.reason == ""
    found = estimate([whole], (50, 99)).values
    assert found["throughput"].value < 0.5 * 500
    assert found["p50_latency_ms"].value == pytest.approx(4)
    assert whole.steady.latency_s.max() == pytest.approx(0.7)


@pytest.mark.parametrize("ended", [50.41, 50.55, 50.7])
def test_an_ordinary_end_adds_nothing(ended: float) -> None:
    segment = monotonic(CALM)
    assert with_the_unanswered(segment, ended=ended, export_bytes=0) == (segment, "")


def test_a_slow_model_is_not_silent() -> None:
    slow = monotonic(closed_loop([0.5] * 8, clients=2, started=50.0))
    assert with_the_unanswered(slow, ended=slow.ended + 0.9, export_bytes=0)[1] == ""


def test_what_is_in_flight_at_a_request_rate_is_not_known() -> None:
    segment = Segment(started=0.0, ended=9.0, sent_s=np.array([0.0]), answered_s=np.array([0.001]))
    assert with_the_unanswered(segment, ended=9.0, export_bytes=0) == (segment, "")


def report(*passes: tuple[float, float]) -> ParsedReport:
    """Three seconds at 100 infer/s in batches of two."""
    return ParsedReport(
        throughput=100.0,
        requests=150,
        avg_latency_ms=10.0,
        percentiles_ms={50: 9.0, 90: 10.0, 95: 11.0, 99: 12.0},
        server_ms={},
        missing={},
        keeps_up=True,
        decoupled=False,
        passes=passes,
        notes=(),
    )


def test_a_window_is_all_of_the_run() -> None:
    load = Load(concurrency=1, batch_size=2)
    for passes in ((), ((100.0, 10.0),) * 3):
        window = whole_window(load, report(*passes))
        assert (window.requests, window.seconds, window.avg_latency_ms) == (150, 3.0, 10.0)
        assert window.percentiles_ms == report().percentiles_ms
        # A second at 100 infer/s in batches of two is each of them.
        assert window.parts == ((50.0, 10.0),) * len(passes)


def test_windows_without_an_answer_count() -> None:
    calm, silent, after = (100.0, 10.0), (0.0, 0.0), (60.0, 50.0)
    window = whole_window(
        Load(concurrency=1, batch_size=2), report(calm, silent, after, calm, calm, calm)
    )
    assert window.seconds == pytest.approx(6)
    assert window.requests == 50 * 4 + 30
    assert window.avg_latency_ms == pytest.approx((200 * 10 + 30 * 50) / 230)
    assert window.percentiles_ms is None
    assert window.parts[:3] == ((50.0, 10.0), (0.0, 0.0), (30.0, 50.0))


def test_a_silence_may_last_for_its_patience_within_the_time() -> None:
    assert most_windows(100, 60) == 3 + round(PATIENCE_S / 0.12 + 0.5)
    few = most_windows(100, 2)
    assert 3 < few < 12
    assert run_seconds(100) / 3 * few < 2
    assert most_windows(1000, 1) == most_windows(100, 0) == 3
