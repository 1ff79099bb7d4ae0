"""Names with anything in them, in every output: they stay names, and outputs stay what they are."""

import csv
import dataclasses
import json
import re
import xml.etree.ElementTree as ET

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from sample_run import ENVIRONMENT, add_sub_sweeps, run_of

from pytest_triton_perf.cli import main
from pytest_triton_perf.domain.baselines import Figure, Session, compare
from pytest_triton_perf.domain.budgets import Budget
from pytest_triton_perf.domain.comparisons import Comparison
from pytest_triton_perf.domain.levels import Load
from pytest_triton_perf.domain.results import from_json, to_json
from pytest_triton_perf.domain.variants import Variant
from pytest_triton_perf.options import REPORTS
from pytest_triton_perf.reports import write_reports
from pytest_triton_perf.reports.annotations import annotations
from pytest_triton_perf.reports.compared import as_text
from pytest_triton_perf.reports.properties import of_comparisons, of_verdicts

NAMES = {
    "markup": "\"<script>alert('1')</script>\" <img src=x onerror=alert(2)> & `x` {{ 7 * 7 }}",
    "path": "../../etc/passwd",
    "root": "/",
    "dots": "..",
    "breaks": "one\ntwo\r\nthree\tfour | five ::error::six",
    "Korean": "덧셈_모델",
    "right to left": "\u202eمودل",
    "control": "\x00\x1b[31m\x07",
    "surrogate": "a\ud800b",
    "long": "n" * 300,
    "formula": "=cmd|'/c calc'!A1",
    "percent": "100%, 5% :: 0.5, $x_1^2$ \\n",
}


def run_named(name):
    """Two configurations of a model with this name, a gate that found a regression."""
    sweeps = [
        dataclasses.replace(
            one,
            variant=Variant(
                model=name,
                name=f"{name}_config_{number}",
                config={"name": name},
                overrides={"instance_group.count": number} if number else {},
            ),
            test=f"test_it.py::test[{name}-{number}]",
        )
        for number, one in enumerate(add_sub_sweeps()[:2])
    ]
    regressed = Comparison(
        test=sweeps[0].test,
        model=name,
        variant=sweeps[0].variant.name,
        metric="throughput",
        load=Load(concurrency=8),
        max_slowdown_pct=5.0,
        change_pct=-16.4,
        ci_pct=(-18.0, -14.9),
        quads=8,
        status="regressed",
        reason=f"of {name}",
    )
    environment = {**ENVIRONMENT, "gate": {"against": name, "seed": 7}}
    budgets = [Budget.from_keyword("p99_latency_ms", 5), Budget.from_keyword("max_power_w", 9)]
    return run_of(sweeps, budgets, comparisons=[regressed], environment=environment, notes=[name])


@pytest.fixture(params=NAMES)
def name(request):
    return NAMES[request.param]


def shown(name):
    """The name as UTF-8 files have it."""
    return name.encode(errors="backslashreplace").decode()


def test_all_reports_are_written_inside_their_folder(name, tmp_path):
    output = tmp_path / "deep" / "out"
    assert write_reports(run_named(name), output, REPORTS) == []
    assert {path.name for path in tmp_path.iterdir()} == {"deep"}
    assert {path.name for path in output.parent.iterdir()} == {"out"}
    found = [path for path in output.rglob("*") if path.is_file()]
    assert len(found) == len({path.resolve() for path in found}) == 16
    assert all(path.stat().st_size for path in found)
    assert max(len(path.name.encode()) for path in output.rglob("*")) <= 255


def test_data_come_back_as_they_were(name, tmp_path):
    run = run_named(name)
    assert write_reports(run, tmp_path, ("json", "csv", "metrics")) == []
    again = from_json(json.loads((tmp_path / "results.json").read_text(encoding="utf-8")))
    assert again.models == [name]
    assert to_json(again) == json.loads(json.dumps(to_json(run)))
    table = tmp_path / "results" / "metrics-model-inference.csv"
    with table.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["Model"] for row in rows} == {shown(name)}
    assert len(rows) == sum(len(sweep.measurements) for sweep in run.sweeps)
    families = list(text_string_to_metric_families((tmp_path / "metrics.txt").read_text("utf-8")))
    labels = {sample.labels["model"] for family in families for sample in family.samples}
    assert labels == {shown(name).replace("\r", " ")}


def test_the_summary_for_a_pull_request_keeps_its_tables(name, tmp_path):
    run = run_named(name)
    plain = dataclasses.replace(run_named("plain"), notes=["plain"])
    lines = []
    for one in (run, plain):
        assert write_reports(one, tmp_path, ("md",)) == []
        text = (tmp_path / "summary.md").read_text(encoding="utf-8")
        assert not re.search(r"(?<!\\)<(?!/?(details|summary)>)", text)
        lines.append([len(re.findall(r"(?<!\\)\|", line)) for line in text.splitlines()])
    assert lines[0] == lines[1]


def test_commands_for_github_are_one_line_each(name, tmp_path):
    found = annotations(run_named(name), tmp_path, tmp_path)
    assert len(found) == 5
    for command in found:
        assert re.fullmatch(r"::(error|warning) title=[^,:\r\n]*::[^\r\n]*", command)


def test_properties_of_junit_are_text(name):
    run = run_named(name)
    for key, value in [*of_verdicts(run.verdicts), *of_comparisons(run.comparisons)]:
        assert isinstance(key, str)
        assert isinstance(value, str)


def test_two_runs_side_by_side_keep_their_columns(name):
    figure = Figure(
        test=f"test_it.py::test[{name}]", model=name, variant=name, image=None,
        metric="throughput", at={"concurrency": 8}, value=100.0, ci=(99.0, 101.0),
    )  # fmt: skip
    session = Session(
        id="1", started="2026-11-27T08:00:00Z", commit=None, branch=name, machine={}, soft={},
        figures=[figure, dataclasses.replace(figure, test="test_it.py::plain")],
    )  # fmt: skip
    lines = as_text([session], session, compare([session], session)).splitlines()
    assert all(line.isprintable() for line in lines)
    header, *rows = lines[1:4]
    at = header.index("test")
    assert [row[at - 2 : at] for row in rows] == ["  ", "  "]
    assert [row[at:].startswith("test_it.py::") for row in rows] == [True, True]


def test_a_budget_line_to_paste_is_python(name, tmp_path, capsys):
    (tmp_path / "results.json").write_text(json.dumps(to_json(run_named(name))))
    assert main(["suggest", str(tmp_path)]) == 0
    text = re.sub(r"(?m)^@.*", lambda line: f"{line[0]}\ndef test(): pass", capsys.readouterr().out)
    assert text.count("def test") == 2
    compile(text, "suggested", "exec")


def test_the_pictures_of_a_pdf_are_xml(name):
    from pytest_triton_perf.reports.plots import draw

    for path, svg in draw(run_named(name), ("pdf",)).items():
        assert path.endswith(".svg")
        assert ET.fromstring(svg).tag.endswith("svg")
