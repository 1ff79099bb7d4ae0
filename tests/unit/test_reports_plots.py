import dataclasses
import io
import warnings

import matplotlib as mpl
import pytest
from PIL import Image
from sample_run import (
    NO_GPU,
    add_sub_sweeps,
    crowd_run,
    measurement,
    run_of,
    sample_run,
    two_image_run,
    variant,
)

from pytest_triton_perf.domain.budgets import Budget
from pytest_triton_perf.domain.levels import Estimate, Load
from pytest_triton_perf.domain.sweeps import Sweep
from pytest_triton_perf.reports import lines, plots


def drawn_alone(run):
    """The pictures that stand alone."""
    return plots.draw(run, ("plots",))


@pytest.fixture
def of_models_only(monkeypatch):
    """Draw nothing of single variants."""
    monkeypatch.setattr(plots, "configurations_of", lambda run, model: {})


@pytest.fixture
def words(monkeypatch):
    """Every word that is drawn, by picture in order of drawing."""
    drawn = []
    finish = plots.png

    def read(figure):
        from matplotlib.text import Text

        figure.draw_without_rendering()  # which makes the numbers at the axes
        drawn.append([t.get_text() for t in figure.findobj(Text) if t.get_text()])
        return finish(figure)

    monkeypatch.setattr(plots, "png", read)
    # What a helper process draws cannot be read here.
    monkeypatch.setattr(plots, "spread", lambda work, jobs: [work(job) for job in jobs])
    return drawn


def test_the_pictures_and_their_names():
    pictures = drawn_alone(run_of(add_sub_sweeps()[:2], []))
    assert sorted(pictures) == [
        "detailed/add_sub_config_0/latency_breakdown.png",
        "detailed/add_sub_config_0/memory_timeline.png",
        "detailed/add_sub_config_default/latency_breakdown.png",
        "detailed/add_sub_config_default/memory_timeline.png",
        "simple/add_sub/cpu_mem_v_latency.png",
        "simple/add_sub/throughput_v_latency.png",
    ]
    for png in pictures.values():
        image = Image.open(io.BytesIO(png))
        assert image.format == "PNG"
        assert image.width >= 720
        assert len(image.convert("RGB").getcolors(1 << 24)) > 10


def test_each_image_has_its_line_and_its_name(words):
    pictures = drawn_alone(two_image_run())
    assert len(pictures) == 2 + 2 * 4
    legend = [text for text in words[0] if "config" in text or "other" in text]
    assert legend == [
        "add_sub_config_0@25.01-py3", "add_sub_config_0@24.10-py3",
        "add_sub_config_default@25.01-py3", "add_sub_config_default@24.10-py3",
    ]  # fmt: skip
    assert any("add_sub_config_0@24.10-py3: server latency" in text for text in words[4])


def test_a_picture_says_what_it_shows(words):
    run = run_of(
        add_sub_sweeps(),
        [
            Budget.from_keyword("p99_latency_ms", 5),
            Budget.from_keyword("min_throughput", 4000, {"concurrency": 8}),
        ],
    )
    drawn_alone(run)
    throughput, memory, *breakdowns = words
    assert {
        "add_sub: throughput against p99 latency",
        "p99 latency (ms)",
        "throughput (infer/s)",
        "budget: p99 latency ≤ 5 ms at every load",
        "budget: throughput ≥ 4000 infer/s at concurrency 8",
        "≤ 5 ms",
        "≥ 4000 infer/s",
        "numbers at the points: concurrency\nbars: 95% intervals, arrows: ends not bounded",
        "16",
    } <= set(throughput)
    legend = [text for text in throughput if "config" in text or "other" in text]
    assert legend == [
        "add_sub_config_1", "add_sub_config_0", "add_sub_config_2", "add_sub_config_default",
        "1 other",
    ]  # fmt: skip
    assert {"CPU memory (MB)", "budget: p99 latency ≤ 5 ms at every load"} <= set(memory)
    assert {
        "server queue", "server compute input", "server compute infer", "server compute output",
        "throughput", "average server latency (ms)", "throughput (infer/s)", "concurrency",
    } <= set(breakdowns[0])  # fmt: skip


