"""The paired gate's statistics: is one arm worse than the other, and by how much, from quads.

A quad is an ABBA or BAAB of short measurements whose order a coin decided, and gives one number
per metric: how much worse the head is than the base, as a logarithm (0.05 is about 5 % worse).
Where the arms are equal, the coin alone makes that number as likely above 0 as below, whatever
the noise is: drift, bursts, heavy tails. All that is said here rests on this.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.special import ndtri, stdtrit

from pytest_triton_perf.domain.segments import Numbers

Outcome = Literal["unchanged", "improved", "regressed", "inconclusive"]

FALSE_ALARMS = 0.01
"""At most this chance has a session, with all its gates, to call one of equal arms worse."""

CONFIDENCE = 0.95
"""Of the interval of a change, over all quads at which one may stop."""

FALSE_PASSES = (1 - CONFIDENCE) / 2
"""At most this chance has a worsening that must be found to pass for unchanged. It is that of an
end of the interval: of what is unchanged, the interval excludes such a worsening."""

_PROMISING = math.log(10)
"""From this evidence on, that the head is better is worth some more quads."""

FEWEST_QUADS = 7
"""Fewer cannot bound an interval on both sides, however clear they are."""

MOST_QUADS = 32

_BETS = np.array([0.4, 0.8, 0.98])
"""Shares of what was won that are put on the next quad; small ones win where noise is large."""

_FIRST_SCALE = 0.015
"""What counts as a clear change in the first quads, before their spread is known."""

_QUADS_FOR_SCALE = 3
_SCALE = 0.5
"""Share of the median size of the quads so far that counts as clear. Both found by simulation."""

_SMALLEST_SCALE = 1e-6

_NEARER = 0.6
"""Share of the allowed worsening from which on it is told from nothing, also by simulation."""

_POINTS = 801
_WIDEST = math.log(10)
"""An end of an interval that is further away is not told."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What the quads say of one metric; changes are logarithms, above 0 where the head is worse.

    ``settled`` is false where more quads may say something else. ``interval`` holds the true
    change with probability ``CONFIDENCE``, whenever one stops; an end that the quads cannot bound
    is ``None``. ``detectable`` is the smallest worsening that such quads find in 95 % of cases.
    """

    outcome: Outcome
    settled: bool
    change: float
    interval: tuple[float | None, float | None]
    detectable: float | None


def find(worse: Sequence[float], *, allowed: float, gates: int, most: int = MOST_QUADS) -> Finding:
    """What quads say, the first one first: as :func:`decide`, with the change and its interval.

    ``most`` is how many quads there can be.
    """
    quads = np.asarray(worse, dtype=np.float64)
    outcome, settled = decide(worse, allowed=allowed, gates=gates)
    median = float(np.median(quads))
    low, high = _interval(quads, median)
    return Finding(
        outcome=outcome,
        settled=settled,
        # Of few and wild quads, the interval may exclude the median.
        change=float(np.clip(median, low, high)) if (low, high) != (None, None) else median,
        interval=(low, high),
        detectable=_detectable(quads, allowed, gates, most),
    )


def decide(worse: Sequence[float], *, allowed: float, gates: int) -> tuple[Outcome, bool]:
    """The outcome, and whether it is settled.

    ``worse`` has each quad's number, ``allowed`` is the worsening that must be found (above 0),
    and ``gates`` is how many share the session's chance of a false alarm.

    The head is "regressed" once the evidence that it is worse at all reaches
    ``gates / FALSE_ALARMS``, and "unchanged" once that against a worsening of ``allowed`` reaches
    ``1 / FALSE_PASSES``; of both, the stronger counts. So what is far below ``allowed`` passes,
    however exactly it was measured. Where the head looks better, the quads go on until that is
    as certain as a regression would be, or looks so no more.
    """
    quads = np.asarray(worse, dtype=np.float64)
    above, below = _log_evidence(quads, np.array([0.0, allowed]))
    is_worse, is_better, is_kept = above[-1, 0], below[-1, 0], below[-1, 1]
    alarm, kept = math.log(gates / FALSE_ALARMS), -math.log(FALSE_PASSES)
    if quads.size < FEWEST_QUADS:
        return "inconclusive", False
    if is_kept >= kept and is_kept > is_worse:
        if is_better >= alarm:
            return "improved", True
        return "unchanged", bool(is_better < _PROMISING)
    if is_worse >= alarm:
        return "regressed", True
    return "inconclusive", False


def _log_evidence(quads: Numbers, changes: Numbers) -> tuple[Numbers, Numbers]:
    """Logarithms of the evidence, after each quad, that the true change is (above, below) each.

    Two arrays with a row per quad and a column per element of ``changes``. Each is what a player
    has who began with 1 and bets on the next quad's side: under the change in question no bet
    has an expected gain, so that it ever reaches x has a chance of at most 1/x (J. Ville, 1939;
    G. Shafer, "Testing by betting", J. R. Stat. Soc. A 184, 2021; bounded bets as in I.
    Waudby-Smith and A. Ramdas, "Estimating means of bounded random variables by betting",
    J. R. Stat. Soc. B 86, 2024). The tangent keeps one wild quad from deciding anything; its
    scale knows only earlier quads. Several shares are played side by side, and averaged.
    """
    apart = quads[:, None] - changes[None, :]
    scales = np.full_like(apart, _FIRST_SCALE)
    for i in range(_QUADS_FOR_SCALE, quads.size):
        scales[i] = _SCALE * np.median(np.abs(apart[:i]), axis=0)
    odds = np.tanh(apart / np.maximum(scales, _SMALLEST_SCALE))
    stakes = _BETS[:, None, None]
    above = np.cumsum(np.log1p(stakes * odds), axis=1)
    below = np.cumsum(np.log1p(-stakes * odds), axis=1)
    mean = math.log(_BETS.size)
    return np.logaddexp.reduce(above, axis=0) - mean, np.logaddexp.reduce(below, axis=0) - mean


def _interval(quads: Numbers, median: float) -> tuple[float | None, float | None]:
    """All changes against which there was never, after any quad, evidence enough."""
    enough = math.log(2 / (1 - CONFIDENCE))
    reach = max(0.01, 4 * float(np.ptp(quads)))
    low = high = None
    while (low is None or high is None) and reach < _WIDEST:
        changes = median + np.linspace(-reach, reach, _POINTS)
        above, below = (side.max(axis=0) for side in _log_evidence(quads, changes))
        within = np.flatnonzero((above < enough) & (below < enough))
        first, last = (within[0], within[-1]) if within.size else (_POINTS // 2, _POINTS // 2)
        # One step further out, where the evidence is there.
        low = float(changes[first - 1]) if low is None and first else low
        high = float(changes[last + 1]) if high is None and last + 1 < _POINTS else high
        reach *= 2
    return low, high


def _detectable(quads: Numbers, allowed: float, gates: int, most: int) -> float | None:
    """The worsening that is found in 95 % of cases, by the spread of the quads.

    It must be seen at all by ``most`` quads (the t-test's formula, to which the evidence is
    close), and must be seen, by the time that ``FEWEST_QUADS`` can pass, to be nearer to
    ``allowed`` than to nothing. The spread is the median absolute deviation with the factor for
    few numbers of P. J. Rousseeuw and C. Croux ("Explicit scale estimators with high breakdown
    point", 1992).
    """
    if quads.size < 2:
        return None
    size = quads.size
    deviation = 1.4826 * float(np.median(np.abs(quads - np.median(quads)))) * size / (size - 0.8)
    power = float(ndtri(0.95))
    alarm = float(stdtrit(most - 1, 1 - FALSE_ALARMS / gates)) if most > 1 else math.inf
    seen = (alarm + power) * deviation / math.sqrt(most)
    nearer = _NEARER * allowed + power * deviation / math.sqrt(min(FEWEST_QUADS, most))
    return max(seen, nearer)
