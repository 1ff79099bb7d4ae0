"""The one thread that watches the machine while levels are measured."""

import threading
import time
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from types import TracebackType

from pytest_triton_perf.probes.base import Probe, Reading, SourceLost, totals

_HISTORY_S = 900.0
"""How far back samples are kept; far longer than a level may last."""

_MAX_SHARE = 0.02
"""The part of one CPU core that a probe may take."""

_PATIENCE_S = 5.0
"""How long a probe may hang before the caller goes on without it."""

_MEANS = {"utilization_pct": "gpu_utilization_pct", "power_w": "power_w"}
"""What is averaged over time, with its metric; of everything else the peak counts."""

Sample = tuple[float, Reading]
"""When it was taken (``time.monotonic()``, in seconds), and what was read."""


@dataclass(kw_only=True)
class _Source:
    probe: Probe
    samples: deque[Sample]
    due: float = 0.0
    lost: tuple[float, Exception] | None = None


class Sampler:
    """Reads all probes every ``period_s`` seconds, in one daemon thread, while it is entered.

    A probe whose readings are dear is read less often, so that it does not take more than
    2 % of a core. A probe that raises is not asked again: its metrics are missing from
    then on, with the exception in words. Leaving closes the probes.
    """

    def __init__(self, probes: Sequence[Probe], period_s: float = 0.1) -> None:
        self._period_s = period_s
        size = int(_HISTORY_S / period_s)
        self._sources = [_Source(probe=probe, samples=deque(maxlen=size)) for probe in probes]
        self._thread = threading.Thread(target=self._run, name="triton-perf-sampler", daemon=True)
        # Guards all below and the samples; never held while a probe is read.
        self._state = threading.Condition()
        self._asked = self._served = 0
        self._stopping = False

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
            self._state.notify_all()
        if self._thread.ident is not None:
            self._thread.join(_PATIENCE_S)
        if not self._thread.is_alive():
            for source in self._sources:
                source.probe.close()

    def summary(self, start: float, end: float) -> Reading:
        """What was read from ``start`` to ``end`` (``time.monotonic()``), in one reading.

        Memory is the peak of the samples; utilisation and power are their means, each sample
        standing for the time since the one before. A probe without a sample in the interval
        is read once more now, for its memory alone, and a note says so. What could not be
        measured is in ``missing``.
        """
        with self._state:
            empty = any(not s.lost and not _inside(s.samples, start, end) for s in self._sources)
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
            return [_inside(source.samples, start, end) for source in self._sources]

    def read_now(self) -> Reading:
        """A reading of this moment, as for the idle server; waits for it, at most 5 s."""
        start = time.monotonic()
        self._read_once_more()
        return self._reading(start, time.monotonic())

    def _run(self) -> None:
        while True:
            with self._state:
                asked = self._asked
            for source in self._sources:
                if source.lost is None and (asked > self._served or time.monotonic() >= source.due):
                    self._read(source)
            pause = min((s.due for s in self._sources if not s.lost), default=float("inf"))
            with self._state:
                self._served = asked
                self._state.notify_all()
                self._state.wait_for(
                    lambda: self._stopping or self._asked > self._served,
                    timeout=min(max(0.0, pause - time.monotonic()), _HISTORY_S),
                )
                if self._stopping:
                    return

    def _read(self, source: _Source) -> None:
        at, cpu = time.monotonic(), time.thread_time()
        try:
            reading = source.probe.read()
        # Whatever it is, it must reach the reader of the figures, and not end the thread.
        except Exception as error:
            with self._state:
                source.lost = (time.monotonic(), error)
            return
        rest = (time.thread_time() - cpu) / _MAX_SHARE
        with self._state:
            source.due = at + max(self._period_s, rest)
            source.samples.append((at, reading))

    def _read_once_more(self) -> None:
        """Have the thread read all probes now; returns when it did, or when patience ends."""
        with self._state:
            if self._stopping:
                return
            self._asked += 1
            mine = self._asked
            self._state.notify_all()
            self._state.wait_for(lambda: self._served >= mine, timeout=_PATIENCE_S)

    def _reading(self, start: float, end: float) -> Reading:
        with self._state:
            parts = [_part(source, start, end) for source in self._sources]
        merged = Reading(
            cpu_memory_mb=_peak(part.cpu_memory_mb for part in parts),
            gpus={uuid: gpu for part in parts for uuid, gpu in part.gpus.items()},
            notes=_distinct(note for part in parts for note in part.notes),
        )
        found = totals(merged)
        missing = {
            metric: why
            for part in parts
            for metric, why in part.missing.items()
            # One sample of many may lack what the others have.
            if metric not in found
        }
        return replace(merged, missing=missing)


