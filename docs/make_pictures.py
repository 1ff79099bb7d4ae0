"""The pictures of docs/reports.md: every report of 1, 5 and 40 variants, and with Korean names.

``python docs/make_pictures.py`` makes them anew, from the made-up run of the tests. It takes
wkhtmltopdf, pdftoppm (poppler-utils), Chromium and a Korean font (fonts-nanum).
"""

import io
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image
from PIL.Image import Quantize
from playwright.sync_api import Browser, sync_playwright

REPOSITORY = Path(__file__).parents[1]
sys.path[:0] = [str(REPOSITORY), str(REPOSITORY / "tests" / "unit")]

from sample_run import add_sub_sweeps, crowd_run, run_of  # noqa: E402
from test_pictures_fit import BUDGETS, KOREAN, named  # noqa: E402

from pytest_triton_perf.domain.results import Run  # noqa: E402
from pytest_triton_perf.reports import write_reports  # noqa: E402

IMAGES = REPOSITORY / "docs" / "images"
WIDTH, HEIGHT = 1280, 1090
"""Of the page in pixels, from the choice of latency on: the plots."""

RUNS = {
    "1": run_of(add_sub_sweeps()[:1], BUDGETS[:1]),
    "5": run_of(add_sub_sweeps(), BUDGETS[:2]),
    "40": crowd_run(40),
    "korean": run_of(named(KOREAN), BUDGETS[:1]),
}


def main() -> None:
    """Write the pictures, and print what was written."""
    IMAGES.mkdir(exist_ok=True)
    with sync_playwright() as playwright, tempfile.TemporaryDirectory() as folder:
        chromium = shutil.which("chromium")
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        for name, run in RUNS.items():
            make(name, run, Path(folder) / name, browser)


def make(name: str, run: Run, output: Path, browser: Browser) -> None:
    """The pictures of one run: its page, its summary, and a plot that stands alone."""
    if problems := write_reports(run, output, ("plots", "pdf", "html")):
        sys.exit("\n".join(problems))
    page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT})
    page.goto((output / "index.html").as_uri())
    top = page.get_by_label("Latency").first.bounding_box()["y"] - 20
    part = {"x": 0, "y": top, "width": WIDTH, "height": HEIGHT}
    keep(f"page_{name}", page.screenshot(full_page=True, clip=part))
    (summary,) = output.glob("reports/summaries/*/result_summary.pdf")
    command = ["pdftoppm", "-png", "-r", "90", "-singlefile", str(summary), str(output / "page")]
    subprocess.run(command, check=True)
    keep(f"summary_{name}", (output / "page.png").read_bytes())
    (plot,) = output.glob("plots/simple/*/throughput_v_latency.png")
    keep(f"plot_{name}", plot.read_bytes())


def keep(name: str, picture: bytes) -> None:
    """Write a picture for the docs."""
    path = IMAGES / f"{name}.png"
    few_colours = (
        Image.open(io.BytesIO(picture)).convert("RGB").quantize(method=Quantize.MAXCOVERAGE)
    )
    few_colours.save(path, optimize=True)
    print(f"{path.relative_to(REPOSITORY)}: {path.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
