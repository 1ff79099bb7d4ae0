"""The brute search: every level of every candidate."""

from pytest_triton_perf.search.base import Found, Grid, Outcome, Spot


class Brute:
    """See the module; in a grid of one candidate after another, each is loaded once."""

    def __init__(self, grid: Grid) -> None:
        self.found = Found(grid)
        self._left = iter(grid.spots)

    def ask(self) -> Spot | None:
        """As the protocol says."""
        return next((s for s in self._left if s.candidate not in self.found.lost), None)

    def tell(self, spot: Spot, outcome: Outcome) -> None:
        """As the protocol says."""
        self.found.tell(spot, outcome)

    def lost(self, candidate: int) -> None:
        """As the protocol says."""
        self.found.lost.add(candidate)
