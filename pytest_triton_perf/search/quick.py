"""The quick search: measure where an improvement is to be expected, drop what cannot win.

What was measured so far gives, for every level that was not, a bound from above and one from
below (see ``surface``). A level whose optimistic bound is under the leader's pessimistic bound,
or surely outside a limit, is out of the race. Of the others the next is the one that promises
the greatest improvement.
"""

import math
from collections.abc import Iterator

import numpy as np
from scipy.special import ndtr

from pytest_triton_perf.search.base import NOTHING, Found, Grid, Guess, Outcome, Spot
from pytest_triton_perf.search.surface import Floats, Surface

SHARE = 0.095
"""Of all levels of a large grid, those that are measured at most before the finals."""

_SMALL = 24
"""A grid with so few levels may be measured as a whole."""

_MOST = 150
"""Of the levels of any grid."""

_BOUND = 2.0
"""An optimistic or pessimistic bound is so many standard errors away."""

_WORTH = 0.002
"""An improvement (of the logarithm of the score) that is expected to be less is not looked for."""

_RELOAD = 2.0
"""Another candidate has to promise so many times more than one that is loaded already."""


class Quick:
    """See the module. ``seed`` decides between levels that promise the same."""

    def __init__(self, grid: Grid, *, seed: int = 0) -> None:
        self.found = Found(grid)
        self._grid = grid
        self._points: Floats = np.array(
            [(*grid.candidates[c], *grid.loads[load]) for c, load in grid.spots]
        )
        self._row = {spot: row for row, spot in enumerate(grid.spots)}
        self._candidate_of = np.array([spot.candidate for spot in grid.spots])
        self._score = Surface(self._points)
        self._slacks = [Surface(self._points) for _ in grid.constraints]
        self._tiebreak = np.random.default_rng(seed).uniform(0, 1e-6, len(grid.spots))
        self._most = min(_MOST, max(_SMALL, round(SHARE * len(grid.spots))))
        self._loaded = 0
        self._first = self._opening()

    def tell(self, spot: Spot, outcome: Outcome) -> None:
        """As the protocol says."""
        self._loaded = spot.candidate
        self.found.tell(spot, outcome)

    def lost(self, candidate: int) -> None:
        """As the protocol says; in a monotone grid those that need more are lost too."""
        measured = {spot.candidate for spot in self.found.outcomes}
        others = set(range(len(self._grid.candidates))) - measured
        self.found.lost |= {c for c in others if self._grid.needs_more(c, candidate)}
        self.found.lost.add(candidate)

    def ask(self) -> Spot | None:
        """As the protocol says."""
        for spot in self._first:
            if spot not in self.found.outcomes and spot.candidate not in self.found.lost:
                return spot
        if len(self.found.outcomes) >= self._most or self._hopeless():
            return None
        return self._most_promising()

    def _hopeless(self) -> bool:
        """Whether a limit is on what none of the levels so far could measure."""
        outcomes = self.found.outcomes.values()
        return any(
            all(math.isinf(outcome.slacks[number].mean) for outcome in outcomes)
            for number in range(len(self._grid.constraints))
        )

    def _opening(self) -> Iterator[Spot]:
        """The default at three loads, then the middle of the space."""
        loads = len(self._grid.loads)
        middle = loads // 2
        for load in dict.fromkeys((middle, loads - 1, 0)):
            yield Spot(0, load)
        points = np.array(self._grid.candidates)
        centre = (points.max(axis=0) + points.min(axis=0)) / 2
        distance = ((points - centre) ** 2).sum(axis=1)
        yield Spot(int(distance.argmin()), middle)

    def _most_promising(self) -> Spot | None:
        measured = {s: o for s, o in self.found.outcomes.items() if o.score is not NOTHING}
        if not measured:
            return None
        mean, error = _predicted(self._score, self._row, {s: o.score for s, o in measured.items()})
        feasible, possible = self._feasibility()
        leaders = [self._row[s] for s in measured if self.found.slack(s) >= 0 and self._alive(s)]
        usable = possible & np.array([self._alive(spot) for spot in self._grid.spots])
        usable[[self._row[spot] for spot in self.found.outcomes]] = False
        if leaders:
            leader = max(leaders, key=lambda row: mean[row])
            usable &= mean + _BOUND * error > mean[leader] - _BOUND * error[leader]
            promise = feasible * _expected_improvement(mean, error, mean[leader])
        else:
            promise = feasible * np.exp(mean - mean.max())
        promise = np.where(usable, promise, 0.0)
        if not usable.any() or (leaders and promise.max() < _WORTH):
            return None
        weighed = promise * np.where(self._candidate_of == self._loaded, _RELOAD, 1.0)
        return self._grid.spots[int((weighed + self._tiebreak * promise.max()).argmax())]

    def _alive(self, spot: Spot) -> bool:
        return spot.candidate not in self.found.lost

    def _feasibility(self) -> tuple[Floats, "np.typing.NDArray[np.bool_]"]:
        """How probably each level keeps all limits, and whether it may."""
        probability = np.ones(len(self._grid.spots))
        possible = np.ones(len(self._grid.spots), dtype=bool)
        for number, loads in enumerate(self._grid.constraints):
            known = {
                spot: outcome.slacks[number]
                for spot, outcome in self.found.outcomes.items()
                if math.isfinite(outcome.slacks[number].mean)
            }
            if not known:
                continue
            mean, error = _predicted(self._slacks[number], self._row, known)
            shares, bounds = ndtr(mean / error), mean + _BOUND * error >= 0
            if loads:
                by_candidate = (len(self._grid.candidates), len(self._grid.loads))
                columns = list(loads)
                least = shares.reshape(by_candidate)[:, columns].min(axis=1)
                all_of_them = np.all(bounds.reshape(by_candidate)[:, columns], axis=1)
                shares = np.repeat(least, len(self._grid.loads))
                bounds = np.repeat(all_of_them, len(self._grid.loads))
            probability *= shares
            possible &= bounds
        return probability, possible


def _predicted(
    surface: Surface, row: dict[Spot, int], known: dict[Spot, Guess]
) -> tuple[Floats, Floats]:
    values = np.array([guess.mean for guess in known.values()])
    errors = np.array([guess.error for guess in known.values()])
    return surface.predict([row[spot] for spot in known], values, errors)


def _expected_improvement(mean: Floats, error: Floats, leader: float) -> Floats:
    """J. Mockus, "On Bayesian methods for seeking the extremum", 1975."""
    z = (mean - leader) / error
    density = np.exp(-0.5 * z**2) / math.sqrt(2 * math.pi)
    improvement: Floats = error * (z * ndtr(z) + density)
    return improvement
