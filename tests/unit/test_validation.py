"""Short forms of ``tox -e validate``: fixed seeds, and room for chance (1 in 1000 a row).

``sleeper.npz`` is what ``tox -e validate-real`` recorded on a real server of a quiet machine.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import binom

from pytest_triton_perf.domain.estimates import estimate
from validation.real import main, replay, spread
from validation.recording import RUNS, SEGMENTS, SERVICES, Block, restore, save
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


RECORDED = Path(__file__).parents[1] / "data" / "sleeper.npz"


@pytest.fixture(scope="module")
def recorded() -> Mapping[str, Sequence[Block]]:
    return restore(RECORDED)


@pytest.mark.parametrize("metric", ["p50_latency_ms", "throughput"])
def test_runs_in_turns_on_a_real_server_are_covered(recorded, metric):
    for name in ("deterministic", "lognormal", "fast"):  # the others: docs/measurement.md
        runs = RUNS * len(recorded[name])
        found = spread(recorded[name], metric, in_turns=True)
        assert found.near >= binom.ppf(0.001, runs, 0.93) / runs, name


@pytest.mark.parametrize("service", ["deterministic", "lognormal", "fast"])
@pytest.mark.parametrize("metric", ["p50_latency_ms", "p99_latency_ms", "throughput"])
def test_a_replayed_verdict_at_the_exact_limit_is_rarely_wrong(recorded, service, metric):
    levels = 30
    found = replay(service, recorded[service]).verdicts(metric, 1.0, levels)
    for side in ("passed", "failed"):
        assert share(found, side) <= binom.ppf(0.999, levels, 0.02) / levels


def test_a_recording_comes_back_to_the_microsecond(recorded, tmp_path):
    blocks = {"lognormal": recorded["lognormal"][:1]}
    save(tmp_path / "again.npz", blocks)
    ((name, (again,)),) = restore(tmp_path / "again.npz").items()
    (block,) = blocks[name]
    assert len(again.short) == RUNS * SEGMENTS
    for before, after in zip((*block.long, *block.short), (*again.long, *again.short), strict=True):
        assert after.in_flight == SERVICES[name].clients
        assert after.seconds == pytest.approx(before.seconds)
        np.testing.assert_allclose(after.sent_s, before.sent_s, atol=1.5e-6)
        np.testing.assert_allclose(after.answered_s, before.answered_s, atol=1.5e-6)


def test_queueing_bounds_what_the_real_server_does(recorded):
    for name, blocks in recorded.items():
        service = SERVICES[name]
        long = [segment for block in blocks for segment in block.long]
        found = estimate(long, (50, 99)).values
        assert found["throughput"].value < service.arithmetic("throughput")
        assert found["p50_latency_ms"].value > service.arithmetic("p50_latency_ms")


def test_tables_come_from_a_recording_without_a_server(capsys):
    main(["--replay", str(RECORDED), "--levels", "0"])
    assert "| lognormal | " in capsys.readouterr().out
