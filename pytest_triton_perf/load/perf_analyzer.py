"""perf_analyzer: recording load that it makes."""

import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_triton_perf.domain.levels import Load
from pytest_triton_perf.load import windows
from pytest_triton_perf.load.base import LoadReport, Traffic
from pytest_triton_perf.load.command import build_args
from pytest_triton_perf.load.complaints import (
    clock_set_twice,
    does_not_fit,
    hung,
    not_measured,
    unreadable,
)
from pytest_triton_perf.load.experience import Experience, ExportSize
from pytest_triton_perf.load.export import UnreadableExport, check_complete, read_export
from pytest_triton_perf.load.parsing import ParsedReport, may_pass, parse_report, window_too_short
from pytest_triton_perf.load.runner import Run, Runner
from pytest_triton_perf.load.stalls import whole_window, with_the_unanswered

if TYPE_CHECKING:
    from pytest_triton_perf.domain.segments import Segment

_ABOUT = 0.9
"""A segment of this share of the seconds that were asked for is as good as the whole."""

_EXPORTS = 4
"""An export that cannot be used is asked for so often.

With shared memory the tensors that perf_analyzer writes to its export are not those that were
sent and answered, and now and then an export is empty or breaks off, as with a NaN. Others break
off on a disk that has room; and a NaN that a model answers may be the only one.
"""

_CLOCK_STEP_S = 0.005
"""A wall clock that was moved further than this in a run was set, not only kept in step."""


