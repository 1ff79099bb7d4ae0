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


def _data_uri(png: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"


def column_widths(table: Table) -> list[float]:
    """Each column's share of an A4 page in percent.

    Where the page is too narrow, the widest columns break between words, and then (node ids
    are long) inside them; titles, which are bold and so wider, never inside a word.
    """
    titles = [_PADDING + 1.2 + 1.1 * _longest_word([title]) for title in table.header]
    columns = [[row[i] for row in table.rows] for i in range(len(table.header))]
    # A figure stays beside its interval.
    parts = [[word for cell in cells for word in cell.split()] for cells in columns[: table.texts]]
    parts += columns[table.texts :]
    words = [_PADDING + min(24, max(map(len, part), default=0)) for part in parts]
    widths = [_PADDING + max(map(len, cells), default=0) for cells in columns]
    widths = list(map(max, widths, titles))
    for least in (list(map(max, words, titles)), titles):
        while sum(widths) > _LETTERS:
            loose = [i for i, width in enumerate(widths) if width > least[i]]
            if not loose:
                break
            widest = max(loose, key=lambda i: widths[i])
            widths[widest] = max(least[widest], widths[widest] - 1)
    return [round(100 * width / sum(widths), 1) for width in widths]


def _longest_word(texts: Sequence[str]) -> int:
    return max((len(word) for text in texts for word in text.split()), default=0)
