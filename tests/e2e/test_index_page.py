"""index.html in a real Chromium: what it shows is what results.json has.

``TRITON_PERF_SCREENSHOTS`` names a folder that keeps a picture of the end of each test.
"""

import json
import os
import re
import shutil
import unicodedata
from contextlib import ExitStack
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import pytest
from playwright.sync_api import sync_playwright
from pypdf import PdfReader
from support import missing_part

from pytest_triton_perf.domain.budgets import Budget
from pytest_triton_perf.domain.comparisons import Comparison
from pytest_triton_perf.domain.levels import Estimate, Load
from pytest_triton_perf.domain.metrics import METRICS, SERVER_TIMES, estimate_text, find_metric
from pytest_triton_perf.domain.results import Run
from pytest_triton_perf.domain.variants import Variant
from pytest_triton_perf.reports import write_reports
from tests.unit.sample_run import (
    ENVIRONMENT,
    add_sub_sweeps,
    crowd_run,
    run_of,
    sample_run,
    sweep,
    two_image_run,
    variant,
)

NASTY = "../<script>alert(\"1\")</script>\n</script><img src=x onerror=alert(2)> `x` '{{ 7 * 7 }}'"
KOREAN = "덧셈_모델"


@pytest.fixture(scope="module")
def browser():
    binary = shutil.which("chromium")
    if binary is None:
        missing_part("chromium: apt-get install -y chromium")
    with sync_playwright() as playwright:
        # As root, as in CI, Chromium starts without its sandbox only.
        browser = playwright.chromium.launch(executable_path=binary, args=["--no-sandbox"])
        yield browser
        browser.close()


class Shown:
    """The page of a run in a window of its own."""

    def __init__(self, browser, run, folder, *, width=1280, **context):
        assert write_reports(run, folder, ("json", "html")) == []
        self.file = folder / "index.html"
        self.results = json.loads((folder / "results.json").read_text(encoding="utf-8"))
        self.context = browser.new_context(viewport={"width": width, "height": 900}, **context)
        self.page = self.context.new_page()
        self.page.set_default_timeout(5000)
        self.asked, self.said = [], []
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("dialog", lambda dialog: (self.said.append("a dialog"), dialog.dismiss()))
        self.page.goto(self.file.as_uri())
        self.measured = self.results["measurements"]

    def close(self, picture):
        if folder := os.environ.get("TRITON_PERF_SCREENSHOTS"):
            self.page.screenshot(path=Path(folder) / f"{picture}.png", full_page=True)
        self.context.close()
        assert self.asked == [self.file.as_uri()]
        assert self.said == []

    def figure(self, title):
        return self.page.locator("figure").filter(has=self.page.get_by_role("heading", name=title))

    def spot(self, row, title="Throughput against"):
        return self.figure(title).locator(f'.spot[data-row="{row}"]')

    def point_at(self, mark):
        """Put the pointer on a mark, on which another one may lie."""
        mark.scroll_into_view_if_needed()
        box = mark.locator(".mark").bounding_box()
        self.page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)

    def column(self, name):
        """The cells of a column of the table of all measurements, as they stand."""
        return self.page.evaluate(
            """name => {
                const table = document.getElementById("levels");
                const at = [...table.tHead.rows[0].cells].findIndex(c => c.textContent === name);
                const rows = [...table.tBodies[0].rows].filter(row => !row.hidden);
                return rows.map(row => row.cells[at].textContent);
            }""",
            name,
        )

    def sort(self, name):
        head = self.page.locator("#levels th").filter(
            has=self.page.get_by_role("button", name=name, exact=True)
        )
        head.get_by_role("button").click()
        return head.get_attribute("aria-sort")

    @property
    def tip(self):
        return self.page.get_by_role("tooltip")

    @property
    def cards(self):
        return self.page.locator(".card")


@pytest.fixture
def show(browser, tmp_path, request):
    with ExitStack() as stack:

        def open_page(run, **options):
            number = len(list(tmp_path.iterdir()))
            shown = Shown(browser, run, tmp_path / str(number), **options)
            stack.callback(shown.close, f"{request.node.name}-{number}")
            return shown

        yield open_page


