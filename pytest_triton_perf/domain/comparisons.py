"""Comparisons: how two arms of the paired gate differ, and what a test allows."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pytest_triton_perf.domain.levels import Interval, Load
from pytest_triton_perf.domain.metrics import Metric, find_metric

Mode = Literal["detect", "prove"]
"""What passes: all that is not proven to be worse, or only what is proven not to be."""

Source = Literal["gate", "baseline"]
"""The base of this session, or what was kept of earlier sessions."""

Status = Literal[
    "unchanged",
    "improved",
    "regressed",
    "suspect",
    "inconclusive",
    "not_comparable",
    "no_baseline",
    "vanished",
]


@dataclass(frozen=True, kw_only=True)
class Gate:
    """What a test allows to change between the base and the head.

    ``loads`` are the levels at which it is measured, empty for the highest of an automatic ramp.
    """

    metric: Metric
    max_slowdown_pct: float
    mode: Mode = "detect"
    loads: tuple[Load, ...] = ()

    @property
    def allowed(self) -> float:
        """The worsening that must be found, as a logarithm."""
        return math.log1p(self.max_slowdown_pct / 100)


@dataclass(frozen=True, kw_only=True)
class Watched:
    """What of a session a later one is compared with: a metric of a test at a load.

    ``test`` is the test's id in this session, and ``name`` what it is called in every one, for
    the names of variants are counted in each anew. ``requests`` is a digest of how they look, and
    ``image_digest`` that of the server's image.
    """

    test: str
    name: str
    model: str
    variant: str
    image: str | None
    metric: str
    load: Load
    requests: str
    image_digest: str | None = None


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """How one metric of one test changed from the base to the head, or since earlier sessions.

    ``test`` is ``None`` for a model that is gone, and ``load`` and ``metric`` are where nothing
    was to be measured. Where ``gated`` is false, the metric was measured beside the one of the
    gate, and fails nothing. ``change_pct`` is that of the metric itself: of a throughput, -5 is
    worse. ``mde_pct`` is the smallest worsening that is found in 95 % of cases, by so many
    ``quads``, or by the ``sessions`` of the baseline that are alike.
    """

    model: str
    status: Status
    source: Source = "gate"
    test: str | None = None
    variant: str = ""
    image: str | None = None
    metric: str | None = None
    load: Load | None = None
    gated: bool = True
    mode: Mode = "detect"
    max_slowdown_pct: float | None = None
    change_pct: float | None = None
    ci_pct: Interval | None = None
    quads: int = 0
    sessions: int = 0
    mde_pct: float | None = None
    reason: str = ""

    @property
    def fails(self) -> bool:
        """Whether the session fails because of it."""
        failing = {"regressed", "not_comparable", "vanished"}
        if self.mode == "prove":
            failing.add("inconclusive")
        return self.gated and self.status in failing

    @property
    def limit_pct(self) -> float | None:
        """The change of the metric itself that ``max_slowdown_pct`` means: -4.8 for 5."""
        if self.max_slowdown_pct is None or self.metric is None:
            return None
        return change_pct(find_metric(self.metric), math.log1p(self.max_slowdown_pct / 100))


def change_pct(metric: Metric, worse: float) -> float:
    """The change of a metric in percent, for a logarithm that is above 0 where it is worse."""
    return 100 * math.expm1(worse if metric.better == "lower" else -worse)


def interval_pct(metric: Metric, worse: tuple[float | None, float | None]) -> Interval:
    """The same for both ends of an interval."""
    low, high = (None if end is None else change_pct(metric, end) for end in worse)
    return (low, high) if metric.better == "lower" else (high, low)


def tally(comparisons: Iterable[Comparison]) -> str:
    """``1 regressed, 2 unchanged`` of those that are gated, what fails first."""
    counts: dict[str, int] = {}
    for comparison in sorted(comparisons, key=lambda c: not c.fails):
        if comparison.gated:
            counts[comparison.status] = counts.get(comparison.status, 0) + 1
    return ", ".join(f"{count} {status.replace('_', ' ')}" for status, count in counts.items())


def to_json(comparison: Comparison) -> dict[str, Any]:
    """A comparison as in ``results.json``."""
    load, ci = comparison.load, comparison.ci_pct
    return {
        "source": comparison.source,
        "test": comparison.test,
        "model": comparison.model,
        "variant": comparison.variant,
        "image": comparison.image,
        "metric": comparison.metric,
        "at": {} if load is None else _at(load),
        "gated": comparison.gated,
        "mode": comparison.mode,
        "max_slowdown_pct": comparison.max_slowdown_pct,
        "change_pct": comparison.change_pct,
        "ci_pct": None if ci is None else list(ci),
        "quads": comparison.quads,
        "sessions": comparison.sessions,
        "mde_pct": comparison.mde_pct,
        "status": comparison.status,
        "reason": comparison.reason,
    }


def _at(load: Load) -> dict[str, float]:
    return {load.kind: load.value, "batch_size": load.batch_size}


def from_json(row: Mapping[str, Any]) -> Comparison:
    """The comparison that :func:`to_json` wrote."""
    given = dict(row)
    at, ci = given.pop("at"), given.pop("ci_pct")
    return Comparison(
        load=Load(**at) if at else None, ci_pct=None if ci is None else (ci[0], ci[1]), **given
    )


def watched_to_json(watched: Watched) -> dict[str, Any]:
    """What is watched as in ``results.json``."""
    row = {name: getattr(watched, name) for name in _WATCHED}
    return {**row, "at": _at(watched.load)}


def watched_from_json(row: Mapping[str, Any]) -> Watched:
    """What :func:`watched_to_json` wrote."""
    return Watched(load=Load(**row["at"]), **{name: row[name] for name in _WATCHED})


_WATCHED = ("test", "name", "model", "variant", "image", "metric", "requests", "image_digest")
