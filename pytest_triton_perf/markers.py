"""Markers: what a user typed, checked and turned into frozen specs.

Nothing here starts or imports anything heavy; problems are collected, so that one usage error
can name them all before a server starts.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args

import pytest

from pytest_triton_perf.domain.budgets import Budget
from pytest_triton_perf.domain.comparisons import Gate, Mode
from pytest_triton_perf.domain.levels import Load
from pytest_triton_perf.domain.metrics import find_metric, percentile_of
from pytest_triton_perf.domain.names import listed, nearest
from pytest_triton_perf.domain.variants import Overrides, expand
from pytest_triton_perf.errors import UsageError
from pytest_triton_perf.load.base import SharedMemory, Traffic, WireProtocol

_SWEEP_KEYS = (
    "model",
    "concurrency",
    "request_rate",
    "batch_size",
    "variants",
    "protocol",
    "input_data",
    "shapes",
    "shared_memory",
    "streaming",
    "percentiles",
    "server_args",
    "perf_analyzer_args",
)


_GATE_KEYS = ("max_slowdown_pct", "metric", "mode", "at")
_GATE_METRICS = (
    *("throughput", "avg_latency_ms", "p50_latency_ms", "p90_latency_ms", "p95_latency_ms"),
    *("p99_latency_ms", "cpu_memory_mb", "gpu_memory_mb"),
)


@dataclass(frozen=True, kw_only=True)
class SweepSpec:
    """A ``perf_sweep`` marker: what to measure, under which loads, with which requests.

    With ``auto`` (``concurrency="auto"``) the concurrency goes on doubling from that of ``loads``,
    which are those that are measured in any case. Where the test ``searches``
    (``variants="search"``), the search chooses among the loads, and among the variants.
    """

    model: str
    loads: tuple[Load, ...]
    auto: bool
    variants: tuple[Overrides, ...]
    traffic: Traffic
    server_args: tuple[str, ...]
    searches: bool = False

    def with_loads_of(self, budgets: Iterable[Budget]) -> "SweepSpec":
        """The spec in which an automatic ramp also measures what budgets name with ``at``."""
        loads = dict.fromkeys(self.loads)
        kind = self.loads[0].kind
        for budget in budgets:
            if self.auto and kind in budget.at:
                value = float(budget.at[kind])
                given: dict[str, Any] = {kind: int(value) if kind == "concurrency" else value}
                named = (replace(load, **given) for load in self.loads)
                loads |= dict.fromkeys(load for load in named if load.matches(budget.at))
        return replace(self, loads=tuple(loads))


class _Problems:
    """Collects what is wrong with one marker, so that all of it is told at once."""

    def __init__(self) -> None:
        self.found: list[str] = []

    def check(self, ok: bool, problem: str) -> bool:
        if not ok:
            self.found.append(problem)
        return ok

    def attempt(self, parse: Callable[..., Any], *args: Any) -> Any:
        try:
            return parse(*args)
        except UsageError as error:
            self.found.append(str(error))
            return None

    def raise_if_any(self, marker: str) -> None:
        if self.found:
            raise UsageError("\n".join(f"{marker}: {problem}" for problem in self.found))


def parse_sweep(mark: pytest.Mark, test_dir: Path) -> SweepSpec:
    """The spec of a ``perf_sweep`` marker; paths in it are relative to ``test_dir``.

    Raises:
        UsageError: all that is wrong with the marker, one line each.
    """
    problems = _Problems()
    given = dict(mark.kwargs)
    if mark.args:
        problems.check(False, "takes keyword arguments only, e.g. perf_sweep(model='add_sub', …)")
    for key in given:
        problems.check(key in _SWEEP_KEYS, f"unknown key {key!r}{nearest(key, _SWEEP_KEYS)}")
    model = given.get("model")
    problems.check(isinstance(model, str) and bool(model), "model='…' names the model to measure")
    loads = problems.attempt(_loads, given)
    searches = given.get("variants") == "search"
    variants = problems.attempt(expand, None if searches else given.get("variants"))
    traffic = problems.attempt(_traffic, given, test_dir)
    server_args = problems.attempt(_texts, "server_args", given.get("server_args", ()))
    problems.raise_if_any("perf_sweep")
    assert isinstance(model, str)
    return SweepSpec(
        model=model,
        loads=loads,
        auto="auto" in (given.get("concurrency"), given.get("request_rate")),
        variants=tuple(variants),
        traffic=traffic,
        server_args=server_args,
        searches=searches,
    )


def parse_budgets(marks: Iterable[pytest.Mark], spec: SweepSpec | None) -> tuple[Budget, ...]:
    """The budgets of all ``perf_budget`` markers of a test, checked against its sweep.

    ``spec`` is ``None`` where the sweep's marker is wrong; names and limits are checked even so.

    Raises:
        UsageError: all that is wrong with them, one line each.
    """
    problems = _Problems()
    budgets: list[Budget] = []
    for mark in marks:
        limits = dict(mark.kwargs)
        at = limits.pop("at", None)
        problems.check(not mark.args, "takes keyword arguments only, e.g. p99_latency_ms=25")
        problems.check(bool(limits), "names no limit, e.g. perf_budget(p99_latency_ms=25)")
        if spec is not None:
            at = problems.attempt(_at, at, spec)
        for name, limit in limits.items():
            budget = problems.attempt(Budget.from_keyword, name, limit, at if spec else None)
            if budget is not None:
                if spec is not None:
                    problems.attempt(_is_measured, budget, spec)
                budgets.append(budget)
    problems.raise_if_any("perf_budget")
    return tuple(budgets)


def parse_gates(
    marks: Iterable[pytest.Mark], spec: SweepSpec | None, *, max_slowdown_pct: float
) -> tuple[Gate, ...]:
    """The gates of all ``perf_gate`` markers of a test; without one, the gate of every test.

    ``max_slowdown_pct`` is what a gate must find that does not say it. ``spec`` is ``None`` where
    the sweep's marker is wrong; there are no gates then, but what is wrong with them is told.

    Raises:
        UsageError: all that is wrong with them, one line each.
    """
    problems = _Problems()
    found = [problems.attempt(_gate, mark, spec, max_slowdown_pct, problems) for mark in marks]
    problems.raise_if_any("perf_gate")
    if spec is None:
        return ()
    if not found:
        return (_gate_of({}, spec, max_slowdown_pct),)
    return tuple(dict.fromkeys(found))


def _gate(
    mark: pytest.Mark, spec: SweepSpec | None, max_slowdown_pct: float, problems: _Problems
) -> Gate | None:
    given = dict(mark.kwargs)
    problems.check(not mark.args, "takes keyword arguments only, e.g. max_slowdown_pct=5")
    for key in given:
        problems.check(key in _GATE_KEYS, f"unknown key {key!r}{nearest(key, _GATE_KEYS)}")
    if (mode := given.get("mode")) is not None:
        problems.attempt(_choice, "mode", mode, get_args(Mode))
    size = given.get("max_slowdown_pct", max_slowdown_pct)
    is_number = isinstance(size, int | float) and not isinstance(size, bool)
    problems.check(
        is_number and 0 < size < math.inf,
        f"max_slowdown_pct: expected a number above 0, such as 5, not {size!r}",
    )
    metric = given.get("metric")
    if metric is not None and not (isinstance(metric, str) and _is_gate_metric(metric)):
        hint = nearest(str(metric), _GATE_METRICS)
        problems.check(False, f"metric: expected one of {listed(_GATE_METRICS)}{hint}")
    if spec is None or problems.found:
        return None
    return _gate_of(given, spec, max_slowdown_pct)


def _is_gate_metric(name: str) -> bool:
    return name in _GATE_METRICS or percentile_of(name) is not None


def _gate_of(given: Mapping[str, Any], spec: SweepSpec, max_slowdown_pct: float) -> Gate:
    closed = spec.loads[0].concurrency is not None
    metric = find_metric(given.get("metric") or ("throughput" if closed else "avg_latency_ms"))
    check_percentile(metric.name, metric.name, spec)
    if metric.name == "throughput" and not closed:
        raise UsageError(
            "metric: at a request rate the throughput is that rate; gate on avg_latency_ms"
        )
    at = _at(given.get("at"), spec)
    if spec.auto and "concurrency" in at:
        named = (replace(load, concurrency=int(at["concurrency"])) for load in spec.loads)
        loads = tuple(load for load in named if load.matches(at))
    elif at:
        loads = tuple(load for load in spec.loads if load.matches(at))
    else:
        loads = () if spec.auto else (max(spec.loads, key=lambda load: load.order),)
    return Gate(
        metric=metric,
        max_slowdown_pct=float(given.get("max_slowdown_pct", max_slowdown_pct)),
        mode=given.get("mode", "detect"),
        loads=loads,
    )


def _is_measured(budget: Budget, spec: SweepSpec) -> None:
    check_percentile(budget.name, budget.metric.name, spec)


def check_percentile(name: str, metric: str, spec: SweepSpec) -> None:
    """Whether a sweep has the percentile, if it is one, that a marker names.

    Raises:
        UsageError: it does not.
    """
    percentile = percentile_of(metric)
    if percentile is not None and percentile not in spec.traffic.percentiles:
        raise UsageError(
            f"{name}: the sweep measures {listed(f'p{p}' for p in spec.traffic.percentiles)}"
            f"; add {percentile} to perf_sweep(percentiles=…)"
        )


def _at(at: Any, spec: SweepSpec) -> Mapping[str, float]:
    keys = ("concurrency", "request_rate", "batch_size")
    if at is None:
        return {}
    if not isinstance(at, Mapping) or not at:
        raise UsageError(f"at: expected a mapping such as {{'concurrency': 8}}, not {at!r}")
    for key in at:
        if key not in keys:
            raise UsageError(f"at: unknown key {key!r}{nearest(str(key), keys)}")
    kind = spec.loads[0].kind
    if spec.auto and kind in at:
        _numbers(f"at: {kind}", at[kind], whole=kind == "concurrency")
        looked_for = {key: value for key, value in at.items() if key != kind}
    else:
        looked_for = dict(at)
    if not any(load.matches(looked_for) for load in spec.loads):
        asked = ", ".join(f"{key} {value}" for key, value in at.items())
        raise UsageError(
            f"at: the sweep has no level with {asked}; it measures {listed(map(str, spec.loads))}"
        )
    return at


def _loads(given: Mapping[str, Any]) -> tuple[Load, ...]:
    batch_sizes = _numbers("batch_size", given.get("batch_size", 1), whole=True)
    if ("concurrency" in given) == ("request_rate" in given):
        raise UsageError("give the load: either concurrency=[1, 2, 4] or request_rate=[50, 100]")
    if "concurrency" in given:
        auto = given["concurrency"] == "auto"
        values = [1] if auto else _numbers("concurrency", given["concurrency"], whole=True)
        return tuple(
            Load(concurrency=int(value), batch_size=int(batch))
            for batch in batch_sizes
            for value in values
        )
    if given["request_rate"] == "auto":
        if given.get("variants") != "search":
            raise UsageError("request_rate: 'auto' needs variants='search'; list the rates")
        return tuple(Load(request_rate=1.0, batch_size=int(batch)) for batch in batch_sizes)
    rates = _numbers("request_rate", given["request_rate"], whole=False)
    return tuple(
        Load(request_rate=float(rate), batch_size=int(batch))
        for batch in batch_sizes
        for rate in rates
    )


def _numbers(key: str, given: Any, *, whole: bool) -> list[float]:
    values = list(given) if isinstance(given, list | tuple | range) else [given]
    kind = "whole number of at least 1" if whole else "number above 0"
    for value in values:
        number = isinstance(value, int) if whole else isinstance(value, int | float)
        low = 1 if whole else 0
        inside = number and not isinstance(value, bool) and low <= value < math.inf and value
        if not inside:
            other = " or 'auto'," if key == "concurrency" else ""
            raise UsageError(f"{key}: expected a {kind}, or a list of them,{other} not {value!r}")
    if not values:
        raise UsageError(f"{key}: the list is empty")
    if len(set(values)) < len(values):
        raise UsageError(f"{key}: a value appears twice in {values!r}")
    return values


def _traffic(given: Mapping[str, Any], test_dir: Path) -> Traffic:
    protocol = _choice("protocol", given.get("protocol", "grpc"), get_args(WireProtocol))
    streaming = given.get("streaming", False)
    if not isinstance(streaming, bool):
        raise UsageError(f"streaming: expected True or False, not {streaming!r}")
    if streaming and protocol != "grpc":
        raise UsageError("streaming: needs protocol='grpc'")
    memory = given.get("shared_memory", "none")
    return Traffic(
        model=str(given.get("model")),
        protocol=protocol,
        input_data=_input_data(given.get("input_data"), test_dir),
        shapes=_shapes(given.get("shapes")),
        shared_memory=_choice("shared_memory", memory, get_args(SharedMemory)),
        streaming=streaming,
        percentiles=_percentiles(given.get("percentiles", (50, 90, 95, 99))),
        extra_args=_extra_args(given.get("perf_analyzer_args", ())),
    )


def _choice(key: str, value: Any, choices: tuple[Any, ...]) -> Any:
    if value not in choices:
        raise UsageError(f"{key}: expected {listed(map(repr, choices), 'or')}, not {value!r}")
    return value


def _input_data(given: Any, test_dir: Path) -> str | Path | None:
    if given is None or given in ("zero", "random"):
        return given  # type: ignore[no-any-return]
    if not isinstance(given, str | Path):
        raise UsageError(f"input_data: expected 'zero', 'random' or a path, not {given!r}")
    path = test_dir / given
    if not path.exists():
        raise UsageError(f"input_data: there is no file or directory {path}")
    return path


def _shapes(given: Any) -> Mapping[str, tuple[int, ...]] | None:
    if given is None:
        return None
    if not isinstance(given, Mapping) or not given:
        raise UsageError(f"shapes: expected a mapping such as {{'INPUT0': (16,)}}, not {given!r}")
    shapes = {}
    for name, value in given.items():
        dims = (value,) if isinstance(value, int) else value
        if not isinstance(dims, list | tuple) or not dims:
            raise UsageError(f"shapes[{name!r}]: expected dimensions such as (16,), not {dims!r}")
        if not all(isinstance(d, int) and not isinstance(d, bool) and d > 0 for d in dims):
            raise UsageError(f"shapes[{name!r}]: dimensions are whole numbers above 0: {dims!r}")
        shapes[str(name)] = tuple(dims)
    return shapes


def _percentiles(given: Any) -> tuple[int, ...]:
    if not isinstance(given, list | tuple) or not given:
        raise UsageError(f"percentiles: expected a list such as (50, 90, 95, 99), not {given!r}")
    for value in given:
        if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= 99:
            raise UsageError(f"percentiles: expected whole numbers from 1 to 99, not {value!r}")
    return tuple(sorted(set(given)))


def _extra_args(given: Any) -> tuple[str, ...]:
    from pytest_triton_perf.load.command import check_extra_args

    args = _texts("perf_analyzer_args", given)
    check_extra_args(args)
    return args


def _texts(key: str, given: Any) -> tuple[str, ...]:
    if not isinstance(given, list | tuple) or not all(isinstance(arg, str) for arg in given):
        raise UsageError(f"{key}: expected a list of texts, one argument each, not {given!r}")
    return tuple(given)
