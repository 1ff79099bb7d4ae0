"""File names for models and variants."""

import hashlib
import re

_MOST = 100


def safe_name(name: str) -> str:
    """``name`` as one component of a path.

    A name that can be one already is left alone. In any other, what a path, a shell or a URL
    gives a meaning to becomes ``_``, and a hash keeps different names different.
    """
    safe = re.sub(r"[^\w.+=@-]", "_", name).lstrip(".-")[:_MOST]
    if name and safe == name:
        return name
    return f"{safe or '_'}-{hashlib.sha256(name.encode(errors='surrogatepass')).hexdigest()[:8]}"
