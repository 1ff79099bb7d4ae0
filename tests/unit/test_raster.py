"""Pictures are those of Matplotlib's own renderer, but for a dot that words may be off."""

import io
import itertools

import numpy as np
import pytest
from matplotlib.figure import Figure

from pytest_triton_perf.reports.canvas import style
from pytest_triton_perf.reports.fonts import own_font
from pytest_triton_perf.reports.raster import png

PIL = pytest.importorskip("PIL.Image")

TITLE, LABEL = (slice(5, 35), slice(40, 200)), (slice(30, 270), slice(0, 30))
"""Where in the picture these words are: rows and columns."""


def figure(*, words: bool) -> Figure:
    made = Figure(figsize=(4, 3), dpi=100)
    axes = made.subplots()
    axes.bar([1, 2, 3], [3.0, 1.0, 2.0], color="#56B4E9")
    axes.plot([1, 2, 3], [1.0, 2.0, 3.0], color="#D55E00", marker="o")
    if words:
        axes.set_title("what it is", loc="left")
        axes.set_ylabel("how much of it (ms)")
        axes.text(2, 2.5, "upright", rotation=90, color="#B0008E", clip_on=True)
    else:
        axes.set_xticks([])
        axes.set_yticks([])
    return made


def pixels(data: bytes) -> np.ndarray:
    return np.asarray(PIL.open(io.BytesIO(data)).convert("RGB")).astype(int)


def matplotlibs_own(made: Figure) -> np.ndarray:
    buffer = io.BytesIO()
    made.savefig(buffer, format="png")
    return pixels(buffer.getvalue())


def test_without_words_every_dot_is_matplotlibs() -> None:
    with style([own_font()]):
        ours, theirs = pixels(png(figure(words=False))), matplotlibs_own(figure(words=False))
    assert ours.shape == (300, 400, 3)
    assert (ours == theirs).all()


@pytest.mark.parametrize("time", ["set", "copied"])
def test_words_stand_where_matplotlib_writes_them(time: str) -> None:
    with style([own_font()]):
        if time == "copied":
            png(figure(words=True))
        ours, theirs = pixels(png(figure(words=True))), matplotlibs_own(figure(words=True))
    for rows, columns in (TITLE, LABEL):
        off = {
            shift: np.abs(np.roll(ours, shift, (0, 1)) - theirs)[rows, columns].mean()
            for shift in itertools.product((-1, 0, 1), repeat=2)
        }
        assert min(off, key=off.__getitem__) == (0, 0), off
        assert off[0, 0] < 0.6 * np.abs(255 - theirs)[rows, columns].mean()
