"""What was measured, on disk at once: the file that an interrupted session is resumed from.

The file is only ever appended to, a line per event, and each line is on the disk before the next
load is made. A line is the CRC-32 of its JSON, a space, and the JSON. The first names the schema
and the session that began the file. The others belong to a *take*, one measuring of one sweep, in
the order ``n``: what it was measured from (its ingredients), then a line per segment, then its
end. What cannot be read ends its take: the rest of it is measured again.

One process at a time may use the file: whoever measures holds the machine's lock.
"""

import contextlib
import json
import os
import uuid
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pytest_triton_perf.errors import UsageError
from pytest_triton_perf.ingredients import difference
from pytest_triton_perf.records import UnreadableRecord, record_from_json
from pytest_triton_perf.takes import Line, Take

FILE = "resume.journal"
"""Its name in the output folder."""

SCHEMA = 1


@dataclass(kw_only=True)
class _Found:
    """A take that is in the file: its first line, how many follow, and where its segments are.

    ``rest_s`` is measuring time after its last segment, ``None`` where the sweep had not ended.
    """

    begin: Line
    lines: int = 1
    segments: list[int] = field(default_factory=list)
    rest_s: float | None = None

    def put(self, line: Line, offset: int) -> bool:
        """Add a line of the take; ``False`` where one before it is missing."""
        if line["n"] != self.lines:
            return False
        self.lines += 1
        if "segment" in line:
            self.segments.append(offset)
            self.rest_s = None
        else:
            self.rest_s = line["end"]
        return True