def text_of(row, name):
    """A figure as pages write it, from a measurement of results.json."""
    if name == "throughput":
        data = row["throughput"]
    elif name in SERVER_TIMES:
        data = {"value": row["server_ms"][name.removesuffix("_ms")], "ci": None}
    elif name.endswith("_latency_ms"):
        data = row["latency_ms"][name.removesuffix("_latency_ms")]
    else:
        data = {"value": row[name], "ci": None}
    return estimate_text(find_metric(name), Estimate(value=data["value"], ci=data["ci"]))


def load_of(row):
    kind = "concurrency" if row["concurrency"] is not None else "request_rate"
    return str(Load(**{kind: row[kind]}, batch_size=row["batch_size"]))


def five():
    return run_of(add_sub_sweeps(), [Budget.from_keyword("p99_latency_ms", 5)])


def test_the_verdicts_come_first_and_the_passed_ones_unfold(show):
    shown = show(sample_run())
    assert shown.page.locator("main > *").first.get_attribute("id") == "verdicts"
    rows = shown.page.locator("#verdicts > .scroll tbody tr")
    assert rows.count() == 7
    assert rows.first.inner_text().startswith("failed\tadd_sub_config_default\tp99 latency ≤ 5 ms")
    passed = shown.page.locator("#verdicts details tr.good")
    assert not passed.first.is_visible()
    shown.page.get_by_text("6 passed", exact=True).click()
    assert passed.first.is_visible()
    assert passed.count() == 6


def test_the_table_has_every_measurement_of_the_results(show):
    shown = show(sample_run())
    assert shown.column("Configuration") == [row["variant"] for row in shown.measured]
    assert shown.column("Load") == [load_of(row) for row in shown.measured]
    for name in ("throughput", "avg_latency_ms", "p99_latency_ms", *SERVER_TIMES, "cpu_memory_mb"):
        cells = shown.column(find_metric(name).column)
        expected = [text_of(row, name).split()[0] for row in shown.measured]
        assert [cell.split()[0] for cell in cells] == expected
    gpu = shown.column(METRICS["gpu_memory_mb"].column)
    assert gpu[:25] == ["–"] * 25
    assert gpu[25] == "2,310.5"


def test_sorting_goes_by_number_and_keeps_what_lacks_last(show):
    shown = show(sample_run())
    before = shown.column("Throughput (infer/sec)")
    assert shown.sort("Throughput (infer/sec)") == "ascending"

    def rates():
        return [
            float(cell.split()[0].replace(",", ""))
            for cell in shown.column("Throughput (infer/sec)")
        ]

    assert rates() == sorted(rates())
    assert shown.sort("Throughput (infer/sec)") == "descending"
    assert rates() == sorted(rates(), reverse=True)
    assert rates() != sorted(rates())
    assert shown.sort("Throughput (infer/sec)") == "none"
    assert shown.column("Throughput (infer/sec)") == before
    for direction in ("ascending", "descending"):
        assert shown.sort("GPU Memory Usage (MB)") == direction
        gpu = shown.column("GPU Memory Usage (MB)")
        assert "–" not in gpu[:16]
        assert set(gpu[16:]) == {"–"}
    assert shown.sort("Load") == "ascending"
    loads = list(dict.fromkeys(shown.column("Load")))
    assert loads[:5] == [f"concurrency {n}" for n in (1, 2, 4, 8, 16)]
    assert loads[-1] == "concurrency 8, batch size 4"
    assert shown.page.locator('#levels th[aria-sort="ascending"]').count() == 1


def test_request_rates_sort_as_numbers(show):
    loads = [Load(request_rate=rate) for rate in (100.5, 0.5, 0.25, 20)]
    shown = show(run_of([sweep(variant("m"), 400, 10, loads=loads)], []))
    shown.sort("Load")
    assert shown.column("Load") == [f"request rate {r}" for r in ("0.25", "0.5", "20", "100.5")]


def test_filtering_by_words_and_by_choice(show):
    shown = show(sample_run())
    words = shown.page.get_by_label("Filter", exact=True)
    count = shown.page.locator("#measurements output")
    assert count.inner_text() == "41 of 41 measurements"
    words.fill("config_1 CONCURRENCY")
    assert set(shown.column("Configuration")) == {"add_sub_config_1"}
    assert count.inner_text() == "5 of 41 measurements"
    shown.page.get_by_label("Within Constraints", exact=True).select_option("no")
    assert shown.column("Load") == ["concurrency 16"]
    shown.sort("p99 Latency (ms)")
    assert count.inner_text() == "1 of 41 measurements"
    words.fill("")
    shown.page.get_by_label("Within Constraints", exact=True).select_option("any")
    shown.page.get_by_label("Model", exact=True).select_option("resnet")
    assert count.inner_text() == "16 of 41 measurements"
    words.fill("no such words")
    assert shown.column("Load") == []
    assert count.inner_text() == "0 of 41 measurements"


