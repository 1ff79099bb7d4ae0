"""The search by optuna's TPE sampler; the limits are constraints of its objective.

The sampler finds the region of the best, and seldom the last step: it draws from densities, and
does not look at what lies beside a level. So in the end the neighbours of the best levels come
first.
"""

import math
from collections.abc import Iterator

import optuna

from pytest_triton_perf.search.base import NOTHING, Found, Grid, Outcome, Spot

SHARE = 0.1
"""Of all levels, those that are measured at most before the finals."""

_LEAST = 24

_PROPOSED = 0.7
"""Of the levels that are measured, those before neighbours of the best ones are."""

_LEADERS = 2
"""Of so many candidates, the neighbours are looked at."""

_REPEATS = 100
"""So many proposals of levels that are known already, one after another, end the search."""

_FAR_OUTSIDE = 10.0
"""What optuna is told of a limit whose figure was not measured."""


class WithOptuna:
    """An exploration whose next level optuna proposes, see the module.

    The default comes first, without it.
    """

    def __init__(self, grid: Grid, *, seed: int) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.found = Found(grid)
        self._grid = grid
        self._most = min(len(grid.spots), max(_LEAST, round(SHARE * len(grid.spots))))
        self._most_proposals = round(_PROPOSED * self._most)
        self._study = optuna.create_study(
            direction="maximize", sampler=optuna.samplers.TPESampler(seed=seed)
        )
        self._trial: optuna.Trial | None = None
        self._first = [Spot(0, load) for load in _spread(len(grid.loads))]
        rows = [
            (*grid.candidates[spot.candidate], *grid.loads[spot.load])
            for spot in grid.spots
            if spot.candidate
        ]
        self._steps = [sorted(set(column)) for column in zip(*rows, strict=True)]
        self._spots = dict(zip(rows, (s for s in grid.spots if s.candidate), strict=True))
        self._places = {spot: place for place, spot in self._spots.items()}

    def ask(self) -> Spot | None:
        """As the protocol says."""
        if self._first and 0 not in self.found.lost:
            return self._first.pop()
        known = len(self.found.outcomes)
        if known >= self._most:
            return None
        neighbour = next(self._neighbours(), None) if known >= self._most_proposals else None
        return neighbour or self._next_proposal()

    def tell(self, spot: Spot, outcome: Outcome) -> None:
        """As the protocol says."""
        self.found.tell(spot, outcome)
        self._end_trial(outcome)

    def lost(self, candidate: int) -> None:
        """As the protocol says."""
        self.found.lost.add(candidate)
        self._end_trial(None)

    def _next_proposal(self) -> Spot | None:
        """What optuna proposes that is not known; ``None`` where it repeats itself."""
        for _ in range(_REPEATS if self._steps else 0):
            self._trial = self._study.ask()
            spot = self._proposed(self._trial)
            if spot is None or spot.candidate in self.found.lost:
                self._end_trial(None)
            elif (known := self.found.outcomes.get(spot)) is not None:
                self._end_trial(known)
            else:
                return spot
        return None

    def _neighbours(self) -> Iterator[Spot]:
        """The levels one step from the best ones, as far as they are not known."""
        for leader in self.found.ranking()[:_LEADERS]:
            place = self._places.get(leader, ())
            # Another load first: its candidate is served already.
            for number, here in reversed(list(enumerate(place))):
                steps = self._steps[number]
                at = steps.index(here)
                for there in (*steps[at + 1 : at + 2], *steps[max(at - 1, 0) : at]):
                    spot = self._spots.get((*place[:number], there, *place[number + 1 :]))
                    if spot and not (
                        spot in self.found.outcomes or spot.candidate in self.found.lost
                    ):
                        yield spot

    def _end_trial(self, outcome: Outcome | None) -> None:
        trial, self._trial = self._trial, None
        if trial is None:
            return
        # A failed trial would teach the sampler nothing, and it would propose the like again.
        measured = outcome is not None and outcome.score is not NOTHING
        trial.set_constraint("is measured", -1.0 if measured else _FAR_OUTSIDE)
        slacks = outcome.slacks if outcome is not None else [NOTHING] * len(self._grid.constraints)
        for number, slack in enumerate(slacks):
            trial.set_constraint(f"limit {number}", -max(slack.mean, -_FAR_OUTSIDE))
        scores = [known.score.mean for known in self.found.outcomes.values()]
        worst = min(filter(math.isfinite, scores), default=0.0)
        self._study.tell(trial, outcome.score.mean if outcome and measured else worst)

    def _proposed(self, trial: optuna.Trial) -> Spot | None:
        """The level at the proposed coordinates; ``None`` where none lies there."""
        place = tuple(
            steps[trial.suggest_int(f"coordinate {number}", 0, len(steps) - 1)]
            for number, steps in enumerate(self._steps)
        )
        return self._spots.get(place)


def _spread(count: int) -> list[int]:
    return list(dict.fromkeys((0, count - 1, count // 2)))
