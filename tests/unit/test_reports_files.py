import csv
import dataclasses
import json
import math
import re

import pytest
from sample_run import (
    ENVIRONMENT,
    GPU,
    IMAGES,
    add_sub_sweeps,
    idle_server,
    run_of,
    sample_run,
    sweep,
    two_image_run,
    variant,
)

from pytest_triton_perf.domain.budgets import Budget
from pytest_triton_perf.domain.comparisons import Comparison
from pytest_triton_perf.domain.levels import Load
from pytest_triton_perf.domain.results import Run, from_json, to_json
from pytest_triton_perf.domain.variants import Variant
from pytest_triton_perf.errors import UsageError
from pytest_triton_perf.options import REPORTS
from pytest_triton_perf.reports import check_output, write_reports
from pytest_triton_perf.reports.markdown import append_to_job_summary
from pytest_triton_perf.reports.names import safe_name
from pytest_triton_perf.reports.pdf import pages

IMAGE_TAGS = ("24.10-py3", "25.01-py3")
QUICK = ("json", "csv", "md")
NASTY = '../<script>alert("1")</script> | `add` 덧셈 $x_1^2$'


def rows_of(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def header_of(path):
    return path.read_text(encoding="utf-8").splitlines()[0]


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    output = tmp_path_factory.mktemp("reports") / "triton-perf-results"
    assert write_reports(sample_run(), output, REPORTS) == []
    return output


def test_every_file_of_the_interface_is_there(written):
    found = {str(path.relative_to(written)) for path in written.rglob("*") if path.is_file()}
    variants = ["resnet_config_default", "resnet_config_0", "add_sub_config_default"]
    variants += [f"add_sub_config_{n}" for n in range(4)]
    assert found == {
        "results/metrics-model-inference.csv",
        "results/metrics-model-gpu.csv",
        "results/metrics-server-only.csv",
        "plots/simple/add_sub/throughput_v_latency.png",
        "plots/simple/add_sub/cpu_mem_v_latency.png",
        "plots/simple/resnet/throughput_v_latency.png",
        "plots/simple/resnet/gpu_mem_v_latency.png",
        *(f"plots/detailed/{name}/latency_breakdown.png" for name in variants),
        *(f"plots/detailed/{name}/memory_timeline.png" for name in variants),
        "reports/summaries/add_sub/result_summary.pdf",
        "reports/summaries/resnet/result_summary.pdf",
        *(f"reports/detailed/{name}/detailed_report.pdf" for name in variants),
        "index.html",
        "summary.md",
        "metrics.txt",
        "results.json",
    }


def test_the_inference_csv_begins_as_model_analyzers(written):
    path = written / "results" / "metrics-model-inference.csv"
    assert header_of(path).startswith(
        "Model,Batch,Concurrency,Model Config Path,Instance Group,Max Batch Size,"
        "Satisfies Constraints,Throughput (infer/sec),p99 Latency (ms),"
    )
    rows = rows_of(path)
    assert len(rows) == 25 + 16
    first = rows[0]
    assert list(first.values())[:7] == [
        "add_sub", "1", "1", "add_sub_config_default", "1:CPU", "8", "Yes",
    ]  # fmt: skip
    level = sample_run().sweeps[0].levels[0]
    assert float(first["Throughput (infer/sec)"]) == level.measurement.value("throughput")
    assert (
        float(first["p99 Latency (ms) CI Low"]) == level.measurement.values["p99_latency_ms"].ci[0]
    )
    assert first["GPU Memory Usage (MB)"] == ""
    assert "gpu_memory_mb: no NVIDIA driver" in first["Not Measured"]
    assert first["Test"] == "tests/test_slo.py::test_add_sub[add_sub_config_default]"


def test_constraints_are_satisfied_only_on_evidence(written):
    rows = rows_of(written / "results" / "metrics-model-inference.csv")
    by = {(row["Model Config Path"], row["Batch"], row["Concurrency"]): row for row in rows}
    assert by["add_sub_config_1", "1", "8"]["Satisfies Constraints"] == "Yes"
    assert by["add_sub_config_1", "1", "16"]["Satisfies Constraints"] == "No"
    # Its power budget was never measured.
    assert by["add_sub_config_3", "1", "1"]["Satisfies Constraints"] == "No"


def test_the_gpu_csv_has_a_row_per_level_and_gpu(written):
    path = written / "results" / "metrics-model-gpu.csv"
    assert header_of(path).startswith(
        "Model,GPU UUID,Batch,Concurrency,Model Config Path,Instance Group,Satisfies Constraints,"
        "GPU Memory Usage (MB),GPU Utilization (%),GPU Power Usage (W),"
    )
    rows = rows_of(path)
    assert len(rows) == 16
    assert list(rows[0].values())[:10] == [
        "resnet", GPU, "1", "1", "resnet_config_default", "1:GPU", "Yes", "2310.5", "26.0", "87.5",
    ]  # fmt: skip
    assert rows[0]["GPU Process Memory (MB)"] == ""
    assert rows[0]["GPU Memory Source"] == "device"
    assert rows[0]["Throttle Reasons"] == "power limit"
    assert float(rows[0]["GPU Energy (J)"]) == pytest.approx(105)


def test_the_server_csv(written):
    assert (written / "results" / "metrics-server-only.csv").read_text().splitlines() == [
        "Model,GPU UUID,GPU Memory Usage (MB),GPU Utilization (%),GPU Power Usage (W),"
        "CPU Memory Usage (MB),Image",
        f"triton-server,{GPU},431.5,0.0,26.1,151.3,",
    ]


def test_on_a_cpu_the_csvs_keep_their_headers_and_the_server_its_row(tmp_path):
    run = run_of(add_sub_sweeps()[:1], [], server_only=[idle_server({})])
    assert write_reports(run, tmp_path, QUICK) == []
    assert header_of(tmp_path / "results" / "metrics-model-gpu.csv").startswith("Model,GPU UUID,")
    rows = rows_of(tmp_path / "results" / "metrics-server-only.csv")
    assert [list(row.values()) for row in rows] == [["triton-server", "", "", "", "", "151.3", ""]]
    inference = rows_of(tmp_path / "results" / "metrics-model-inference.csv")
    # No budget: nothing to satisfy.
    assert {row["Satisfies Constraints"] for row in inference} == {""}


def test_two_images_have_files_columns_and_tables_of_their_own(tmp_path):
    assert write_reports(two_image_run(), tmp_path, REPORTS) == []
    names = {f"add_sub_config_{n}@{tag}" for n in ("0", "default") for tag in IMAGE_TAGS}
    assert {path.name for path in (tmp_path / "plots" / "detailed").iterdir()} == names
    assert {path.name for path in (tmp_path / "reports" / "detailed").iterdir()} == names
    inference = rows_of(tmp_path / "results" / "metrics-model-inference.csv")
    assert [row["Image"] for row in inference] == [IMAGES[0]] * 10 + [IMAGES[1]] * 10
    server = rows_of(tmp_path / "results" / "metrics-server-only.csv")
    assert [row["Image"] for row in server] == list(IMAGES)
    page = (tmp_path / "index.html").read_text(encoding="utf-8")
    markdown = (tmp_path / "summary.md").read_text(encoding="utf-8")
    for column in ("@24.10-py3", "@25.01-py3"):
        assert f"Throughput (infer/sec) {column}" in page
        assert f"Throughput (infer/sec) {column}" in markdown
    assert "| add_sub_config_default@25.01-py3 | p99 latency ≤ 8 ms" in markdown


def test_request_rates_have_their_column(tmp_path):
    loads = [Load(request_rate=rate) for rate in (50, 100.5)]
    write_reports(run_of([sweep(variant("m"), 400, 10, loads=loads)], []), tmp_path, QUICK)
    rows = rows_of(tmp_path / "results" / "metrics-model-inference.csv")
    assert [(row["Concurrency"], row["Request Rate"]) for row in rows] == [
        ("", "50"),
        ("", "100.5"),
    ]


def test_results_json_holds_the_whole_run(written):
    data = json.loads((written / "results.json").read_text(encoding="utf-8"))
    assert to_json(from_json(data)) == json.loads(json.dumps(to_json(sample_run())))
    assert not list(written.glob("*.part"))


def test_the_page_is_one_file_with_everything_in_it(written):
    page = (written / "index.html").read_text(encoding="utf-8")
    assert re.findall(r"https?://[^\"]+", page) == ["http://www.w3.org/2000/svg"]
    assert "default-src 'none'" in page
    # Nothing is fetched: what there is to draw is data of the page.
    assert page.count("<script") == 2
    data = json.loads(page.partition('id="data">')[2].partition("</script>")[0])
    assert len(data["levels"]) == 41
    assert "prefers-color-scheme: dark" in page
    assert "<h1>Triton performance: 6 failed, 1 not measured, 6 passed</h1>" in page
    assert page.index("6.08 ms [5.78, 6.45] at concurrency 16") < page.index(
        "In 25 measurements across"
    )
    assert page.index("In 25 measurements across") < page.index(">All measurements</h2>")
    assert "Xeon Platinum 8488C" in page


def test_the_page_of_the_ci_job_shows_the_markdown(written, tmp_path, monkeypatch):
    page = tmp_path / "page.md"
    page.write_text("What an earlier step said.\n\n")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(page))
    assert append_to_job_summary(sample_run()) == []
    summary = (written / "summary.md").read_text(encoding="utf-8")
    assert page.read_text(encoding="utf-8") == f"What an earlier step said.\n\n{summary}\n"