@pytest.mark.parametrize("title", ["Throughput against", "CPU memory against"])
def test_a_point_tells_its_configuration_on_hover(show, title):
    shown = show(five())
    for number in (0, 13, 24):
        row = shown.measured[number]
        shown.point_at(shown.spot(number, title))
        told = shown.tip.inner_text()
        assert row["variant"] in told
        assert load_of(row) in told
        for path, value in row["overrides"].items():
            assert f"{path} = {value}" in told
        for name in ("throughput", "p99_latency_ms", "cpu_memory_mb"):
            assert text_of(row, name) in told
    shown.page.mouse.move(2, 2)
    assert shown.tip.is_hidden()


def test_a_click_pins_a_point_and_another_one_takes_it_off(show):
    shown = show(five())
    for number in (7, 18):
        shown.point_at(shown.spot(number))
        shown.page.mouse.down()
        shown.page.mouse.up()
    assert shown.cards.count() == 2
    card = shown.cards.nth(1).inner_text()
    row = shown.measured[18]
    for name in ("throughput", "avg_latency_ms", "p50_latency_ms", *SERVER_TIMES, "cpu_memory_mb"):
        assert text_of(row, name) in card
    assert row["test"] in card
    assert f"{row['requests']:,}" in card
    for title in ("Throughput against", "CPU memory against"):
        assert shown.spot(18, title).get_attribute("aria-pressed") == "true"
    pinned = shown.page.locator("#levels tr.pinned td:first-child")
    assert pinned.all_inner_texts() == ["add_sub_config_0", "add_sub_config_2"]
    # Pins outlive what draws the plots anew.
    shown.page.get_by_label("Latency", exact=True).select_option("p50 latency")
    assert shown.spot(18).get_attribute("aria-pressed") == "true"
    shown.page.get_by_role("button", name="Unpin add_sub_config_0, concurrency 4").click()
    shown.point_at(shown.spot(18))
    shown.page.mouse.down()
    shown.page.mouse.up()
    assert shown.cards.count() == pinned.count() == 0
    assert shown.spot(18).get_attribute("aria-pressed") == "false"


def test_the_keyboard_reaches_every_point(show):
    shown = show(five())
    page = shown.page
    page.locator(".legend button").last.focus()
    page.keyboard.press("Tab")

    def focused():
        return page.evaluate("document.activeElement.getAttribute('aria-label')")

    best = [row for row in shown.measured if row["variant"] == "add_sub_config_1"]
    assert focused() == (
        f"add_sub_config_1, concurrency 1: {text_of(best[0], 'throughput')}, "
        f"{text_of(best[0], 'p99_latency_ms')}"
    )
    assert text_of(best[0], "cpu_memory_mb") in shown.tip.inner_text()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    assert shown.cards.first.get_attribute("aria-label") == "add_sub_config_1, concurrency 2"
    page.keyboard.press("ArrowDown")
    assert focused().startswith("add_sub_config_0, concurrency 2:")
    page.keyboard.press("End")
    assert focused().startswith("add_sub_config_0, concurrency 16:")
    page.keyboard.press("Space")
    assert shown.cards.count() == 2
    page.keyboard.press("Escape")
    assert shown.tip.is_hidden()
    # All points of a plot are one stop of the Tab key.
    page.keyboard.press("Tab")
    assert focused().startswith("add_sub_config_1, concurrency 1: 215.0 MB")
    page.keyboard.press("Shift+Tab")
    assert focused().startswith("add_sub_config_0, concurrency 16:")
    page.locator("#levels button").first.focus()
    page.keyboard.press("Enter")
    assert page.locator("#levels th").first.get_attribute("aria-sort") == "ascending"


def test_every_control_has_a_name(show):
    page = show(sample_run()).page
    nameless = page.evaluate(
        """() => [...document.querySelectorAll("button, select, input, [role=button], [role=img]")]
            .filter(e => !e.getAttribute("aria-label") && !e.textContent.trim())
            .filter(e => !e.labels?.length).map(e => e.outerHTML)"""
    )
    assert nameless == []
    assert page.locator("[role=button][aria-label*=undefined]").count() == 0
    assert "undefined" not in page.locator("body").inner_text()
    assert "NaN" not in page.locator(".panel").first.inner_html()


