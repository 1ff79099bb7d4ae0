"""What the paired gate found, in words and rows; pure, for every report."""

from collections.abc import Callable, Sequence

from pytest_triton_perf.domain.comparisons import Comparison, tally
from pytest_triton_perf.domain.levels import Interval
from pytest_triton_perf.domain.metrics import find_metric
from pytest_triton_perf.domain.results import Run
from pytest_triton_perf.reports.tables import Table

HEADER = ("gate", "metric", "change [95% interval]", "limit", "would see", "quads", "test")

_WORDS = {"vanished": "gone", "no_baseline": "new", "not_comparable": "not comparable"}


def headline(run: Run) -> str:
    """``gate against main (1f0c2d3e4a5b): 1 regressed, 2 unchanged``."""
    against = run.environment.get("gate", {}).get("against", "the base")
    return f"gate against {against}: {tally(run.comparisons)}"


def gated(run: Run) -> list[Comparison]:
    """The comparisons that decide, what fails first."""
    return sorted((c for c in run.comparisons if c.gated), key=lambda c: not c.fails)


def row(comparison: Comparison) -> list[str]:
    """The cells of a comparison, as ``HEADER`` names them."""
    status = comparison.status
    place = comparison.test or f"model {comparison.model}"
    return [
        _WORDS.get(status, status),
        "-" if comparison.metric is None else find_metric(comparison.metric).label,
        change(comparison),
        _or_dash(comparison.limit_pct, _signed),
        _or_dash(comparison.mde_pct, lambda pct: f"{pct:.1f}%"),
        str(comparison.quads) if comparison.quads else "-",
        place if comparison.load is None else f"{place} at {comparison.load}",
    ]


def table(run: Run) -> Table:
    """The comparisons that decide."""
    return Table(header=HEADER, rows=[row(c) for c in gated(run)], texts=len(HEADER))


def told(run: Run) -> list[str]:
    """What stands below the table: reasons, and what changed beside the gate."""
    return [*reasons(gated(run)), *beside(run)]


def change(comparison: Comparison) -> str:
    """``-16.4% [-18.0%, -14.9%]``."""
    if comparison.change_pct is None:
        return "-"
    return f"{_signed(comparison.change_pct)} {_interval(comparison.ci_pct)}".strip()


def reasons(comparisons: Sequence[Comparison]) -> list[str]:
    """Why comparisons have no figures, or decide nothing; each once, with what it is about."""
    found: dict[str, list[str]] = {}
    for comparison in comparisons:
        if comparison.reason:
            found.setdefault(comparison.reason, []).append(comparison.test or comparison.model)
    return [
        f"{places[0]}{f' and {len(places) - 1} more' if len(places) > 1 else ''}: {reason}"
        for reason, places in found.items()
    ]


def beside(run: Run) -> list[str]:
    """A line per test whose other metrics changed: they are told, and fail nothing."""
    changed: dict[str, list[str]] = {}
    for comparison in run.comparisons:
        if not comparison.gated and comparison.status in ("regressed", "improved"):
            place = f"{comparison.test} at {comparison.load}"
            label = find_metric(str(comparison.metric)).label
            changed.setdefault(place, []).append(f"{label} {change(comparison)}")
    return [f"{place}, not gated: {', '.join(texts)}" for place, texts in changed.items()]


def _signed(pct: float) -> str:
    return f"{pct:+.1f}%"


def _interval(ci: Interval | None) -> str:
    if ci is None:
        return ""
    low, high = ci
    first = "(-∞" if low is None else f"[{_signed(low)}"
    return f"{first}, {'∞)' if high is None else f'{_signed(high)}]'}"


def _or_dash(value: float | None, text: Callable[[float], str]) -> str:
    return "-" if value is None else text(value)
