"""From the markers of a test that searches to the configurations and loads to look through."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from importlib.util import find_spec
from typing import Any

import pytest

from pytest_triton_perf.domain.budgets import Budget
from pytest_triton_perf.domain.levels import Load
from pytest_triton_perf.domain.metrics import find_metric
from pytest_triton_perf.domain.names import nearest
from pytest_triton_perf.domain.searches import SearchSpec
from pytest_triton_perf.domain.variants import Overrides, Variant
from pytest_triton_perf.errors import UsageError
from pytest_triton_perf.markers import SweepSpec, check_percentile
from pytest_triton_perf.search import space

_MOST = 2000
"""Configurations in a space."""


@dataclass(frozen=True, kw_only=True)
class SearchPlan:
    """What a test searches: ``candidates`` are the configurations, the default one first.

    With ``all_loads`` the best one is measured at all loads, because the test lists them.
    """

    spec: SearchSpec
    candidates: tuple[Variant, ...]
    all_loads: bool


def parse_search(mark: pytest.Mark | None, *, searches: bool) -> SearchSpec | None:
    """The spec of a ``perf_search`` marker; ``None`` where the test does not search.

    Raises:
        UsageError: all that is wrong with the marker, one line each.
    """
    if mark is None:
        return SearchSpec() if searches else None
    if not searches:
        raise UsageError("perf_search: needs perf_sweep(variants='search') beside it")
    given = dict(mark.kwargs)
    keys = ["objective", *(field.name for field in fields(SearchSpec))]
    keys.remove("objectives")
    problems = [f"unknown key {key!r}{nearest(key, keys)}" for key in given if key not in keys]
    if mark.args:
        problems.append("takes keyword arguments only, e.g. perf_search(mode='quick')")
    known = {key: value for key, value in given.items() if key in keys}
    if "objective" in known:
        objective = known.pop("objective")
        known["objectives"] = {objective: 1.0} if isinstance(objective, str) else objective
    if known.get("mode") == "optuna" and find_spec("optuna") is None:
        problems.append("mode='optuna' needs optuna: pip install 'pytest-triton-perf[search]'")
    try:
        spec = SearchSpec(**known)
    except UsageError as error:
        problems += str(error).splitlines()
    if problems:
        raise UsageError("\n".join(f"perf_search: {problem}" for problem in problems))
    return spec


def check_objectives(
    spec: SearchSpec, sweep: SweepSpec, can_measure: Callable[[Budget], str | None]
) -> None:
    """Whether the objectives are among what is measured.

    Raises:
        UsageError: one is not.
    """
    for name in spec.objectives:
        objective = Budget(name=f"objective {name}", metric=find_metric(name), limit=1.0)
        if why := can_measure(objective):
            raise UsageError(f"perf_search: {why}")
        check_percentile(f"perf_search: {objective.name}", name, sweep)


def plan(
    spec: SearchSpec,
    sweep: SweepSpec,
    budgets: Iterable[Budget],
    config: Mapping[str, Any] | None,
    variant: Callable[[Overrides], Variant],
) -> tuple[SearchPlan, SweepSpec]:
    """The candidates, and the sweep with the loads to search through.

    ``variant`` makes a candidate of its changes, checked and named.

    Raises:
        UsageError: the space is empty or too large, or a change is not possible.
    """
    loads = sweep.loads if not sweep.auto else _automatic_loads(sweep, spec, budgets)
    changes = _of_a_size(space.candidates(spec, sweep.model, config, loads))
    found: dict[str, Variant] = {}
    for change in ({}, *changes):
        made = variant(change)
        found.setdefault(made.name, made)
    made_plan = SearchPlan(spec=spec, candidates=tuple(found.values()), all_loads=not sweep.auto)
    return made_plan, replace(sweep, auto=False, loads=loads)


def _of_a_size(changes: Sequence[Overrides]) -> Sequence[Overrides]:
    if len(changes) > _MOST:
        raise UsageError(
            f"perf_search: the space has {len(changes):,} configurations, and at most {_MOST:,} "
            "can be searched; list fewer values"
        )
    return changes


def _automatic_loads(
    sweep: SweepSpec, spec: SearchSpec, budgets: Iterable[Budget]
) -> tuple[Load, ...]:
    kind = sweep.loads[0].kind
    limits = [budget.at for budget in budgets if kind in budget.at]
    named = [load for load in sweep.loads if any(load.matches(at) for at in limits)]
    return space.automatic_loads(spec, sweep.loads, named)