def test_a_page_of_the_ci_job_that_cannot_be_written_is_told(tmp_path, monkeypatch):
    page = tmp_path / "gone" / "page.md"
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(page))
    (problem,) = append_to_job_summary(sample_run())
    assert problem.startswith(
        f"{page}, which GITHUB_STEP_SUMMARY names, was not written: FileNotFoundError: "
        "[Errno 2] No such file or directory"
    )


def test_what_cannot_be_said_on_the_page_of_the_ci_job_is_told(tmp_path, monkeypatch):
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "page.md"))
    unknown = Comparison(model="add_sub", status="regressed", metric="nonsense")
    run = dataclasses.replace(sample_run(), comparisons=[unknown])
    (problem,) = append_to_job_summary(run)
    assert "page.md, which GITHUB_STEP_SUMMARY names, was not written: " in problem
    assert "nonsense" in problem


def test_a_job_without_a_page_is_left_alone(monkeypatch):
    monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)
    assert append_to_job_summary(sample_run()) == []


def test_the_markdown_says_verdicts_and_sentences(written):
    lines = (written / "summary.md").read_text(encoding="utf-8").splitlines()
    assert lines[0] == "## Triton performance: 6 failed, 1 not measured, 6 passed"
    assert lines[2] == "| Verdict | Configuration | Budget | Measured | Why | Test |"
    assert lines[4] == (
        "| **failed** | add_sub_config_default | p99 latency ≤ 5 ms at every load | "
        r"6.08 ms \[5.78, 6.45\] at concurrency 16 | 1.08 ms (21.6%) over the limit | "
        r"test_add_sub\[add_sub_config_default\] |"
    )
    # What passed is folded away, below all else.
    start = lines.index("<details><summary>6 passed</summary>")
    assert lines[start + 1] == ""
    assert not any(line.startswith("| **passed**") for line in lines[:start])
    assert sum(line.startswith("| **passed**") for line in lines[start:]) == 6
    assert any(line.startswith("**add_sub**: In 25 measurements across 5") for line in lines)


