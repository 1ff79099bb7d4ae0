"""One measuring of one sweep, over as many sessions as it took."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pytest_triton_perf.domain.levels import Load
from pytest_triton_perf.domain.timelines import NOTHING_YET, MemoryTimeline
from pytest_triton_perf.records import Record, record_to_json

Line = Mapping[str, Any]
"""Of the journal, as plain data."""


class Take:
    """One measuring of a sweep: gives back what is in the journal of it, and adds the rest."""

    def __init__(
        self,
        begin: Line,
        *,
        records: Sequence[Record] = (),
        finished: bool = False,
        lines: int = 0,
        write: Callable[[Line], None] = lambda line: None,
    ) -> None:
        self._begin = dict(begin)
        self._records = list(records)
        self._last = records[-1] if records else None
        self.measured = {record.load: record.report.segment for record in records}
        """A segment of each level that was measured before."""
        self._finished = finished
        self._lines = lines
        self._write = write

    @property
    def is_new(self) -> bool:
        """Whether nothing of it was measured before."""
        return not self._lines

    @property
    def config(self) -> Mapping[str, Any]:
        """The model config that Triton reported, of a take that is not new."""
        config: Mapping[str, Any] = self._begin["config"]
        return config

    @property
    def server(self) -> Mapping[str, Any]:
        """Version and idle readings of its server, of a take that is not new."""
        server: Mapping[str, Any] = self._begin["server"]
        return server

    @property
    def memory(self) -> MemoryTimeline:
        """How the server's memory went in all that was measured before."""
        return self._last.memory if self._last else NOTHING_YET

    def next(self, load: Load) -> Record | None:
        """The next segment of a level that was measured before; each is given once."""
        for index, record in enumerate(self._records):
            if record.load == load:
                return self._records.pop(index)
        return None

    def begin(self, *, config: Mapping[str, Any], server: Mapping[str, Any]) -> None:
        """Note what the segments of a new take will be measured on."""
        self._begin |= {"config": dict(config), "server": dict(server)}
        self._add(self._begin)

    def add(self, record: Record) -> None:
        """Keep a segment; it is on the disk on return."""
        self._finished = False
        self._add({"segment": record_to_json(record)})

    def finish(self, rest_s: float) -> None:
        """Note that the sweep is complete, ``rest_s`` of its measuring time after a segment."""
        if not self._finished:
            self._add({"end": rest_s})
            self._finished = True

    def _add(self, line: Line) -> None:
        self._write({"take": self._begin["take"], "n": self._lines, **line})
        self._lines += 1
