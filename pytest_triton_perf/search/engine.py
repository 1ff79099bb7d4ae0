"""A whole search: an exploration of the grid, and finals between those that may be best."""

from typing import NamedTuple

from pytest_triton_perf.domain.searches import SearchMode
from pytest_triton_perf.search.base import Explorer, Grid, Outcome, Spot
from pytest_triton_perf.search.race import Race


class Turn(NamedTuple):
    """A level to measure, and for how long, in units of a level's first load."""

    spot: Spot
    share: float


class Search:
    """Asks for one level after another; ``found`` is what it was told."""

    def __init__(self, grid: Grid, *, mode: SearchMode, seed: int) -> None:
        self._explorer = _explorer(grid, mode, seed)
        self.found = self._explorer.found
        self._race: Race | None = None

    def ask(self) -> Turn | None:
        """What to measure next; ``None`` where it is known which candidate is best."""
        if self._race is None:
            spot = self._explorer.ask()
            if spot is not None:
                return Turn(spot, 1.0)
            self.finish()
        assert self._race is not None
        spot = self._race.ask()
        return None if spot is None else Turn(spot, 2.0**self._race.round)

    @property
    def explores(self) -> bool:
        """Whether the finals have not begun."""
        return self._race is None

    def finish(self) -> None:
        """Explore no further: what was measured so far goes into the finals."""
        if self._race is None:
            self._race = Race(self.found)

    def tell(self, spot: Spot, outcome: Outcome) -> None:
        """What a level gave, all of its load so far."""
        if self._race is None:
            self._explorer.tell(spot, outcome)
        else:
            self.found.tell(spot, outcome)

    def lost(self, candidate: int) -> None:
        """A candidate cannot be measured: Triton refuses it, or it died."""
        if self._race is None:
            self._explorer.lost(candidate)
        else:
            self._race.lost(candidate)


def _explorer(grid: Grid, mode: SearchMode, seed: int) -> Explorer:
    if mode == "brute":
        from pytest_triton_perf.search.brute import Brute

        return Brute(grid)
    if mode == "quick":
        from pytest_triton_perf.search.quick import Quick

        return Quick(grid, seed=seed)
    from pytest_triton_perf.search.with_optuna import WithOptuna

    return WithOptuna(grid, seed=seed)
