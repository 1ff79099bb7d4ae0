"""What a search for the best configuration looks through, and what it looks for."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from pytest_triton_perf.domain.metrics import find_metric
from pytest_triton_perf.domain.names import listed
from pytest_triton_perf.errors import UsageError

SearchMode = Literal["quick", "brute", "optuna"]


@dataclass(frozen=True, kw_only=True)
class SearchSpec:
    """The space of a search, its objective, and how it goes about it.

    ``objectives`` are metric names with their weights; the weights count relative to each other,
    and whether more or less is better is the metric's own. ``parameters`` (path of the model
    config to its values; all combinations) make the space a manual one. Without them it is
    automatic: max_batch_size doubling between its bounds where the model batches, and every
    instance count between its bounds. The bounds of concurrency and request rate say where an
    automatic load doubles; a sweep that lists its loads is measured at those.

    Raises:
        UsageError: a name or a value that cannot be; the message has all of them, one a line.
    """

    mode: SearchMode = "quick"
    objectives: Mapping[str, float] = field(default_factory=lambda: {"throughput": 1.0})
    parameters: Mapping[str, Sequence[Any]] | None = None
    min_model_batch_size: int = 1
    max_model_batch_size: int = 128
    min_instance_count: int = 1
    max_instance_count: int = 5
    min_concurrency: int = 1
    max_concurrency: int = 1024
    min_request_rate: float = 16.0
    max_request_rate: float = 8192.0
    seed: int = 0

    def __post_init__(self) -> None:
        problems = [
            *self._about_the_mode(),
            *_about_objectives(self.objectives),
            *_about_parameters(self.parameters),
            *self._about_bounds(),
        ]
        if problems:
            raise UsageError("\n".join(problems))

    def _about_the_mode(self) -> list[str]:
        modes = get_args(SearchMode)
        if self.mode in modes:
            return []
        return [f"mode: expected {listed(map(repr, modes), 'or')}, not {self.mode!r}"]

    def _about_bounds(self) -> list[str]:
        problems = []
        for name, kind in BOUNDS.items():
            bounds = {key: getattr(self, key) for key in (f"min_{name}", f"max_{name}")}
            wrong = [key for key, value in bounds.items() if not _is_number(value, kind)]
            word = "whole number of at least 1" if kind is int else "number above 0"
            problems += [f"{key}: expected a {word}, not {bounds[key]!r}" for key in wrong]
            low, high = bounds.values()
            if not wrong and low > high:
                problems.append(f"min_{name}={low} is over max_{name}={high}: the space is empty")
        if not isinstance(self.seed, int) or isinstance(self.seed, bool):
            problems.append(f"seed: expected a whole number, not {self.seed!r}")
        return problems


BOUNDS: Mapping[str, type] = {
    "model_batch_size": int,
    "instance_count": int,
    "concurrency": int,
    "request_rate": float,
}
"""What has a lower and an upper bound (``min_…``, ``max_…``), and the kind of number it is."""


def _is_number(value: Any, kind: type) -> bool:
    kinds = int if kind is int else (int, float)
    if isinstance(value, bool) or not isinstance(value, kinds):
        return False
    return math.isfinite(value) and value >= 1 if kind is int else 0 < value < math.inf


def _about_objectives(objectives: Any) -> list[str]:
    if not isinstance(objectives, Mapping) or not objectives:
        return [f"objective: expected a metric or {{metric: weight}}, not {objectives!r}"]
    problems = []
    for name, weight in objectives.items():
        try:
            find_metric(str(name))
        except UsageError as error:
            problems.append(f"objective: {error}")
        if not _is_number(weight, float):
            problems.append(f"objective[{name!r}]: a weight is a number above 0, not {weight!r}")
    return problems


def _about_parameters(parameters: Any) -> list[str]:
    if parameters is None:
        return []
    if not isinstance(parameters, Mapping) or not parameters:
        return [
            "parameters: expected a mapping of config path to a list of values, such as "
            f"{{'instance_group.count': [1, 2]}}, not {parameters!r}"
        ]
    problems = []
    for path, values in parameters.items():
        if not isinstance(path, str):
            problems.append(f"parameters: a path is text, not {path!r}")
        elif not isinstance(values, Sequence) or isinstance(values, str) or not values:
            problems.append(f"parameters[{path!r}]: expected a list of values, not {values!r}")
        elif any(value in values[:i] for i, value in enumerate(values)):
            problems.append(f"parameters[{path!r}]: a value appears twice in {list(values)!r}")
    return problems