def test_the_key_of_forty_lines_scrolls_and_brings_a_line_forward(show):
    shown = show(crowd_run(40))
    keys = shown.page.locator(".legend button")
    assert keys.count() == 40
    box = shown.page.locator(".legend")
    assert box.evaluate("e => e.clientHeight < e.scrollHeight && e.clientHeight < 200")
    keys.nth(39).hover()
    near = shown.page.locator("svg .series.near")
    assert set(near.evaluate_all("all => all.map(e => e.dataset.line)")) == {"39"}
    far = shown.page.locator('svg .series[data-line="3"]').first
    assert far.evaluate("e => e.ownerSVGElement.closest('.panel').classList.contains('some')")
    keys.nth(39).click()
    keys.nth(4).click()
    shown.page.mouse.move(2, 2)
    assert set(near.evaluate_all("all => all.map(e => e.dataset.line)")) == {"4", "39"}
    assert keys.nth(4).get_attribute("aria-pressed") == "true"
    keys.nth(39).click()
    keys.nth(4).click()
    shown.page.mouse.move(2, 2)
    shown.page.keyboard.press("ArrowDown")
    assert set(near.evaluate_all("all => all.map(e => e.dataset.line)")) == {"5"}
    shown.page.evaluate("document.activeElement.blur()")
    assert near.count() == 0


def test_the_frontier_goes_through_the_points_that_none_beats(show):
    loads = [(1, 2, 4, 8), (1, 3, 6, 12), (2, 5, 10, 20)]
    sweeps = [
        sweep(variant("m", n), peak, 10, loads=[Load(concurrency=c) for c in own])
        for n, (peak, own) in enumerate(zip((1000, 1012, 994), loads, strict=True))
    ]
    shown = show(run_of(sweeps, []))
    path = shown.figure("Throughput against").locator(".frontier").get_attribute("d")
    steps = re.findall(r"(?:M|H)([\d.]+)(?:,|V)([\d.]+)", path)
    corners = {(round(float(x), 2), round(float(y), 2)) for x, y in steps}

    def place(row):
        transform = shown.spot(row).get_attribute("transform")
        return tuple(round(float(number), 2) for number in re.findall(r"[\d.]+", transform))

    figures = [(m["latency_ms"]["p99"]["value"], m["throughput"]["value"]) for m in shown.measured]
    unbeaten = {
        place(row)
        for row, (latency, rate) in enumerate(figures)
        if not any((x <= latency and y >= rate) and (x, y) != (latency, rate) for x, y in figures)
    }
    assert 4 < len(unbeaten) < 12
    assert corners == unbeaten


def test_the_choice_of_latency_and_memory_changes_the_plots(show):
    shown = show(sample_run())
    resnet = shown.page.locator("#model-2")
    resnet.get_by_label("Latency", exact=True).select_option("average latency")
    resnet.get_by_label("Memory", exact=True).select_option("CPU memory")
    titles = resnet.locator("h3").all_inner_texts()
    assert titles[:2] == [
        "Throughput against average latency",
        "CPU memory against average latency",
    ]
    mark = resnet.locator('figure >> nth=1 >> .spot[data-row="25"]')
    row = shown.measured[25]
    assert mark.get_attribute("aria-label").endswith(
        f"{text_of(row, 'cpu_memory_mb')}, {text_of(row, 'avg_latency_ms')}"
    )


def test_the_breakdown_is_that_of_the_chosen_configuration(show):
    shown = show(five())
    shown.page.get_by_label("Configuration", exact=True).select_option("add_sub_config_3")
    own = [row for row in shown.measured if row["variant"] == "add_sub_config_3"]
    columns = shown.figure("Where the server's time goes").locator(".column")
    assert columns.count() == len(own)
    for number, row in enumerate(own):
        label = columns.nth(number).get_attribute("aria-label")
        for name in (*SERVER_TIMES, "avg_latency_ms", "throughput"):
            assert f"{METRICS[name].label} {text_of(row, name)}" in label
    parts = columns.nth(4).locator('[class^="part"]')
    tops, heights = parts.evaluate_all(
        """parts => ["y", "height"].map(name =>
            parts.map(part => Number(part.getAttribute(name))))"""
    )
    # Each part stands on the one before it.
    for top, height, below in zip(tops[1:], heights[1:], tops, strict=False):
        assert top + height == pytest.approx(below)
    times = [own[4]["server_ms"][name.removesuffix("_ms")] for name in SERVER_TIMES]
    for height, time in zip(heights, times, strict=True):
        assert height / sum(heights) == pytest.approx(time / sum(times), rel=1e-3)
    columns.nth(2).hover()
    assert text_of(own[2], "queue_ms") in shown.tip.inner_text()


