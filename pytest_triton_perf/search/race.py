"""The finals: the candidates that may still be best are measured again, for longer each round."""

import math

from pytest_triton_perf.search.base import Found, Spot

_FIELD = 6
"""Candidates that go into the finals at most."""

_BOUND = 2.0
"""Who is behind the leader by more than so many standard errors of the difference is out."""

_NEAR = 0.1
"""A limit that is missed by less (as a logarithm) may turn out to be kept."""


class Race:
    """Successive halving: each round doubles the load and leaves half of the field.

    ``found`` is what the exploration was told; the race tells it of its own levels. Until a round
    is over all of its field has had the same load, in turns.
    """

    def __init__(self, found: Found) -> None:
        self._found = found
        self.round = 0
        self._field = self._contenders(_FIELD)
        self._left = self._levels()

    def ask(self) -> Spot | None:
        """The level to measure next; ``None`` where one candidate has won."""
        while not self._left and len(self._field) > 1:
            self._field = self._contenders(math.ceil(len(self._field) / 2))
            self.round += 1
            self._left = self._levels()
        return self._left.pop(0) if self._left else None

    def lost(self, candidate: int) -> None:
        """A candidate died."""
        self._found.lost.add(candidate)
        self._left = [spot for spot in self._left if spot.candidate != candidate]

    def _contenders(self, most: int) -> list[int]:
        """The best candidates, as far as the leader is not surely better.

        Where none keeps the limits, those that miss them by little.
        """
        ranking = self._found.ranking()[:most]
        if ranking and self._found.slack(ranking[0]) >= 0:
            may_win = [spot for spot in ranking if not self._is_behind(spot, ranking[0])]
        else:
            may_win = [spot for spot in ranking if self._found.slack(spot) > -_NEAR]
        return [spot.candidate for spot in may_win]

    def _is_behind(self, spot: Spot, leader: Spot) -> bool:
        mine, best = (self._found.outcomes[s].score for s in (spot, leader))
        return mine.mean + _BOUND * math.hypot(mine.error, best.error) < best.mean

    def _levels(self) -> list[Spot]:
        """Where each of the field is best, and where its constraints must hold besides."""
        levels: dict[Spot, None] = {}
        for candidate in self._field if len(self._field) > 1 else ():
            best = self._found.best_of(candidate)
            assert best is not None, "it is in the ranking"
            levels[best] = None
            for loads in self._found.grid.constraints:
                levels |= dict.fromkeys(Spot(candidate, load) for load in loads)
        return list(levels)
