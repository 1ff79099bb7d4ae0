"""Both PDF engines, for real: what they write is read back."""

import os
import re
import runpy
import time
from html.parser import HTMLParser
from pathlib import Path

import pypdf
import pytest
from support import missing_part

from pytest_triton_perf.domain.variants import Variant
from pytest_triton_perf.reports import write_reports
from pytest_triton_perf.reports.pdf import by_fpdf2, by_wkhtmltopdf, find_wkhtmltopdf, pages
from pytest_triton_perf.reports.plots import draw

SAMPLE = runpy.run_path(str(Path(__file__).parents[1] / "unit" / "sample_run.py"))
SUMMARY = Path("reports/summaries/add_sub/result_summary.pdf")
DETAILED = Path("reports/detailed/resnet_config_0/detailed_report.pdf")
WORDS = {
    SUMMARY: [
        "Result summary: add_sub",
        "In 25 measurements across 5 configurations, add_sub_config_1 provides the best "
        "throughput: 5997 infer/sec. This is a 12% gain over the default configuration "
        "(5355 infer/sec), under the given constraints. At 95% confidence, the two lie in "
        "[5818, 6177] and [5194, 5516] infer/sec.",
        "[low, high]: 95% confidence interval; ±: its wider side",
        "p99 latency ≤ 5 ms at every load",
        "Best configurations, and the default",
        "+12.0%",
        "+0.7%, unsure",
        # Words of the plots.
        "Throughput against p99 latency",
        "CPU memory against p99 latency",
        "budget: p99 latency ≤ 5 ms at every load",
        "throughput (infer/s)",
        "5,997.5 ±3.0%",
        "6.08 ms [5.78, 6.45] at concurrency 16",
        "enabled, 100 µs",
        "Budgets",
        "1.08 ms (21.6%) over the limit",
        "no NVIDIA driver: libnvidia-ml.so.1 was not found",
        "Environment",
        "Xeon Platinum 8488C",
    ],
    DETAILED: [
        "Detailed report: resnet_config_0",
        "NVIDIA A10G (24.1 GB, GPU-6f4d2a31-0b7c-4c0e-9a53-1d2f3e4a5b6c)",
        "instance_group.count = 2, max_batch_size = 8",
        "resnet_config_0: server latency and throughput",
        "resnet_config_0: GPU memory over time",
        "average server latency (ms)",
        "What the client saw",
        "What the server and the machine did",
        "425.3 ±3.0%",
        "120.0 MB (4.0%) over the limit",
    ],
}


@pytest.fixture
def wkhtmltopdf():
    if found := find_wkhtmltopdf():
        return found
    missing_part("wkhtmltopdf: apt-get install -y wkhtmltopdf")


