"""What the paired gate and the baseline found, in words and rows; pure, for every report."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pytest_triton_perf.domain.comparisons import Comparison, Source, tally
from pytest_triton_perf.domain.levels import Interval
from pytest_triton_perf.domain.metrics import find_metric
from pytest_triton_perf.domain.results import Run
from pytest_triton_perf.reports.tables import Table

HEADERS: dict[Source, Sequence[str]] = {
    "gate": ("gate", "metric", "change [95% interval]", "limit", "would see", "quads", "test"),
    "baseline": ("baseline", "metric", "change [95% interval]", "would see", "sessions", "test"),
}

_WORDS = {"vanished": "gone", "no_baseline": "new", "not_comparable": "not comparable"}


@dataclass(frozen=True, kw_only=True)
class Section:
    """What one source of comparisons says: a headline, a table, and lines that stand below it.

    ``comparisons`` are those of the table's rows.
    """

    source: Source
    headline: str
    comparisons: Sequence[Comparison]
    told: Sequence[str]

    @property
    def table(self) -> Table:
        """The comparisons that decide."""
        header = HEADERS[self.source]
        return Table(header=header, rows=list(map(row, self.comparisons)), texts=len(header))


def sections(run: Run) -> list[Section]:
    """A section for the gate and one for the baseline, as far as there are such comparisons."""
    found = []
    headlines: dict[Source, str] = {
        "gate": gate_headline(run),
        "baseline": _baseline_headline(run),
    }
    for source, headline in headlines.items():
        ours = [c for c in run.comparisons if c.source == source]
        if ours:
            decisive = gated(ours)
            told = [*reasons(decisive), *beside(ours)]
            words = f"{headline}: {tally(ours)}"
            found.append(Section(source=source, headline=words, comparisons=decisive, told=told))
    return found


def gate_headline(run: Run) -> str:
    """``gate against main (1f0c2d3e4a5b)``."""
    return f"gate against {run.environment.get('gate', {}).get('against', 'the base')}"


def _baseline_headline(run: Run) -> str:
    """``baseline perf.json (12 sessions)``."""
    baseline = run.environment.get("baseline", {})
    count = baseline.get("sessions", 0)
    sessions = f"{count} session{'s' * (count != 1)}"
    return f"baseline {baseline.get('file', '')} ({sessions})"


def gated(comparisons: Sequence[Comparison]) -> list[Comparison]:
    """The comparisons that decide, what fails first, then what is suspect."""
    return sorted(
        (c for c in comparisons if c.gated), key=lambda c: (not c.fails, c.status != "suspect")
    )


def row(comparison: Comparison) -> list[str]:
    """The cells of a comparison, as ``HEADERS`` names them."""
    status = comparison.status
    place = comparison.test or f"model {comparison.model}"
    first = [
        _WORDS.get(status, status),
        "-" if comparison.metric is None else find_metric(comparison.metric).label,
        change(comparison),
    ]
    count = comparison.quads
    if comparison.source == "gate":
        first.append(_or_dash(comparison.limit_pct, _signed))
    else:
        count = comparison.sessions
    return [
        *first,
        _or_dash(comparison.mde_pct, lambda pct: f"{pct:.1f}%"),
        str(count) if count else "-",
        place if comparison.load is None else f"{place} at {comparison.load}",
    ]


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


def beside(comparisons: Sequence[Comparison]) -> list[str]:
    """A line per test whose other metrics changed: they are told, and fail nothing."""
    changed: dict[str, list[str]] = {}
    for comparison in comparisons:
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
