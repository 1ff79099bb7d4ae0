"""Whether one session's figure is out of line with those of the sessions before it.

Sessions differ by more than their own intervals know: another time, another neighbour, another
load of the model. So the sessions are the sample, and one of them is never proof: what looks
worse here is a suspicion, which only the paired gate can settle.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
from scipy.special import stdtrit

Outcome = Literal["unchanged", "improved", "suspect", "inconclusive"]

FEWEST = 10
"""Sessions that it takes to know how much they differ."""

_FALSE = 0.01
"""The chance that a session like those before it is taken for a worse one."""

_FALSE_CREEP = 0.001
"""The same of the last sessions together; smaller, for it is asked anew at each session."""

_POWER = 0.95
_SMALLEST_SPREAD = 0.005
"""Sessions that agree more closely were lucky."""

_IN_A_ROW = 3
"""So many out of line, one after the other and on one side, are what is usual from then on."""

_RECENT = 5
"""Sessions at the end that are compared with the first ones, so that no slow drift gets past."""


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """What the past says of a new value; changes are logarithms, above 0 where it is worse.

    ``change`` is from the mean of the ``sessions`` values that are in line since the last step,
    the first of which is ``first`` in the past; ``steps`` is how many steps there were. The
    interval holds the value of a further session like them with 95 %. ``detectable`` is the
    smallest worsening that is found in 95 % of cases. ``crept`` is by how much the last sessions
    together are worse than the first ones, where that is no accident.
    """

    outcome: Outcome
    change: float
    sessions: int
    first: int = 0
    last: int = 0
    steps: int = 0
    interval: tuple[float, float] | None = None
    detectable: float | None = None
    crept: float | None = None


@dataclass(kw_only=True)
class _Epoch:
    """Values that are in line with each other, and where in the past they are."""

    values: list[float] = field(default_factory=list)
    places: list[int] = field(default_factory=list)

    def add(self, place: int, value: float) -> None:
        self.places.append(place)
        self.values.append(value)

    @property
    def mean(self) -> float:
        return float(np.mean(self.values))


def judge(past: Sequence[float], new: float) -> Judgement:
    """Judge a value by those of earlier sessions, the first one first; at least one.

    All are logarithms, higher where they are worse. The bound is that of a predictive t-interval
    for one more value (W. Q. Meeker, G. J. Hahn and L. A. Escobar, "Statistical Intervals", 2017,
    section 4.6). Values that were out of line themselves are left out, or a slow regression would
    become what is usual; three in a row on one side are a step, and a new epoch begins.
    """
    epochs = _epochs(past)
    epoch = epochs[-1]
    change = new - epoch.mean
    about = Judgement(
        outcome="inconclusive",
        change=change,
        sessions=len(epoch.values),
        first=epoch.places[0],
        last=epoch.places[-1],
        steps=len(epochs) - 1,
    )
    spread, freedom = _spread(epochs)
    if freedom + len(epochs) < FEWEST:
        return about
    each = spread * math.sqrt(1 + 1 / len(epoch.values))
    bound = each * float(stdtrit(freedom, 1 - _FALSE))
    reach = each * float(stdtrit(freedom, 0.975))
    crept = _crept([*epoch.values, new]) if abs(change) <= bound else None
    outcome: Outcome = "unchanged"
    if change > bound or crept is not None:
        outcome = "suspect"
    elif change < -bound:
        outcome = "improved"
    return replace(
        about,
        outcome=outcome,
        interval=(change - reach, change + reach),
        detectable=bound + each * float(stdtrit(freedom, _POWER)),
        crept=crept,
    )


def _epochs(past: Sequence[float]) -> list[_Epoch]:
    """The past in stretches between steps, without what was out of line for a session or two."""
    epochs = [_Epoch()]
    out: list[tuple[int, float]] = []
    for place, value in enumerate(past):
        side = _side(epochs, value)
        if not side:
            epochs[-1].add(place, value)
            out.clear()
            continue
        if out and _side(epochs, out[-1][1]) != side:
            out.clear()
        out.append((place, value))
        if len(out) == _IN_A_ROW:
            epochs.append(_Epoch())
            for each in out:
                epochs[-1].add(*each)
            out.clear()
    return epochs


def _side(epochs: Sequence[_Epoch], value: float) -> int:
    """1 where a value is out of line for the worse, -1 for the better, 0 where it is in line."""
    spread, freedom = _spread(epochs)
    if freedom + len(epochs) < FEWEST:
        return 0
    count = len(epochs[-1].values)
    bound = spread * math.sqrt(1 + 1 / count) * float(stdtrit(freedom, 1 - _FALSE))
    change = value - epochs[-1].mean
    return int(change > bound) - int(change < -bound)


def _spread(epochs: Sequence[_Epoch]) -> tuple[float, int]:
    """The standard deviation of sessions, pooled over epochs, and its degrees of freedom.

    The larger of the usual one and of that by the median absolute deviation (with the factor for
    few values of P. J. Rousseeuw and C. Croux, "Explicit scale estimators with high breakdown
    point", 1992), and not below half a percent.
    """
    # The first epoch is empty at the very beginning.
    known = [np.array(epoch.values) for epoch in epochs if epoch.values]
    apart = np.concatenate([values - values.mean() for values in known]) if known else np.empty(0)
    freedom = apart.size - len(epochs)
    if freedom < 1:
        return math.inf, freedom
    usual = math.sqrt(float(apart @ apart) / freedom)
    median = float(np.median(np.abs(apart - np.median(apart))))
    robust = 1.4826 * median * apart.size / (apart.size - 0.8)
    return max(usual, robust, _SMALLEST_SPREAD), freedom


def _crept(values: Sequence[float]) -> float | None:
    """By how much the last values of an epoch are worse than its first, if that is no accident.

    The spread is that of the first ones: a drift would widen that of all, and hide in it.
    """
    if len(values) < FEWEST + _RECENT:
        return None
    anchor, recent = np.asarray(values[:FEWEST]), np.asarray(values[-_RECENT:])
    spread = max(float(np.std(anchor, ddof=1)), _SMALLEST_SPREAD)
    bound = spread * math.sqrt(1 / FEWEST + 1 / _RECENT)
    change = float(recent.mean() - anchor.mean())
    return change if change > bound * float(stdtrit(FEWEST - 1, 1 - _FALSE_CREEP)) else None
