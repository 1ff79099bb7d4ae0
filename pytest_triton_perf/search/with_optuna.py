"""The search by optuna's TPE sampler; the limits are constraints of its objective."""

import math

import optuna

from pytest_triton_perf.search.base import NOTHING, Found, Grid, Outcome, Spot

SHARE = 0.1
"""Of all levels, those that are measured at most before the finals."""

_LEAST_TRIALS = 24

_REPEATS = 100
"""So many proposals of levels that are known already, one after another, end the search."""

_FAR_OUTSIDE = 10.0
"""What optuna is told of a limit whose figure was not measured."""


class WithOptuna:
    """An exploration whose next level optuna proposes; the default comes first, without it."""

    def __init__(self, grid: Grid, *, seed: int) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.found = Found(grid)
        self._grid = grid
        self._most = min(len(grid.spots), max(_LEAST_TRIALS, round(SHARE * len(grid.spots))))
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

    def ask(self) -> Spot | None:
        """As the protocol says."""
        if self._first and 0 not in self.found.lost:
            return self._first.pop()
        for _ in range(_REPEATS if self._steps else 0):
            if len(self.found.outcomes) >= self._most:
                return None
            self._trial = self._study.ask()
            spot = self._proposed(self._trial)
            if spot is None or spot.candidate in self.found.lost:
                self._end_trial(None)
            elif (known := self.found.outcomes.get(spot)) is not None:
                self._end_trial(known)
            else:
                return spot
        return None

    def tell(self, spot: Spot, outcome: Outcome) -> None:
        """As the protocol says."""
        self.found.tell(spot, outcome)
        self._end_trial(outcome)

    def lost(self, candidate: int) -> None:
        """As the protocol says."""
        self.found.lost.add(candidate)
        self._end_trial(None)

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
