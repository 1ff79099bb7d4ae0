"""Figures as SVG files."""

import io
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_METADATA = ("Date", "Creator", "Format", "Type")
"""What Matplotlib would write of itself."""


def svg(figure: "Figure") -> bytes:
    """The figure as an SVG file, at its own size; its words are text in the fonts of ``style``."""
    import matplotlib as mpl

    # Else the names of its parts are random, and no two files of one figure the same.
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "triton-perf"}):
        buffer = io.BytesIO()
        figure.savefig(buffer, format="svg", metadata=dict.fromkeys(_METADATA))
    return buffer.getvalue()
