"""perf_analyzer's export of single requests as a segment. Pure.

The export is JSON with the tensors of every request, in text: some 20 characters a number. Its
times are found by their keys and nothing else of it is looked at: nine times faster than orjson
(11 MB of 14,000 requests), in a fiftieth of the memory, and undisturbed by what perf_analyzer
writes for tensors of bytes, which need not be UTF-8. A quote inside a JSON text has a backslash
before it, so that no tensor's content looks like one of these keys.
"""

import re
from typing import TYPE_CHECKING

from pytest_triton_perf.domain.levels import Load

if TYPE_CHECKING:
    from pytest_triton_perf.domain.segments import Segment

AFFORDABLE_MB_PER_S = 8.0
"""Requests are recorded where the export has at most so many MB per second of load.

perf_analyzer keeps it all in memory, and writes 25 to 50 MB per second when the load has ended: at
this limit a sixth to a third of the load's time.
"""

_REQUEST = re.compile(
    rb'\{"timestamp":(\d+),(?:"sequence_id":\d+,)?"request_inputs":'
    rb'|"response_timestamps":\[([\d,]*)\],"response_outputs":'
)
_BOUNDARIES = re.compile(rb'\],"window_boundaries":\[([\d,]+)\]\}\]')


def affordable(request_bytes: float, rates: tuple[float, float]) -> bool | None:
    """Whether to record requests of this size in the export, at the lowest and the highest rate.

    ``None`` where the one is affordable and the other is not.
    """
    low, high = (request_bytes * rate / 1e6 <= AFFORDABLE_MB_PER_S for rate in rates)
    return low if low == high else None


class UnreadableExport(Exception):
    """Why an export gives no segment, in words."""


def check_complete(segment: "Segment", counted: int) -> None:
    """Compare the requests of an export with what perf_analyzer ``counted`` in its last windows.

    Raises:
        UnreadableExport: more than half of them are not there.
    """
    if segment.sent_s.size < counted / 2:
        raise UnreadableExport(
            f"of {counted:,} requests that perf_analyzer counted it has {segment.sent_s.size:,}"
        )


def read_export(export: bytes, load: Load, *, clock_offset_ns: int) -> "Segment":
    """The requests of an export with one level, in seconds of ``time.monotonic()``.

    ``clock_offset_ns`` is how far the wall clock, which perf_analyzer takes its times from, is
    ahead of the monotonic one. A latency ends with the request's last response: of a decoupled
    model the end of its stream, which is also when the client sends its next request. Requests
    that were in flight when perf_analyzer stopped recording are not in the export.

    Raises:
        UnreadableExport: it is empty, cut off, without requests, or of another format.
    """
    import numpy as np

    from pytest_triton_perf.domain.segments import Segment

    if not export:
        raise UnreadableExport(
            "it is empty, as perf_analyzer leaves it where a tensor has NaN or infinity in it "
            "(one that the model answers, or one of input_data=)"
        )
    boundaries = _BOUNDARIES.search(export, max(0, export.rfind(b'"window_boundaries"') - 2))
    if boundaries is None:
        raise UnreadableExport("it is cut off: is the disk full?")
    found = [match.groups() for match in _REQUEST.finditer(export)]
    sent = [time for time, _ in found[::2]]
    responses = [times for _, times in found[1::2]]
    if not found:
        raise UnreadableExport("it has no requests")
    if len(sent) != len(responses) or None in sent or None in responses:
        raise UnreadableExport("its format is not known to this version of the plugin")
    edges_ns = np.array(boundaries[1].split(b","), dtype=np.int64) - clock_offset_ns
    sent_s = (np.array(sent, dtype=np.int64) - clock_offset_ns) / 1e9
    last = [times.rpartition(b",")[2] for times in responses]
    answered_s = (np.array([time or b"0" for time in last], dtype=np.int64) - clock_offset_ns) / 1e9
    answered_s[[not time for time in last]] = np.inf
    order = np.argsort(answered_s, kind="stable")
    return Segment(
        started=float(min(edges_ns[0] / 1e9, sent_s.min())),
        ended=float(edges_ns[-1] / 1e9),
        batch_size=load.batch_size,
        in_flight=load.concurrency,
        sent_s=sent_s[order],
        answered_s=answered_s[order],
    )