class PerfAnalyzer:
    """A :class:`~pytest_triton_perf.load.base.LoadGenerator`: one process per segment."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner
        self._experiences: dict[tuple[str, str], Experience] = {}
        self._sizes: dict[str, ExportSize] = {}

    def describe(self) -> Mapping[str, str]:
        """Its name, and what the runner says of it."""
        return {"name": "perf_analyzer", **self._runner.describe()}

    def run(
        self, traffic: Traffic, load: Load, *, url: str, seconds: float, max_seconds: float
    ) -> LoadReport:
        """Record one segment, as :class:`~pytest_triton_perf.load.base.LoadGenerator` says.

        Where it is not known yet whether the export of its requests is affordable, the shortest
        possible run tells first. Where it is not, the segment is one window: perf_analyzer's
        own figures of the whole run. An export that cannot be used is asked for again.

        Raises:
            LoadError: nothing was recorded, or nothing can be within ``max_seconds``.
            UsageError: streaming over HTTP.
        """
        deadline = time.monotonic() + max_seconds
        known = self._experiences.setdefault((url, repr(traffic)), Experience())
        size = self._sizes.setdefault(repr(traffic), ExportSize())
        unusable = 0
        while True:
            record = known.is_recorded(load, size)
            run, report = self._reported(
                traffic, load, known, url=url, seconds=seconds, deadline=deadline, record=record
            )
            if report is None:
                size.trouble = "perf_analyzer took too long to write its export of a short run"
                continue
            known.learn(load, report)
            if record is False:
                return _report(_windowed(load, report, run), "", report, run, size)
            try:
                segment = read_export(run.export, load, clock_offset_ns=run.clock_offset_ns)
                check_complete(segment, report.requests)
            except UnreadableExport as problem:
                unusable += 1
                # After a short run that fails to tell there is still a window to measure.
                until = deadline if record else deadline - max_seconds / 2
                if unusable < _EXPORTS and time.monotonic() + run.ended - run.started < until:
                    continue
                if record:
                    raise unreadable(traffic, load, problem) from None
                size.trouble = f"perf_analyzer's export cannot be used: {problem}"
                continue
            if record is None:
                inferences = segment.sent_s.size * load.batch_size
                size.bytes_per_inference = len(run.export) / inferences
                if segment.ended - segment.started < _ABOUT * seconds:
                    continue
                known.keep_recording(load, True)
            # By the monotonic clock: a segment that says it was longer is not believed.
            longest_s = run.ended - run.started
            segment = replace(segment, ended=min(segment.ended, segment.started + longest_s))
            segment, stalled = with_the_unanswered(
                segment, ended=run.ended, export_bytes=len(run.export)
            )
            return _report(segment, stalled, report, run, size)

    def warm_up(self, traffic: Traffic, load: Load, *, url: str, max_seconds: float) -> None:
        """Send requests that nobody measures, for a few windows.

        What was learnt about this traffic before is forgotten: the model is a new one.

        Raises:
            LoadError: the model cannot be measured like this at all, or hangs.
            UsageError: streaming over HTTP.
        """
        known = self._experiences[(url, repr(traffic))] = Experience()
        deadline = time.monotonic() + max_seconds
        for window_ms in windows.WARM_UPS_MS:
            left_s = deadline - time.monotonic()
            run = self._process(traffic, load, url, window_ms, seconds=left_s, record=False)
            if run.hung:
                raise hung(traffic, load, window_ms, left_s, run.words)
            if not window_too_short(run.words):
                break
            took_s = run.ended - run.started
            known.at_least_ms = windows.longer_window(window_ms, took_s)
            if took_s >= windows.run_seconds(windows.WARM_UPS_MS[-1]):
                break  # a request alone was as long as the longer run
        if window_too_short(run.words):
            return
        if run.exit_code != 0 and not may_pass(run.words):
            raise not_measured(traffic, load, url, run)
        elif report := parse_report(run.csv, run.stdout, load):
            known.learn(load, report, percentile=50)  # the first requests are not like the others

    def go_on(self, traffic: Traffic, measured: "Mapping[Load, Segment]", *, url: str) -> None:
        """Record the requests of a level one by one if they were, as the protocol says."""
        known = self._experiences[(url, repr(traffic))]
        for load, segment in measured.items():
            known.keep_recording(load, not segment.windows)

    def _reported(
        self,
        traffic: Traffic,
        load: Load,
        known: Experience,
        *,
        url: str,
        seconds: float,
        deadline: float,
        record: bool | None,
    ) -> tuple[Run, ParsedReport | None]:
        """Run perf_analyzer until it reports the level: with longer windows after empty ones.

        With ``record`` of ``None`` the run is as short as can be, to tell the size of its export.
        No report then, where writing that export takes too long.
        """
        max_seconds = deadline - time.monotonic()
        wanted_ms = known.window(load, 0 if record is None else seconds)
        empty_ms = latency_s = 0.0  # the longest window without an answer; what a request takes
        lost_s = 0.0
        repeated = False
        while True:
            left_s = deadline - time.monotonic()
            window_ms = min(wanted_ms, windows.longest_window(left_s, latency_s))
            if window_ms < windows.SHORTEST_MS or window_ms <= empty_ms:
                raise does_not_fit(traffic, load, max_seconds, empty_ms, latency_s)
            probes = record is None and windows.run_seconds(window_ms) < left_s / 4
            patience_s = left_s / 2 if probes else left_s
            run = self._process(
                traffic,
                load,
                url,
                window_ms,
                # A model that never answered in time is rather slow, and needs longer windows.
                most_windows=windows.most_windows(window_ms, patience_s if known.answers else 0),
                seconds=patience_s,
                record=record is not False,
            )
            if run.hung and probes and run.csv:  # which is written before the export
                return run, None
            if run.hung:
                raise hung(traffic, load, window_ms, patience_s, run.words)
            report = parse_report(run.csv, run.stdout, load)
            clock_was_set = abs(run.clock_step_s) > _CLOCK_STEP_S
            if report is not None and not clock_was_set:
                return run, replace(report, notes=(*report.notes, *_lost(lost_s)))
            if report is None and window_too_short(run.words):
                lost_s += run.ended - run.started if known.answers else 0.0
                latency_s = max(latency_s, run.ended - run.started)
                empty_ms = window_ms
                wanted_ms = windows.longer_window(window_ms, latency_s)
            elif not repeated and (clock_was_set or run.exit_code == 0 or may_pass(run.words)):
                repeated = True  # a very short window now and then ends without any report
            elif clock_was_set:
                raise clock_set_twice(traffic, load, run)
            else:
                raise not_measured(traffic, load, url, run)

    def _process(
        self,
        traffic: Traffic,
        load: Load,
        url: str,
        window_ms: float,
        *,
        seconds: float,
        record: bool,
        most_windows: int = windows.WINDOWS,
    ) -> Run:
        """Run perf_analyzer once."""
        if traffic.input_data not in (None, "zero", "random"):
            there = self._runner.path(Path(traffic.input_data), url=url)
            traffic = replace(traffic, input_data=there)
        args = build_args(
            traffic,
            load,
            url=url,
            window_ms=window_ms,
            most_windows=most_windows,
            record=record,
        )
        return self._runner.run(args, url=url, seconds=seconds)


def _windowed(load: Load, report: ParsedReport, run: Run) -> "Segment":
    from pytest_triton_perf.domain.segments import Segment

    return Segment(
        started=run.started,
        ended=run.ended,
        batch_size=load.batch_size,
        in_flight=load.concurrency,
        windows=(whole_window(load, report),),
    )


def _lost(seconds: float) -> tuple[str, ...]:
    """What no report tells: runs in which a server that does answer did not."""
    if not seconds:
        return ()
    return (
        f"for {seconds:.1f} s the server answered so rarely that perf_analyzer gave no report: "
        "they are not in these figures",
    )


def _report(
    segment: "Segment", stalled: str, report: ParsedReport, run: Run, size: ExportSize
) -> LoadReport:
    notes = list(report.notes)
    if segment.windows:
        notes += _why_windows(segment, size)
    if stalled:
        notes.append(stalled)
    if report.decoupled:
        last = "that carries data" if segment.windows else "of its stream"
        notes.append(f"decoupled model: a latency ends with the last response {last}")
    if run.exit_code != 0:
        notes.append(f"perf_analyzer ended with exit code {run.exit_code} after its report")
    return LoadReport(
        segment=segment,
        server_ms=report.server_ms,
        missing=report.missing,
        keeps_up=report.keeps_up,
        notes=tuple(notes),
    )


def _why_windows(segment: "Segment", size: ExportSize) -> list[str]:
    """Why requests were not recorded; empty where an earlier session found that, and said so."""
    why = size.trouble
    if not why and size.bytes_per_inference is not None:
        kilobytes = size.bytes_per_inference * segment.batch_size / 1000
        why = f"each takes {kilobytes:,.0f} kB of perf_analyzer's export"
    return [f"requests were not recorded one by one: {why}"] if why else []
