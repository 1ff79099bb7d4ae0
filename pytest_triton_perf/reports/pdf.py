"""The PDFs: one template each, set by wkhtmltopdf where it is installed and else by fpdf2."""

import base64
import math
import os
import re
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from pytest_triton_perf.domain.results import Run
from pytest_triton_perf.reports.content import (
    best_note,
    by_badness,
    configurations_of,
    environment_rows,
    facts,
    gpu_memory_sentence,
    levels_of,
    overrides_text,
    summary_sentence,
)
from pytest_triton_perf.reports.fonts import fonts_for, without_remarks
from pytest_triton_perf.reports.names import safe_name
from pytest_triton_perf.reports.processes import spread
from pytest_triton_perf.reports.remarks import legend, remarks
from pytest_triton_perf.reports.tables import best_table, image_table, level_table, verdict_table
from pytest_triton_perf.reports.templating import render

_BATCH = 60
"""So many pages are set by one process of wkhtmltopdf, within ``_LIMIT_S``."""
_LIMIT_S = 60.0
_BEST = 3
"""Of so many configurations, and the default, a summary tells."""

Page = Callable[..., str]
"""A template with all its words but ``css``: whether the engine reads style sheets."""


def find_wkhtmltopdf() -> str | None:
    """Path of the ``wkhtmltopdf`` on PATH, if there is one."""
    return shutil.which("wkhtmltopdf")


def write_pdfs(run: Run, pictures: Mapping[str, bytes], folder: Path) -> list[str]:
    """A summary per model and a detailed report per variant, under ``folder``.

    Returns what went wrong in ways that the reader must know: each PDF that wkhtmltopdf
    refused, with its words, and which fpdf2 wrote instead.
    """
    found = pages(run, pictures)
    written: dict[str, bytes] = {}
    problems: dict[str, str] = {}
    if binary := find_wkhtmltopdf():
        cores = os.cpu_count() or 1
        size = max(1, min(_BATCH, math.ceil(len(found) / cores)))
        batches = [dict(list(found.items())[i : i + size]) for i in range(0, len(found), size)]
        with ThreadPoolExecutor(max_workers=cores) as pool:
            for batch, (pdfs, words) in zip(
                batches, pool.map(partial(by_wkhtmltopdf, binary=binary), batches), strict=True
            ):
                written |= pdfs
                problems |= {path: words for path in batch if path not in pdfs}
    rest = {path: page for path, page in found.items() if path not in written}
    written |= zip(rest, spread(by_fpdf2, list(rest.values())), strict=True)
    for path, pdf in written.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(pdf)
    return [
        f"{folder / path}: {binary} failed, so fpdf2 wrote it: {words}"
        for path, words in problems.items()
    ]


def pages(run: Run, pictures: Mapping[str, bytes]) -> dict[str, Page]:
    """The pages of a run, keyed by the path of their PDF under ``reports/``."""
    summaries = {
        f"summaries/{safe_name(model)}/result_summary.pdf": _summary(run, model, pictures)
        for model in run.models
    }
    details = {
        f"detailed/{safe_name(name)}/detailed_report.pdf": _detailed(run, name, pictures)
        for name in run.configurations
    }
    return summaries | details


def by_wkhtmltopdf(found: Mapping[str, Page], binary: str) -> tuple[dict[str, bytes], str]:
    """The pages as PDFs, as far as wkhtmltopdf writes them, and its last words where it fails.

    One process sets them all: its start takes longer than a page.
    """
    with tempfile.TemporaryDirectory(prefix="triton-perf-") as name:
        folder = Path(name)
        commands = []
        for number, page in enumerate(found.values()):
            html = folder / f"{number}.html"
            html.write_text(page(css=True), encoding="utf-8")
            commands.append(_command(binary, html, folder / f"{number}.pdf"))
        try:
            done = subprocess.run(
                [binary, "--read-args-from-stdin"],
                input="\n".join(commands).encode(),
                capture_output=True,
                timeout=_LIMIT_S,
                env={**os.environ, "QT_QPA_PLATFORM": "offscreen"},
                check=False,
            )
            last = done.stderr.decode(errors="replace").strip().splitlines()[-5:]
            words = f"exit code {done.returncode}: {' / '.join(last) or 'no words'}"
        except (OSError, subprocess.TimeoutExpired) as error:
            words = str(error)
        pdfs = {path: _read(folder / f"{number}.pdf") for number, path in enumerate(found)}
    return {path: pdf for path, pdf in pdfs.items() if pdf}, words


