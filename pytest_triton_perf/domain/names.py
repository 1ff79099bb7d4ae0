"""Names: which one was meant, and how a person reads them."""

import difflib
import itertools
import re
import unicodedata
from collections.abc import Collection, Iterable

_PARTS = re.compile("(?<=[/:@])")
_DIGEST = re.compile("[0-9a-f]{64}")


def nearest(name: str, valid: Iterable[str]) -> str:
    """``" (did you mean 'x'?)"`` for the valid name closest to ``name``, or an empty string."""
    close = difflib.get_close_matches(name, list(valid), n=1, cutoff=0.5)
    return f" (did you mean {close[0]!r}?)" if close else ""


def listed(names: Iterable[str], joint: str = "and") -> str:
    """Names as a sentence part: ``a, b and c``."""
    *head, last = names
    return f"{', '.join(head)} {joint} {last}" if head else last


def with_image(name: str, image: str | None, images: Collection[str]) -> str:
    """A variant's name where ``images`` were measured on: ``add_sub_config_0@25.01-py3``.

    Of several images the variant carries its own, without the part that all of them begin with
    and with digests cut short; of one, and outside containers, its name says enough.
    """
    if image is None or len(images) < 2:
        return name
    columns = itertools.zip_longest(*map(_PARTS.split, images))
    shared = sum(1 for _ in itertools.takewhile(lambda column: len(set(column)) == 1, columns))
    own = "".join(_PARTS.split(image)[shared:])
    return f"{name}@{_DIGEST.sub(lambda digest: digest[0][:12], own)}"


def on_one_line(text: str) -> str:
    """``text`` as a person can read it in a line: without breaks, and without what has no shape."""
    line = " ".join(text.split())
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in line)


def width(text: str) -> int:
    """How many columns of a terminal a line takes; letters of Korean, for one, are two wide."""
    return sum(2 if unicodedata.east_asian_width(letter) in "WF" else 1 for letter in text)
