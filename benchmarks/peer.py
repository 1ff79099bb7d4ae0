"""A sweep of the plugin beside Model Analyzer's automatic search, over the same grid.

Model Analyzer's brute search of ``models/sleeper``, limited to concurrency 32, batch size 16 and
3 instances, chooses the configurations and the load levels; the plugin measures the same ones.
Then each level is measured once more, for long, as the reference that both are held against.
Prints the wall times, reports included, the median error of throughput and of p99 latency, and
the part of the plugin's time that was not spent under load. Exits 1 beyond a limit.
"""

import argparse
import json
import re
import statistics
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from model_analyzer import Profile, profile, timed

from pytest_triton_perf.domain.estimates import estimate
from pytest_triton_perf.domain.levels import Load
from pytest_triton_perf.domain.variants import Variant
from pytest_triton_perf.load.base import Traffic
from pytest_triton_perf.load.perf_analyzer import PerfAnalyzer, find_perf_analyzer
from pytest_triton_perf.load.runner import LocalRunner
from pytest_triton_perf.servers.base import ServerSpec
from pytest_triton_perf.servers.embedded import find_server
from pytest_triton_perf.servers.local import LocalLauncher
from pytest_triton_perf.servers.model_config import apply_overrides, read_config

FASTER = 8.0
"""How many times faster than Model Analyzer the plugin is to be."""

OVERHEAD = 0.20
"""The most of a sweep's wall time that may pass without load."""

MODELS = Path(__file__).parent / "models"
MODEL = "sleeper"

Overrides = Mapping[str, object]
Figures = dict[tuple[str, int], tuple[float, float]]
"""(configuration, concurrency) -> throughput in infer/s, p99 latency in ms."""


@dataclass(frozen=True, kw_only=True)
class Configuration:
    """A configuration that Model Analyzer measured, under the plugin's terms."""

    overrides: Overrides
    loads: Sequence[int]


def grid_of(found: Profile) -> dict[str, Configuration]:
    """What Model Analyzer measured, by its name for the configuration."""
    grid: dict[str, Configuration] = {}
    for name in dict.fromkeys(row["Model Config Path"] for row in found.rows):
        rows = [row for row in found.rows if row["Model Config Path"] == name]
        count = re.match(r"(\d+):", rows[0]["Instance Group"])
        assert count is not None, rows[0]
        overrides = {
            "max_batch_size": int(rows[0]["Max Batch Size"]),
            "instance_group.count": int(count[1]),
            "dynamic_batching": {},
        }
        grid[name] = Configuration(
            overrides={} if name.endswith("_default") else overrides,
            loads=sorted({int(row["Concurrency"]) for row in rows}),
        )
    return grid


def model_analyzer_figures(found: Profile) -> Figures:
    """Model Analyzer's own figures."""
    return {
        (row["Model Config Path"], int(row["Concurrency"])): (
            float(row["Throughput (infer/sec)"]),
            float(row["p99 Latency (ms)"]),
        )
        for row in found.rows
    }


def ours(folder: Path, grid: Mapping[str, Configuration]) -> tuple[float, float, Figures]:
    """The plugin's wall time, its seconds under load, and its figures."""
    tests = ["import pytest"]
    for name, configuration in grid.items():
        tests.append(
            f"@pytest.mark.perf_sweep(model={MODEL!r}, concurrency={configuration.loads!r}, "
            f"variants=[{configuration.overrides!r}])\ndef test_{name}(triton_sweep): pass"
        )
    (folder / "test_grid.py").write_text("\n\n".join(tests) + "\n")
    (folder / "pytest.ini").write_text("[pytest]\n")
    command = [sys.executable, "-m", "pytest", "-q", "--triton-perf", "-p", "no:cacheprovider"]
    options = [f"--triton-model-repository={MODELS}", "--triton-gpus=none"]
    took = timed([*command, *options], folder)
    results = json.loads((folder / "triton-perf-results" / "results.json").read_text("utf-8"))
    levels = results["measurements"]
    figures = {
        (re.findall(r"::test_(\w+)", level["test"])[0], level["concurrency"]): (
            level["throughput"]["value"],
            level["latency_ms"]["p99"]["value"],
        )
        for level in levels
    }
    return took, sum(level["wall_s"] for level in levels), figures


def reference(grid: Mapping[str, Configuration], seconds: float) -> Figures:
    """Every level under ``seconds`` of load, by the plugin's own parts."""
    generator = PerfAnalyzer(LocalRunner(find_perf_analyzer(None)))
    config = read_config(MODELS / MODEL)
    assert config is not None
    figures: Figures = {}
    server = LocalLauncher(find_server(), gpus="none").start(ServerSpec(repository=MODELS))
    try:
        for name, configuration in grid.items():
            changed = apply_overrides(MODEL, config, configuration.overrides)
            server.load(Variant(model=MODEL, name=name, config=changed))
            for concurrency in configuration.loads:
                report = generator.run(
                    Traffic(model=MODEL),
                    Load(concurrency=concurrency),
                    url=server.grpc_url,
                    seconds=seconds,
                    max_seconds=4 * seconds + 10,
                )
                found = estimate([report.segment], (99,)).values
                figures[name, concurrency] = (
                    found["throughput"].value,
                    found["p99_latency_ms"].value,
                )
    finally:
        server.stop()
    return figures


def median_errors(figures: Figures, truth: Figures) -> tuple[float, float]:
    """Median relative error of throughput and of p99 latency over the levels."""
    pairs = [(figures[level], truth[level]) for level in truth]
    throughput, p99 = (
        statistics.median(abs(found[i] - true[i]) / true[i] for found, true in pairs)
        for i in range(2)
    )
    return throughput, p99


def main() -> int:
    """Run both tools and the reference, print the table, and say whether the limits are kept."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--reference-seconds", type=float, default=30.0, help="load of each level's reference"
    )
    seconds = parser.parse_args().reference_seconds
    with tempfile.TemporaryDirectory(prefix="peer-") as name:
        folder = Path(name)
        theirs = profile(
            folder,
            MODELS,
            run_config_search_mode="brute",
            run_config_search_max_concurrency=32,
            run_config_search_max_model_batch_size=16,
            run_config_search_max_instance_count=3,
        )
        grid = grid_of(theirs)
        (folder / "plugin").mkdir()
        took, loaded, figures = ours(folder / "plugin", grid)
    truth = reference(grid, seconds)
    faster, idle = theirs.seconds / took, 1 - loaded / took
    print(f"{len(truth)} levels of {len(grid)} configurations, reference of {seconds:g} s each")
    print(f"{'':<16}{'wall time':>11}{'throughput':>12}{'p99':>8}   (median errors)")
    errors = {}
    for tool, wall, found in (
        ("Model Analyzer", theirs.seconds, model_analyzer_figures(theirs)),
        ("plugin", took, figures),
    ):
        errors[tool] = median_errors(found, truth)
        throughput, p99 = errors[tool]
        print(f"{tool:<16}{wall:>9.1f} s{throughput:>12.1%}{p99:>8.1%}")
    print(f"the plugin is {faster:.1f} times as fast (limit {FASTER:g})")
    print(f"{idle:.0%} of its time was not spent under load (limit {OVERHEAD:.0%})")
    as_good = all(a <= b for a, b in zip(errors["plugin"], errors["Model Analyzer"], strict=True))
    print(f"its errors are {'no larger' if as_good else 'LARGER'} than Model Analyzer's")
    return int(not (faster >= FASTER and idle <= OVERHEAD and as_good))


if __name__ == "__main__":
    sys.exit(main())
