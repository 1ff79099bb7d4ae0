"""Figures as SVG: words are text, and the same figure is the same file."""

import xml.etree.ElementTree as ET

from matplotlib.figure import Figure

from pytest_triton_perf.reports.canvas import style
from pytest_triton_perf.reports.fonts import own_font
from pytest_triton_perf.reports.vector import svg

TEXT = "{http://www.w3.org/2000/svg}text"


def drawn():
    with style([own_font()]):
        figure = Figure(figsize=(3, 2))
        axes = figure.subplots()
        axes.plot([1, 2], [3, 4])
        axes.set_title('a < b & "c" 덧셈 \'')
        return svg(figure)


def test_words_are_text_in_the_first_font():
    words = list(ET.fromstring(drawn()).iter(TEXT))
    (title,) = [word for word in words if word.text.startswith("a")]
    assert title.text == 'a < b & "c" 덧셈 \''
    assert "'DejaVu Sans'" in title.attrib["style"]


def test_the_same_figure_is_the_same_file():
    assert drawn() == drawn()
    assert b"metadata" not in drawn()
