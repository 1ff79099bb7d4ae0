"""A segment of load with all that was seen meanwhile, and its shape in the journal. Pure.

Times of requests are most of it: 60,000 numbers in a segment of 30,000 requests. perf_analyzer
counts nanoseconds, so that the differences between neighbours are small whole numbers; their bytes
are put in order of weight, where zlib finds the high ones all alike. That takes 6 to 9 bytes a
request, text encoding included, where JSON takes 36, and gives back the very same floats.
"""

import base64
import binascii
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from pytest_triton_perf.domain.levels import Load
from pytest_triton_perf.domain.results import timeline_from_json, timeline_to_json
from pytest_triton_perf.domain.timelines import MemoryTimeline
from pytest_triton_perf.load.base import LoadReport
from pytest_triton_perf.probes.base import Reading
from pytest_triton_perf.probes.host import HostState

if TYPE_CHECKING:
    from pytest_triton_perf.domain.segments import Numbers, Segment

_NANOSECONDS = "n"
_FLOATS = "f"


class UnreadableRecord(Exception):
    """A record is not what this version of the plugin writes."""


@dataclass(frozen=True, kw_only=True)
class Record:
    """One segment of a level.

    ``reading`` is what the probes read during it, ``before`` and ``after`` are the machine's
    counters, ``memory`` is how the server's memory went since the sweep began. ``used_s`` is the
    sweep's measuring time from the end of the segment before to the end of this one.
    """

    load: Load
    report: LoadReport
    reading: Reading
    before: HostState
    after: HostState
    memory: MemoryTimeline
    used_s: float


def record_to_json(record: Record) -> dict[str, Any]:
    """The record as plain data."""
    report = record.report
    return {
        "load": asdict(record.load),
        "segment": _segment_to_json(report.segment),
        "server_ms": dict(report.server_ms),
        "missing": dict(report.missing),
        "keeps_up": report.keeps_up,
        "notes": list(report.notes),
        "reading": asdict(record.reading),
        "before": asdict(record.before),
        "after": asdict(record.after),
        "memory": timeline_to_json(record.memory),
        "used_s": record.used_s,
    }


def record_from_json(data: Mapping[str, Any]) -> Record:
    """The record that :func:`record_to_json` wrote.

    Raises:
        UnreadableRecord: the data is not whole, or of another shape.
    """
    try:
        reading = data["reading"]
        return Record(
            load=Load(**data["load"]),
            report=LoadReport(
                segment=_segment_from_json(data["segment"]),
                server_ms=data["server_ms"],
                missing=data["missing"],
                keeps_up=data["keeps_up"],
                notes=tuple(data["notes"]),
            ),
            reading=Reading(**{**reading, "notes": tuple(reading["notes"])}),
            before=HostState(**data["before"]),
            after=HostState(**data["after"]),
            memory=timeline_from_json(data["memory"]),
            used_s=data["used_s"],
        )
    except (KeyError, TypeError, ValueError, IndexError, zlib.error, binascii.Error) as error:
        raise UnreadableRecord(f"{type(error).__name__}: {error}") from error


def pack(numbers: "Numbers") -> str:
    """Times in seconds as text, without loss."""
    import numpy as np

    kind, whole = _FLOATS, numbers.view(np.int64)
    if np.all(np.abs(numbers) < 2**31):  # of infinity and NaN this is not so
        nanoseconds = np.rint(numbers * 1e9).astype(np.int64)
        if np.array_equal(nanoseconds / 1e9, numbers):
            kind, whole = _NANOSECONDS, np.diff(nanoseconds, prepend=0)
    by_weight = whole.astype("<i8").view(np.uint8).reshape(-1, 8).T
    return kind + base64.b64encode(zlib.compress(by_weight.tobytes())).decode("ascii")


def unpack(text: str) -> "Numbers":
    """The times that :func:`pack` wrote.

    Raises:
        ValueError, zlib.error: the text is none of them.
    """
    import numpy as np

    kind, packed = text[:1], zlib.decompress(base64.b64decode(text[1:], validate=True))
    by_weight = np.frombuffer(packed, dtype=np.uint8).reshape(8, -1)
    whole = np.ascontiguousarray(by_weight.T).view("<i8").reshape(-1).astype(np.int64)
    if kind == _NANOSECONDS:
        nanoseconds: Numbers = np.cumsum(whole) / 1e9
        return nanoseconds
    if kind == _FLOATS:
        return whole.view(np.float64)
    raise ValueError(f"times of an unknown kind {kind!r}")


def _segment_to_json(segment: "Segment") -> dict[str, Any]:
    return {
        "started": segment.started,
        "ended": segment.ended,
        "batch_size": segment.batch_size,
        "in_flight": segment.in_flight,
        "sent_s": pack(segment.sent_s),
        "answered_s": pack(segment.answered_s),
        "windows": [asdict(window) for window in segment.windows],
    }


def _segment_from_json(data: Mapping[str, Any]) -> "Segment":
    from pytest_triton_perf.domain.segments import Segment, Window

    def window(row: Mapping[str, Any]) -> Window:
        found = row["percentiles_ms"]  # JSON has no keys that are numbers
        percentiles = None if found is None else {int(p): ms for p, ms in found.items()}
        parts = tuple((requests, latency_ms) for requests, latency_ms in row["parts"])
        return Window(**{**row, "percentiles_ms": percentiles, "parts": parts})

    return Segment(
        started=data["started"],
        ended=data["ended"],
        batch_size=data["batch_size"],
        in_flight=data["in_flight"],
        sent_s=unpack(data["sent_s"]),
        answered_s=unpack(data["answered_s"]),
        windows=tuple(map(window, data["windows"])),
    )
