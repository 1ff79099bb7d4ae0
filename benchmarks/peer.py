"""The plugin beside Model Analyzer on one grid: as a sweep of all of it, and as a search in it.

Model Analyzer's brute search of the model of ``examples/search``, limited to concurrency 32, batch
size 16 and 3 instances, chooses the configurations and the load levels; the plugin measures the
same ones. Then both search: Model Analyzer's quick search, and the plugin's once with each seed.
At last each level is measured once more, for longer, as the reference of the sweeps. Its best
levels and the searches' choices are measured anew, in rounds, as ``choices.py`` does.

Prints the wall times, reports included; of the sweeps, the median error of throughput and of p99
latency, and the part of the plugin's time that was not spent under load; of the searches, how much
of the best throughput of the reference their choices reach. Exits 1 beyond a limit.
"""

import argparse
import re
import statistics
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from choices import (
    BOUNDS,
    MODELS,
    SCORED,
    Found,
    Level,
    as_good,
    run_plugin,
    scores,
    search,
    serving,
)
from model_analyzer import Profile, install, profile

from pytest_triton_perf.domain.estimates import estimate
from pytest_triton_perf.domain.levels import Load
from pytest_triton_perf.domain.variants import Variant
from pytest_triton_perf.load.base import Traffic
from pytest_triton_perf.load.binaries import find_perf_analyzer
from pytest_triton_perf.load.perf_analyzer import PerfAnalyzer
from pytest_triton_perf.load.runner import LocalRunner
from pytest_triton_perf.servers.base import ServerSpec
from pytest_triton_perf.servers.embedded import find_server
from pytest_triton_perf.servers.local import LocalLauncher
from pytest_triton_perf.servers.model_config import apply_overrides, read_config

FASTER = 8.0
"""How many times faster than Model Analyzer's brute search the plugin's sweep is to be."""

OVERHEAD = 0.20
"""The most of a sweep's wall time that may pass without load."""

SEARCH_OF_BRUTE, SEARCH_OF_QUICK = 20.0, 6.0
"""How many times faster than Model Analyzer's searches the plugin's is to be."""

MODEL = "sleeper"

Figures = dict[Level, tuple[float, float]]
"""Throughput in infer/s and p99 latency in ms."""


@dataclass(frozen=True, kw_only=True)
class Configuration:
    """A configuration that Model Analyzer measured, under the plugin's terms."""

    overrides: Mapping[str, Any]
    loads: Sequence[int]


def grid_of(found: Profile) -> dict[str, Configuration]:
    """What Model Analyzer measured, by its name for the configuration."""
    grid: dict[str, Configuration] = {}
    for name in dict.fromkeys(row["Model Config Path"] for row in found.rows):
        rows = [row for row in found.rows if row["Model Config Path"] == name]
        grid[name] = Configuration(
            overrides=overrides_of(rows[0]),
            loads=sorted({int(row["Concurrency"]) for row in rows}),
        )
    return grid


def overrides_of(row: Mapping[str, str]) -> Mapping[str, Any]:
    """What a configuration of Model Analyzer changes."""
    if row["Model Config Path"].endswith("_default"):
        return {}
    count = re.match(r"(\d+):", row["Instance Group"])
    assert count is not None, row
    return {
        "max_batch_size": int(row["Max Batch Size"]),
        "dynamic_batching": {},
        "instance_group.count": int(count[1]),
    }


def figures_of(found: Profile) -> Figures:
    """Model Analyzer's own figures."""
    return {
        (row["Model Config Path"], int(row["Concurrency"])): (
            float(row["Throughput (infer/sec)"]),
            float(row["p99 Latency (ms)"]),
        )
        for row in found.rows
    }


def sweep(folder: Path, grid: Mapping[str, Configuration]) -> tuple[float, float, Figures]:
    """The plugin's wall time for the grid, its seconds under load, and its figures."""
    tests = [
        f"@pytest.mark.perf_sweep(model={MODEL!r}, concurrency={configuration.loads!r}, "
        f"variants=[{configuration.overrides!r}])\ndef test_{name}(triton_sweep): pass"
        for name, configuration in grid.items()
    ]
    took, results = run_plugin(folder, MODELS[MODEL], "\n\n".join(tests))
    levels = results["measurements"]
    figures = {
        (re.findall(r"::test_(\w+)", level["test"])[0], level["concurrency"]): (
            level["throughput"]["value"],
            level["latency_ms"]["p99"]["value"],
        )
        for level in levels
    }
    return took, sum(level["wall_s"] for level in levels), figures


def named(grid: Mapping[str, Configuration], overrides: Mapping[str, Any]) -> str:
    """The name of a configuration of the grid."""
    return next(name for name, known in grid.items() if known.overrides == overrides)


