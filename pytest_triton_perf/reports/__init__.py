"""What a finished run leaves on disk: one module per output."""

import tempfile
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

from pytest_triton_perf.domain.results import Run
from pytest_triton_perf.errors import UsageError


def check_output(output: Path) -> None:
    """Whether results can be written to ``output``; nothing is left behind.

    Raises:
        UsageError: they cannot.
    """
    try:
        folder = output.absolute()
        while not folder.exists():
            folder = folder.parent
        with tempfile.TemporaryFile(dir=folder, buffering=0) as file:
            file.write(b"x")  # A full disk still has room for an empty file.
    except OSError as error:
        raise _cannot_write(output, error) from error


def write_reports(run: Run, output: Path, kinds: Collection[str]) -> list[str]:
    """Write the reports of a run under ``output``; returns what went wrong, in words.

    A report that fails is named in what is returned and does not stop the others.

    Raises:
        UsageError: ``output`` cannot be written at all.
    """
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _cannot_write(output, error) from error
    problems: list[str] = []

    def attempt(name: str, write: Callable[[], list[str] | None]) -> None:
        try:
            problems.extend(write() or ())
        # Whatever goes wrong in one report, the others are still worth having.
        except Exception as error:
            problems.append(f"{output / name} was not written: {type(error).__name__}: {error}")

    if "json" in kinds:
        from pytest_triton_perf.reports.json_file import write_json

        attempt("results.json", lambda: write_json(run, output / "results.json"))
    if "csv" in kinds:
        from pytest_triton_perf.reports.csv_files import write_csvs

        attempt("results", lambda: write_csvs(run, output / "results"))
    if "md" in kinds:
        from pytest_triton_perf.reports.markdown import write_markdown

        attempt("summary.md", lambda: write_markdown(run, output / "summary.md"))
    if "metrics" in kinds:
        from pytest_triton_perf.reports.open_metrics import write_open_metrics

        attempt("metrics.txt", lambda: write_open_metrics(run, output / "metrics.txt"))
    pictures: dict[str, bytes] = {}
    if {"plots", "pdf"} & set(kinds):
        from pytest_triton_perf.reports.plots import draw

        attempt("plots", lambda: pictures.update(draw(run, kinds)))
    if "plots" in kinds:
        attempt("plots", lambda: _write_pictures(pictures, output / "plots"))
    if "html" in kinds:
        from pytest_triton_perf.reports.html import write_html

        attempt("index.html", lambda: write_html(run, output / "index.html"))
    if "pdf" in kinds:
        from pytest_triton_perf.reports.pdf import write_pdfs

        attempt("reports", lambda: write_pdfs(run, pictures, output / "reports"))
    return problems


def _write_pictures(pictures: Mapping[str, bytes], folder: Path) -> None:
    for name, png in pictures.items():
        if not name.endswith(".png"):
            continue
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png)


def _cannot_write(output: Path, error: OSError) -> UsageError:
    return UsageError(
        f"results cannot be written to {output}: {error.strerror or error}; "
        "name another folder with --triton-perf-output"
    )