def test_the_timeline_has_the_phases_and_their_peaks(show):
    shown = show(sample_run())
    timeline = shown.results["memory_timelines"][-1]
    resnet = shown.page.locator("#model-2")
    resnet.get_by_label("Configuration", exact=True).select_option("resnet_config_0, batch 4")
    bands = resnet.locator(".band")
    assert bands.count() == len(timeline["phases"])
    first = bands.first.get_attribute("aria-label")
    for name, peak in (("CPU memory", "2,210 MB"), ("GPU memory", "3,120 MB")):
        assert f"highest {name} {peak}" in first
    assert max(timeline["curves"]["gpu_memory_mb"]["mb"]) == 3120
    bands.nth(1).hover()
    assert shown.tip.inner_text().startswith("warm-up")
    assert resnet.locator("path.curve").count() == 2


def without(one, level, *names):
    """A sweep one level of which lacks metrics."""
    measurements = list(one.measurements)
    old = measurements[level]
    measurements[level] = replace(
        old,
        values={name: value for name, value in old.values.items() if name not in names},
        missing={**old.missing, **dict.fromkeys(names, "the load generator lost it")},
    )
    return replace(one, measurements=measurements)


def test_what_was_not_measured_is_said_and_not_drawn(show):
    one, *others = add_sub_sweeps()
    parts = ("p99_latency_ms", "queue_ms")
    shown = show(run_of([without(one, 2, *parts), *others], []))
    assert shown.figure("Throughput against").locator(".spot").count() == 24
    said = (
        "1 of 25 measurements not drawn: p99 latency was not measured: the load generator lost it"
    )
    assert shown.figure("Throughput against").get_by_text(said).is_visible()
    assert shown.column("p99 Latency (ms)")[2] == "–"
    shown.page.get_by_label("Configuration", exact=True).select_option("add_sub_config_default")
    breakdown = shown.figure("Where the server's time goes")
    assert breakdown.get_by_text("1 of 5 loads without bar: queue was not measured").is_visible()
    label = breakdown.locator(".column").nth(2).get_attribute("aria-label")
    assert "queue not measured" in label


def test_a_run_without_throughput_and_timeline_says_why(show):
    one = add_sub_sweeps()[0]
    for level in range(5):
        one = without(one, level, "throughput", "cpu_memory_mb", *SERVER_TIMES)
    shown = show(run_of([replace(one, memory=None)], []))
    for title, words in (
        ("Throughput against", "throughput was not measured: the load generator lost it"),
        ("CPU memory against", "CPU memory was not measured: the load generator lost it"),
        ("Where the server's time goes", "compute infer was not measured"),
        ("Memory over time", "no timeline was recorded"),
    ):
        assert shown.figure(title).get_by_text(words).is_visible()
    assert shown.page.locator(".spot").count() == 0


def test_open_intervals_are_arrows_and_one_measurement_is_enough(show):
    one = sweep(variant("m"), 400, 10, loads=[Load(concurrency=4)])
    (measured,) = one.measurements
    rate, p99 = measured.values["throughput"], measured.values["p99_latency_ms"]
    values = {
        **measured.values,
        "throughput": replace(rate, ci=(None, None)),
        "p99_latency_ms": replace(p99, ci=(p99.value * 0.9, None), needs=1900),
    }
    shown = show(run_of([replace(one, measurements=[replace(measured, values=values)])], []))
    paths = [
        bar.get_attribute("d") for bar in shown.figure("Throughput against").locator(".bar").all()
    ]
    # An arrow has a head: a second move.
    assert sorted(path.count("M") for path in paths) == [1, 2, 2, 2]
    shown.point_at(shown.spot(0))
    told = shown.tip.inner_text()
    assert "infer/s [0, ∞)" in told
    assert "∞) needs about 1,900 more requests" in told
    assert shown.column("p99 Latency (ms)")[0].endswith("±∞")


