"""Calls the hooks for reports, one plug-in after the other: one that raises stops no other."""

import traceback
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from pytest_triton_perf.domain.results import Panel, Run, to_json


def with_panels(hook: Any, run: Run) -> tuple[Run, list[str]]:
    """The run with what plug-ins add to ``index.html``, and what went wrong.

    ``hook`` has all hooks of pytest.
    """
    panels, problems = [], []
    for name, found in _call(hook.pytest_triton_perf_panel, run):
        try:
            if isinstance(found, Exception):
                raise found
            if found is not None:
                title, html = found
                panels.append(Panel(title=str(title), html=str(html)))
        except Exception as error:
            problems.append(f"the panel of {name} was left out: {_words(error)}")
    return replace(run, panels=panels), problems


def write_others(hook: Any, run: Run, directory: Path) -> list[str]:
    """Have plug-ins write their reports; returns what went wrong."""
    called = _call(hook.pytest_triton_perf_report, run, directory=directory)
    return [
        f"the report of {name} was not written: {_words(found)}"
        for name, found in called
        if isinstance(found, Exception)
    ]


def _call(hook: Any, run: Run, **more: Any) -> Iterator[tuple[str, Any]]:
    """Of each plug-in, in pytest's order, its name and what it returned or raised."""
    for implementation in reversed(hook.get_hookimpls()):
        # Each gets its own: what one changes is none of the others' business.
        known = {"results": to_json(run), **more}
        try:
            found = implementation.function(*(known[name] for name in implementation.argnames))
        except Exception as error:
            found = error
        yield implementation.plugin_name, found


def _words(error: Exception) -> str:
    """``ValueError: no owner (conftest.py:12)``: the line where the plug-in raised."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if frame.filename != __file__]
    where = f" ({ours[-1].filename}:{ours[-1].lineno})" if ours else ""
    return f"{type(error).__name__}: {error}{where}"
