"""A server that is silent for a while: what it did then counts. Pure."""

from dataclasses import replace
from typing import TYPE_CHECKING

from pytest_triton_perf.domain.levels import Load
from pytest_triton_perf.load.parsing import ParsedReport
from pytest_triton_perf.load.windows import WINDOWS

if TYPE_CHECKING:
    from pytest_triton_perf.domain.segments import Segment, Window

_ENDING_S = 0.3
"""So soon after its last answer perf_analyzer is seen to have ended: some 10 ms
on this machine, through a container engine that is busy a good deal more."""

_BYTES_PER_S = 25e6
"""perf_analyzer writes its export at least as fast."""

_MUCH_LONGER = 2
"""A silence of so many times the slowest latency is no latency like the others."""


def with_the_unanswered(
    segment: "Segment", *, ended: float, export_bytes: int
) -> tuple["Segment", str]:
    """The segment with the requests in flight when perf_analyzer stopped recording, and a note.

    Its export leaves them out, though it waits for their answers before it ends (at ``ended``,
    monotonic). Where the server fell silent at the end, they are what it did then: each client of
    a closed loop had sent one when it got its last answer, and waited for it at least until
    shortly before perf_analyzer ended. They count as answered then, which favours the server.
    """
    import numpy as np

    count = segment.in_flight
    if count is None or not segment.sent_s.size or not np.all(np.isfinite(segment.answered_s)):
        return segment, ""
    last = float(segment.answered_s[-1])
    until = max(segment.ended, ended - _ENDING_S - export_bytes / _BYTES_PER_S)
    slowest_s = float((segment.answered_s - segment.sent_s).max())
    if until - last < _MUCH_LONGER * slowest_s:
        return segment, ""
    whole = replace(
        segment,
        ended=until,
        sent_s=np.append(segment.sent_s, np.full(count, last)),
        answered_s=np.append(segment.answered_s, np.full(count, until)),
    )
    return whole, (
        f"at the end {count} request{'s' * (count != 1)} had waited for "
        f"{(until - last) * 1000:.0f} ms or more, longer than any that was answered "
        f"({slowest_s * 1000:.0f} ms); they count as answered then"
    )


def whole_window(load: Load, report: ParsedReport) -> "Window":
    """All of a run as one window, the stretches too that perf_analyzer's own figures leave out.

    These are of the last three windows, the first in a row that all had answers. Where there were
    others, throughput and mean are put together from what perf_analyzer said of each; percentiles
    cannot be. Its windows are the parts of this one.
    """
    from pytest_triton_perf.domain.segments import Window

    seconds = report.requests * load.batch_size / report.throughput
    each_s = seconds / WINDOWS
    parts = tuple((rate * each_s / load.batch_size, latency) for rate, latency in report.passes)
    if len(parts) <= WINDOWS:
        return Window(
            requests=report.requests,
            seconds=seconds,
            avg_latency_ms=report.avg_latency_ms,
            percentiles_ms=report.percentiles_ms,
            parts=parts,
        )
    count = sum(requests for requests, _ in parts)
    return Window(
        requests=round(count),
        seconds=each_s * len(parts),
        avg_latency_ms=sum(requests * latency for requests, latency in parts) / count,
        parts=parts,
    )