def test_hostile_and_korean_names_are_names_only(show):
    sweeps = []
    for model in (NASTY, KOREAN):
        chosen = Variant(
            model=model,
            name=f"{model}_config_0",
            config={"name": model},
            overrides={f"a.{model}": "</script><script>alert(3)</script>"},
        )
        sweeps.append(sweep(chosen, 100, 10, test=f"tests/테스트.py::test_it[{model}\udc80]"))
    run = run_of(
        sweeps,
        [Budget.from_keyword("p99_latency_ms", 30)],
        environment={**ENVIRONMENT, "host": NASTY},
    )
    shown = show(run)
    page = shown.page
    assert page.locator("h2").first.text_content() == NASTY
    assert page.locator("h2").nth(1).text_content() == KOREAN
    assert page.locator("script").count() == 2
    assert page.locator("img, iframe, object, link").count() == 0
    assert page.locator("#model-1 .legend button").text_content() == f"{NASTY}_config_0"
    for row in (3, 8):
        page.locator(f'.spot[data-row="{row}"]').first.focus()
        page.keyboard.press("Enter")
        assert "</script><script>alert(3)</script>" in shown.tip.text_content()
    assert NASTY in shown.cards.first.text_content()
    assert KOREAN in shown.cards.nth(1).text_content()
    page.get_by_label("Filter", exact=True).fill("덧셈 concurrency")
    assert set(shown.column("Model")) == {KOREAN}


def long_ramp():
    loads = [Load(concurrency=2**n) for n in range(16)]
    return run_of([sweep(variant("m", n), 900 + n, 10, loads=loads) for n in range(2)], [])


def one_variant():
    return run_of(add_sub_sweeps()[:1], [])


def forty_variants():
    return crowd_run(40)


@pytest.mark.parametrize("run", [sample_run, two_image_run, long_ramp, one_variant, forty_variants])
@pytest.mark.parametrize("width", [400, 800, 1280])
def test_nothing_is_cut_and_no_numbers_overlap(show, run, width):
    page = show(run(), width=width, color_scheme="dark" if width == 800 else "light").page
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    overlaps = page.evaluate(
        """() => [...document.querySelectorAll("figure svg")].flatMap(svg => {
            const words = ".axes > text, .title, text.limit, .first .load";
            const texts = [...svg.querySelectorAll(words)];
            const boxes = texts.map(text => [text.textContent, text.getBoundingClientRect()]);
            return boxes.flatMap(([one, a], i) => boxes.slice(i + 1)
                .filter(([, b]) => a.left < b.right && b.left < a.right
                    && a.top + 2 < b.bottom && b.top + 2 < a.bottom)
                .map(([other]) => `${one} and ${other}`));
        })"""
    )
    assert overlaps == []
    outside = page.evaluate(
        """() => [...document.querySelectorAll("figure svg text")].filter(text => {
            const box = text.getBoundingClientRect();
            return box.left < 0 || box.right > innerWidth;
        }).map(text => text.textContent)"""
    )
    assert outside == []


def test_four_hundred_measurements_are_all_there(show):
    loads = [Load(concurrency=c) for c in (1, 2, 4, 8, 12, 16, 24, 32, 48, 64)]
    sweeps = [
        sweep(variant("m", n, count=n % 4 + 1), 900 + n * 61 % 700, 50.0 + 2 * n, loads=loads)
        for n in range(40)
    ]
    shown = show(run_of(sweeps, [Budget.from_keyword("p99_latency_ms", 30)]))
    assert shown.file.stat().st_size < 3_000_000
    for title in ("Throughput against", "CPU memory against"):
        assert shown.figure(title).locator(".spot").count() == 400
    assert shown.page.locator("#measurements output").inner_text() == "400 of 400 measurements"
    shown.sort("p99 Latency (ms)")
    tails = [float(cell.split()[0]) for cell in shown.column("p99 Latency (ms)")]
    assert tails == sorted(tails)


def test_without_scripts_the_verdicts_and_the_tables_read(show):
    shown = show(sample_run(), java_script_enabled=False)
    page = shown.page
    assert page.locator("#verdicts > .scroll tbody tr").count() == 7
    assert page.locator("#levels tbody tr").count() == 41
    assert page.get_by_text("The plots of this page need JavaScript.").first.is_visible()
    assert page.locator("select, button, input").count() == 0
    assert page.locator("#environment").get_by_text("Xeon Platinum 8488C").is_visible()


