"""What a value of the file has to be: one reader per kind. Pure."""

import contextlib
import math
from collections.abc import Callable, Collection, Mapping
from typing import Any

from pytest_triton_perf.analyzer.parse import Value
from pytest_triton_perf.domain.names import listed, nearest
from pytest_triton_perf.errors import UsageError

MAX_NUMBERS = 1000

NOTHING: Mapping[str, Value] = {}


class Problems:
    """Collects what is wrong with a file, so that all of it is told at once."""

    def __init__(self) -> None:
        self.found: list[str] = []

    def attempt(
        self, read: Callable[..., Any], *args: Any, default: Any = None, **more: Any
    ) -> Any:
        """What ``read`` gives; ``default`` where it does not, and its problem is noted."""
        try:
            return read(*args)
        except UsageError as error:
            self.found += str(error).splitlines()
            return default


def wrong(value: Value, problem: str) -> UsageError:
    """The error that ``problem`` is, at the line of ``value``."""
    return UsageError(f"{value.where}: {problem}")


def shown(value: Value) -> str:
    """A value as a message shows it, cut where it is long."""
    text = value.text if value.text and not isinstance(value.data, str) else repr(value.plain)
    return text if len(text) <= 60 else f"{text[:60]}…"


def mapping(key: str, value: Value) -> Mapping[str, Value]:
    """A mapping; a key without a value is an empty one.

    Raises:
        UsageError: it is something else.
    """
    if value.data is None:
        return NOTHING
    if not isinstance(value.data, Mapping):
        raise wrong(value, f"{key}: expected a mapping, not {shown(value)}")
    return value.data


def scalar(key: str, value: Value) -> str:
    """A plain value as it was typed; truth values in lower case.

    Raises:
        UsageError: it is a list, a mapping, or nothing.
    """
    if value.data is None or isinstance(value.data, list | Mapping):
        raise wrong(value, f"{key}: expected a plain value, not {shown(value)}")
    return str(value.data).lower() if isinstance(value.data, bool) else value.text


def truth(key: str, value: Value) -> bool:
    """A truth value.

    Raises:
        UsageError: it is something else.
    """
    if not isinstance(value.data, bool):
        raise wrong(value, f"{key}: expected true or false, not {shown(value)}")
    return value.data


def choice(key: str, value: Value, choices: Collection[str]) -> str:
    """One of ``choices``.

    Raises:
        UsageError: it is none of them; the nearest one is named.
    """
    if value.data not in choices:
        hint = nearest(value.text, choices)
        raise wrong(value, f"{key}: expected {listed(choices, 'or')}, not {shown(value)}{hint}")
    return value.text


def texts(key: str, value: Value) -> list[Value]:
    """The plain values of a list, or of ``a,b,c``.

    Raises:
        UsageError: there is none, or one of them is no plain value.
    """
    if isinstance(value.data, list):
        parts = value.data
    else:
        pieces = [piece.strip() for piece in scalar(key, value).split(",")]
        parts = [Value(file=value.file, line=value.line, data=p, text=p) for p in pieces]
    if not parts or not all(scalar(key, part) for part in parts):
        raise wrong(value, f"{key}: expected a list, or names separated by commas")
    return parts


def numbers(key: str, value: Value, *, whole: bool) -> list[float]:
    """Numbers above 0, in each way to write them.

    A number, a list, ``1,2,4``, ``{start, stop, step}``, and ``start:stop:step``; ``stop`` is one
    of the numbers, and ``step`` is 1 where it is not given.

    Raises:
        UsageError: one of them is no such number, or appears twice.
    """
    found: list[float] = []
    for part in value.data if isinstance(value.data, list) else [value]:
        if isinstance(part.data, Mapping):
            found += _range_of(key, part, whole=whole)
        elif isinstance(part.data, str):
            for piece in part.text.split(","):
                ends = [_number(key, part, text, whole=whole) for text in piece.split(":")]
                if len(ends) > 3:
                    raise wrong(part, f"{key}: expected start:stop:step, not {piece.strip()!r}")
                found += _range(key, part, *ends) if len(ends) > 1 else ends
        else:
            found.append(_number(key, part, part.data, whole=whole))
        if len(found) > MAX_NUMBERS:
            raise wrong(value, f"{key}: more than {MAX_NUMBERS:,} values")
    if not found:
        raise wrong(value, f"{key}: the list is empty")
    twice = next((number for i, number in enumerate(found) if number in found[:i]), None)
    if twice is not None:
        raise wrong(value, f"{key}: {twice:g} appears twice")
    return found


def number(key: str, value: Value) -> float:
    """One number, whatever it is.

    Raises:
        UsageError: it is something else.
    """
    if isinstance(value.data, bool) or not isinstance(value.data, int | float):
        raise wrong(value, f"{key}: expected a number, not {shown(value)}")
    return value.data


def _number(key: str, value: Value, given: Any, *, whole: bool) -> float:
    kind = "whole number of at least 1" if whole else "number above 0"
    if isinstance(given, str):
        with contextlib.suppress(ValueError):
            given = int(given) if whole else float(given)
    inside = isinstance(given, int) if whole else isinstance(given, int | float)
    if not inside or isinstance(given, bool) or not 0 < given < math.inf:
        raise wrong(value, f"{key}: expected a {kind}, a list, or a range, not {shown(value)}")
    return given  # type: ignore[no-any-return]


def _range_of(key: str, value: Value, *, whole: bool) -> list[float]:
    ends = ("start", "stop", "step")
    for name, part in value.data.items():
        if name not in ends:
            raise wrong(part, f"{key}: a range has no {name!r}{nearest(name, ends)}")
    for name in ends[:2]:
        if name not in value.data:
            raise wrong(value, f"{key}: a range needs {name!r}: {{start: 1, stop: 8, step: 1}}")
    parts = [value.data[name] for name in ends if name in value.data]
    given = [_number(f"{key}: {n}", p, p.data, whole=whole) for n, p in zip(ends, parts)]  # noqa: B905
    return _range(key, value, *given)


def _range(key: str, value: Value, start: float, stop: float, step: float = 1) -> list[float]:
    if start > stop:
        raise wrong(value, f"{key}: the range starts at {start:g}, over its stop {stop:g}")
    steps = math.floor((stop - start) / step + 1e-9)
    if steps >= MAX_NUMBERS:
        raise wrong(value, f"{key}: more than {MAX_NUMBERS:,} values")
    return [start + i * step for i in range(steps + 1)]