def _command(binary: str, html: Path, pdf: Path) -> str:
    """One page's line for wkhtmltopdf, with pdfkit's options."""
    import pdfkit

    options = {
        "page-size": "A4",
        "margin-top": "12mm",
        "margin-bottom": "12mm",
        "margin-left": "12mm",
        "margin-right": "12mm",
        "encoding": "utf-8",
        "disable-javascript": "",
        # It would wait a fifth of a second for scripts all the same.
        "javascript-delay": "0",
        # The pictures are in the page; nothing else of this machine or the net may get in.
        "disable-local-file-access": "",
        "load-error-handling": "abort",
    }
    configuration = pdfkit.configuration(wkhtmltopdf=binary)
    kit = pdfkit.PDFKit(str(html), "file", options=options, configuration=configuration)
    return shlex.join(kit.command(str(pdf))[1:])


def _read(pdf: Path) -> bytes:
    """A PDF file; empty where there is none, or it breaks off."""
    data = pdf.read_bytes() if pdf.exists() else b""
    return data if data.startswith(b"%PDF") and b"%%EOF" in data[-32:] else b""


def by_fpdf2(page: Page) -> bytes:
    """The page as a PDF, by Python alone."""
    from fpdf import FPDF, TextStyle

    html = page(css=False)
    fonts = fonts_for(html)
    pdf = FPDF(format="A4")
    pdf.set_producer("fpdf2")
    pdf.set_margin(12)
    pdf.set_auto_page_break(True, margin=12)
    # The fonts of PDF itself have Latin only.
    for font in fonts:
        pdf.add_font(font.family, "", font.regular)
        pdf.add_font(font.family, "B", font.bold)
    pdf.add_page()
    pdf.set_font(fonts[0].family, size=7)
    pdf.set_fallback_fonts([font.family for font in fonts[1:]], exact_match=False)
    pdf.write_html(
        html,
        image_map=_decoded,
        table_line_separators=False,
        tag_styles={
            "h1": TextStyle(font_style="B", font_size_pt=17, color="#22262a", b_margin=0.3),
            "h2": TextStyle(font_style="B", font_size_pt=12, color="#22262a", b_margin=0.1),
            "p": TextStyle(font_size_pt=10, b_margin=1),
        },
    )
    with without_remarks():
        return bytes(pdf.output())


def _decoded(uri: str) -> bytes:
    """A picture of the page, whose address has all of it."""
    svg = base64.b64decode(uri.partition(",")[2])
    # Of all lengths in it fpdf2 converts this one alone, which is then too short.
    return re.sub(rb"font-size: ([\d.]+)px", rb"font-size: \1pt", svg)


def _summary(run: Run, model: str, pictures: Mapping[str, bytes]) -> Page:
    plots = f"simple/{safe_name(model)}"
    configurations = configurations_of(run, model)
    return partial(
        render,
        "result_summary.html.j2",
        model=model,
        sentence=summary_sentence(run, model),
        gpu_memory=gpu_memory_sentence(run, model),
        facts=facts(run, model),
        best=best_table(run, model, most=_BEST),
        images=image_table(run, model),
        plots=pictures.get(f"{plots}/v_latency.svg"),
        verdicts=verdict_table(
            run, (v for v in by_badness(run) if run.configuration(v) in configurations)
        ),
        notes=remarks(run, levels_of(run, model)),
        legend=legend(run),
        environment=environment_rows(run),
    )


def _detailed(run: Run, name: str, pictures: Mapping[str, bytes]) -> Page:
    variant = run.configurations[name][-1].variant
    levels = configurations_of(run, variant.model)[name]
    plots = f"detailed/{safe_name(name)}"
    return partial(
        render,
        "detailed_report.html.j2",
        name=name,
        sentence=best_note(run, name),
        facts=[*facts(run, variant.model), ("Changes", overrides_text(variant))],
        breakdown_plot=pictures.get(f"{plots}/latency_breakdown.svg"),
        memory_plot=pictures.get(f"{plots}/memory_timeline.svg"),
        client=level_table(run, levels, {"client"}),
        server=level_table(run, levels, {"server", "process", "gpu"}),
        verdicts=verdict_table(run, (v for v in by_badness(run) if run.configuration(v) == name)),
        notes=remarks(run, levels),
        legend=legend(run),
        environment=environment_rows(run),
    )
