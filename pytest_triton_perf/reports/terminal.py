"""The terminal summary: the verdicts, the best configurations, and where the files are."""

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

from pytest_triton_perf.domain.comparisons import Comparison
from pytest_triton_perf.domain.metrics import interval_text
from pytest_triton_perf.domain.results import Run
from pytest_triton_perf.domain.tables import columns
from pytest_triton_perf.domain.verdicts import Verdict
from pytest_triton_perf.reports import gate
from pytest_triton_perf.reports.content import levels_of, summary_sentence
from pytest_triton_perf.reports.remarks import disturbed, legend, why

if TYPE_CHECKING:
    from _pytest.terminal import TerminalReporter

_COLOURS = {"passed": "green", "failed": "red", "inconclusive": "yellow", "not_measured": "red"}
_HEADER = ("verdict", "budget", "measured", "where")
_MOST_PASSED = 30
"""Of more passed budgets, only the number is told."""


def write_summary(
    reporter: "TerminalReporter", run: Run, output: str, problems: Sequence[str]
) -> None:
    """Print the section ``triton-perf`` of pytest's summary."""
    reporter.section("triton-perf", sep="=")
    if run.verdicts:
        _write_verdicts(reporter, run)
    for section in gate.sections(run):
        _write_comparisons(reporter, section)
    for model in run.models:
        _write(reporter, summary_sentence(run, model))
        if faults := disturbed(run, levels_of(run, model)):
            _write(reporter, faults, yellow=True)
        reporter.write_line("")
    measurements = [measurement for sweep in run.sweeps for measurement in sweep.measurements]
    if before := sum(measurement.reused for measurement in measurements):
        _write(
            reporter,
            f"{before} of {len(measurements)} levels were measured before (--triton-perf-resume)",
        )
    for note in run.notes:
        _write(reporter, note, yellow=True)
    for problem in problems:
        reporter.write_line(problem, red=True)
    reporter.write_line(f"results: {output}")


def _write_verdicts(reporter: "TerminalReporter", run: Run) -> None:
    """A line per verdict, and why it is what it is."""
    passed = sum(verdict.status == "passed" for verdict in run.verdicts)
    shown = [v for v in run.verdicts if v.status != "passed" or passed <= _MOST_PASSED]
    if shown:
        _write_table(reporter, run, shown)
    if passed > _MOST_PASSED:
        reporter.write_line(f"passed: {passed} budgets, too many to list here", green=True)
    for reason in dict.fromkeys(v.reason for v in shown if v.observed is None):
        _write(reporter, f"not measured: {reason}", red=True)
    if words := legend(run):
        _write(reporter, words)
    reporter.write_line("")


def _write_comparisons(reporter: "TerminalReporter", section: gate.Section) -> None:
    """What the gate or the baseline says, a line per comparison that decides, and why."""
    found = section.comparisons
    failed = any(comparison.fails for comparison in found)
    _write(reporter, section.headline, bold=True, **{"red" if failed else "green": True})
    shown = [c for c in found if c.fails or len(found) <= _MOST_PASSED]
    if shown:
        header = gate.HEADERS[section.source]
        head, *body = columns([header, *map(gate.row, shown)], right=()).splitlines()
        reporter.write_line(head, bold=True)
        for comparison, line in zip(shown, body, strict=True):
            reporter.write_line(line, **{_gate_colour(comparison): True})
    for text in section.told:
        _write(reporter, text, yellow=True)
    reporter.write_line("")


def _gate_colour(comparison: Comparison) -> str:
    if comparison.fails:
        return "red"
    return "green" if comparison.status in ("unchanged", "improved") else "yellow"


def _write(reporter: "TerminalReporter", text: str, **markup: bool) -> None:
    """Write a sentence, on a screen in lines that break between words."""
    lines = (
        textwrap.wrap(text, _width(reporter), break_on_hyphens=False) if reporter.isatty else [text]
    )
    for line in lines:
        reporter.write_line(line, **markup)


def _width(reporter: "TerminalReporter") -> int:
    return reporter.config.get_terminal_writer().fullwidth


def _write_table(reporter: "TerminalReporter", run: Run, verdicts: Sequence[Verdict]) -> None:
    rows = [[*_row(v, v.budget.metric.unit), run.configuration(v)] for v in verdicts]
    table = columns([[*_HEADER, "variant"], *rows], right=())
    # A log has room for any line; on a narrow screen the names of variants go above theirs.
    narrow = reporter.isatty and max(map(len, table.splitlines())) > _width(reporter)
    if narrow:
        table = columns([_HEADER, *(_row(verdict) for verdict in verdicts)], right=())
    head, *body = table.splitlines()
    reporter.write_line(head, bold=True)
    above = None
    for verdict, line in zip(verdicts, body, strict=True):
        if narrow and (name := run.configuration(verdict)) != above:
            reporter.write_line(name, bold=True)
            above = name
        colour = {_COLOURS[verdict.status]: True}
        reporter.write_line(line, **colour)
        if verdict.observed is not None and (reason := why(verdict)):
            _write(reporter, f"  {reason}", **colour)


def _row(verdict: Verdict, unit: str = "") -> list[str]:
    """A verdict's cells; without ``unit``, which the budget's has anyway, for a narrow screen."""
    observed, load, metric = verdict.observed, verdict.load, verdict.budget.metric

    def number(value: float) -> str:
        return metric.number(value) if unit or value < 1000 else f"{value:,.0f}"

    measured = "-"
    if observed is not None:
        measured = " ".join(
            filter(None, [number(observed), unit, interval_text(number, verdict.ci)])
        )
    where = verdict.budget.where.removeprefix("at ") if load is None else str(load)
    return [verdict.status.replace("_", " "), str(verdict.budget), measured, where]
