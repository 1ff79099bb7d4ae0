"""The one thread that watches the machine while levels are measured."""

import queue
import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from types import TracebackType

from pytest_triton_perf.probes.base import Probe, Reading, SourceLost, totals, with_memory_source
from pytest_triton_perf.probes.summary import (
    Sample,
    distinct,
    inside,
    of_a_moment,
    peak,
    summarize,
    with_last_processes,
)

_HISTORY_S = 900.0
"""How far back samples are kept; far longer than a level may last."""

_SHARE = 0.0095
"""The part of one CPU core that the thread may take in the long run: a little below the 1 % that
are promised, since a window of some seconds may have more of the dear readings than its part."""

_CREDIT_S = 0.02
"""CPU time that may be taken at once: some readings are dear."""

_SLACK_S = 0.005
"""How much too early a probe may be read, so that the thread wakes once for several."""

_HANG_S = 0.5
"""Where a reading takes longer, its source hung."""

_MISSED = 0.1
"""The part of the samples of an interval that may be missed without a note."""

_PATIENCE_S = 5.0
"""How long a probe may hang before the caller goes on without it."""

_DERIVED = "gpu_memory_delta_mb"
"""No probe reads it: ``over_idle`` finds it, or says why not."""


@dataclass(kw_only=True)
class _Account:
    """CPU time that was taken, and is earned back as a share of one core."""

    share: float
    debt_s: float = 0.0
    at: float = 0.0

    def take(self, cost_s: float, at: float) -> None:
        """Take it at the time ``at``."""
        earned_s = (at - self.at) * self.share
        self.debt_s = max(0.0, self.debt_s - earned_s) + cost_s
        self.at = at

    @property
    def overdrawn(self) -> bool:
        """More was taken than may be at once."""
        return self.debt_s > _CREDIT_S

    @property
    def even_at(self) -> float:
        """When it is not overdrawn any more."""
        return self.at + (self.debt_s - _CREDIT_S) / self.share


@dataclass(kw_only=True)
class _Source:
    """A probe with what was read; ``reading_since`` is when the present reading began.

    ``hangs`` are readings that took too long, by beginning and end. ``cost_s`` is the CPU time of
    the last reading and of all that the thread did since the reading before it, waking included.
    """

    probe: Probe
    samples: deque[Sample]
    account: _Account
    due: float = 0.0
    cost_s: float = 0.0
    reading_since: float | None = None
    hangs: deque[tuple[float, float]] = field(default_factory=lambda: deque(maxlen=1000))
    lost: tuple[float, Exception] | None = None


