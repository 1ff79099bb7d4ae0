import pytest
from builders import LOADS, measurement, ramp

from pytest_triton_perf.domain.levels import Load
from pytest_triton_perf.domain.sweeps import Figure, Sweep
from pytest_triton_perf.domain.variants import Variant
from pytest_triton_perf.errors import SweepError


def test_levels_come_by_load_whatever_the_order_of_measuring():
    assert [level.load for level in ramp().levels] == list(LOADS)


def test_a_figure_is_a_float_that_knows_its_level():
    figure = ramp().at(concurrency=4).p99_latency_ms
    assert isinstance(figure, Figure)
    assert figure == 6.0
    assert figure + 1 == 7.0
    assert figure.ci is None
    assert figure.level.load == Load(concurrency=4)
    assert str(figure) == "6.00 ms"


def test_a_metric_that_was_not_measured_is_none_with_its_reason():
    level = ramp().levels[0]
    assert level.gpu_memory_mb is None
    assert level.why_missing("gpu_memory_mb") == "no GPU"
    assert level.queue_ms is None
    assert level.why_missing("queue_ms") == "not among the metrics of this sweep"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("p99_latency", r"unknown metric 'p99_latency' .did you mean 'p99_latency_ms'"),
        ("p75_latency_ms", r"p75_latency_ms was not measured: this sweep has p99_latency_ms; name"),
        ("p100_latency_ms", "unknown metric"),
    ],
)
def test_a_metric_that_does_not_exist_says_which_do(name, message):
    with pytest.raises(AttributeError, match=message):
        getattr(ramp().levels[0], name)


def test_at_names_what_was_measured():
    with pytest.raises(SweepError, match=r"no level at\(concurrency=3\); measured: concurrency 1;"):
        ramp().at(concurrency=3)
    with pytest.raises(SweepError, match=r"no 'concurency' .did you mean 'concurrency'"):
        ramp().at(concurency=1)


def test_at_asks_for_the_batch_size_where_several_levels_match():
    loads = [Load(concurrency=1, batch_size=b) for b in (1, 4)]
    rows = [measurement(load, throughput=1.0) for load in loads]
    sweep = Sweep(test="t", variant=Variant(model="m", name="m_config_0"), measurements=rows)
    with pytest.raises(SweepError, match="several levels match"):
        sweep.at(concurrency=1)
    assert sweep.at(concurrency=1, batch_size=4).batch_size == 4


def test_best_keeps_the_limits():
    sweep = ramp()
    assert sweep.best("throughput").concurrency == 8
    assert sweep.best("throughput", p99_latency_ms=6).concurrency == 4
    assert sweep.best("p99_latency_ms", min_throughput=2000).concurrency == 2


def test_best_shows_the_ramp_when_no_level_is_within_the_limits():
    with pytest.raises(SweepError) as caught:
        ramp().best("throughput", p99_latency_ms=2.5)
    assert "no load level of m_config_0 has p99_latency_ms <= 2.5 ms" in str(caught.value)
    assert "concurrency 8" in str(caught.value)


def test_best_does_not_take_a_limit_on_an_unmeasured_metric_as_kept():
    with pytest.raises(SweepError, match="no load level"):
        ramp().best("throughput", max_gpu_memory_mb=4000)


def test_best_names_a_misspelt_limit():
    with pytest.raises(SweepError, match=r"unknown budget 'p99_latncy_ms' .did you mean"):
        ramp().best("throughput", p99_latncy_ms=3)


def test_to_frame_has_one_row_per_level():
    frame = ramp().to_frame()
    assert list(frame["concurrency"]) == [1, 2, 4, 8]
    assert list(frame["p99_latency_ms"]) == [3.0, 4.0, 6.0, 10.0]
    assert frame["gpu_memory_mb"].isna().all()
