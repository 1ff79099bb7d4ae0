"""The short form of ``tox -e validate-real``."""

import subprocess
import sys
from pathlib import Path

from scipy.stats import binom

from validation.real import spread
from validation.recording import RUNS, restore


def test_the_short_form_prints_its_tables_and_keeps_what_it_recorded(tmp_path):
    kept = tmp_path / "kept.npz"
    command = [sys.executable, "-m", "validation.real", "--quick", "--keep", str(kept)]
    done = subprocess.run(
        command,
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )
    assert done.stdout.count("\n| lognormal |") == 1 + 3 * 3
    ((name, blocks),) = restore(kept).items()
    assert (name, len(blocks)) == ("lognormal", 1)
    for metric in ("p50_latency_ms", "throughput"):
        found = spread(blocks, metric, in_turns=True)
        assert found.near >= binom.ppf(0.001, RUNS, 0.93) / RUNS, metric
