"""``summary.md``: what a reviewer reads in twenty seconds, for a pull request or a CI page."""

import re
from collections.abc import Sequence
from pathlib import Path

from pytest_triton_perf.domain.results import Run
from pytest_triton_perf.reports.content import (
    by_badness,
    gpu_memory_sentence,
    summary_sentence,
    tally,
)
from pytest_triton_perf.reports.tables import verdict_table


def write_markdown(run: Run, path: Path) -> None:
    """Write the verdicts, the worst first, and a sentence per model."""
    lines = [f"## Triton performance: {tally(run)}", ""]
    if run.verdicts:
        table = verdict_table(by_badness(run))
        lines += [_row(table.header), _row(["---"] * len(table.header))]
        lines += [_row([f"**{first}**", *map(_plain, rest)]) for first, *rest in table.rows]
        lines.append("")
    for model in run.models:
        lines += [f"**{_plain(model)}**: {_plain(summary_sentence(run, model))}", ""]
        if memory := gpu_memory_sentence(run, model):
            lines += [memory, ""]
    lines.append(f"Measured in {run.wall_s:.0f} s.")
    text = "\n".join(lines) + "\n"
    path.write_text(text, encoding="utf-8", errors="backslashreplace")


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _plain(text: str) -> str:
    """Text that Markdown shows as it is; an underscore inside a word means nothing to it."""
    return re.sub(r"([\\`*\[\]|<>~]|\b_|_\b)", r"\\\1", " ".join(text.split()))
