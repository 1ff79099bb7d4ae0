import numpy as np
import pytest
from loops import closed_loop, lognormal, windows

from pytest_triton_perf.domain.estimates import estimate
from pytest_triton_perf.domain.pooling import pool, spreads
from pytest_triton_perf.domain.segments import Segment, Window


def test_twenty_blocks_are_shared_out_by_requests():
    sample = pool([closed_loop(lognormal(1, 300)), closed_loop(lognormal(2, 100))])
    assert np.bincount(sample.segment).tolist() == [15, 5]
    assert sample.requests.sum() == sample.latency_s.size == 400
    assert sample.latency_sum_s.sum() == pytest.approx(sample.latency_s.sum())
    assert sample.seconds[:15] == pytest.approx([sample.seconds[0]] * 15)


def test_few_requests_make_fewer_blocks():
    assert pool([closed_loop(lognormal(1, 34))]).segment.size == 6
    assert pool([closed_loop(lognormal(1, 4))]).segment.size == 1


def test_ten_segments_are_blocks():
    sample = pool([closed_loop(lognormal(seed, 200)) for seed in range(10)])
    assert sample.segment.tolist() == list(range(10))


def test_windows_are_blocks_and_ten_segments_of_them_too():
    sample = pool([windows(1.0, 2.0), windows(3.0)])
    assert sample.segment.tolist() == [0, 0, 1]
    assert sample.latency_sum_s == pytest.approx([0.1, 0.2, 0.3])
    many = pool([windows(1.0, 2.0)] * 10)
    assert many.requests.tolist() == [200] * 10
    assert many.seconds.tolist() == [2] * 10


def run_of(*parts):
    """A window of three seconds with 600 requests, and parts of it."""
    window = Window(requests=600, seconds=3.0, avg_latency_ms=5.0, parts=parts)
    return Segment(started=0.0, ended=3.0, batch_size=2, windows=(window,))


def test_the_parts_of_a_window_are_blocks_that_add_up_to_it():
    sample = pool([run_of((150.2, 4.0), (199.8, 5.0), (249.6, 5.6))])
    assert sample.seconds.tolist() == [1.0] * 3
    assert sample.requests.sum() == pytest.approx(600)
    assert sample.inferences == pytest.approx(2 * sample.requests)
    assert sample.latency_sum_s / sample.requests == pytest.approx([0.004, 0.005, 0.0056])
    low, high = estimate([run_of((150, 4.0), (200, 5.0), (250, 5.6))], ()).values["throughput"].ci
    # Student's t of two degrees of freedom, 4.30, times the spread of 300, 400 and 500.
    assert (
        high / 400 == pytest.approx(400 / low) == pytest.approx(np.exp(4.303 / 4 / 3**0.5), 0.001)
    )


@pytest.mark.parametrize("parts", [(), ((200, 5.0), (200, 5.0), (99, 5.0)), ((0, 0.0),) * 3])
def test_parts_with_few_requests_are_no_blocks(parts):
    sample = pool([run_of(*parts)])
    assert (sample.seconds.tolist(), sample.requests.tolist()) == ([3.0], [600.0])
    assert estimate([run_of(*parts)], ()).values["throughput"].ci == (None, None)


def test_requests_and_windows_are_not_mixed():
    with pytest.raises(ValueError, match="cannot be pooled"):
        pool([windows(1.0), closed_loop([0.1] * 3)])


def test_segments_that_cannot_be_used_are_left_out():
    assert pool([]).requests.size == 0
    assert pool([windows()]).requests.size == 0


@pytest.mark.parametrize("seed", range(5))
def test_batch_means_of_independent_blocks_have_the_variance_of_the_mean(seed):
    values = np.random.default_rng(seed).standard_normal(20)
    (spread, *_) = spreads(values, np.ones(20), np.zeros(20, dtype=int))
    assert spread.variance == pytest.approx(values.var(ddof=1) / 20)
    assert spread.freedom == 19
    # Student's t of 19 degrees of freedom, 97.5 % (Fisher and Yates, table III): 2.093.
    assert spread.half_width(0.025) == pytest.approx(2.093 * spread.variance**0.5, rel=2e-4)


def test_blocks_of_different_size_count_by_their_size():
    """A ratio estimate: blocks that all have the same ratio have no variance."""
    below = np.arange(1.0, 21.0)
    (spread,) = spreads(3 * below, below, np.zeros(20, dtype=int))
    assert spread.variance == pytest.approx(0, abs=1e-20)


def test_blocks_that_hang_together_are_also_taken_in_pairs():
    walk = np.cumsum(np.random.default_rng(1).standard_normal(20))
    single, paired = spreads(walk, np.ones(20), np.zeros(20, dtype=int))
    assert (single.freedom, paired.freedom) == (19, 9)
    assert paired.variance > single.variance


def test_segments_that_differ_are_taken_as_a_whole():
    noise = np.random.default_rng(2).standard_normal(20)
    segment = np.repeat(np.arange(4), 5)
    apart = noise + 10 * np.array([1, -1, -1, 1]).repeat(5)
    found = spreads(apart, np.ones(20), segment)
    assert found[-1].freedom == 3
    sums = apart.reshape(4, 5).sum(axis=1)
    assert found[-1].variance == pytest.approx(sums.var(ddof=1) * 4 / 20**2)
    alike = np.tile(np.random.default_rng(2).standard_normal(5), 4)
    assert len(spreads(alike, np.ones(20), segment)) == 1


def test_one_block_or_nothing_below_has_no_spread():
    assert spreads(np.ones(1), np.ones(1), np.zeros(1, dtype=int)) == []
    assert spreads(np.zeros(3), np.zeros(3), np.zeros(3, dtype=int)) == []
