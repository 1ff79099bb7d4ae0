"""What GitHub Actions shows on the lines of a pull request: budgets and gates that are not kept.

They are commands that a job prints (docs.github.com, "Workflow commands for GitHub Actions").
"""

import ast
import os
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from pytest_triton_perf.domain.comparisons import Comparison
from pytest_triton_perf.domain.explain import title, verdict_text
from pytest_triton_perf.domain.results import Run
from pytest_triton_perf.reports import gate
from pytest_triton_perf.reports.content import by_badness

_VERDICTS = {"failed": "error", "not_measured": "error", "inconclusive": "warning"}

_Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


def annotations(run: Run, home: Path, repository: Path) -> list[str]:
    """The commands, the worst first.

    ``home`` is the folder that test ids are relative to, and ``repository`` the one that
    GitHub's paths are.
    """
    found: list[str] = []
    for verdict in by_badness(run):
        if (level := _VERDICTS.get(verdict.status)) is not None:
            file, line = _place(home, verdict.test, "perf_budget", verdict.budget.name)
            name = f"{title(verdict)} ({run.configuration(verdict)})"
            where = _where(home / file, line, repository)
            found.append(_command(level, where, name, verdict_text(verdict)))
    for section in gate.sections(run):
        for comparison in section.comparisons:
            if comparison.fails or comparison.status in ("suspect", "inconclusive"):
                level = "error" if comparison.fails else "warning"
                file, line = _place(home, comparison.test or "", "perf_gate")
                where = _where(home / file, line, repository)
                found.append(_command(level, where, section.headline, _words(comparison)))
    return sorted(found, key=lambda command: not command.startswith("::error"))


def _words(comparison: Comparison) -> str:
    status, metric, change, *_, place = gate.row(comparison)
    return ", ".join(filter(None, [f"{status}: {metric} {change} of {place}", comparison.reason]))


def _where(file: Path, line: int | None, repository: Path) -> dict[str, str]:
    if not file.is_file():
        return {}
    path = {"file": os.path.relpath(file, repository)}
    return path if line is None else {**path, "line": str(line)}


def _command(level: str, where: dict[str, str], name: str, message: str) -> str:
    properties = {**where, "title": name}
    shown = ",".join(f"{key}={_escaped(value, ':,')}" for key, value in properties.items())
    return f"::{level} {shown}::{_escaped(message)}"


def _escaped(text: str, also: str = "") -> str:
    for character in ("%", "\r", "\n", *also):
        text = text.replace(character, f"%{ord(character):02X}")
    return text


def _place(home: Path, test: str, marker: str, keyword: str = "") -> tuple[str, int | None]:
    """The file of a test, and the line of its marker (of the limit in it), or of its own.

    ``None`` where that is not known: in a YAML file, and of what is no test.
    """
    file, *names = test.partition("[")[0].split("::")
    definition = _definition(home / file, tuple(names))
    if definition is None:
        return file, None
    lines = list(_marker_lines(definition, marker, keyword))
    return file, min(lines, default=definition.lineno)


@cache
def _definition(file: Path, names: tuple[str, ...]) -> _Definition | None:
    """The function that a test id names, or ``None``."""
    if file.suffix != ".py" or not names:
        return None
    try:
        found: ast.Module | _Definition = ast.parse(file.read_text("utf-8"))
    except (OSError, SyntaxError, ValueError):
        return None
    for name in names:
        inside = [n for n in found.body if isinstance(n, _Definition) and n.name == name]
        if not inside:
            return None
        found = inside[-1]
    return None if isinstance(found, ast.Module) else found


def _marker_lines(definition: _Definition, marker: str, keyword: str) -> Iterator[int]:
    for decorator in definition.decorator_list:
        if isinstance(decorator, ast.Call) and ast.unparse(decorator.func).endswith(marker):
            if not keyword:
                yield decorator.lineno
            yield from (each.lineno for each in decorator.keywords if each.arg == keyword)
