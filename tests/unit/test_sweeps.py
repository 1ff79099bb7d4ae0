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


def test_the_highest_load_keeps_the_limits():
    assert ramp().highest_load(p99_latency_ms=6).concurrency == 4
    assert ramp().highest_load(p99_latency_ms=7, min_throughput=1500).concurrency == 4


def test_the_highest_load_of_request_rates_and_of_several_batch_sizes():
    variant = Variant(model="m", name="m_config_0")
    loads = [Load(request_rate=rate) for rate in (50, 100, 200)]
    rows = [measurement(load, p99_latency_ms=load.value / 10) for load in loads]
    sweep = Sweep(test="t", variant=variant, measurements=rows)
    assert sweep.highest_load(p99_latency_ms=15).request_rate == 100
    loads = [Load(concurrency=c, batch_size=b) for c in (1, 2) for b in (1, 4)]
    rows = [measurement(load, p99_latency_ms=1.0) for load in loads]
    sweep = Sweep(test="t", variant=variant, measurements=rows)
    assert sweep.highest_load(p99_latency_ms=15).load == Load(concurrency=2, batch_size=4)


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        ({}, r"highest_load\(\): name a limit, for example p99_latency_ms=25"),
        ({"p99_latncy_ms": 3}, r"highest_load\(\): unknown budget 'p99_latncy_ms' .did you mean"),
        ({"p99_latency_ms": 0}, r"highest_load\(\): p99_latency_ms: the limit must be a positive "),
        (
            {"p99_latency_ms": 2, "min_throughput": 1},
            r"(?s)no load level of m_config_0 has p99_latency_ms <= 2 ms and throughput >= 1 "
            r"infer/s\n.*concurrency 8",
        ),
    ],
)
def test_the_highest_load_says_why_there_is_none(limits, message):
    with pytest.raises(SweepError, match=message):
        ramp().highest_load(**limits)


@pytest.mark.parametrize(
    ("ask", "narrowed"),
    [
        (lambda sweep: sweep.highest_load(p99_latency_ms=6), ["p99_latency_ms"]),
        (lambda sweep: sweep.best("throughput", p99_latency_ms=6), ["p99_latency_ms"]),
        (lambda sweep: sweep.best("p99_latency_ms", min_throughput=1500), ["min_throughput"]),
        (
            lambda sweep: sweep.best("throughput", p99_latency_ms=6, min_throughput=1),
            ["p99_latency_ms"],
        ),
        (lambda sweep: sweep.best("throughput"), None),
        (lambda sweep: sweep.best("p99_latency_ms", avg_latency_ms=3), None),
        (lambda sweep: sweep.highest_load(min_throughput=1), None),
    ],
)
def test_a_sweep_is_asked_to_narrow_the_limits_that_bound_the_answer(ask, narrowed):
    asked = []
    measured = ramp()
    more = measurement(Load(concurrency=5), throughput=9000.0, p99_latency_ms=5.0)
    rows = [*measured.measurements]

    def narrow(limits):
        asked.extend(limit.name for limit in limits)
        rows.append(more)

    sweep = Sweep(test="t", variant=measured.variant, measurements=rows, narrow=narrow)
    found = ask(sweep)
    assert asked == (narrowed or [])
    if narrowed == ["p99_latency_ms"]:
        assert found.concurrency == 5
        assert sweep.at(concurrency=5).throughput == 9000


def test_memory_is_not_narrowed():
    rows = [measurement(Load(concurrency=1), cpu_memory_mb=10.0)]
    sweep = Sweep(
        test="t", variant=Variant(model="m", name="m"), measurements=rows, narrow=pytest.fail
    )
    assert sweep.highest_load(max_cpu_memory_mb=20).concurrency == 1