def reference(grid: Mapping[str, Configuration], seconds: float) -> Figures:
    """Every level under ``seconds`` of load, by the plugin's own parts."""
    generator = PerfAnalyzer(LocalRunner(find_perf_analyzer(None)))
    config = read_config(MODELS[MODEL] / MODEL)
    assert config is not None
    figures: Figures = {}
    server = LocalLauncher(find_server(), gpus="none").start(ServerSpec(repository=MODELS[MODEL]))
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
    """Run both tools and the reference, print the tables, and say whether the limits are kept."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--reference-seconds", type=float, default=30.0, help="load of each level's reference"
    )
    parser.add_argument("--seeds", type=int, default=10, help="searches of the plugin")
    parser.add_argument("--rounds", type=int, default=12, help="of fresh load for the choices")
    args = parser.parse_args()
    bounds = {f"run_config_search_max_{name}": bound for name, bound in BOUNDS.items()}
    with tempfile.TemporaryDirectory(prefix="peer-") as folder_name:
        folder = Path(folder_name)
        python = install(folder)
        brute, quick = (
            profile(folder / mode, MODELS[MODEL], python, run_config_search_mode=mode, **bounds)
            for mode in ("brute", "quick")
        )
        grid = grid_of(brute)
        took, loaded, figures = sweep(folder / "sweep", grid)
        searches = [search(folder / f"search-{seed}", MODEL, seed) for seed in range(args.seeds)]
    truth = reference(grid, args.reference_seconds)
    kept = [
        _tell_sweeps(brute, took, loaded, figures, truth, args.reference_seconds),
        _tell_searches(brute, quick, searches, grid, truth, args.rounds),
    ]
    return int(not all(kept))


def _tell_sweeps(
    brute: Profile, took: float, loaded: float, figures: Figures, truth: Figures, seconds: float
) -> bool:
    faster, idle = brute.seconds / took, 1 - loaded / took
    print(f"{len(truth)} levels of {brute.configurations} configurations, {seconds:g} s reference")
    print(f"{'':<24}{'wall time':>11}{'throughput':>12}{'p99':>8}   (median errors)")
    errors = {}
    for tool, wall, found in (
        ("Model Analyzer, brute", brute.seconds, figures_of(brute)),
        ("plugin, sweep", took, figures),
    ):
        errors[tool] = median_errors(found, truth)
        throughput, p99 = errors[tool]
        print(f"{tool:<24}{wall:>9.1f} s{throughput:>12.1%}{p99:>8.1%}")
    print(f"the plugin is {faster:.1f} times as fast (limit {FASTER:g})")
    print(f"{idle:.0%} of its time was not spent under load (limit {OVERHEAD:.0%})")
    theirs, ours = errors.values()
    as_good = all(a <= b for a, b in zip(ours, theirs, strict=True))
    print(
        f"its errors are {'no larger' if as_good else 'LARGER'} than Model Analyzer's", flush=True
    )
    return faster >= FASTER and idle <= OVERHEAD and as_good


def _tell_searches(
    brute: Profile,
    quick: Profile,
    searches: Sequence[Found],
    grid: Mapping[str, Configuration],
    truth: Figures,
    rounds: int,
) -> bool:
    best = max(quick.rows, key=lambda row: float(row["Throughput (infer/sec)"]))
    theirs: Level = (named(grid, overrides_of(best)), int(best["Concurrency"]))
    ours: list[Level] = [(named(grid, found.overrides), found.concurrency) for found in searches]
    overrides = {name: configuration.overrides for name, configuration in grid.items()}
    reference = {level: throughput for level, (throughput, _) in truth.items()}
    with serving(MODEL, overrides) as meter:
        scored = scores(meter, reference, [theirs, *ours], rounds=rounds, seconds=1.5)
    print(f"\n{'of the best throughput':<24}{'wall time':>11}{'levels':>8}  {SCORED}")
    rows = [("Model Analyzer, quick", quick.seconds, len(quick.rows), scored[theirs])]
    rows += [
        (f"plugin, seed {seed}", found.seconds, found.levels, scored[level])
        for seed, (found, level) in enumerate(zip(searches, ours, strict=True))
    ]
    for tool, wall, levels, score in rows:
        print(f"{tool:<24}{wall:>9.1f} s{levels:>8}  {score}")
    wall = statistics.median(found.seconds for found in searches)
    of_brute, of_quick = brute.seconds / wall, quick.seconds / wall
    print(f"the plugin is {of_brute:.1f} times as fast as brute (limit {SEARCH_OF_BRUTE:g})")
    print(f"and {of_quick:.1f} times as fast as quick (limit {SEARCH_OF_QUICK:g}), in the median")
    good = as_good([scored[level] for level in ours])
    return of_brute >= SEARCH_OF_BRUTE and of_quick >= SEARCH_OF_QUICK and good


if __name__ == "__main__":
    sys.exit(main())
