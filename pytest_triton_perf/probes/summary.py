"""What many samples say of an interval: peaks, means over time, and sums."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

from pytest_triton_perf.domain.levels import GpuFigures
from pytest_triton_perf.probes.base import Reading, number, with_memory_source

Sample = tuple[float, Reading]
"""When the reading was complete (``time.monotonic()``, in seconds), and what was read."""

_MEANS = ("utilization_pct", "power_w", "sm_clock_mhz")
"""What of a GPU is averaged over time."""

_OF_A_MOMENT = ("memory_mb", "process_memory_mb")
"""What of a GPU a single moment tells."""

_Series = list[tuple[float, float]]


def inside(samples: Iterable[Sample], start: float, end: float) -> list[Sample]:
    """The samples of an interval."""
    return [sample for sample in samples if start <= sample[0] <= end]


def summarize(samples: Sequence[Sample], start: float, end: float) -> Reading:
    """The samples of the interval from ``start`` to ``end`` as one reading.

    Memory and temperature are peaks. Utilisation, power and clocks are means, each sample
    standing for the time since the one before. Energy is what a counter of it rose by, or where
    none was read, mean power times the length of the interval.
    """
    readings = [reading for _, reading in samples]
    cpu = [(at, reading.cpu_utilization_pct) for at, reading in samples]
    return Reading(
        cpu_memory_mb=peak(reading.cpu_memory_mb for reading in readings),
        cpu_utilization_pct=_mean(_known(cpu), start),
        gpus={
            uuid: _gpu([(at, r.gpus[uuid]) for at, r in samples if uuid in r.gpus], start, end)
            for uuid in dict.fromkeys(uuid for reading in readings for uuid in reading.gpus)
        },
        missing={metric: why for r in readings for metric, why in r.missing.items()},
        notes=distinct(note for reading in readings for note in reading.notes),
    )


def combined(parts: Sequence[tuple[float, Reading]]) -> Reading:
    """Readings of several stretches, each with its length in seconds, as one.

    As over the samples of one stretch: peaks, means over time, and the energy of all of it.
    """
    readings = [reading for _, reading in parts]
    return Reading(
        cpu_memory_mb=peak(reading.cpu_memory_mb for reading in readings),
        cpu_utilization_pct=_weighted((s, r.cpu_utilization_pct) for s, r in parts),
        gpus={
            uuid: _gpu_combined([(s, r.gpus[uuid]) for s, r in parts if uuid in r.gpus])
            for uuid in dict.fromkeys(uuid for reading in readings for uuid in reading.gpus)
        },
        missing={metric: why for r in readings for metric, why in r.missing.items()},
        notes=distinct(note for reading in readings for note in reading.notes),
    )


def with_last_processes(part: Reading, samples: Sequence[Sample], start: float) -> Reading:
    """``part`` with the processes' memory as it was last read before ``start``, if not in it.

    Processes are listed less often than memory is read, and an interval may be shorter than that:
    its figure would be the device's, beside those of others that are the processes'.
    """
    gpus = dict(part.gpus)
    for uuid, gpu in part.gpus.items():
        if "process_memory_mb" not in gpu:
            before = (r.gpus[uuid] for at, r in reversed(samples) if at < start and uuid in r.gpus)
            last = next((known for known in before if "process_memory_mb" in known), None)
            if last is not None:
                gpus[uuid] = {**gpu, "process_memory_mb": last["process_memory_mb"]}
    return replace(part, gpus=gpus)


def of_a_moment(reading: Reading) -> Reading:
    """What one sample can say of another moment: memory alone."""
    return Reading(
        cpu_memory_mb=reading.cpu_memory_mb,
        gpus={
            uuid: {key: value for key, value in gpu.items() if key in _OF_A_MOMENT}
            for uuid, gpu in reading.gpus.items()
        },
        missing=reading.missing,
        notes=reading.notes,
    )


def peak(values: Iterable[float | None]) -> float | None:
    """The highest of the values that are known; ``None`` where none is."""
    return max((value for value in values if value is not None), default=None)


def distinct(notes: Iterable[str]) -> tuple[str, ...]:
    """Each note once, in order."""
    return tuple(dict.fromkeys(notes))


def _gpu(samples: Sequence[tuple[float, GpuFigures]], start: float, end: float) -> GpuFigures:
    summary: dict[str, float | str | None] = {}
    keys = dict.fromkeys(key for _, gpu in samples for key in gpu)
    if "power_w" in keys:
        keys["energy_j"] = None
    for key in keys:
        series = _known([(at, number(gpu, key)) for at, gpu in samples])
        if key == "throttle_reasons":
            summary[key] = _all_reasons(gpu.get(key) for _, gpu in samples)
        elif key == "energy_j":
            per_s = _rise_per_s(series)
            if per_s is None:
                per_s = _mean(_known([(at, number(gpu, "power_w")) for at, gpu in samples]), start)
            summary[key] = None if per_s is None else per_s * (end - start)
        elif key in _MEANS:
            summary[key] = _mean(series, start)
        elif key == "process_memory_mb" and any(gpu.get(key, 0) is None for _, gpu in samples):
            # Of the server alone at some times and of all at others would be neither.
            summary[key] = None
        else:
            summary[key] = peak(value for _, value in series)
    return summary


def _gpu_combined(parts: Sequence[tuple[float, GpuFigures]]) -> GpuFigures:
    whole: dict[str, float | str | None] = {}
    # The server's own memory at some times and the device's at others would be neither.
    of_one_kind = len({gpu.get("memory_source") for _, gpu in parts}) == 1
    for key in dict.fromkeys(key for _, gpu in parts for key in gpu):
        values = [number(gpu, key) for _, gpu in parts]
        if key == "throttle_reasons":
            whole[key] = _all_reasons(gpu.get(key) for _, gpu in parts)
        elif key in _MEANS:
            whole[key] = _weighted((seconds, number(gpu, key)) for seconds, gpu in parts)
        elif key == "energy_j":
            # Per second it is a mean, also where a short stretch had no reading of the counter.
            per_s = _weighted(
                (s, None if e is None else e / s) for (s, _), e in zip(parts, values, strict=True)
            )
            whole[key] = None if per_s is None else per_s * sum(seconds for seconds, _ in parts)
        elif key in ("process_memory_mb", "memory_delta_mb") and not of_one_kind:
            whole[key] = None
        elif key != "memory_source":
            whole[key] = peak(values)
    return with_memory_source(whole)


def _weighted(parts: Iterable[tuple[float, float | None]]) -> float | None:
    known = [(seconds, value) for seconds, value in parts if value is not None]
    total = sum(seconds for seconds, _ in known)
    return sum(seconds * value for seconds, value in known) / total if total else None


def _known(series: Iterable[tuple[float, float | None]]) -> _Series:
    return [(at, value) for at, value in series if value is not None]


def _mean(series: _Series, start: float) -> float | None:
    if not series:
        return None
    since = [start, *(at for at, _ in series)]
    weights = [at - before for (at, _), before in zip(series, since, strict=False)]
    if not any(weights):
        return series[-1][1]
    weighted = sum(value * weight for (_, value), weight in zip(series, weights, strict=True))
    return weighted / sum(weights)


def _rise_per_s(counter: _Series) -> float | None:
    """How fast a counter rose; ``None`` where one value, or a fall, does not tell."""
    if len(counter) < 2:
        return None
    (first, low), (last, high) = counter[0], counter[-1]
    return (high - low) / (last - first) if last > first and high >= low else None


def _all_reasons(texts: Iterable[float | str | None]) -> str | None:
    known = [text for text in texts if isinstance(text, str)]
    if not known:
        return None
    return ", ".join(distinct(reason for text in known for reason in text.split(", ") if reason))