LEGEND = "95% confidence interval; ±: its wider side; ∞: an end that the requests cannot bound."


def test_the_legend_and_what_disturbed_a_level_are_in_every_report(tmp_path):
    one = add_sub_sweeps()[0]
    first, *others = one.measurements
    first = dataclasses.replace(first, faults=("stolen time",))
    run = run_of([dataclasses.replace(one, measurements=[first, *others])], [])
    assert write_reports(run, tmp_path, ("csv", "md", "html", "json")) == []
    disturbed = "disturbed: add_sub_config_default at concurrency 1, stolen time"
    for name in ("index.html", "summary.md"):
        text = (tmp_path / name).read_text(encoding="utf-8")
        assert LEGEND in text
        assert disturbed in text
    for page in pages(run, {}).values():
        assert LEGEND in page(css=True)
        assert disturbed in page(css=True)
    rows = rows_of(tmp_path / "results" / "metrics-model-inference.csv")
    assert [row["Faults"] for row in rows] == ["stolen time", "", "", "", ""]
    assert json.loads((tmp_path / "results.json").read_text())["session"]["confidence"] == 0.95


def test_the_intervals_have_columns_in_the_csv(written):
    row = rows_of(written / "results" / "metrics-model-inference.csv")[0]
    for column in ("Throughput (infer/sec)", "p99 Latency (ms)", "Avg Latency (ms)"):
        assert float(row[f"{column} CI Low"]) < float(row[column])
        assert float(row[column]) < float(row[f"{column} CI High"])


