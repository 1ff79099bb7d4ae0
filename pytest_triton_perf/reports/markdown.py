"""``summary.md``: what a reviewer reads in twenty seconds, for a pull request or a CI page."""

import os
import re
from collections.abc import Sequence
from pathlib import Path

from pytest_triton_perf.domain.results import Run
from pytest_triton_perf.reports import gate
from pytest_triton_perf.reports.content import (
    by_badness,
    gpu_memory_sentence,
    levels_of,
    summary_sentence,
    tally,
)
from pytest_triton_perf.reports.remarks import disturbed, legend
from pytest_triton_perf.reports.tables import Table, image_table, verdict_table

_JOB_SUMMARY = "GITHUB_STEP_SUMMARY"
"""The variable with which GitHub Actions names the file that it shows on the page of a job."""


_FEW = 5
"""Of so many verdicts, those that passed are read in passing; of more, they are folded."""


def write_markdown(run: Run, path: Path) -> None:
    """Write the verdicts, the worst first, and a sentence per model."""
    path.write_text(_summary(run), encoding="utf-8", errors="backslashreplace")


def append_to_job_summary(run: Run) -> list[str]:
    """Show the same on the page of the CI job, where it has one; returns what went wrong."""
    if not (path := os.environ.get(_JOB_SUMMARY)):
        return []
    try:
        # Appended: the steps of a job share the file.
        with Path(path).open("a", encoding="utf-8", errors="backslashreplace") as file:
            file.write(f"{_summary(run)}\n")
    # Whatever goes wrong here, the other reports and the verdicts are still worth having.
    except Exception as error:
        return [
            f"{path}, which {_JOB_SUMMARY} names, was not written: {type(error).__name__}: {error}"
        ]
    return []


def _summary(run: Run) -> str:
    lines = [f"## Triton performance: {tally(run)}", ""]
    verdicts = by_badness(run)
    folded = [v for v in verdicts if v.status == "passed"] if len(verdicts) > _FEW else []
    if shown := [verdict for verdict in verdicts if verdict not in folded]:
        lines += _table(verdict_table(run, shown))
    for section in gate.sections(run):
        lines += _comparisons(section)
    for model in run.models:
        lines += [f"**{_plain(model)}**: {_plain(summary_sentence(run, model))}", ""]
        if faults := disturbed(run, levels_of(run, model)):
            lines += [_plain(faults), ""]
        if (images := image_table(run, model)).rows:
            lines += _table(images)
        if memory := gpu_memory_sentence(run, model):
            lines += [memory, ""]
    if folded:
        lines += [f"<details><summary>{len(folded)} passed</summary>", ""]
        lines += [*_table(verdict_table(run, folded)), "</details>", ""]
    if words := legend(run):
        lines += [_plain(words), ""]
    for note in run.notes:
        lines += [f"**Note**: {_plain(note)}", ""]
    lines.append(f"Measured in {run.wall_s:.0f} s.")
    return "\n".join(lines) + "\n"


def _comparisons(section: gate.Section) -> list[str]:
    return [
        f"### {_plain(section.headline)}",
        "",
        *(_table(section.table) if section.comparisons else []),
        *(line for text in section.told for line in (_plain(text), "")),
    ]


def _table(table: Table) -> list[str]:
    rows = [[f"**{_plain(first)}**", *map(_plain, rest)] for first, *rest in table.rows]
    return [*map(_row, [table.header, ["---"] * len(table.header), *rows]), ""]


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _plain(text: str) -> str:
    """Text that Markdown shows as it is; an underscore inside a word means nothing to it."""
    return re.sub(r"([\\`*\[\]|<>~]|\b_|_\b)", r"\\\1", " ".join(text.split()))