def test_a_budget_far_above_is_named_and_does_not_flatten_the_rest(words, of_models_only):
    budgets = [
        Budget.from_keyword("max_cpu_memory_mb", 4000),
        Budget.from_keyword("min_throughput", 9000),
    ]
    drawn_alone(run_of(add_sub_sweeps(), budgets))
    throughput, memory = words
    assert "budget: CPU memory ≤ 4000 MB at every load (above this picture)" in memory
    assert "3000" not in memory
    assert {"budget: throughput ≥ 9000 infer/s at every load", "8000"} <= set(throughput)


def test_of_limits_near_each_other_the_strictest_has_the_words(words, of_models_only):
    limits = [("p99_latency_ms", (5, 5.1)), ("min_throughput", (4000, 4050))]
    near = [
        Budget.from_keyword(name, limit, {"concurrency": load})
        for name, both in limits
        for load, limit in zip((1, 2), both, strict=True)
    ]
    apart = [Budget.from_keyword("max_cpu_memory_mb", limit) for limit in (190, 215)]
    drawn_alone(run_of(add_sub_sweeps(), [*near, *apart]))
    throughput, memory = words
    assert [text for text in throughput if text[:1] in "≤≥"] == ["≤ 5 ms", "≥ 4050 infer/s"]
    assert {
        "2 budgets: p99 latency ≤ 5 to 5.1 ms", "2 budgets: throughput ≥ 4000 to 4050 infer/s",
    } <= set(throughput)  # fmt: skip
    assert [text for text in memory if text[:1] in "≤≥"] == ["≤ 5 ms", "≤ 190 MB", "≤ 215 MB"]


def test_a_crowd_stays_in_the_background(words, of_models_only):
    drawn_alone(crowd_run(40))
    assert "36 others" in words[0]
    assert sum("config" in text for text in words[0]) == 4


def test_a_gpu_model_shows_gpu_memory_and_its_batches(words):
    run = dataclasses.replace(sample_run(), sweeps=sample_run().sweeps[5:6])
    assert "simple/resnet/gpu_mem_v_latency.png" in drawn_alone(run)
    assert "GPU memory (MB)" in words[1]
    assert {"resnet_config_default, batch 1"} <= set(words[0])
    assert {"1\nbatch 1", "8\nbatch 4"} <= set(words[2])


def test_the_latency_is_the_one_with_the_budget():
    run = run_of(add_sub_sweeps()[:1], [Budget.from_keyword("p90_latency_ms", 5)])
    assert lines.latency_of(run, "add_sub").name == "p90_latency_ms"
    assert lines.latency_of(run_of(add_sub_sweeps()[:1], []), "add_sub").name == "p99_latency_ms"


def test_what_was_not_measured_is_said_in_the_picture(words):
    level = measurement(Load(concurrency=1), 100, 1)
    kept = {k: v for k, v in level.values.items() if "latency" in k or k == "throughput"}
    level = dataclasses.replace(level, values=kept, missing={"cpu_memory_mb": NO_GPU})
    run = run_of([Sweep(test="t", variant=variant("m"), measurements=[level])], [])
    drawn_alone(run)
    assert f"CPU memory was not measured: {NO_GPU}" in words[1]
    assert any("queue was not measured: not among" in text for text in words[2])


def test_tests_of_the_same_variant_have_lines_of_their_own():
    first, second = add_sub_sweeps()[0], dataclasses.replace(add_sub_sweeps()[0], test="t.py::http")
    labels = [line.label for line in lines.lines_of(run_of([first, second], []), "add_sub")]
    assert labels == [
        "add_sub_config_default (test_add_sub[add_sub_config_default])",
        "add_sub_config_default (http)",
    ]


