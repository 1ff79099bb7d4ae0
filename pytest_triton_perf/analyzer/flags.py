"""Flags of perf_analyzer and tritonserver, as Model Analyzer's files hold them."""

from collections.abc import Iterable, Mapping
from typing import Any

from pytest_triton_perf.analyzer import keys
from pytest_triton_perf.analyzer.parse import Value
from pytest_triton_perf.analyzer.values import (
    Problems,
    choice,
    mapping,
    number,
    scalar,
    truth,
    wrong,
)
from pytest_triton_perf.domain.names import nearest
from pytest_triton_perf.errors import UsageError

PERCENTILES = (50, 90, 95, 99)
"""What a sweep reports without being asked."""


def perf_analyzer(flags: Value, problems: Problems) -> tuple[dict[str, Any], dict[str, str]]:
    """``perf_analyzer_flags`` as keys of ``perf_sweep``, and those not used with the reason."""
    sweep: dict[str, Any] = {}
    unused: dict[str, str] = {}
    args: list[str] = []
    for name, value in problems.attempt(mapping, "perf_analyzer_flags", flags, default={}).items():
        if value.data is None:
            continue
        if name in keys.FLAGS_NOT_USED:
            unused[f"perf_analyzer_flags: {name}"] = keys.FLAGS_NOT_USED[name]
        elif name in keys.FLAGS_PASSED:
            args += problems.attempt(_passed, name, value, default=())
        elif name in keys.FLAGS_READ:
            sweep |= problems.attempt(_read, name, value, default={})
        else:
            problems.attempt(_refuse, name, value)
    if args:
        sweep["perf_analyzer_args"] = args
    return sweep, unused


def server_args(flags: Value, problems: Problems) -> list[str]:
    """``triton_server_flags`` as arguments of tritonserver."""
    found = problems.attempt(mapping, "triton_server_flags", flags, default={})
    args: Iterable[Any] = (
        problems.attempt(_server_arg, name, value)
        for name, value in found.items()
        if value.data is not None
    )
    return [arg for arg in args if arg is not None]


def _server_arg(name: str, value: Value) -> str:
    # Model Analyzer takes both spellings.
    flag = name.replace("_", "-")
    if flag in keys.SERVER_REFUSED:
        raise wrong(value, f"triton_server_flags: {name}: {keys.SERVER_REFUSED[flag]}")
    if flag not in keys.SERVER_FLAGS:
        hint = nearest(flag, keys.SERVER_FLAGS)
        raise wrong(value, f"triton_server_flags: tritonserver has no flag {name!r}{hint}")
    return f"--{flag}={scalar(f'triton_server_flags: {name}', value)}"


def _passed(name: str, value: Value) -> list[str]:
    option = keys.FLAGS_PASSED[name]
    if name in ("async", "sync"):
        return [option] if truth(f"perf_analyzer_flags: {name}", value) else []
    return [option, scalar(f"perf_analyzer_flags: {name}", value)]


def _refuse(name: str, value: Value) -> None:
    known = [*keys.FLAGS_READ, *keys.FLAGS_PASSED, *keys.FLAGS_NOT_USED, *keys.FLAGS_REFUSED]
    why = f"it is not for here: {keys.FLAGS_REFUSED.get(name)}"
    if name not in keys.FLAGS_REFUSED:
        why = f"perf_analyzer has no such flag{nearest(name, known)}"
    raise wrong(value, f"perf_analyzer_flags: {name}: {why}")


def _read(name: str, value: Value) -> Mapping[str, Any]:
    """The keys of ``perf_sweep`` that a flag means."""
    where = f"perf_analyzer_flags: {name}"
    if name == "percentile":
        percentile = number(where, value)
        if percentile not in range(1, 100):
            raise wrong(value, f"{where}: expected a whole number from 1 to 99")
        return {"percentiles": sorted({*PERCENTILES, int(percentile)})}
    if name == "streaming":
        return {"streaming": truth(where, value)}
    if name == "shape":
        return {"shapes": _shapes(where, value)}
    if name == "shared-memory":
        return {"shared_memory": choice(where, value, ("none", "system", "cuda"))}
    if name == "protocol":
        return {"protocol": choice(where, value, ("grpc", "http"))}
    given = value.data if isinstance(value.data, list) else [value]
    if len(given) != 1:
        raise wrong(value, f"{where}: one file or directory, or zero or random; put all into one")
    return {"input_data": scalar(where, given[0])}


def _shapes(where: str, value: Value) -> dict[str, tuple[int, ...]]:
    shapes = {}
    for part in value.data if isinstance(value.data, list) else [value]:
        name, _, dims = scalar(where, part).rpartition(":")
        try:
            shape = tuple(int(dim) for dim in dims.split(","))
        except ValueError:
            shape = ()
        if not name or not shape or min(shape) < 1:
            raise UsageError(f"{part.where}: {where}: expected INPUT0:16,16, not {part.text!r}")
        shapes[name] = shape
    return shapes