def test_hostile_names_break_nothing(tmp_path):
    chosen = Variant(model=NASTY, name=f"{NASTY}_config_default", config={"name": NASTY})
    run = run_of(
        [sweep(chosen, 100, 10, test=f"tests/테스트.py::test_it[{NASTY}\udc80]")],
        [Budget.from_keyword("p99_latency_ms", 30)],
        environment={**ENVIRONMENT, "host": NASTY},
    )
    output = tmp_path / "out"
    assert write_reports(run, output, ("csv", "plots", "html", "md")) == []
    assert {path.name for path in tmp_path.iterdir()} == {"out"}
    page = (output / "index.html").read_text(encoding="utf-8")
    assert page.count("<script") == page.count("</script>") == 2
    assert "&lt;script&gt;alert(&#34;1&#34;)&lt;/script&gt; | `add` 덧셈" in page
    (row, *_) = rows_of(output / "results" / "metrics-model-inference.csv")
    assert row["Model"] == NASTY
    table = [
        line
        for line in (output / "summary.md").read_text(encoding="utf-8").splitlines()
        if line.startswith("|")
    ]
    assert {len(line.replace(r"\|", "").split("|")) for line in table} == {2 + 6}


def test_a_run_that_measured_nothing_still_has_its_reports(tmp_path):
    run = Run(environment={}, sweeps=[], verdicts=[], exit=1)
    assert write_reports(run, tmp_path, REPORTS) == []
    assert "no budgets were set" in (tmp_path / "index.html").read_text(encoding="utf-8")
    assert header_of(tmp_path / "results" / "metrics-model-inference.csv").startswith("Model,Batch")


def test_only_what_was_asked_for_is_written(tmp_path):
    write_reports(sample_run(), tmp_path, ("md",))
    assert [path.name for path in tmp_path.iterdir()] == ["summary.md"]


def test_one_report_that_fails_does_not_stop_the_others(tmp_path):
    (tmp_path / "results").write_text("in the way")
    (tmp_path / "index.html").mkdir()
    problems = write_reports(sample_run(), tmp_path, (*QUICK, "html"))
    assert len(problems) == 2
    assert f"{tmp_path / 'results'} was not written: FileExistsError" in problems[0]
    assert f"{tmp_path / 'index.html'} was not written: IsADirectoryError" in problems[1]
    assert (tmp_path / "results.json").stat().st_size > 1000
    assert (tmp_path / "summary.md").exists()


def test_a_failed_write_of_the_record_keeps_the_old_one(tmp_path):
    write_reports(sample_run(), tmp_path, ("json",))
    before = (tmp_path / "results.json").read_bytes()
    broken = dataclasses.replace(sample_run(), environment={"loop": math.nan})
    broken.environment["loop"] = broken.environment
    (problem,) = write_reports(broken, tmp_path, ("json",))
    assert "results.json was not written" in problem
    assert (tmp_path / "results.json").read_bytes() == before


@pytest.mark.parametrize(
    "check", [check_output, lambda path: write_reports(sample_run(), path, REPORTS)]
)
def test_an_output_that_cannot_be_written_is_a_usage_error(tmp_path, check):
    (tmp_path / "file").write_text("")
    for output in (tmp_path / "file", tmp_path / "file" / "deep" / "er"):
        with pytest.raises(UsageError, match=r"results cannot be written to .*/file") as caught:
            check(output)
        assert "name another folder with --triton-perf-output" in str(caught.value)


def test_checking_the_output_leaves_nothing_behind(tmp_path):
    check_output(tmp_path / "a" / "b")
    check_output(tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["add_sub_config_0", "resnet-50.v1", "덧셈", "a=1"])
def test_a_name_that_is_safe_is_left_alone(name):
    assert safe_name(name) == name


@pytest.mark.parametrize("name", ["../x", "..", ".", "", "a/b", "a b", 'a"b', "-rf", "x" * 300])
def test_other_names_become_one_harmless_component(name, tmp_path):
    safe = safe_name(name)
    assert "/" not in safe
    assert safe[0] not in ".-"
    assert len(safe.encode()) < 250
    (tmp_path / safe).mkdir()


def test_different_names_stay_different():
    assert len({safe_name(name) for name in ("a/b", "a_b", "a b", "a:b")}) == 4
