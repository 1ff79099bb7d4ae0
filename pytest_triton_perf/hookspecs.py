"""Our own hooks: reports of yours beside ours. Put them into ``conftest.py`` or a plug-in.

``results`` is what ``results.json`` holds (docs/results.md), as plain data that is yours to change.
A hook that raises is named at the end of the session, and stops no other report.
"""

from pathlib import Path
from typing import Any

import pytest


@pytest.hookspec
def pytest_triton_perf_report(results: dict[str, Any], directory: Path) -> None:
    """Write a report into ``directory``, the output directory, when all others are written.

    .. code-block:: python

        def pytest_triton_perf_report(results, directory):
            slowest = max(level["wall_s"] for level in results["measurements"])
            (directory / "slowest.txt").write_text(f"{slowest:.1f} s")
    """


@pytest.hookspec
def pytest_triton_perf_panel(results: dict[str, Any]) -> tuple[str, str] | None:
    """A section for ``index.html``: its title, and HTML; ``None`` where there is none to add.

    The HTML is taken as it is, so what comes from names must be escaped; scripts in it do not run.

    .. code-block:: python

        import html

        def pytest_triton_perf_panel(results):
            models = {level["model"] for level in results["measurements"]}
            return "Owners", "".join(f"<p>{html.escape(name)}: team A</p>" for name in models)
    """
