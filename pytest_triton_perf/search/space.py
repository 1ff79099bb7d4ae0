"""The candidates of a search, and where they lie."""

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

from pytest_triton_perf.domain.budgets import Budget
from pytest_triton_perf.domain.levels import Load
from pytest_triton_perf.domain.searches import SearchSpec
from pytest_triton_perf.domain.variants import Overrides, Variant
from pytest_triton_perf.errors import UsageError
from pytest_triton_perf.search.base import Grid

_COUNT = "instance_group.count"
_BATCH = "max_batch_size"


def candidates(
    spec: SearchSpec, model: str, config: Mapping[str, Any] | None, loads: Sequence[Load]
) -> list[Overrides]:
    """The configurations to compare, beside the default one, as changes of ``config``.

    ``config`` is ``None`` where only Triton knows it.

    Raises:
        UsageError: the space is empty, or an automatic one is not to be had for this model.
    """
    if spec.parameters is not None:
        product = itertools.product(*spec.parameters.values())
        return [dict(zip(spec.parameters, values, strict=True)) for values in product]
    if config is None:
        raise UsageError(
            f"the automatic search needs the config.pbtxt of model {model!r}; without it, name "
            f"what to vary: perf_search(parameters={{'{_COUNT}': [1, 2]}})"
        )
    if "ensemble_scheduling" in config:
        raise UsageError(
            f"model {model!r} is an ensemble, which has no instances and no batches of its own; "
            "search through the models that it is composed of"
        )
    counts = range(spec.min_instance_count, spec.max_instance_count + 1)
    sizes = _batch_sizes(spec, config, loads)
    return [
        {**({} if size is None else _batching(size, config)), _COUNT: count}
        for size in sizes
        for count in counts
    ]


def _batch_sizes(
    spec: SearchSpec, config: Mapping[str, Any], loads: Sequence[Load]
) -> Sequence[int | None]:
    if not config.get(_BATCH):
        return [None]
    needed = max(load.batch_size for load in loads)
    sizes = doubled(spec.min_model_batch_size, spec.max_model_batch_size)
    fitting = [int(size) for size in sizes if size >= needed]
    if not fitting:
        raise UsageError(
            f"requests of batch_size={needed} do not fit into max_batch_size="
            f"{int(sizes[-1])}, the largest of the search; raise max_model_batch_size"
        )
    return fitting


def _batching(size: int, config: Mapping[str, Any]) -> Overrides:
    """A batch size, with dynamic batching where that is legal and not there already."""
    batched = "dynamic_batching" in config or "sequence_batching" in config
    return {_BATCH: size} if batched else {_BATCH: size, "dynamic_batching": {}}


def doubled(low: float, high: float) -> list[float]:
    """From ``low``, doubling, as far as ``high``."""
    return [low * 2**i for i in range(math.floor(math.log2(high / low)) + 1)]


def automatic_loads(
    spec: SearchSpec, like: Sequence[Load], named: Sequence[Load] = ()
) -> tuple[Load, ...]:
    """The loads of a sweep that leaves them to the search, and those that are ``named``.

    They are of the kinds and batch sizes that ``like`` has.
    """
    found = dict.fromkeys(named)
    for kind, batch in dict.fromkeys((load.kind, load.batch_size) for load in like):
        if kind == "concurrency":
            steps = doubled(spec.min_concurrency, spec.max_concurrency)
            loads = [Load(concurrency=int(step), batch_size=batch) for step in steps]
        else:
            steps = doubled(spec.min_request_rate, spec.max_request_rate)
            loads = [Load(request_rate=step, batch_size=batch) for step in steps]
        found |= dict.fromkeys(loads)
    return tuple(sorted(found, key=lambda load: load.order))


def grid_of(
    variants: Sequence[Variant], loads: Sequence[Load], budgets: Sequence[Budget], spec: SearchSpec
) -> Grid:
    """The grid of the variants, the default first; the budgets are its constraints."""
    changes = [variant.overrides for variant in variants[1:]]
    paths = dict.fromkeys(path for change in changes for path in change)
    default = {path: _value_at(variants[0].config, path) for path in paths}
    return Grid(
        candidates=coordinates(changes, default),
        loads=load_coordinates(loads),
        constraints=[
            tuple(i for i, load in enumerate(loads) if load.matches(budget.at)) if budget.at else ()
            for budget in budgets
        ],
        monotone=spec.parameters is None,
    )


def coordinates(
    changes: Sequence[Mapping[str, Any]], default: Mapping[str, Any]
) -> list[tuple[float, ...]]:
    """Where candidates lie, the default first: a coordinate per path, a step for a doubling.

    ``changes`` are the values by path of all others, ``default`` the default's, as far as they
    are known. Where a value is not a number above 0, each has a direction of its own. One more
    coordinate tells the default from all others, for it may differ in what no path names.
    """
    columns: list[list[float]] = [[1.0, *(0.0 for _ in changes)]]
    for path in dict.fromkeys(path for change in changes for path in change):
        values = [change.get(path) for change in changes]
        own = default.get(path)
        if numbers := _logs(values):
            middle = (min(numbers) + max(numbers)) / 2
            columns.append([(_logs([own]) or [middle])[0], *numbers])
        else:
            kinds = dict.fromkeys(map(repr, values))
            columns += [
                [_APART * (repr(value) == kind) for value in (own, *values)] for kind in kinds
            ]
    varied = [column for column in columns if len(set(column[1:])) > 1 or column is columns[0]]
    return list(zip(*varied, strict=True))


_APART = 1 / math.sqrt(2)
"""So that two kinds are a step apart."""


def _logs(values: Sequence[Any]) -> list[float]:
    """The logarithms to base 2; empty where one of the values has none."""
    numbers = [v for v in values if isinstance(v, int | float) and not isinstance(v, bool)]
    if len(numbers) < len(values) or any(number <= 0 for number in numbers):
        return []
    return [math.log2(number) for number in numbers]


def _value_at(config: Any, path: str) -> Any:
    """What a config has at a path, in the first element of a list; ``None`` where nothing is."""
    for segment in path.replace("[", ".").replace("]", "").split("."):
        if isinstance(config, list):
            config = config[0] if config else None
            if segment.isdigit():
                continue
        config = config.get(segment) if isinstance(config, Mapping) else None
    return config


def load_coordinates(loads: Sequence[Load]) -> list[tuple[float, ...]]:
    """Where loads lie: the logarithms of how much load and of the batch size."""
    return [(math.log2(load.value), math.log2(load.batch_size)) for load in loads]