class Sampler:
    """Reads each probe at its period, in one daemon thread, while it is entered.

    The thread takes no more than 1 % of a core: where that is not enough, those probes are read
    less often that take more than their share of it. A probe that raises is not asked again: its
    metrics are missing from then on, with the exception in words. Leaving closes the probes.
    """

    def __init__(self, probes: Sequence[Probe]) -> None:
        self._sources = [
            _Source(
                probe=probe,
                samples=deque(maxlen=int(_HISTORY_S / probe.period_s)),
                account=_Account(share=probe.share),
            )
            for probe in probes
        ]
        self._thread = threading.Thread(target=self._run, name="triton-perf-sampler", daemon=True)
        # What the thread is woken for: events to set after another reading, or None to end.
        # (In C, and so a fraction of what a Condition costs at every sample.)
        self._asks: queue.SimpleQueue[threading.Event | None] = queue.SimpleQueue()
        # Guards all below and the samples; never held while a probe is read.
        self._state = threading.Lock()
        self._stopping = False
        self._account = _Account(share=_SHARE)
        self._accounted_s = 0.0

    def __enter__(self) -> "Sampler":
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """End the thread and close the probes; safe to call twice.

        A thread that a probe holds for more than 5 s is left behind (it is a daemon), and its
        probes open: closing them under it would be worse.
        """
        with self._state:
            if self._stopping:
                return
            self._stopping = True
        self._asks.put(None)
        if self._thread.ident is not None:
            self._thread.join(_PATIENCE_S)
        if not self._thread.is_alive():
            for source in self._sources:
                source.probe.close()

    def summary(self, start: float, end: float) -> Reading:
        """What was read from ``start`` to ``end`` (``time.monotonic()``), in one reading.

        See :func:`~pytest_triton_perf.probes.summary.summarize`. A probe without a sample in the
        interval is read once more now, for its memory alone. What could not be measured is in
        ``missing``; notes tell of samples that were missed, and of a source that hung.
        """
        with self._state:
            empty = any(not s.lost and not inside(s.samples, start, end) for s in self._sources)
        if empty:
            self._read_once_more()
        return self._reading(start, end)

    def series(self, start: float, end: float) -> list[list[Sample]]:
        """The samples from ``start`` to ``end`` (``time.monotonic()``) as they were taken.

        One list per probe, in the order of the probes, each oldest first; empty where the probe
        has no sample there. A reading holds only what its probe reads (so a GPU can be in several
        lists, each with other keys), and ``None`` for what it could not read.
        """
        with self._state:
            return [inside(source.samples, start, end) for source in self._sources]

    def read_now(self) -> Reading:
        """A reading of this moment, with nothing remembered; waits for it, at most 5 s.

        It has no energy, which is of an interval.
        """
        start = time.monotonic()
        self._read_once_more()
        reading = self._reading(start, time.monotonic())
        gpus = {
            uuid: {key: value for key, value in gpu.items() if key != "energy_j"}
            for uuid, gpu in reading.gpus.items()
        }
        return replace(reading, gpus=gpus)

    def _run(self) -> None:
        ask: threading.Event | None = None
        while True:
            tick = time.monotonic()
            for source in self._sources:
                if source.lost is None and (ask or tick + _SLACK_S >= source.due):
                    self._read(source, tick, fresh=ask is not None)
            if ask is not None:
                ask.set()
            due = min((s.due for s in self._sources if not s.lost), default=float("inf"))
            try:
                ask = self._asks.get(timeout=min(max(0.0, due - time.monotonic()), _HISTORY_S))
                if ask is None:
                    return
            except queue.Empty:
                ask = None

    def _read(self, source: _Source, tick: float, *, fresh: bool) -> None:
        at = source.reading_since = time.monotonic()
        try:
            reading = source.probe.read(fresh=fresh)
        # Whatever it is, it must reach the reader of the figures, and not end the thread.
        except Exception as error:
            with self._state:
                source.lost = (time.monotonic(), error)
            return
        finally:
            source.reading_since = None
        now, cpu_s = time.monotonic(), time.thread_time()
        cost_s, self._accounted_s = cpu_s - self._accounted_s, cpu_s
        with self._state:
            source.samples.append((now, reading))
            if now - at > _HANG_S:
                source.hangs.append((at, now))
            if not fresh:
                source.cost_s = cost_s
                if len(source.samples) > 1:  # the first one imports what it needs, once
                    for account in (source.account, self._account):
                        account.take(cost_s, at)
                period_s = source.probe.period_s
                on_time = max(source.due or tick, now - period_s) + period_s
                source.due = max(on_time, min(source.account.even_at, self._account.even_at))

    def _read_once_more(self) -> None:
        """Have the thread read all probes now; returns when it did, or when patience ends."""
        with self._state:
            if self._stopping:
                return
        ask = threading.Event()
        self._asks.put(ask)
        ask.wait(_PATIENCE_S)

    def _reading(self, start: float, end: float) -> Reading:
        with self._state:
            parts = [self._part(source, start, end) for source in self._sources]
        merged = Reading(
            cpu_memory_mb=peak(part.cpu_memory_mb for part in parts),
            cpu_utilization_pct=peak(part.cpu_utilization_pct for part in parts),
            gpus={
                uuid: with_memory_source(gpu) for part in parts for uuid, gpu in part.gpus.items()
            },
            notes=distinct(note for part in parts for note in part.notes),
        )
        found = totals(merged, inferences=1)
        missing = {
            metric: why
            for part in parts
            for metric, why in part.missing.items()
            # One sample of many may lack what the others have.
            if metric not in found
        }
        return replace(merged, missing=missing)

    def _part(self, source: _Source, start: float, end: float) -> Reading:
        """What one probe contributes to the interval."""
        metrics = source.probe.metrics
        samples = inside(source.samples, start, end)
        if source.lost is not None and (source.lost[0] <= end or not samples):
            return Reading(missing=dict.fromkeys(metrics, _why_lost(source.lost[1])))
        span = f"no sample was taken in the {end - start:.2g} s of this interval"
        if samples:
            part = with_last_processes(summarize(samples, start, end), source.samples, start)
            notes = (*part.notes, *self._gaps(source, len(samples), start, end))
            why = f"it was not read in the {end - start:.2g} s of this interval"
            unread = {metric: why for metric in metrics if metric != _DERIVED}
            return replace(part, missing={**unread, **part.missing}, notes=notes)
        later = next((sample for sample in source.samples if sample[0] > end), None)
        if later is None:
            why = f"{span}, nor after it: the source hangs, or sampling has ended"
            return Reading(missing=dict.fromkeys(metrics, why))
        missing = {metric: span for metric in metrics if metric != _DERIVED}
        at, reading = later
        part = of_a_moment(reading)
        note = f"{span}; memory was read {at - end:.2g} s after it"
        measured = part.gpus or part.cpu_memory_mb is not None
        return replace(
            part,
            missing={**missing, **part.missing},
            notes=(*part.notes, note) if measured else (),
        )

    def _gaps(self, source: _Source, taken: int, start: float, end: float) -> list[str]:
        """Notes on the samples of an interval that are missing."""
        name, notes = source.probe.name, []
        hangs = [*source.hangs]
        # The thread sets it without the lock.
        if (since := source.reading_since) is not None:
            hangs.append((since, time.monotonic()))
        for since, until in hangs:
            if until - since > _HANG_S and since <= end and until >= start:
                notes.append(f"{name} hung for {until - since:.1f} s, and was not read meanwhile")
        expected = int((end - start) / source.probe.period_s)
        # One may be missing at an end of the interval, where it came a little late.
        if taken + 1 < (1 - _MISSED) * expected:
            dear = source.account.overdrawn
            notes.append(
                f"only {taken} of {expected} readings of {name} were taken, and a short peak may "
                "be missing: "
                + (
                    f"one takes {1000 * source.cost_s:.1f} ms of CPU time"
                    if dear
                    else "the machine was busy, or a source hung"
                )
            )
        return notes


def _why_lost(error: Exception) -> str:
    if isinstance(error, SourceLost):
        return str(error)
    return f"the probe failed: {type(error).__name__}: {error}"
