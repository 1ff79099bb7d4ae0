import dataclasses

import pytest
from sample_run import GPU, NO_GPU, add_sub_sweeps, measurement, sample_run, variant

from pytest_triton_perf.domain.budgets import Budget
from pytest_triton_perf.domain.levels import Load
from pytest_triton_perf.domain.metrics import METRICS
from pytest_triton_perf.domain.sweeps import Sweep
from pytest_triton_perf.domain.timelines import Curve
from pytest_triton_perf.reports import timeline

CPU_MEMORY, GPU_MEMORY = METRICS["cpu_memory_mb"], METRICS["gpu_memory_mb"]


def drawn(*args):
    figure = timeline.draw_memory("add_sub_config_default", *args)
    figure.draw_without_rendering()  # which makes the numbers at the axes
    return figure


def words(figure):
    from matplotlib.text import Text

    return [t.get_text() for t in figure.findobj(Text) if t.get_text()]


def curves(figure):
    """(times, MB) of the lines that are no budgets."""
    lines = [line for line in figure.axes[0].lines if len(line.get_xdata()) > 2]
    return [(list(line.get_xdata()), list(line.get_ydata())) for line in lines]


def budget(name, limit, at=None):
    return Budget.from_keyword(name, limit, at)


def test_the_phases_are_named_and_the_budget_is_a_line():
    one = add_sub_sweeps()[0]
    budgets = [budget("max_cpu_memory_mb", 200), budget("p99_latency_ms", 5)]
    figure = drawn([one], CPU_MEMORY, budgets)
    assert {
        "add_sub_config_default: CPU memory over time",
        "seconds of loading and measuring",
        "CPU memory (MB)",
        "load", "warm-up", "concurrency 1", "concurrency 16",
        "≤ 200 MB",
        "budget: CPU memory ≤ 200 MB at every load",
    } <= set(words(figure))  # fmt: skip
    assert not any("latency" in text for text in words(figure))
    ((at, mb),) = curves(figure)
    assert max(mb) == max(one.memory.curves["cpu_memory_mb"].mb)
    bands = [patch.get_x() for patch in figure.axes[0].patches]
    assert bands == [phase.start_s for phase in one.memory.phases]
    assert figure.axes[0].get_xlim()[1] == one.memory.phases[-1].end_s > at[-1]


def test_one_gpu_is_one_curve_and_two_have_their_parts():
    one = sample_run().sweeps[5]
    figure = drawn([one], GPU_MEMORY, [])
    assert len(curves(figure)) == 1
    assert GPU not in words(figure)
    half = Curve(at_s=[0.0, 1.0, 2.0], mb=[100.0, 200.0, 300.0])
    memory = dataclasses.replace(one.memory, gpus={"GPU-a": half, "GPU-b": half})
    figure = drawn([dataclasses.replace(one, memory=memory)], GPU_MEMORY, [])
    assert len(curves(figure)) == 3
    assert {"GPU memory, all GPUs", "GPU-a", "GPU-b"} <= set(words(figure))


def test_the_tests_of_a_variant_stand_side_by_side():
    one = add_sub_sweeps()[0]
    figure = drawn([one, dataclasses.replace(one, test="t.py::again")], CPU_MEMORY, [])
    (first, _), (second, _) = curves(figure)
    end = one.memory.phases[-1].end_s
    assert second[0] == pytest.approx(end + first[0])
    assert figure.axes[0].get_xlim()[1] == 2 * end
    assert words(figure).count("load") == 2
    assert words(figure).count("CPU memory") == 1  # in the legend


def test_no_memory_at_all_can_be_drawn():
    one = sample_run().sweeps[5]
    memory = dataclasses.replace(
        one.memory, curves={"gpu_memory_mb": Curve(at_s=[0.0, 1.0, 2.0], mb=[0.0, 0.0, 0.0])}
    )
    figure = drawn([dataclasses.replace(one, memory=memory)], GPU_MEMORY, [])
    assert len(curves(figure)) == 1


def test_what_was_not_measured_is_said_in_the_picture():
    level = measurement(Load(concurrency=1), 100, 1)
    level = dataclasses.replace(level, values={}, missing={"cpu_memory_mb": NO_GPU})
    for memory in (None, dataclasses.replace(add_sub_sweeps()[0].memory, curves={})):
        sweep = Sweep(test="t", variant=variant("m"), measurements=[level], memory=memory)
        assert f"CPU memory was not measured: {NO_GPU}" in words(drawn([sweep], CPU_MEMORY, []))


def test_a_sweep_without_a_timeline_says_so():
    sweep = dataclasses.replace(add_sub_sweeps()[0], memory=None)
    assert "no timeline was recorded" in words(drawn([sweep], CPU_MEMORY, []))
