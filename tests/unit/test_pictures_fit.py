"""No words of a picture lie on others or run out of it, whatever was measured."""

import dataclasses
import itertools
import math

import pytest
from sample_run import (
    add_sub_sweeps,
    crowd_run,
    run_of,
    sample_run,
    sweep,
    two_image_run,
    variant,
)

from pytest_triton_perf.domain.budgets import Budget
from pytest_triton_perf.domain.levels import Load
from pytest_triton_perf.domain.variants import Variant
from pytest_triton_perf.reports import plots

LONG = (
    "an_ensemble_of_preprocessing_and_a_language_model_with_a_name_as_long_as_those_that_teams_use"
)
KOREAN = "덧셈_모델"
BAD = "../a \"b\" <script>alert('1')</script>\n$x_1$ 100% \\frac{{a}}\ud800"
BUDGETS = [
    Budget.from_keyword("p99_latency_ms", 5),
    Budget.from_keyword("min_throughput", 4000, {"concurrency": 8}),
    Budget.from_keyword("max_cpu_memory_mb", 210),
]

CORNER = [
    Budget.from_keyword("p99_latency_ms", 100),
    Budget.from_keyword("min_throughput", 50),
    Budget.from_keyword("max_cpu_memory_mb", 4000),
]
"""Those of the quickstart: far beyond all that is measured."""

NEAR = [
    *(Budget.from_keyword("p99_latency_ms", 5 + n / 10, {"concurrency": 2**n}) for n in range(4)),
    *(
        Budget.from_keyword("min_throughput", 4000 + 50 * n, {"concurrency": 2**n})
        for n in range(4)
    ),
    *(Budget.from_keyword("max_cpu_memory_mb", 210 + n, {"concurrency": 2**n}) for n in range(4)),
]
"""Limits on one metric that differ little from load to load."""


def named(model):
    """Five configurations of a model of any name."""
    return [
        dataclasses.replace(
            one,
            variant=Variant(
                model=model,
                name=one.variant.name.replace("add_sub", model),
                config={**one.variant.config, "name": model},
                overrides=one.variant.overrides,
            ),
            test=f"test_it.py::test[{one.variant.name.replace('add_sub', model)}]",
        )
        for one in add_sub_sweeps()
    ]


def open_ended():
    """Intervals that the requests cannot bound, on either side or both."""
    ends = itertools.cycle([(None, None), (0.9, None), (None, 1.1), (1e-6, 1e6)])

    def opened(level):
        values = {
            name: dataclasses.replace(
                estimate,
                ci=tuple(None if end is None else end * estimate.value for end in next(ends)),
            )
            for name, estimate in level.values.items()
        }
        return dataclasses.replace(level, values=values)

    return [
        dataclasses.replace(one, measurements=[opened(m) for m in one.measurements])
        for one in add_sub_sweeps()
    ]


def lacking():
    """Figures that were not measured: of one configuration all, of others some."""
    first, second, *rest = add_sub_sweeps()
    empty = [
        dataclasses.replace(m, values={}, missing=dict.fromkeys(m.values, "the export is empty"))
        for m in first.measurements
    ]
    half = [
        dataclasses.replace(m, values={"throughput": m.values["throughput"]})
        for m in second.measurements
    ]
    return [
        dataclasses.replace(first, measurements=empty, memory=None),
        dataclasses.replace(second, measurements=half),
        *rest,
    ]


def one_level():
    return [sweep(variant("add_sub"), 6359, 181.2, loads=[Load(concurrency=1)])]


def thousand():
    """A thousand loads of one configuration, far more than anybody measures."""
    loads = [Load(concurrency=c) for c in range(1, 1001)]
    return [sweep(variant("add_sub"), 6359, 181.2, loads=loads)]


def doubling(most):
    loads = [Load(concurrency=2**n) for n in range(int(math.log2(most)) + 1)]
    return [sweep(variant("add_sub", n or None), 6359 + n, 180 + n, loads=loads) for n in range(3)]


