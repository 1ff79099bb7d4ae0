"""The terminal summary: the verdicts, the best configurations, and where the files are."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pytest_triton_perf.domain.results import Run
from pytest_triton_perf.domain.tables import columns
from pytest_triton_perf.domain.verdicts import Verdict
from pytest_triton_perf.reports.content import summary_sentence

if TYPE_CHECKING:
    from _pytest.terminal import TerminalReporter

_COLOURS = {"passed": "green", "failed": "red", "inconclusive": "yellow", "not_measured": "red"}


def write_summary(
    reporter: "TerminalReporter", run: Run, output: str, problems: Sequence[str]
) -> None:
    """Print the section ``triton-perf`` of pytest's summary."""
    reporter.section("triton-perf", sep="=")
    if run.verdicts:
        _write_verdicts(reporter, run)
    for model in run.models:
        reporter.write_line(summary_sentence(run, model))
        reporter.write_line("")
    for problem in problems:
        reporter.write_line(problem, red=True)
    reporter.write_line(f"results: {output}")


def _write_verdicts(reporter: "TerminalReporter", run: Run) -> None:
    verdicts = run.verdicts
    rows = [["verdict", "budget", "measured", "where", "variant"]]
    rows += [[*_row(verdict), run.configuration(verdict)] for verdict in verdicts]
    head, *body = columns(rows, right=()).splitlines()
    reporter.write_line(head, bold=True)
    for line, verdict in zip(body, verdicts, strict=True):
        reporter.write_line(line, **{_COLOURS[verdict.status]: True})
    for reason in dict.fromkeys(v.reason for v in verdicts if v.observed is None):
        reporter.write_line(f"not measured: {reason}", red=True)
    reporter.write_line("")


def _row(verdict: Verdict) -> list[str]:
    observed, load = verdict.observed, verdict.load
    measured = "-" if observed is None else verdict.budget.metric.format(observed)
    where = verdict.budget.where.removeprefix("at ") if load is None else str(load)
    status = verdict.status.replace("_", " ")
    return [status, str(verdict.budget), measured, where]
