"""How soon index.html answers: 400 measurements of 40 configurations, in a headless Chromium.

Prints the size of the page, the time from its opening until all plots are drawn, and what a
click on a column, a filtered word and a pointed-at mark take until the next frame; the least of
some rounds. Exits 1 where a limit is passed.
"""

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import sync_playwright

REPOSITORY = Path(__file__).parents[1]
OPEN_LIMIT_MS = 1000.0
SIZE_LIMIT_MB = 3.0
DRAWN = """new Promise(done => {
    const look = () => document.querySelectorAll(".spot").length === 800
        ? requestAnimationFrame(() => done(performance.now())) : requestAnimationFrame(look);
    look();
})"""
NEXT_FRAME = """act => new Promise(done => {
    const began = performance.now();
    new Function(act)();
    requestAnimationFrame(() => setTimeout(() => done(performance.now() - began)));
})"""
ACTS = {
    "sort": 'document.querySelectorAll("#levels button")[4].click()',
    "filter": 'const box = document.querySelector("input"); box.value = "config_1";'
    'box.dispatchEvent(new Event("input"))',
    "point": 'document.querySelectorAll(".spot")[300].focus()',
}


def write(folder: Path) -> Path:
    """The page of 400 measurements."""
    sys.path.insert(0, str(REPOSITORY / "tests" / "unit"))
    from sample_run import run_of, sweep, variant

    from pytest_triton_perf.domain.budgets import Budget
    from pytest_triton_perf.domain.levels import Load
    from pytest_triton_perf.reports.html import write_html

    loads = [Load(concurrency=c) for c in (1, 2, 4, 8, 12, 16, 24, 32, 48, 64)]
    sweeps = [
        sweep(variant("m", n), 900 + n * 61 % 700, 50.0 + 2 * n, loads=loads) for n in range(40)
    ]
    path = folder / "index.html"
    write_html(run_of(sweeps, [Budget.from_keyword("p99_latency_ms", 30)]), path)
    return path


def main() -> int:
    """Rounds in windows of their own, and what they took at least."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    rounds: list[dict[str, float]] = []
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        page_file = write(Path(folder))
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox"]
        )
        for _ in range(arguments.rounds):
            page = browser.new_page()
            page.goto(page_file.as_uri())
            took = {"open": page.evaluate(DRAWN)}
            took |= {name: page.evaluate(NEXT_FRAME, act) for name, act in ACTS.items()}
            rounds.append(took)
            print(", ".join(f"{name} {ms:.0f} ms" for name, ms in took.items()))
            page.close()
        browser.close()
        size_mb = page_file.stat().st_size / 1e6
    least = {name: min(took[name] for took in rounds) for name in rounds[0]}
    print("least:", ", ".join(f"{name} {ms:.0f} ms" for name, ms in least.items()), end=" ")
    print(f"(limit {OPEN_LIMIT_MS:g}), {size_mb:.2f} MB (limit {SIZE_LIMIT_MB:g})")
    return int(max(least.values()) > OPEN_LIMIT_MS or size_mb > SIZE_LIMIT_MB)


if __name__ == "__main__":
    sys.exit(main())