def slow():
    """Levels of a model that takes minutes, and of one that takes microseconds."""
    model = variant("add_sub")
    one = sweep(model, 0.01, 90_000_000.0)
    other = dataclasses.replace(sweep(variant("add_sub", 1), 4e6, 0.001), test="other")
    return [one, other]


def rates():
    loads = [Load(request_rate=16.0 * 2**n, batch_size=b) for b in (1, 8) for n in range(10)]
    return [sweep(variant("add_sub"), 6359, 181.2, loads=loads)]


RUNS = {
    "1 variant": lambda: run_of(add_sub_sweeps()[:1], BUDGETS),
    "5 variants": lambda: run_of(add_sub_sweeps(), BUDGETS),
    "40 variants": lambda: crowd_run(40),
    "limits in a corner": lambda: run_of(add_sub_sweeps(), CORNER),
    "limits near each other": lambda: run_of(add_sub_sweeps(), NEAR),
    "no budgets": lambda: run_of(add_sub_sweeps(), []),
    "two images": two_image_run,
    "GPU and batches": sample_run,
    "long names": lambda: run_of(named(LONG), BUDGETS),
    "Korean names": lambda: run_of(named(KOREAN), BUDGETS),
    "bad names": lambda: run_of(named(BAD), BUDGETS),
    "open intervals": lambda: run_of(open_ended(), BUDGETS),
    "missing values": lambda: run_of(lacking(), []),
    "one measurement": lambda: run_of(one_level(), BUDGETS),
    "a thousand": lambda: run_of(thousand(), BUDGETS),
    "up to 1024": lambda: run_of(doubling(1024), BUDGETS),
    "slow and fast": lambda: run_of(slow(), []),
    "request rates": lambda: run_of(rates(), BUDGETS),
}


@pytest.fixture
def drawn(monkeypatch):
    """Every figure, with its words and what they take of it in pixels."""
    from matplotlib.text import Text

    figures, words = [], []
    draw_word = Text.draw

    def told(text, renderer, **how):
        words.append(text)
        return draw_word(text, renderer, **how)

    def keep(finish):
        def finished(figure):
            words.clear()
            figure.draw_without_rendering()
            shown = [word for word in words if word.get_text().strip() and word.get_visible()]
            figures.append((figure, [(w.get_text(), w.get_window_extent()) for w in shown]))
            return finish(figure)

        return finished

    all_of = plots.configurations_of
    # Of many variants, what is drawn of each is alike.
    monkeypatch.setattr(
        plots, "configurations_of", lambda run, model: dict(list(all_of(run, model).items())[:2])
    )
    monkeypatch.setattr(Text, "draw", told)
    # What a helper process draws cannot be read here.
    monkeypatch.setattr(plots, "spread", lambda work, jobs: [work(job) for job in jobs])
    monkeypatch.setattr(plots, "png", keep(plots.png))
    monkeypatch.setattr(plots, "svg", keep(plots.svg))
    return figures


@pytest.mark.parametrize("name", RUNS)
def test_no_words_lie_on_others_or_are_cut(name, drawn):
    plots.draw(RUNS[name]())
    wrong = []
    for figure, found in drawn:
        assert found
        whole = figure.bbox.padded(1)
        wrong += [
            ("cut", text)
            for text, box in found
            if not (whole.x0 <= box.x0 and box.x1 <= whole.x1)
            or not (whole.y0 <= box.y0 and box.y1 <= whole.y1)
        ]
        wrong += [
            ("overlap", text, other)
            for (text, box), (other, its_box) in itertools.combinations(found, 2)
            if box.padded(-1).overlaps(its_box.padded(-1))
        ]
        for axes in figure.axes:
            for axis in (axes.xaxis, axes.yaxis):
                low, high = sorted(axis.get_view_interval())
                at = [tick for tick in axis.get_ticklocs() if low <= tick <= high]
                if len(at) < 2 and name != "one measurement":
                    wrong.append(("too few numbers", axis.get_label_text()))
    assert wrong == []