class Journal:
    """The journal of a session, in ``file``; nothing is written before a sweep has begun.

    ``session`` is the same in all processes of a session. With ``resume`` the file is read and
    gone on with, else one of another session is replaced. ``notes`` say what could not be used.

    Raises:
        UsageError: a newer version of the plugin wrote the file that is to be resumed from.
    """

    def __init__(self, file: Path, *, session: str, resume: bool) -> None:
        self._file = file
        self._session = session
        self._resume = resume
        self._opened = self._broken = False
        self._takes: dict[str, list[_Found]] = {}
        self._again: dict[str, list[str]] = {}
        self._problems: list[str] = []
        if resume and (schema := self._header().get("schema", SCHEMA)) != SCHEMA:
            raise UsageError(
                f"--triton-perf-resume: {file} has schema {schema!r}, which another version of the "
                f"plugin wrote; this one reads schema {SCHEMA}. Run without --triton-perf-resume "
                "to measure all of it"
            )

    @property
    def notes(self) -> list[str]:
        """What a reader of the session's results must know of the journal."""
        again = [
            f"measured again, because {why}: {', '.join(names)}"
            for why, names in self._again.items()
        ]
        return [*self._problems, *again]

    def take(self, sweep: str, ingredients: Mapping[str, str] | None) -> Take:
        """The next take of a sweep: one that was measured from equal ingredients, else a new one.

        ``sweep`` names it across sessions. Takes of one sweep are given in the order in which
        they were made. Without ``ingredients`` nothing is kept.
        """
        if ingredients is None:
            return Take({"take": ""})
        if not self._opened:
            self._open()
        before = [found for found in self._takes.get(sweep, []) if found.segments]
        for found in before:
            if found.begin["ingredients"] == ingredients:
                self._takes[sweep].remove(found)
                if (take := self._resumed(found)) is not None:
                    return take
        differences = [difference(found.begin["ingredients"], ingredients) for found in before]
        if why := min(differences, key=len, default=[]):
            self._again.setdefault(", ".join(why), []).append(sweep)
        begin = {"take": uuid.uuid4().hex, "sweep": sweep, "ingredients": dict(ingredients)}
        return Take(begin, write=self._append)

    def _resumed(self, found: _Found) -> Take | None:
        records = []
        try:
            with self._file.open("rb") as file:
                for offset in found.segments:
                    file.seek(offset)
                    records.append(record_from_json(_parse(file.readline())["segment"]))
        except (OSError, UnreadableRecord) as error:
            self._problems.append(
                f"{self._file}: {found.begin['sweep']} is measured again, because what was "
                f"measured of it cannot be read ({error})"
            )
            return None
        if found.rest_s is not None:
            # The time that it took to find that nothing was left to do.
            records[-1] = replace(records[-1], used_s=records[-1].used_s + found.rest_s)
        return Take(
            found.begin,
            records=records,
            finished=found.rest_s is not None,
            lines=found.lines,
            write=self._append,
        )

    # -- the file

    def _header(self) -> Line:
        """The first line; empty where there is none that can be read."""
        with contextlib.suppress(OSError, UnreadableRecord), self._file.open("rb") as file:
            return _parse(file.readline())
        return {}

    def _open(self) -> None:
        self._opened = True
        header = self._header()
        if self._resume and header:
            self._read()
            takes = [take for takes in self._takes.values() for take in takes]
            if not self._problems and not any(take.segments for take in takes):
                self._problems.append(f"nothing to resume: {self._file} holds no measurement")
        elif self._resume and not self._file.exists():
            self._problems.append(f"nothing to resume: there is no {self._file}")
        elif self._resume:
            self._problems.append(f"nothing to resume: {self._file} is no journal")
        if not header or (not self._resume and header.get("session") != self._session):
            with self._failing_softly():
                self._file.parent.mkdir(parents=True, exist_ok=True)
                self._file.unlink(missing_ok=True)
                self._append({"schema": SCHEMA, "session": self._session})

    def _read(self) -> None:
        """Find the takes. A last line that is not whole was never finished, and is cut off."""
        found: dict[str, _Found] = {}
        damaged = whole = 0
        with self._file.open("rb") as file:
            for offset, text in _lines(file):
                if not text.endswith(b"\n"):
                    break
                whole = offset + len(text)
                try:
                    line = _parse(text)
                except UnreadableRecord:
                    damaged += 1
                    continue
                if "sweep" in line:
                    found[line["take"]] = _Found(begin=line)
                    self._takes.setdefault(line["sweep"], []).append(found[line["take"]])
                elif "take" in line:
                    take = found.get(line["take"])
                    damaged += take is None or not take.put(line, offset)
            torn = file.seek(0, os.SEEK_END) > whole
        if torn:
            self._problems.append(
                f"{self._file}: its last line is not whole (the session ended in it); what it "
                "was about is measured again"
            )
            with self._failing_softly():
                os.truncate(self._file, whole)
        if damaged:
            self._problems.append(
                f"{self._file}: {damaged} line(s) are damaged or follow a damaged one; what they "
                "were about is measured again"
            )

    def _append(self, line: Line) -> None:
        if self._broken:
            return
        data = json.dumps(line, separators=(",", ":")).encode()
        with self._failing_softly(), self._file.open("ab") as file:
            file.write(b"%08x %b\n" % (zlib.crc32(data), data))
            file.flush()
            os.fsync(file.fileno())

    @contextlib.contextmanager
    def _failing_softly(self) -> Iterator[None]:
        """What was measured is worth its report, also where the disk has no room for a journal."""
        try:
            yield
        except OSError as error:
            self._broken = True
            self._problems.append(
                f"{self._file} was not written ({error.strerror or error}): a session that resumes "
                "this one measures again what is not in it"
            )


def _lines(file: Any) -> Iterator[tuple[int, bytes]]:
    offset = 0
    for text in file:
        yield offset, text
        offset += len(text)


def _parse(text: bytes) -> Line:
    """The JSON of a line.

    Raises:
        UnreadableRecord: it is not as it was written.
    """
    crc, _, data = text.rstrip(b"\n").partition(b" ")
    try:
        if int(crc, 16) != zlib.crc32(data):
            raise UnreadableRecord("its checksum is another")
        line = json.loads(data)
    except ValueError as error:
        raise UnreadableRecord(str(error)) from None
    if not isinstance(line, dict):
        raise UnreadableRecord("it is no record")
    return line
