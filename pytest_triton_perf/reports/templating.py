"""The templates, set up once: everything that goes into HTML is escaped."""

import base64
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from pytest_triton_perf.reports.tables import Table

if TYPE_CHECKING:
    from jinja2 import Environment

_LETTERS, _PADDING = 130, 2.5
"""About so many letters stand side by side on the page, and around a cell."""
_WORD, _SHORT_WORD = 24, 12
"""Words of so many letters are whole where the page has room, and wherever they are."""


def render(template: str, **context: Any) -> str:
    """The text of a template of this package, fit for UTF-8 whatever names hold."""
    text = _environment().get_template(template).render(**context)
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


@cache
def _environment() -> "Environment":
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("pytest_triton_perf.reports", "templates"),
        autoescape=lambda name: bool(name and name.endswith(".html.j2")),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.policies["json.dumps_kwargs"] = {}  # Its own order, not that of the alphabet.
    environment.filters |= {"data_uri": _data_uri, "widths": column_widths}
    return environment


def _data_uri(svg: bytes) -> str:
    return f"data:image/svg+xml;base64,{base64.b64encode(svg).decode()}"


def column_widths(table: Table) -> list[float]:
    """Each column's share of an A4 page in percent.

    Where the page is too narrow, the widest columns break between words, and then inside long
    ones (node ids are such); titles, which are bold and so wider, never inside a word.
    """
    titles = [_PADDING + 1.2 + 1.1 * _longest_word([title]) for title in table.header]
    columns = [[row[i] for row in table.rows] for i in range(len(table.header))]
    # A figure stays beside its interval.
    parts = [[word for cell in cells for word in cell.split()] for cells in columns[: table.texts]]
    parts += [
        [part for cell in cells for part in cell.split(", ")] for cells in columns[table.texts :]
    ]

    def least(most: int) -> list[float]:
        words = [_PADDING + min(most, max(map(len, part), default=0)) for part in parts]
        return list(map(max, words, titles))

    widths = [_PADDING + max(map(len, cells), default=0) for cells in columns]
    widths = list(map(max, widths, titles))
    for floor in (least(_WORD), least(_SHORT_WORD)):
        while sum(widths) > _LETTERS:
            loose = [i for i, width in enumerate(widths) if width > floor[i]]
            if not loose:
                break
            widest = max(loose, key=lambda i: widths[i])
            widths[widest] = max(floor[widest], widths[widest] - 1)
    return [round(100 * width / sum(widths), 1) for width in widths]


def _longest_word(texts: Sequence[str]) -> int:
    return max((len(word) for text in texts for word in text.split()), default=0)
