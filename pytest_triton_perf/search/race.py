"""The finals: the candidates that may still be best are measured anew, round after round."""

import math
from collections.abc import Sequence

from scipy.special import stdtrit

from pytest_triton_perf.search.base import NOTHING, Found, Guess, Outcome, Spot

_FIELD = 6
"""Candidates that go into the finals at most."""

SHARE = 0.05
"""Of all levels of a grid, as many as the finals measure at most: they end where none is ahead."""

_FEW = 10
"""In a small grid the finals may measure so many."""

_WORTH = math.log(1.01)
"""Who cannot be better than the leader by more is not raced any further."""

_BOUND = 2.5
"""Who is behind in the exploration by more than so many standard errors does not go in."""

_CONFIDENCE = 0.95
"""That who is out of the race is not better than the leader by ``_WORTH``."""

_PRIOR = 2
"""The standard errors that single visits come with count as much as so many differences."""

_NEAR = 0.1
"""A limit that is missed by less (as a logarithm) may turn out to be kept."""


class Race:
    """Rounds in each of which everyone who may still win is loaded and measured, in turns.

    A model is faster at one time that it is loaded than at another, some levels by 10 % and more,
    and the machine drifts; the interval of a measurement knows of neither. So the visits are the
    sample. Candidates are judged by their differences within the rounds, in which the drift
    cancels, and by how much these vary. They are visited in the same order in each round, so
    that nobody follows himself: a configuration that is served already is not loaded again.

    ``found`` is what the exploration was told; the race replaces what it saw of the field, which
    is there for its luck too.
    """

    def __init__(self, found: Found) -> None:
        self._found = found
        self._rounds: dict[Spot, list[Outcome]] = {}
        self._levels_left = max(_FEW, int(SHARE * len(found.grid.spots)))
        # The one that is loaded comes last, or its first visit would go on with what it was
        # chosen for.
        loaded = next((spot.candidate for spot in reversed(found.outcomes)), None)
        self._field = sorted(self._entrants(), key=lambda candidate: candidate == loaded)
        self._levels = {candidate: self._levels_of(candidate) for candidate in self._field}
        self._left = self._round()

    def ask(self) -> Spot | None:
        """The level to measure next; ``None`` where one candidate has won."""
        while not self._left and len(self._field) > 1:
            self._field = self._contenders()
            self._left = self._round()
        return self._left.pop(0) if self._left else None

    def tell(self, spot: Spot, outcome: Outcome) -> None:
        """What a level gave in this round."""
        rounds = self._rounds.setdefault(spot, [])
        rounds.append(outcome)
        self._found.tell(spot, _mean_of(rounds))

    def lost(self, candidate: int) -> None:
        """A candidate died."""
        self._found.lost.add(candidate)
        self._field = [each for each in self._field if each != candidate]
        self._left = [spot for spot in self._left if spot.candidate != candidate]

    def _round(self) -> list[Spot]:
        """The levels of the next round; none where there is one candidate, or would be too many.

        The first round may have as many as it needs.
        """
        levels = [spot for candidate in self._field for spot in self._levels[candidate]]
        too_many = len(levels) > self._levels_left and bool(self._rounds)
        if len(self._field) < 2 or too_many:
            self._field, levels = [], []
        self._levels_left -= len(levels)
        return levels

    def _levels_of(self, candidate: int) -> list[Spot]:
        """Where a candidate is best, the least load that is as good, and where limits are."""
        good = self._found.good_levels(candidate)
        levels = dict.fromkeys([good[0], min(good, key=lambda spot: spot.load)])
        for loads in self._found.grid.constraints:
            levels |= dict.fromkeys(Spot(candidate, load) for load in loads)
        return list(levels)

    def _entrants(self) -> list[int]:
        """The best candidates of the exploration, as far as the leader is not surely better."""
        ranking = [spot for spot in self._found.ranking() if self._found.slack(spot) > -_NEAR]
        scores = {spot.candidate: self._found.outcomes[spot].score for spot in ranking}
        best = next(iter(scores.values()), NOTHING)
        return [
            candidate
            for candidate, mine in scores.items()
            if mine.mean + _BOUND * math.hypot(mine.error, best.error) > best.mean
        ][:_FIELD]

    def _contenders(self) -> list[int]:
        """Of the field, those that may be better than the leader by what is worth it."""
        found = self._found

        def rank(spot: Spot) -> tuple[float, float]:
            return (min(found.slack(spot), 0.0), found.outcomes[spot].score.mean)

        best = [max(self._levels[candidate], key=rank) for candidate in self._field]
        leader = max(best, key=rank)
        return [
            spot.candidate
            for spot in best
            if found.slack(spot) > -_NEAR and (spot == leader or self._may_win(spot, leader))
        ]

    def _may_win(self, spot: Spot, leader: Spot) -> bool:
        """Whether it may be better by ``_WORTH``, by a t-interval of the rounds' differences."""
        pairs = list(zip(self._rounds[spot], self._rounds[leader], strict=True))
        differences = [mine.score.mean - its.score.mean for mine, its in pairs]
        count = len(differences)
        mean = sum(differences) / count
        squares = sum((each - mean) ** 2 for each in differences)
        expected = sum(m.score.error**2 + i.score.error**2 for m, i in pairs) / count
        freedom = _PRIOR + count - 1
        variance = (_PRIOR * expected + squares) / freedom
        bound = float(stdtrit(freedom, _CONFIDENCE)) * math.sqrt(variance / count)
        return mean + bound > _WORTH


def _mean_of(rounds: Sequence[Outcome]) -> Outcome:
    slacks = zip(*(outcome.slacks for outcome in rounds), strict=True)
    return Outcome(
        score=_mean([outcome.score for outcome in rounds]),
        slacks=tuple(map(_mean, slacks)),
        rounds=len(rounds),
    )


def _mean(guesses: Sequence[Guess]) -> Guess:
    if NOTHING in guesses:
        return NOTHING
    count = len(guesses)
    error = math.sqrt(sum(guess.error**2 for guess in guesses)) / count
    return Guess(sum(guess.mean for guess in guesses) / count, error)
