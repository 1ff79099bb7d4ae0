"""What a reader must know beside the figures: how sure they are, what disturbed them, what lacks.

Pure, as ``content`` is.
"""

import math
from collections.abc import Iterable, Sequence

from pytest_triton_perf.domain.metrics import Metric, find_metric, needs_text
from pytest_triton_perf.domain.names import listed
from pytest_triton_perf.domain.results import Run
from pytest_triton_perf.domain.sweeps import Level
from pytest_triton_perf.domain.verdicts import Verdict


def legend(run: Run) -> str:
    """What ``[ ]`` and ``±`` mean and at which confidence; empty where no figure has them."""
    measurements = (measurement for sweep in run.sweeps for measurement in sweep.measurements)
    if all(estimate.ci is None for m in measurements for estimate in m.values.values()):
        return ""
    return (
        f"[low, high]: {100 * run.confidence:g}% confidence interval; ±: its wider side; "
        "∞: an end that the requests cannot bound."
    )


def why(verdict: Verdict) -> str:
    """Why a verdict is what it is, and what a closed interval of its figure would take."""
    parts = [verdict.reason]
    if verdict.needs is not None and verdict.status != "inconclusive":
        parts.append(f"its interval {needs_text(verdict.needs)}")
    return "; ".join(filter(None, parts))


def disturbed(run: Run, levels: Iterable[Level]) -> str:
    """Which of the levels the machine disturbed, and how; empty where it was calm."""
    found = [level for level in levels if level.measurement.faults]
    if not found:
        return ""
    first, *others = found
    text = f"disturbed: {_place(run, first)}, {listed(first.measurement.faults)}"
    if not others:
        return text
    return f"{text}; {len(others)} more level{'s' * (len(others) > 1)} in such ways"


def remarks(run: Run, levels: Sequence[Level]) -> list[str]:
    """Why figures are missing or not bounded, and the remarks on the levels; each once."""
    reasons: dict[str, list[str]] = {}
    notes: dict[str, list[str]] = {}
    for level in levels:
        for name, reason in level.measurement.missing.items():
            labels = reasons.setdefault(reason, [])
            if (label := find_metric(name).label) not in labels:
                labels.append(label)
        for note in level.measurement.notes:
            notes.setdefault(note, []).append(_place(run, level))
    return [
        *filter(None, [disturbed(run, levels)]),
        *(f"{listed(labels)} not measured: {reason}" for reason, labels in reasons.items()),
        *_unbounded(run, levels),
        *(f"{_first(where)}: {note}" for note, where in notes.items()),
    ]


def _unbounded(run: Run, levels: Iterable[Level]) -> list[str]:
    """Which figures have an open interval, and about how many more requests would close it."""
    places: dict[Metric, list[str]] = {}
    needs: dict[Metric, list[int]] = {}
    for level in levels:
        for name, estimate in level.measurement.values.items():
            if estimate.margin is not None and math.isinf(estimate.margin):
                metric = find_metric(name)
                places.setdefault(metric, []).append(_place(run, level))
                if estimate.needs is not None:
                    needs.setdefault(metric, []).append(estimate.needs)
    return [
        f"{_first(where)}: the interval of {metric.label} is open (∞)"
        + (f"; it {needs_text(max(needs[metric]))}" if metric in needs else "")
        for metric, where in places.items()
    ]


def _place(run: Run, level: Level) -> str:
    return f"{run.configuration(level.sweep)} at {level.load}"


def _first(where: Sequence[str]) -> str:
    """Where a remark is on: ``m_config_0 at concurrency 1 and 5 more``."""
    places = list(dict.fromkeys(where))
    return places[0] if len(places) == 1 else f"{places[0]} and {len(places) - 1} more"