def test_a_run_that_measured_nothing_has_a_page(show):
    page = show(Run(environment={}, sweeps=[], verdicts=[], exit=1)).page
    assert page.locator("h1").inner_text() == "Triton performance: no budgets were set"
    assert page.locator("table").count() == 0


def luminance(colour):
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    red, green, blue = (p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one, other):
    """As the Web Content Accessibility Guidelines 2.2 define it."""
    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


SLOWER = Comparison(
    test="test_it.py::test_it[default]",
    model="add_sub",
    metric="throughput",
    load=Load(concurrency=8),
    max_slowdown_pct=5.0,
    change_pct=-16.44,
    ci_pct=(-18.04, -14.9),
    quads=8,
    mde_pct=2.94,
    status="regressed",
)


def test_the_change_from_the_base_is_a_table_and_a_picture(show):
    unsure = replace(SLOWER, test=NASTY, status="inconclusive", change_pct=1.5, ci_pct=(None, 9.0))
    new = Comparison(model="new", test="test_it.py::test_new", status="no_baseline", reason="new")
    run = replace(five(), comparisons=(unsure, new, SLOWER))
    shown = show(run)
    gate = shown.page.locator("#gate")
    assert gate.locator("tbody tr").count() == 3
    assert gate.locator("tbody tr.bad").inner_text().startswith("regressed\tthroughput\t-16.4%")
    rows = gate.locator(".change")
    place = "throughput of test_it.py::test_it[default] at concurrency 8"
    assert rows.evaluate_all("all => all.map(e => e.getAttribute('aria-label'))") == [
        f"regressed, {place}: -16.4% [-18.0%, -14.9%], limit -4.8%",
        f"inconclusive, throughput of {NASTY} at concurrency 8: +1.5% (-∞, +9.0%], limit -4.8%",
    ]
    # The open end is an arrow; the circle lies within the bar.
    bars = [row.locator(".bar").get_attribute("d") for row in rows.all()]
    assert [bar.count("M") for bar in bars] == [2, 3]
    ends = sorted(float(end) for end in re.findall(r"H([\d.]+)", bars[0]))
    circle = float(rows.first.locator("circle").get_attribute("cx"))
    assert (circle - ends[0]) / (ends[1] - ends[0]) == pytest.approx(1.6 / 3.14, abs=0.001)
    rows.first.focus()
    assert place in shown.tip.inner_text()
    shown.page.keyboard.press("ArrowDown")
    assert shown.tip.inner_text().startswith("inconclusive")
    shown.page.set_viewport_size({"width": 400, "height": 900})
    rows.first.locator("text", has_text="…").wait_for()
    assert shown.page.evaluate("document.documentElement.scrollWidth") <= 400


def test_without_a_base_there_is_no_section_on_it(show):
    assert show(five()).page.locator("#gate, .changes").count() == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_colours_stand_out_from_the_paper(show, scheme):
    page = show(five(), color_scheme=scheme).page

    def colour(name):
        return page.evaluate(
            "name => getComputedStyle(document.documentElement).getPropertyValue(name)", f"--{name}"
        )

    paper = colour("paper")
    assert (luminance(paper) < 0.1) == (scheme == "dark")
    for text in ("ink", "soft", "bad", "unsure", "good", "limit", "focus"):
        assert contrast(colour(text), paper) >= 4.5, text
    for line in ("first", "second", "third"):
        assert contrast(colour(line), paper) >= 3, line


def test_it_prints_with_every_column_and_every_verdict(show):
    shown = show(sample_run(), color_scheme="dark")
    pages = PdfReader(BytesIO(shown.page.pdf(prefer_css_page_size=True))).pages
    texts = [unicodedata.normalize("NFKC", page.extract_text()) for page in pages]
    whole = "\n".join(texts)
    # The passed verdicts too, which the screen folds.
    assert len(re.findall(r"^passed", whole, re.MULTILINE)) == 6
    row = re.compile(r"^(?:add_sub|resnet) \w+ concurrency.*", re.MULTILINE)
    rows, with_rows = row.findall(whole), [text for text in texts if row.search(text)]
    assert len(with_rows) > 1
    assert len(rows) == len(shown.measured)
    assert rows[-1].endswith(f"{shown.measured[-1]['power_w']:.1f}")
    for text in with_rows:
        assert "GPU Power Usage (W)" in text.replace("\n", " ")
    assert "Filter" not in whole
    assert all(page.mediabox.width > page.mediabox.height for page in pages)
