"""The limits of a config file: Model Analyzer's metrics as budgets."""

from collections.abc import Mapping
from typing import Any

from pytest_triton_perf.analyzer import keys
from pytest_triton_perf.analyzer.parse import Value
from pytest_triton_perf.analyzer.values import number, shown, wrong
from pytest_triton_perf.domain.budgets import Budget
from pytest_triton_perf.domain.names import nearest
from pytest_triton_perf.errors import UsageError


def limit(tag: str, value: Value) -> tuple[str, float]:
    """The budget that a constraint is, and its limit."""
    if tag not in keys.CONSTRAINTS:
        raise wrong(value, f"constraints: {unknown_metric(tag, keys.CONSTRAINTS)}")
    end, budget = keys.CONSTRAINTS[tag]
    bounds = value.data
    if not isinstance(bounds, Mapping) or set(bounds) != {end}:
        raise wrong(value, f"constraints: {tag}: expected {{{end}: …}}, not {shown(value)}")
    return budget, checked(f"constraints: {tag}", budget, bounds[end])


def checked(key: str, budget: str, value: Value) -> float:
    """The number of a limit, where the budget can have it."""
    found = number(key, value)
    try:
        Budget.from_keyword(budget, found)
    except UsageError as error:
        raise wrong(value, f"{key}: {error}") from None
    return found


def unknown_metric(tag: str, known: Mapping[str, Any]) -> str:
    """Why a metric's tag cannot be used."""
    if (why := keys.NOT_MEASURED.get(tag)) is not None:
        return f"{tag} cannot be used: {why}"
    return f"unknown metric {tag!r}{nearest(tag, known)}"
