"""Figures as PNG files, without setting the same words again in each.

Half of the time of Matplotlib's own way goes into words, which are nearly the same ones in the
pictures of all variants: each is set once, and copied from then on.
"""

import functools
import io
import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.figure import Figure
    from matplotlib.font_manager import FontProperties
    from numpy.typing import NDArray

    Pixels = NDArray[np.uint8]

_WORDS = 2000
"""So many are kept, some kB each."""


def png(figure: "Figure") -> bytes:
    """The figure as a PNG file, at its own size and resolution."""
    import numpy as np
    from PIL import Image

    width, height = (int(size) for size in figure.bbox.size)
    renderer = _copying_renderer()(width, height, figure.dpi)
    figure.draw(renderer)
    buffer = io.BytesIO()
    pixels = np.asarray(renderer.buffer_rgba())[:, :, :3]  # none of them is transparent
    Image.fromarray(pixels).save(buffer, format="png", compress_level=1)
    return buffer.getvalue()


@functools.cache
def _copying_renderer() -> Any:
    """Matplotlib's renderer, but that it copies words which it has set before."""
    from matplotlib.backends.backend_agg import RendererAgg

    class Renderer(RendererAgg):
        def get_text_width_height_descent(
            self, s: str, prop: "FontProperties", ismath: Any
        ) -> tuple[float, float, float]:
            return _size(s, prop.copy(), ismath, self.dpi)

        def draw_text(
            self,
            gc: Any,
            x: float,
            y: float,
            s: str,
            prop: Any,
            angle: float,
            *more: Any,
            **how: Any,
        ) -> None:
            # All words are opaque: an alpha of theirs would count twice here.
            left, bottom, picture = _picture(s, prop.copy(), angle, gc.get_rgb(), self.dpi)
            if picture.size:
                self.draw_image(gc, round(x) + left, self.height - round(y) - bottom, picture)

    return Renderer


@functools.lru_cache(_WORDS)
def _size(text: str, font: "FontProperties", ismath: Any, dpi: float) -> tuple[float, float, float]:
    size: tuple[float, float, float]
    size = _agg(1, 1, dpi).get_text_width_height_descent(text, font, ismath)
    return size


@functools.lru_cache(_WORDS)
def _picture(
    text: str, font: "FontProperties", angle: float, colour: tuple[float, ...], dpi: float
) -> "tuple[int, int, Pixels]":
    """A text's RGBA pixels, the lowest row first, and where their lower left corner is.

    That is counted from where the text begins, to the right and down.
    """
    import numpy as np

    width, height, _ = _size(text, font, False, dpi)
    middle = math.ceil(math.hypot(width, height)) + 2
    renderer = _agg(2 * middle, 2 * middle, dpi)
    pen = renderer.new_gc()
    pen.set_foreground(colour, isRGBA=True)
    renderer.draw_text(pen, middle, middle, text, font, angle)
    pixels = np.asarray(renderer.buffer_rgba())
    rows, columns = np.nonzero(pixels[:, :, 3])
    if not rows.size:
        return 0, 0, np.empty((0, 0, 4), np.uint8)
    top, bottom = int(rows.min()), int(rows.max()) + 1
    left, right = int(columns.min()), int(columns.max()) + 1
    return left - middle, bottom - middle, pixels[top:bottom, left:right][::-1].copy()


def _agg(width: int, height: int, dpi: float) -> Any:
    """Matplotlib's own renderer."""
    from matplotlib.backends import backend_agg

    create: Any = backend_agg.RendererAgg
    return create(width, height, dpi)
