"""Properties of the JUnit file: what the budgets of a test, and the gates, came to."""

from collections.abc import Iterable

from pytest_triton_perf.domain.comparisons import Comparison
from pytest_triton_perf.domain.explain import verdict_text
from pytest_triton_perf.domain.verdicts import Verdict
from pytest_triton_perf.reports import gate


def of_verdicts(verdicts: Iterable[Verdict]) -> list[tuple[str, object]]:
    """One property per budget."""
    return [
        (f"triton_perf {verdict.budget} {verdict.budget.where}", verdict_text(verdict))
        for verdict in verdicts
    ]


def of_comparisons(comparisons: Iterable[Comparison]) -> list[tuple[str, str]]:
    """One property per comparison that decides; each once."""
    found = []
    for comparison in dict.fromkeys(comparisons):
        if comparison.gated:
            status, metric, change, *_, place = gate.row(comparison)
            words = [change, f"limit {comparison.limit_pct:+.1f}%" if comparison.limit_pct else ""]
            words = [word for word in (*words, comparison.reason) if word not in ("", "-")]
            text = f"{status}: {', '.join(words)}" if words else status
            found.append((f"triton_perf {comparison.source} {metric} of {place}", text))
    return found
