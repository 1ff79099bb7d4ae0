"""What all pictures have in common: how they look, and what they say where nothing is drawn."""

import itertools
import math
import textwrap
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pytest_triton_perf.domain.metrics import Metric
from pytest_triton_perf.domain.names import on_one_line, width
from pytest_triton_perf.domain.sweeps import Level
from pytest_triton_perf.reports.fonts import Font, use, without_remarks

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = ("#0072B2", "#D55E00", "#009E73")
"""Okabe and Ito's, which people with any colour vision tell apart."""
DEFAULT, OTHERS = "#333333", "#c4c8cc"
WORDS_BOX: dict[str, Any] = {"facecolor": (1, 1, 1, 0.8), "edgecolor": "none", "pad": 1}
"""Behind words on lines: a colour with an alpha, since one of the whole box makes some PDF engines
paint dots."""
_DPI, _DPI_OF_MANY = 130, 100
_ROW_IN, _ROW_SIZE = (7.3, 3.4), 7
"""Width between the margins of an A4 page, and points of the words there."""
_FAR = 1.5
"""The picture has room for a bar of up to so many times its figure."""
FEW_TICKS = 5
_AXES_IN, _LEFT_IN = 6.2, 0.5
"""Inches across for the title of a figure, and what of a row is beside that."""
_LETTER, _BOLD_LETTER, _KEY, _MOST_COLUMNS = 0.6, 0.69, 5, 4
"""The width of a letter as a part of its size, and the piece of a line beside it in letters."""
_LABEL = 80
"""So many letters has the longest line of words in a picture."""
_ARROW = 16
"""Of an open end, in points."""


@dataclass
class Legend:
    """What stands under a figure: the words of each line with a piece of it, and a title."""

    keys: "list[tuple[str, Artist]]" = field(default_factory=list)
    title: str = ""

    def __add__(self, other: "Legend") -> "Legend":
        """One legend for both; words that are in both stand in it once."""
        known = {words for words, _ in self.keys}
        keys = [*self.keys, *(key for key in other.keys if key[0] not in known)]
        return Legend(keys, self.title or other.title)

    def put_under(self, figure: "Figure", *, fitted: bool = True) -> int:
        """Draw it; ``fitted``: the figure's own layout makes room for it. Returns its rows."""
        import matplotlib as mpl

        labels = [short(words, _LABEL) for words, _ in self.keys]
        room = figure.get_figwidth() * 72 / (_LETTER * mpl.rcParams["font.size"])
        columns = _columns(labels, room)
        figure.legend(
            [piece for _, piece in self.keys],
            labels,
            loc="outside lower center" if fitted else "lower center",
            ncols=columns,
            title=self.title or None,
            title_fontproperties={"size": "small"},
        )
        return math.ceil(len(labels) / columns)


def _columns(labels: Sequence[str], room: float) -> int:
    """In how many columns a legend of these labels is no wider than ``room`` letters."""
    for columns in range(min(len(labels), _MOST_COLUMNS), 1, -1):
        # Matplotlib fills them so: the first ones have one more where it does not come out even.
        rows, more = divmod(len(labels), columns)
        ends = list(itertools.accumulate(rows + (i < more) for i in range(columns)))
        parts = [labels[begin:end] for begin, end in zip([0, *ends], ends, strict=False)]
        if sum(max(map(width, part)) + _KEY for part in parts) <= room:
            return columns
    return 1


@contextmanager
def style(fonts: Sequence[Font]) -> Iterator[None]:
    """Matplotlib as it comes, whatever the user's tests or files have set; with these fonts."""
    import matplotlib as mpl

    with mpl.rc_context(), warnings.catch_warnings(), without_remarks():
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
        use(fonts)
        # A name in a script that no font has is drawn as boxes; that spoils no report.
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
    shown = map(on_one_line, sorted(reasons)[:5])
    lines = [line for reason in shown for line in textwrap.wrap(reason, _LABEL)]
    text = "\n".join(lines) or otherwise
    look: dict[str, Any] = {"ha": "center", "va": "center", "bbox": WORDS_BOX}
    axes.text(0.5, 0.5, text, transform=axes.transAxes, **look)


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
    axes.ticklabel_format(style="plain", useOffset=False)
    _set_title(axes, title, size=10, room_in=_AXES_IN)
    return figure, axes


def numbers_room(top: float) -> float:
    """The part of such a figure's width that the numbers beside axes up to ``top`` take."""
    letters = len(f"{top:.0f}") if top >= 1 else 3 - math.floor(math.log10(top))
    return 0.05 + 0.013 * max(4, letters)


def new_row(titles: Sequence[str]) -> "tuple[Figure, Sequence[Axes]]":
    """A figure as wide as a page, with axes side by side, each under its title.

    Its words are smaller: it is printed as large as it is.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    mpl.rcParams["font.size"] = _ROW_SIZE  # until the end of ``style``
    figure = Figure(figsize=_ROW_IN, layout="constrained")
    places = figure.subplots(1, len(titles), squeeze=False)[0]
    for axes, title in zip(places, titles, strict=True):
        axes.locator_params(nbins=FEW_TICKS)
        axes.ticklabel_format(style="plain", useOffset=False)
        room_in = _ROW_IN[0] / len(titles) - _LEFT_IN
        _set_title(axes, f"{title[:1].upper()}{title[1:]}", size=_ROW_SIZE + 1, room_in=room_in)
    return figure, places


def _set_title(axes: "Axes", title: str, *, size: float, room_in: float) -> None:
    most = int(room_in * 72 / (_BOLD_LETTER * size))
    # Told where it stands, a title does not look for its place among all labels of the axes.
    axes.set_title(short(title, most), loc="left", y=1.0, fontweight="bold", fontsize=size)


def short(text: str, most: int) -> str:
    """The text on one line, without its middle where it is wider than ``most`` letters.

    Names differ at their ends.
    """
    line = on_one_line(text)
    if width(line) <= most:
        return line
    return f"{_fitting(line, (most - 1) // 2)}…{_fitting(line[::-1], most // 2)[::-1]}"


def _fitting(text: str, most: int) -> str:
    """As much of the beginning as ``most`` letters have room for."""
    widths = itertools.accumulate(map(width, text))
    return text[: sum(reached <= most for reached in widths)]
