"""From a level's figures to what a search compares: logarithms with standard errors."""

import math
from collections.abc import Mapping
from statistics import NormalDist

from pytest_triton_perf.domain.budgets import Budget
from pytest_triton_perf.domain.levels import Estimate, Measurement
from pytest_triton_perf.domain.metrics import find_metric
from pytest_triton_perf.search.base import NOTHING, Guess

_LEAST = 1e-3
"""A smaller figure (no watt, no byte) counts as this: it has no logarithm."""

BETWEEN_LOADS = 0.03
"""What a configuration differs by from one time that it is loaded to the next (the standard error
of a logarithm), which the interval of one measurement knows nothing of."""

_OF_A_PEAK = 0.01
"""The same of a figure that has no interval: a peak, or a mean over time."""

_UNKNOWN = 0.2
"""The standard error where an interval is open, or where there is none and should be."""


def score(
    measurement: Measurement, objectives: Mapping[str, float], confidence: float = 0.95
) -> Guess:
    """The weighted mean of the objectives' logarithms; lower-is-better ones with a minus.

    A level on which an objective was not measured is worse than any other.
    """
    total = sum(objectives.values())
    mean = variance = 0.0
    for name, weight in objectives.items():
        estimate = measurement.values.get(name)
        if estimate is None:
            return NOTHING
        sign = 1 if find_metric(name).better == "higher" else -1
        mean += weight / total * sign * _log(estimate.value)
        variance += (weight / total * _error(estimate, confidence)) ** 2
    return Guess(mean, math.sqrt(variance))


def slack(measurement: Measurement, budget: Budget, confidence: float = 0.95) -> Guess:
    """How far a level's figure is inside a limit; without the figure it is infinitely outside."""
    estimate = measurement.values.get(budget.metric.name)
    if estimate is None:
        return NOTHING
    sign = 1 if budget.metric.better == "higher" else -1
    distance = sign * (_log(estimate.value) - math.log(budget.limit))
    return Guess(distance, _error(estimate, confidence))


def _log(value: float) -> float:
    return math.log(max(value, _LEAST))


def _error(estimate: Estimate, confidence: float) -> float:
    """The standard error of the logarithm, over all times that the model may be loaded."""
    if estimate.ci is None:
        return _OF_A_PEAK
    low, high = estimate.ci
    if low is None or high is None or low <= 0:
        return _UNKNOWN
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    return math.hypot(BETWEEN_LOADS, (math.log(high) - math.log(low)) / (2 * z))
