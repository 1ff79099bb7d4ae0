"""Short forms of ``tox -e validate``: fixed seeds, and room for chance (1 in 1000 a row)."""

import pytest
from scipy.stats import binom

from validation.simulated import (
    AR5,
    BATCHES,
    COVERED,
    DRIFTING,
    INDEPENDENT,
    coverage,
    share,
    verdicts,
)


@pytest.mark.parametrize(
    ("process", "size"),
    [
        (AR5, (1000, 1)),
        (AR5, (2000, 4)),
        (BATCHES, (2000, 1)),
        (BATCHES, (2000, 10)),
        (DRIFTING, (2000, 10)),
    ],
)
def test_an_interval_covers_its_truth(process, size):
    runs = 150
    found = coverage(process.segment, process, size, runs)
    for metric in COVERED:
        assert found[metric].share >= binom.ppf(0.001, runs, 0.93) / runs, metric


@pytest.mark.parametrize("metric", COVERED[1:])
def test_a_verdict_at_the_exact_limit_is_rarely_wrong(metric):
    runs = 40
    found = verdicts(AR5, metric, 1.0, runs)
    for side in ("passed", "failed"):
        assert share(found, side) <= binom.ppf(0.999, runs, 0.01) / runs


@pytest.mark.parametrize("metric", COVERED[1:])
@pytest.mark.parametrize("factor", [1 / 1.5, 1.5])
def test_a_limit_far_away_is_decided_rightly(metric, factor):
    found = verdicts(INDEPENDENT, metric, factor, 20)
    kept = (factor < 1) == (metric == "throughput")
    assert share(found, "passed" if kept else "failed") == 1