@pytest.fixture
def no_wkhtmltopdf(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_wkhtmltopdf() is None


def letters(path):
    """The text of a PDF without white space, which the engines place as they like.

    A space that has no shape in its font reads as the control character 1.
    """
    reader = pypdf.PdfReader(path)
    return re.sub(r"[\s\x01]", "", "".join(page.extract_text() for page in reader.pages))


def dots(path):
    """The pictures in a PDF that are made of dots; ours are lines and words."""
    return [image.name for page in pypdf.PdfReader(path).pages for image in page.images]


def check(output):
    for path, words in WORDS.items():
        text = letters(output / path)
        for word in words:
            assert re.sub(r"\s", "", word) in text
        for page in pypdf.PdfReader(output / path).pages:
            assert [round(float(side)) for side in page.mediabox[2:]] == [595, 842]
        assert dots(output / path) == []
        assert (output / path).stat().st_size < 1e6


@pytest.mark.usefixtures("wkhtmltopdf")
def test_wkhtmltopdf_writes_the_reports(tmp_path):
    assert write_reports(SAMPLE["sample_run"](), tmp_path / "out", ("pdf",)) == []
    check(tmp_path / "out")
    assert "Qt" in pypdf.PdfReader(tmp_path / "out" / SUMMARY).metadata["/Producer"]


@pytest.mark.usefixtures("no_wkhtmltopdf")
def test_without_it_fpdf2_writes_the_same(tmp_path):
    assert write_reports(SAMPLE["sample_run"](), tmp_path / "out", ("pdf",)) == []
    check(tmp_path / "out")
    assert "fpdf2" in pypdf.PdfReader(tmp_path / "out" / SUMMARY).metadata["/Producer"]


def test_forty_variants_take_no_longer_than_one_should(wkhtmltopdf):
    run = SAMPLE["crowd_run"](40)
    found = pages(run, draw(run, ("pdf",)))
    for path in (
        "summaries/add_sub/result_summary.pdf",
        "detailed/add_sub_config_0/detailed_report.pdf",
    ):
        for engine in (by_fpdf2, lambda page: by_wkhtmltopdf({"": page}, wkhtmltopdf)[0][""]):
            began = time.monotonic()
            written = engine(found[path])
            assert time.monotonic() - began < 3
            assert len(written) < 1e6


def test_the_head_of_a_long_table_is_repeated(tmp_path, wkhtmltopdf):
    run = SAMPLE["crowd_run"](40)
    page = pages(run, {})["summaries/add_sub/result_summary.pdf"]
    for written in (by_fpdf2(page), by_wkhtmltopdf({"": page}, wkhtmltopdf)[0][""]):
        (tmp_path / "one.pdf").write_bytes(written)
        reader = pypdf.PdfReader(tmp_path / "one.pdf")
        texts = [re.sub(r"[\s\x01]", "", page.extract_text()) for page in reader.pages]
        with_rows = [text for text in texts if "test_add_sub[" in text]
        assert len(with_rows) > 1
        for text in with_rows:
            assert text.index("VerdictConfigurationBudget") < text.index("test_add_sub[")


class Texts(HTMLParser):
    """The texts of a page."""

    def __init__(self, html):
        super().__init__()
        self.found = []
        self.feed(html)

    def handle_data(self, data):
        if text := re.sub(r"\s", "", data):
            self.found.append(text)


def test_both_engines_write_every_text_of_the_template(tmp_path, wkhtmltopdf):
    found = pages(SAMPLE["sample_run"](), {})
    by_binary, _ = by_wkhtmltopdf(found, wkhtmltopdf)
    assert list(by_binary) == list(found)
    for path, page in found.items():
        texts = Texts(page(css=False)).found
        assert len(texts) > 50
        for written in (by_fpdf2(page), by_binary[path]):
            pdf = tmp_path / "one.pdf"
            pdf.write_bytes(written)
            read = letters(pdf)
            assert [text for text in texts if text not in read] == [], path


def test_an_engine_that_fails_is_named_and_replaced(tmp_path, monkeypatch):
    broken = tmp_path / "wkhtmltopdf"
    broken.write_text("#!/bin/sh\necho 'QFont: no fonts at all' >&2\nexit 3\n")
    broken.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    run = SAMPLE["run_of"](SAMPLE["add_sub_sweeps"]()[:1], [])
    problems = write_reports(run, tmp_path / "out", ("pdf",))
    assert len(problems) == 2
    for problem in problems:
        assert problem.startswith(f"{tmp_path / 'out' / 'reports'}/")
        assert f"{broken} failed, so fpdf2 wrote it: exit code 3: QFont: no fonts" in problem
    assert "Resultsummary:add_sub" in letters(tmp_path / "out" / SUMMARY)


def test_what_an_engine_wrote_before_it_failed_is_kept(tmp_path):
    found = pages(SAMPLE["sample_run"](), {})
    failing = tmp_path / "wkhtmltopdf"
    failing.write_text(
        "#!/bin/sh\n"
        "read first; printf '%%PDF-1.4 one\\n%%%%EOF\\n' > \"${first##* }\"\n"
        "read second; printf '%%PDF-1.4 breaks off' > \"${second##* }\"\n"
        "echo 'no more' >&2; exit 1\n"
    )
    failing.chmod(0o755)
    written, words = by_wkhtmltopdf(found, str(failing))
    assert written == {next(iter(found)): b"%PDF-1.4 one\n%%EOF\n"}
    assert words == "exit code 1: no more"


def test_a_temporary_folder_of_any_name_will_do(tmp_path, monkeypatch, wkhtmltopdf):
    folder = tmp_path / "a 'b\" c"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    found = pages(SAMPLE["run_of"](SAMPLE["add_sub_sweeps"]()[:1], []), {})
    assert by_wkhtmltopdf(found, wkhtmltopdf)[0].keys() == found.keys()
    assert list(folder.iterdir()) == []


def test_an_engine_that_hangs_is_ended(tmp_path, monkeypatch):
    hanging = tmp_path / "wkhtmltopdf"
    hanging.write_text("#!/bin/sh\nexec sleep 100\n")
    hanging.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr("pytest_triton_perf.reports.pdf._LIMIT_S", 0.5)
    run = SAMPLE["run_of"](SAMPLE["add_sub_sweeps"]()[:1], [])
    problems = write_reports(run, tmp_path / "out", ("pdf",))
    assert len(problems) == 2
    assert "failed, so fpdf2 wrote it: " in problems[0]
    assert "timed out after 0.5 seconds" in problems[0]
    assert "Resultsummary:add_sub" in letters(tmp_path / "out" / SUMMARY)


@pytest.mark.parametrize("engine", ["wkhtmltopdf", "no_wkhtmltopdf"])
def test_names_are_words_and_never_markup(engine, request, tmp_path, caplog):
    request.getfixturevalue(engine)
    secret = tmp_path / "secret.txt"
    secret.write_text("do-not-print")
    name = f'덧셈 "<b>x</b><script>1</script><img src="{secret}"><iframe src="file://{secret}">'
    chosen = Variant(model=name, name=f"{name}_config_default", config={"name": name})
    run = SAMPLE["run_of"]([SAMPLE["sweep"](chosen, 100, 10, test=f"{name}\udc80")], [])
    output = tmp_path / "out"
    assert write_reports(run, output, ("pdf",)) == []
    (path,) = output.glob("reports/summaries/*/result_summary.pdf")
    text = letters(path)
    assert "<b>x</b><script>1</script><imgsrc=" in text
    assert "do-not-print" not in text
    assert "Throughputagainstp99latency" in text
    assert [record.getMessage() for record in caplog.records if "HTML" in record.getMessage()] == []
