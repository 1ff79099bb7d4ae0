"""What the ways of searching share: the grid they look through, and what a level gave."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple, Protocol


class Spot(NamedTuple):
    """One load level of one candidate, by their indices in the grid."""

    candidate: int
    load: int


@dataclass(frozen=True, kw_only=True)
class Grid:
    """All candidates under all loads.

    ``candidates`` and ``loads`` are coordinates: a step of 1 is a doubling, or another value
    where there is no order. Candidate 0 is the default configuration. ``constraints`` holds, of
    each constraint, the loads at which it must hold; of one that must hold at the load that is
    chosen, whichever that is, it is empty. ``monotone`` says that a candidate needs no less of
    the machine than one that is nowhere above it.
    """

    candidates: Sequence[tuple[float, ...]]
    loads: Sequence[tuple[float, ...]]
    constraints: Sequence[tuple[int, ...]] = ()
    monotone: bool = False

    @cached_property
    def spots(self) -> tuple[Spot, ...]:
        """Every level there is, candidate by candidate."""
        return tuple(
            Spot(candidate, load)
            for candidate in range(len(self.candidates))
            for load in range(len(self.loads))
        )

    def needs_more(self, candidate: int, other: int) -> bool:
        """Whether a candidate is sure to need as much of the machine as another, or more."""
        pairs = zip(self.candidates[candidate], self.candidates[other], strict=True)
        return self.monotone and all(mine >= its for mine, its in pairs)


class Guess(NamedTuple):
    """A number and its standard error."""

    mean: float
    error: float


NOTHING = Guess(-math.inf, 0.0)
"""What was not measured: worse than anything that was."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a level gave.

    ``score`` is what the search maximises, a logarithm; ``slacks`` is, of each constraint, the
    logarithm of how far the figure is inside its limit (negative: outside). ``rounds`` is of how
    many rounds of the finals this is the mean; 0 is what the exploration saw.
    """

    score: Guess
    slacks: tuple[Guess, ...] = ()
    rounds: int = 0


class Explorer(Protocol):
    """A way of searching: asks for one level after another and is told what it gave.

    ``found`` is all that it was told.
    """

    found: "Found"

    def ask(self) -> Spot | None:
        """The level to measure next; ``None`` where enough is known."""

    def tell(self, spot: Spot, outcome: Outcome) -> None:
        """What a level gave."""

    def lost(self, candidate: int) -> None:
        """A candidate cannot be measured: Triton refuses it, or it died."""


class Found:
    """All that was told of a grid."""

    def __init__(self, grid: Grid) -> None:
        self.grid = grid
        self.outcomes: dict[Spot, Outcome] = {}
        self.lost: set[int] = set()

    def tell(self, spot: Spot, outcome: Outcome) -> None:
        """As an ``Explorer``; a later outcome of a level replaces the one before."""
        self.outcomes[spot] = outcome

    def slack(self, spot: Spot) -> float:
        """How far a measured level is inside its limits: of the constraint that is nearest.

        A constraint at other loads counts where the candidate was measured there. A level whose
        score was not measured is as far outside as can be.
        """
        nearest = -math.inf if self.outcomes[spot].score is NOTHING else math.inf
        for number, loads in enumerate(self.grid.constraints):
            for load in loads or (spot.load,):
                outcome = self.outcomes.get(Spot(spot.candidate, load))
                if outcome is not None:
                    nearest = min(nearest, outcome.slacks[number].mean)
        return nearest

    def best_of(self, candidate: int) -> Spot | None:
        """The level at which a candidate is best; of those that are as good, the least load.

        ``None`` where it was not measured.
        """
        return min(self.good_levels(candidate), key=lambda spot: spot.load, default=None)

    def good_levels(self, candidate: int) -> list[Spot]:
        """The levels at which a candidate is best: the best first, then those as good as it.

        They keep the constraints; where none does, it is the one that misses them by least.
        Levels of the finals come before others: what was chosen for its figure has a lucky one.
        """
        measured = [spot for spot in self.outcomes if spot.candidate == candidate]
        if not measured or candidate in self.lost:
            return []
        within = [spot for spot in measured if self.slack(spot) >= 0]
        if not within:
            return [max(measured, key=self.slack)]
        rounds = max(self.outcomes[spot].rounds for spot in within)
        scores = {
            spot: outcome.score.mean
            for spot in within
            if (outcome := self.outcomes[spot]).rounds == rounds
        }
        ordered = sorted(scores, key=lambda spot: scores[spot], reverse=True)
        return [spot for spot in ordered if scores[spot] >= scores[ordered[0]] - AS_GOOD]

    def ranking(self) -> list[Spot]:
        """The best level of each candidate, the best first; those outside the limits last.

        Who was in more rounds of the finals is better than who was out sooner.
        """
        spots = filter(None, map(self.best_of, range(len(self.grid.candidates))))

        def rank(spot: Spot) -> tuple[float, int, float]:
            outcome = self.outcomes[spot]
            return (min(self.slack(spot), 0.0), outcome.rounds, outcome.score.mean)

        return sorted(spots, key=rank, reverse=True)


AS_GOOD = math.log(1.01)
"""Loads that differ by less in their score are as good as each other."""
