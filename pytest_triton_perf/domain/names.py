"""Names that users type: find the one that was meant."""

import difflib
from collections.abc import Iterable


def nearest(name: str, valid: Iterable[str]) -> str:
    """``" (did you mean 'x'?)"`` for the valid name closest to ``name``, or an empty string."""
    close = difflib.get_close_matches(name, list(valid), n=1, cutoff=0.5)
    return f" (did you mean {close[0]!r}?)" if close else ""


def listed(names: Iterable[str], joint: str = "and") -> str:
    """Names as a sentence part: ``a, b and c``."""
    *head, last = names
    return f"{', '.join(head)} {joint} {last}" if head else last
