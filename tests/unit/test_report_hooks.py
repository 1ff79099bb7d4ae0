"""Reports and panels of plug-ins: what they get, where they go, and what one that raises stops."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pluggy import PluginManager
from sample_run import sample_run

from pytest_triton_perf import hookspecs
from pytest_triton_perf.domain.results import Panel, from_json, to_json
from pytest_triton_perf.report_hooks import with_panels, write_others
from pytest_triton_perf.reports.html import write_html


class Owners:
    """Both hooks; a hook takes the arguments that it needs."""

    @pytest.hookimpl
    def pytest_triton_perf_report(self, results: dict[str, Any], directory: Path) -> None:
        models = sorted({level["model"] for level in results["measurements"]})
        (directory / "owners.txt").write_text(", ".join(models))
        results.clear()

    @pytest.hookimpl
    def pytest_triton_perf_panel(self, results: dict[str, Any]) -> tuple[str, str]:
        results["measurements"].clear()
        return "Owners <of models>", "<p>team A</p>"


class Raises:
    @pytest.hookimpl
    def pytest_triton_perf_report(self) -> None:
        raise ValueError("no owner")

    @pytest.hookimpl
    def pytest_triton_perf_panel(self) -> None:
        raise ValueError("no owner")


class Wrong:
    @pytest.hookimpl
    def pytest_triton_perf_panel(self) -> str:
        return "only a title"


class Nothing:
    @pytest.hookimpl
    def pytest_triton_perf_panel(self) -> None:
        return None


@pytest.fixture
def hook():
    manager = PluginManager("pytest")
    manager.add_hookspecs(hookspecs)
    for name, plugin in (
        ("owners", Owners()),
        ("raises", Raises()),
        ("wrong", Wrong()),
        ("nothing", Nothing()),
        ("again", Owners()),
    ):
        manager.register(plugin, name)
    return manager.hook


def test_one_that_raises_is_named_with_its_line_and_stops_no_other(hook, tmp_path) -> None:
    problems = write_others(hook, sample_run(), tmp_path)
    assert (tmp_path / "owners.txt").read_text() == "add_sub, resnet"
    (problem,) = problems
    assert problem.startswith("the report of raises was not written: ValueError: no owner (")
    line = 1 + Path(__file__).read_text().splitlines().index('        raise ValueError("no owner")')
    assert problem.endswith(f"{Path(__file__).name}:{line})")


def test_panels_are_part_of_the_run_and_of_what_is_rebuilt(hook, tmp_path) -> None:
    run, problems = with_panels(hook, sample_run())
    assert len(run.panels) == 2
    assert run.panels[0] == Panel(title="Owners <of models>", html="<p>team A</p>")
    assert [problem.partition(": ")[0] for problem in problems] == [
        "the panel of wrong was left out",
        "the panel of raises was left out",
    ]
    again = from_json(json.loads(json.dumps(to_json(run))))
    assert again.panels == tuple(run.panels)
    write_html(again, tmp_path / "index.html")
    text = (tmp_path / "index.html").read_text()
    assert '<h2 id="panel-1-head">Owners &lt;of models&gt;</h2>\n<p>team A</p>' in text
    assert '<a href="#panel-2">' in text
    # What a hook did to its data is nobody else's.
    assert replace(run, panels=()) == sample_run()
