"""What all pictures have in common: how they look, and what they say where nothing is drawn."""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from pytest_triton_perf.domain.budgets import Budget
from pytest_triton_perf.domain.metrics import Metric
from pytest_triton_perf.domain.sweeps import Level
from pytest_triton_perf.reports.content import constraint

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

COLOURS = ("#0072B2", "#D55E00", "#009E73")
"""Okabe and Ito's, which people with any colour vision tell apart."""
DEFAULT, OTHERS, LIMIT = "#333333", "#c4c8cc", "#B0008E"
LIMIT_LINE: dict[str, Any] = {"color": LIMIT, "linestyle": "--", "linewidth": 1.4}
LIMIT_TEXT: dict[str, Any] = {
    "textcoords": "offset points",
    "color": LIMIT,
    "fontsize": "small",
    "bbox": {"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 1},
}
_DPI, _DPI_OF_MANY = 130, 100
_FAR = 1.5
"""The picture has room for a bar of up to so many times its figure."""
FEW_TICKS = 5
_HALF = 48
"""About so many letters fill half of the picture's width."""
_ARROW = 16
"""Of an open end, in points."""


@contextmanager
def style() -> Iterator[None]:
    """Matplotlib as it comes, whatever the user's tests or files have set."""
    import matplotlib as mpl

    with mpl.rc_context(), warnings.catch_warnings():
        mpl.rcdefaults()
        mpl.rcParams.update(
            {
                "axes.spines.top": False,
                "axes.spines.right": False,
                "axes.grid": True,
                "axes.axisbelow": True,
                "grid.color": "#e6e8ea",
                "font.size": 9,
                "text.parse_math": False,
                # Fitting each letter to the dots took a quarter of a picture's time.
                "text.hinting": "none",
                "legend.frameon": False,
                "figure.constrained_layout.h_pad": 0.05,
            }
        )
        # A name in a script that the font lacks is drawn as boxes; that spoils no report.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        yield


def say_missing(
    axes: "Axes",
    levels: Sequence[Level],
    *metrics: Metric,
    otherwise: str = "nothing was measured",
) -> None:
    """Write why nothing of these metrics is drawn."""
    reasons = {
        f"{metric.label} was not measured: {level.why_missing(metric.name)}"
        for level in levels
        for metric in metrics
        if level.measurement.value(metric.name) is None
    }
    text = "\n".join(short(reason) for reason in sorted(reasons)[:5]) or otherwise
    axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center")


def draw_intervals(axes: "Axes", level: Level, x: Metric, y: Metric, colour: str) -> bool:
    """The intervals of a level's point as thin bars, an open end as an arrow; whether it has any.

    A bar that ends far from its point runs out of the picture, which would else show little more
    than the bar.
    """
    from matplotlib.collections import LineCollection

    across, up = (level.measurement.values.get(metric.name) for metric in (x, y))
    if across is None or up is None:
        return False
    point = (across.value, up.value)
    look: dict[str, Any] = {"color": colour, "linewidth": 0.8}
    bars = []
    for axis, estimate in enumerate((across, up)):
        for side, end in zip((-1, 1), estimate.ci or (), strict=False):
            tip = list(point)
            if end is None:
                _draw_arrow(axes, point, (side, 0) if axis == 0 else (0, side), look)
                continue
            tip[axis] = end
            bars.append((point, tuple(tip)))
            tip[axis] = min(max(end, estimate.value / _FAR), estimate.value * _FAR)
            axes.update_datalim([tip])
    axes.add_collection(LineCollection(bars, **look), autolim=False)
    return across.ci is not None or up.ci is not None


def _draw_arrow(
    axes: "Axes", point: tuple[float, float], to: tuple[int, int], look: dict[str, Any]
) -> None:
    arrow = axes.annotate(
        "",
        point,
        xytext=(_ARROW * to[0], _ARROW * to[1]),
        textcoords="offset points",
        arrowprops={"arrowstyle": "<-", "shrinkA": 0, "shrinkB": 0, **look},
    )
    arrow.set_in_layout(False)


def limits_across(
    axes: "Axes", budgets: Sequence[Budget], metric: Metric, top: float
) -> "list[tuple[Line2D, str]]":
    """The budgets on the metric that goes up, as lines; ``top`` is the highest figure.

    Returns what the legend says about them.
    """
    keys: list[tuple[Line2D, str]] = []
    for budget in (budget for budget in budgets if budget.metric == metric):
        # A line far above would press all that was measured flat on the ground.
        above = budget.limit > 3 * top
        keys.append(limit_key(budget, " (above this picture)" if above else ""))
        if not above:
            axes.axhline(budget.limit, **LIMIT_LINE)
            at, along = (0, budget.limit), axes.get_yaxis_transform()
            text = limit_words(budget)
            axes.annotate(text, at, xycoords=along, xytext=(4, 3), va="bottom", **LIMIT_TEXT)
    return keys


def limit_key(budget: Budget, more: str = "") -> "tuple[Line2D, str]":
    """A budget's line and words in the legend."""
    from matplotlib.lines import Line2D

    return Line2D([], [], **LIMIT_LINE), f"budget: {constraint(budget)}{more}"


def limit_words(budget: Budget) -> str:
    """A budget's words at its line: ``≤ 25 ms``."""
    words = constraint(budget).removesuffix(f" {budget.where}")
    return words.removeprefix(f"{budget.metric.label} ")


def new_figure(title: str, *, of_many: bool = False) -> "tuple[Figure, Axes]":
    """A figure with one pair of axes under its title.

    What there is one of per variant is ``of_many``: it has no layout that fits itself, and fewer
    dots and numbers at its axes, for these take the time.
    """
    from matplotlib.figure import Figure

    dpi = _DPI_OF_MANY if of_many else _DPI
    figure = Figure(figsize=(7.2, 4.5), dpi=dpi, layout=None if of_many else "constrained")
    axes = figure.subplots()
    if of_many:
        axes.locator_params(nbins=FEW_TICKS)
    # Told where it stands, a title does not look for its place among all labels of the axes.
    axes.set_title(short(title), loc="left", y=1.0, fontweight="bold", fontsize=10)
    return figure, axes


def legend_columns(labels: Sequence[str]) -> int:
    """How many labels of a legend stand side by side."""
    return 2 if len(labels) > 1 and max(map(len, labels)) <= _HALF else 1


def short(text: str, most: int = 80) -> str:
    """The text, or its beginning where it is too long for a picture."""
    return text if len(text) <= most else f"{text[: most - 1]}…"
