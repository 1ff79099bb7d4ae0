"""A whole search: an exploration of the grid, and finals between those that may be best."""

from typing import TYPE_CHECKING

from pytest_triton_perf.domain.searches import SearchMode
from pytest_triton_perf.search.base import Explorer, Grid, Outcome, Spot

if TYPE_CHECKING:
    from pytest_triton_perf.search.race import Race


class Search:
    """Asks for one level after another; ``found`` is what it was told."""

    def __init__(self, grid: Grid, *, mode: SearchMode, seed: int) -> None:
        self._explorer = _explorer(grid, mode, seed)
        self.found = self._explorer.found
        self._race: Race | None = None

    def ask(self) -> Spot | None:
        """What to measure next; ``None`` where it is known which candidate is best."""
        if self._race is None:
            spot = self._explorer.ask()
            if spot is not None:
                return spot
            self.finish()
        assert self._race is not None
        return self._race.ask()

    @property
    def explores(self) -> bool:
        """Whether the finals have not begun."""
        return self._race is None

    def finish(self) -> None:
        """Explore no further: what was measured so far goes into the finals."""
        if self._race is None:
            from pytest_triton_perf.search.race import Race

            self._race = Race(self.found)

    def tell(self, spot: Spot, outcome: Outcome) -> None:
        """What a level gave, this time."""
        (self._race or self._explorer).tell(spot, outcome)

    def lost(self, candidate: int) -> None:
        """A candidate cannot be measured: Triton refuses it, or it died."""
        (self._race or self._explorer).lost(candidate)


def _explorer(grid: Grid, mode: SearchMode, seed: int) -> Explorer:
    if mode == "brute":
        from pytest_triton_perf.search.brute import Brute

        return Brute(grid)
    if mode == "quick":
        from pytest_triton_perf.search.quick import Quick

        return Quick(grid, seed=seed)
    from pytest_triton_perf.search.with_optuna import WithOptuna

    return WithOptuna(grid, seed=seed)
