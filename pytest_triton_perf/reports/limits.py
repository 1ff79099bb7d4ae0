"""The budgets in a picture: their lines, the words at these, and their keys in the legend."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal

from pytest_triton_perf.domain.budgets import Budget
from pytest_triton_perf.domain.names import width
from pytest_triton_perf.reports.canvas import WORDS_BOX, Legend
from pytest_triton_perf.reports.content import constraint

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_COLOUR = "#B0008E"
_LINE: dict[str, Any] = {"color": _COLOUR, "linestyle": "--", "linewidth": 1.4}
_WORDS: dict[str, Any] = {
    "textcoords": "offset points",
    "color": _COLOUR,
    "fontsize": "small",
    "bbox": WORDS_BOX,
}
_FAR_ABOVE = 3
"""A line so many times as high as all figures would press them flat on the ground."""
_LETTER_IN, _LINE_IN = 0.075, 0.2
"""Inches that a letter takes across and a line of words takes up."""


class LimitLines:
    """Draws the lines of budgets, and writes their words when the axes have their ends and place.

    Of lines so near to each other that their words would lie on one another, the strictest has
    them. ``legend`` has their keys.
    """

    def __init__(self, axes: "Axes") -> None:
        self.legend = Legend()
        self._axes = axes
        self._upright: Sequence[Budget] = ()
        self._across: Sequence[Budget] = ()

    def draw_upright(self, budgets: Sequence[Budget]) -> None:
        """Limits on the metric that goes to the right."""
        for budget in budgets:
            self._axes.axvline(budget.limit, **_LINE)
        self._upright = budgets
        self._add_key(budgets)

    def draw_across(self, budgets: Sequence[Budget], top: float) -> None:
        """Limits on the metric that goes up; ``top`` is the highest figure."""
        above = [budget for budget in budgets if budget.limit > _FAR_ABOVE * top]
        self._across = [budget for budget in budgets if budget not in above]
        for budget in self._across:
            self._axes.axhline(budget.limit, **_LINE)
        self._add_key(self._across)
        self._add_key(above, " (above this picture)")

    def name_upright(self, end: Literal["top", "bottom"]) -> None:
        """Write the words at this end of the upright lines."""
        look = {"va": end, "ha": "right", **_WORDS}
        aside = (-3, -4) if end == "top" else (-3, 4)
        along = self._axes.get_xaxis_transform()
        longest = max((width(_words(budget)) for budget in self._upright), default=0)
        for budget in self._apart(self._upright, axis=0, room_in=_LETTER_IN * longest):
            at = (budget.limit, float(end == "top"))
            self._axes.annotate(_words(budget), at, xycoords=along, xytext=aside, **look)

    def name_across(self, side: Literal["left", "right"]) -> None:
        """Write the words at this end of the lines across."""
        look = {"va": "bottom", "ha": side, **_WORDS}
        aside = (-4, 3) if side == "right" else (4, 3)
        along = self._axes.get_yaxis_transform()
        for budget in self._apart(self._across, axis=1, room_in=_LINE_IN):
            at = (float(side == "right"), budget.limit)
            self._axes.annotate(_words(budget), at, xycoords=along, xytext=aside, **look)

    def _add_key(self, budgets: Sequence[Budget], more: str = "") -> None:
        from matplotlib.lines import Line2D

        if budgets:
            self.legend.keys.append((f"{_key(budgets)}{more}", Line2D([], [], **_LINE)))

    def _apart(self, budgets: Sequence[Budget], *, axis: int, room_in: float) -> Iterator[Budget]:
        """Those that are no nearer than ``room_in`` to a stricter one."""
        inches = self._axes.transData - self._axes.figure.dpi_scale_trans
        told: list[float] = []
        # The strictest first.
        for budget in sorted(budgets, key=lambda one: -one.limit if _is_floor(one) else one.limit):
            at = inches.transform((budget.limit, budget.limit))[axis]
            if all(abs(at - other) >= room_in for other in told):
                told.append(at)
                yield budget


def _is_floor(budget: Budget) -> bool:
    return budget.metric.better == "higher"


def _key(budgets: Sequence[Budget]) -> str:
    """One budget in words, or of many on a metric how many and from where to where they go."""
    if len(budgets) == 1:
        return f"budget: {constraint(budgets[0])}"
    low, high = (end(budgets, key=lambda one: one.limit) for end in (min, max))
    sign, unit = ("≥" if _is_floor(low) else "≤"), low.metric.unit
    between = f"{low.limit:g} to {high.limit:g}" if low.limit < high.limit else f"{low.limit:g}"
    return f"{len(budgets)} budgets: {low.metric.label} {sign} {between} {unit}"


def _words(budget: Budget) -> str:
    """``≤ 25 ms``."""
    words = constraint(budget).removesuffix(f" {budget.where}")
    return words.removeprefix(f"{budget.metric.label} ")