def _part(source: _Source, start: float, end: float) -> Reading:
    """What one probe contributes to the interval."""
    metrics = source.probe.metrics
    inside = _inside(source.samples, start, end)
    later = next((sample for sample in source.samples if sample[0] > end), None)
    if source.lost is not None and (source.lost[0] <= end or not inside):
        return Reading(missing=dict.fromkeys(metrics, _why_lost(source.lost[1])))
    if inside:
        return _summarize(inside, start)
    span = f"no sample was taken in the {end - start:.2g} s of this interval"
    if later is None:
        why = f"{span}, nor after it: the source hangs, or sampling has ended"
        return Reading(missing=dict.fromkeys(metrics, why))
    at, reading = later
    gpus = {
        uuid: {key: value for key, value in gpu.items() if key not in _MEANS}
        for uuid, gpu in reading.gpus.items()
    }
    means = dict.fromkeys((m for m in _MEANS.values() if m in metrics), span)
    note = f"{span}; memory was read {at - end:.2g} s after it"
    return Reading(
        cpu_memory_mb=reading.cpu_memory_mb,
        gpus=gpus,
        missing={**means, **reading.missing},
        notes=(*reading.notes, note) if gpus or reading.cpu_memory_mb is not None else (),
    )


def _inside(samples: Iterable[Sample], start: float, end: float) -> list[Sample]:
    return [sample for sample in samples if start <= sample[0] <= end]


def _summarize(samples: Sequence[Sample], start: float) -> Reading:
    readings = [reading for _, reading in samples]
    keys = {(uuid, key) for r in readings for uuid, gpu in r.gpus.items() for key in gpu}
    gpus: dict[str, dict[str, float | None]] = {uuid: {} for r in readings for uuid in r.gpus}
    for uuid, key in sorted(keys):
        series = [(at, r.gpus[uuid].get(key)) for at, r in samples if uuid in r.gpus]
        gpus[uuid][key] = _mean(series, start) if key in _MEANS else _peak(v for _, v in series)
    return Reading(
        cpu_memory_mb=_peak(reading.cpu_memory_mb for reading in readings),
        gpus=gpus,
        missing={metric: why for r in readings for metric, why in r.missing.items()},
        notes=_distinct(note for reading in readings for note in reading.notes),
    )


def _peak(values: Iterable[float | None]) -> float | None:
    return max((value for value in values if value is not None), default=None)


def _mean(series: Iterable[tuple[float, float | None]], start: float) -> float | None:
    known = [(at, value) for at, value in series if value is not None]
    if not known:
        return None
    since = [start, *(at for at, _ in known)]
    weights = [at - before for (at, _), before in zip(known, since, strict=False)]
    if not any(weights):
        return known[-1][1]
    weighted = sum(value * weight for (_, value), weight in zip(known, weights, strict=True))
    return weighted / sum(weights)


def _distinct(notes: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(notes))


def _why_lost(error: Exception) -> str:
    if isinstance(error, SourceLost):
        return str(error)
    return f"the probe failed: {type(error).__name__}: {error}"
