"""Bracketing: narrow down at which concurrency a limit breaks, by bisection."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pytest_triton_perf.domain.budgets import Budget
from pytest_triton_perf.domain.levels import Estimate, Measurement
from pytest_triton_perf.domain.names import listed

NARROW = 0.1
"""A bracket that is this share of its lower end is narrow enough: levels 10 % apart differ by less
than a machine does from one hour to the next."""


@dataclass(frozen=True, kw_only=True)
class Step:
    """Where the bracket stands.

    ``concurrency`` is what to load next: a new level, or a measured one that has not had enough
    load to tell. It is ``None`` where there is nothing more to find out. ``kept`` is the level
    that the bracket is about (``None`` where every level breaks the limits), ``broken`` its
    neighbour that breaks them (``None`` where none does), and ``note`` is what a reader of
    ``kept`` must know.
    """

    concurrency: int | None
    kept: int | None = None
    broken: int | None = None
    note: str = ""


def next_step(
    levels: Mapping[int, Measurement], limits: Sequence[Budget], *, enough_s: float
) -> Step:
    """The next step towards the last level that keeps all ``limits``.

    ``levels`` are those of one batch size, by concurrency. Limits on latency break as load rises,
    and the last level is the highest that keeps them; limits on throughput break as load falls,
    and it is the lowest. All of ``limits`` are of one of these kinds. A level whose interval has
    a limit inside gets load again until it has had ``enough_s`` seconds of it. Where that does
    not clear the level that is the answer, a finer bracket would only follow the noise.
    """
    falling = limits[0].metric.better == "higher"
    order = sorted(levels, reverse=falling)
    kept_at = [i for i, c in enumerate(order) if _keeps(levels[c], limits)]
    if not kept_at:
        return Step(concurrency=None)
    last = kept_at[-1]
    kept, further = order[last], order[last + 1 :]
    broken = further[0] if further else None
    asked = listed(map(str, limits))
    others = [c for c in order[:last] if not _keeps(levels[c], limits)]
    note = f"{asked} does not hold at concurrency {listed(map(str, others))}" if others else ""
    if broken is None:
        return Step(concurrency=None, kept=kept, note=note)

    vague = _is_vague(levels[kept], limits)
    for end, is_vague in ((kept, vague), (broken, not _clearly_breaks(levels[broken], limits))):
        if is_vague and levels[end].wall_s < enough_s:
            return Step(concurrency=end, kept=kept, broken=broken, note=note)
    if vague:
        why = f"{_where(kept, broken, limits)}: the interval at {kept} has the limit inside"
        return Step(
            concurrency=None, kept=kept, broken=broken, note="; ".join(filter(None, [note, why]))
        )
    low, high = sorted((kept, broken))
    if high - low <= max(1, NARROW * low):
        return Step(concurrency=None, kept=kept, broken=broken, note=note)
    return Step(concurrency=(low + high) // 2, kept=kept, broken=broken, note=note)


def out_of_time(step: Step, limits: Sequence[Budget]) -> str:
    """The note of a bracket that stays wide because its next step does not fit into the time."""
    if step.kept is None or step.broken is None:
        return step.note
    why = (
        f"{_where(step.kept, step.broken, limits)}: the sweep's time is used up "
        "(--triton-perf-max-seconds)"
    )
    return "; ".join(filter(None, [step.note, why]))


def _where(kept: int, broken: int, limits: Sequence[Budget]) -> str:
    low, high = sorted((kept, broken))
    return f"{listed(map(str, limits))} breaks somewhere between concurrency {low} and {high}"


def _keeps(level: Measurement, limits: Sequence[Budget]) -> bool:
    return all(limit.holds_on(level) for limit in limits)


def _is_vague(level: Measurement, limits: Sequence[Budget]) -> bool:
    return any(_straddles(level.values[limit.metric.name], limit.limit) for limit in limits)


def _clearly_breaks(level: Measurement, limits: Sequence[Budget]) -> bool:
    """Whether one limit is broken for sure; a metric that is not there gains nothing by load."""
    return any(
        limit.metric.name not in level.values
        or not _straddles(level.values[limit.metric.name], limit.limit)
        for limit in limits
        if not limit.holds_on(level)
    )


def _straddles(estimate: Estimate, limit: float) -> bool:
    """Whether the interval has the limit inside.

    An end that the data cannot bound, as of a p99 of some hundred requests, is taken to be as far
    away as the other, on the scale of the logarithm.
    """
    if estimate.ci is None:
        return False
    low, high = estimate.ci
    if low is None and high is None:
        return True
    value = estimate.value
    if low is None:
        assert high is not None
        low = value * value / high
    if high is None:
        high = value * value / low if low > 0 else math.inf
    return low <= limit <= high
