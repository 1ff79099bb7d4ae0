"""``triton-perf suggest``: budgets that what was measured keeps, with a margin."""

from pytest_triton_perf.domain.levels import Estimate
from pytest_triton_perf.domain.metrics import percentile_of
from pytest_triton_perf.domain.names import on_one_line
from pytest_triton_perf.domain.results import Run
from pytest_triton_perf.domain.sweeps import Level, Sweep

_DIGITS = 3
"""Of a limit, significant ones."""

_MEMORY = ("gpu_memory_mb", "cpu_memory_mb")


def suggest(run: Run, margin_pct: float) -> str:
    """Lines for the tests of a run: ``perf_budget`` markers that it keeps, with a margin.

    Of a test that searched, for the configuration and the load that it chose; of others, for the
    load with the most throughput, one suggestion per test and variant.
    """
    lines = [f"# Limits are {margin_pct:g}% away from the far end of the measured interval."]
    best = {search.test: search.best for search in run.searches}
    for sweep in run.sweeps:
        chosen = best.get(sweep.test)
        if sweep.test in best and (chosen is None or chosen.variant != sweep.variant.name):
            continue
        load = None if chosen is None else chosen.load
        lines += [
            "",
            f"# {on_one_line(f'{sweep.test}: {run.configuration(sweep)}')}",
            *_budget(sweep, load, margin_pct),
        ]
    return "\n".join(lines)


def _budget(sweep: Sweep, load: object, margin_pct: float) -> list[str]:
    levels = [level for level in sweep if level.measurement.value("throughput") is not None]
    if not levels:
        return ["# no throughput was measured"]
    chosen = [level for level in levels if level.load == load]
    level = chosen[0] if chosen else max(levels, key=_throughput)
    limits = dict(filter(None, (_limit(level, name, margin_pct) for name in _names(level))))
    at = {level.load.kind: level.load.value}
    if len({each.batch_size for each in sweep}) > 1:
        at["batch_size"] = level.batch_size
    words = [f"{name}={limit:g}" for name, limit in limits.items()]
    return [f"@pytest.mark.perf_budget({', '.join(words)}, at={at})"]


def _throughput(level: Level) -> float:
    return level.measurement.values["throughput"].value


def _names(level: Level) -> list[str]:
    tails = [name for name in level.measurement.values if percentile_of(name)]
    return [*tails[-1:], "throughput", *(n for n in _MEMORY if n in level.measurement.values)]


def _limit(level: Level, name: str, margin_pct: float) -> tuple[str, float] | None:
    """The budget and its limit; ``None`` where the interval has no end on that side."""
    estimate: Estimate = level.measurement.values[name]
    low, high = estimate.ci or (estimate.value, estimate.value)
    if name == "throughput":
        return None if low is None else (f"min_{name}", _round(low / (1 + margin_pct / 100)))
    if high is None:
        return None
    budget = f"max_{name}" if name in _MEMORY else name
    return budget, _round(high * (1 + margin_pct / 100))


def _round(value: float) -> float:
    return float(f"{value:.{_DIGITS}g}")