@pytest.fixture
def figures(monkeypatch, of_models_only):
    """Every figure of a model that is drawn."""
    drawn = []
    monkeypatch.setattr(plots, "png", lambda figure: drawn.append(figure) or b"")
    monkeypatch.setattr(plots, "spread", lambda work, jobs: [work(job) for job in jobs])
    return drawn


def bars_and_arrows(figure):
    """The ends of all bars, and how many arrows there are."""
    axes = figure.axes[0]
    ends = [tuple(path.vertices[1]) for c in axes.collections for path in c.get_paths()]
    return ends, sum(text.arrow_patch is not None for text in axes.texts)


def test_intervals_are_bars_and_open_ends_are_arrows(figures):
    one = add_sub_sweeps()[0]
    level = one.measurements[0]
    values = {
        **level.values,
        "throughput": Estimate(value=1000.0, ci=(900.0, None)),
        "p99_latency_ms": Estimate(value=2.0, ci=(1.5, 9.0)),
    }
    one = dataclasses.replace(one, measurements=[dataclasses.replace(level, values=values)])
    drawn_alone(run_of([one], []))
    throughput, memory = figures
    assert bars_and_arrows(throughput) == ([(1.5, 1000.0), (9.0, 1000.0), (2.0, 900.0)], 1)
    # A long bar runs out of the picture.
    assert 3.0 <= throughput.axes[0].get_xlim()[1] < 4.0
    assert bars_and_arrows(memory)[1] == 0


def test_only_the_coloured_lines_have_bars(figures):
    drawn_alone(crowd_run(40))
    ends, arrows = bars_and_arrows(figures[0])
    assert (len(ends), arrows) == (4 * 5 * 4, 0)


@pytest.mark.parametrize("closeness", [1.0, 1.01, 1.03, 1.1, 2.0])
def test_no_load_lies_on_another(figures, closeness):
    """Lines that all but lie on each other, as those of variants that do not matter."""
    first = add_sub_sweeps()[0]
    levels = first.measurements[:2]

    def moved(name: str, factor: float) -> Sweep:
        values = [
            {key: Estimate(value=e.value * factor) for key, e in level.values.items()}
            for level in levels
        ]
        changed = [
            dataclasses.replace(level, values=v) for level, v in zip(levels, values, strict=True)
        ]
        named = dataclasses.replace(first.variant, name=name)
        return dataclasses.replace(first, variant=named, measurements=changed, test=name)

    sweeps = [moved(f"add_sub_config_{n}", closeness**n) for n in range(3)]
    drawn_alone(run_of(sweeps, [Budget.from_keyword("p99_latency_ms", 100)]))
    for figure in figures:
        figure.draw_without_rendering()
        told = [t for t in figure.axes[0].texts if t.get_text().isdigit()]
        assert told
        boxes = [text.get_window_extent() for text in told]
        overlaps = [(a, b) for i, a in enumerate(boxes) for b in boxes[:i] if a.overlaps(b)]
        assert not overlaps


def test_without_intervals_the_legend_speaks_of_none(words):
    level = measurement(Load(concurrency=1), 100, 1)
    bare = {name: Estimate(value=found.value) for name, found in level.values.items()}
    level = dataclasses.replace(level, values=bare)
    drawn_alone(run_of([Sweep(test="t", variant=variant("m"), measurements=[level])], []))
    assert "numbers at the points: concurrency" in words[0]


def test_the_users_own_matplotlib_settings_neither_matter_nor_change():
    with mpl.rc_context({"text.usetex": True, "figure.dpi": 33}), warnings.catch_warnings():
        warnings.simplefilter("error")
        assert drawn_alone(run_of(add_sub_sweeps()[:1], []))
        assert mpl.rcParams["text.usetex"] is True
        assert mpl.rcParams["figure.dpi"] == 33
