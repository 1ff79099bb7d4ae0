"""How near to the best the searches' choices are on a real server, by load made after them.

Of each model: every level of the space is loaded once (``--seconds``), and the plugin searches the
space once with each seed. Then the best levels of the former, all that were chosen, and the best
level of each configuration that was chosen, are measured anew, in rounds: each is loaded once a
round, in an order that chance decides. Of a choice, each round gives its ratio to the level that is
best by the *other* rounds. So neither luck in the search nor luck in the reference counts, and what
all levels of a round share cancels.

Prints a table with the mean of these ratios and its 95 % interval, of each configuration at its own
best load and at the load that was chosen. Exits 1 where fewer than nine of ten configurations have
98 % of the best throughput.
"""

import argparse
import json
import math
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from model_analyzer import timed
from scipy.special import stdtrit

from pytest_triton_perf.domain.estimates import estimate
from pytest_triton_perf.domain.levels import Load
from pytest_triton_perf.domain.searches import SearchSpec
from pytest_triton_perf.domain.variants import Overrides, Variant, readable_id
from pytest_triton_perf.load.base import Traffic
from pytest_triton_perf.load.binaries import find_perf_analyzer
from pytest_triton_perf.load.perf_analyzer import PerfAnalyzer
from pytest_triton_perf.load.runner import LocalRunner
from pytest_triton_perf.search.space import automatic_loads, candidates
from pytest_triton_perf.servers.base import ServerSpec
from pytest_triton_perf.servers.embedded import find_server
from pytest_triton_perf.servers.local import LocalLauncher
from pytest_triton_perf.servers.model_config import apply_overrides, read_config

AS_GOOD = 0.98
"""The least that a search may choose, of the best throughput."""

ENOUGH = 0.9
"""Of the searches that do."""

EXAMPLES = Path(__file__).parents[1] / "examples"
MODELS = {
    "sleeper": EXAMPLES / "search" / "model_repository",
    "add_sub": EXAMPLES / "quickstart" / "model_repository",
}
BOUNDS = {"concurrency": 32, "model_batch_size": 16, "instance_count": 3}

TOP = 5
"""Levels of the reference that may be the best."""

Level = tuple[str, int]
"""Name of a configuration, concurrency."""


@dataclass(frozen=True, kw_only=True)
class Found:
    """What one search took, and its choice."""

    seconds: float
    levels: int
    overrides: Overrides
    concurrency: int


@dataclass(frozen=True, kw_only=True)
class Score:
    """A throughput as a share of the best, and its 95 % interval."""

    ratio: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.ratio:.1%} [{self.low:.1%}, {self.high:.1%}]"


@dataclass(frozen=True, kw_only=True)
class Scored:
    """A choice: its configuration at its own best load, and at the load that was chosen."""

    configuration: Score
    level: Score

    def __str__(self) -> str:
        return f"{self.configuration!s:<26}{self.level!s:<26}"


SCORED = f"{'configuration':<26}{'at the load':<26}"


class Meter:
    """A server of one model, on which a configuration is loaded afresh for each visit."""

    def __init__(self, model: str, grid: Mapping[str, Overrides], server: Any) -> None:
        self._model = model
        self._grid = grid
        self._server = server
        self._config = read_config(MODELS[model] / model) or {}
        self._generator = PerfAnalyzer(LocalRunner(find_perf_analyzer(None)))
        self._visits = 0

    def visit(self, name: str, concurrency: Sequence[int], seconds: float) -> dict[Level, float]:
        """The throughput of a configuration's levels, each under ``seconds`` of load."""
        changed = apply_overrides(self._model, self._config, self._grid[name])
        self._visits += 1
        # Of the same name as before, it would not be loaded anew.
        variant = Variant(model=self._model, name=f"{name}, {self._visits}", config=changed)
        self._server.load(variant)
        figures = {}
        for clients in concurrency:
            report = self._generator.run(
                Traffic(model=self._model),
                Load(concurrency=clients),
                url=self._server.grpc_url,
                seconds=seconds,
                max_seconds=4 * seconds + 10,
            )
            figures[name, clients] = estimate([report.segment], ()).values["throughput"].value
        return figures


@contextmanager
def serving(model: str, grid: Mapping[str, Overrides]) -> Iterator[Meter]:
    """A server to measure a model on."""
    launcher = LocalLauncher(find_server(), gpus="none")
    server = launcher.start(ServerSpec(repository=MODELS[model]))
    try:
        yield Meter(model, grid, server)
    finally:
        server.stop()


def search(folder: Path, model: str, seed: int) -> Found:
    """One search by the plugin, from start to written reports."""
    bounds = ", ".join(f"max_{name}={bound}" for name, bound in BOUNDS.items())
    took, results = run_plugin(
        folder,
        MODELS[model],
        f"@pytest.mark.perf_sweep(model={model!r}, variants='search', concurrency='auto')\n"
        f"@pytest.mark.perf_search({bounds}, seed={seed})\n"
        "def test_search(triton_sweep): pass",
    )
    (found,) = results["searches"]
    best = found["candidates"][0]
    overrides = next(
        level["overrides"]
        for level in results["measurements"]
        if level["variant"] == best["variant"]
    )
    return Found(
        seconds=took,
        levels=found["levels"],
        overrides=overrides,
        concurrency=best["load"]["concurrency"],
    )


def run_plugin(folder: Path, models: Path, tests: str) -> tuple[float, dict[str, Any]]:
    """Wall time of the plugin on some tests, and its results."""
    folder.mkdir(exist_ok=True)
    (folder / "test_grid.py").write_text(f"import pytest\n\n{tests}\n")
    (folder / "pytest.ini").write_text("[pytest]\n")
    command = [sys.executable, "-m", "pytest", "-q", "--triton-perf", "-p", "no:cacheprovider"]
    options = [f"--triton-model-repository={models}", "--triton-gpus=none"]
    took = timed([*command, *options], folder)
    results = json.loads((folder / "triton-perf-results" / "results.json").read_text("utf-8"))
    return took, results


def scores(
    meter: Meter,
    reference: Mapping[Level, float],
    chosen: Sequence[Level],
    *,
    rounds: int,
    seconds: float,
) -> dict[Level, Scored]:
    """What each level that was chosen is worth, by fresh load."""
    best = sorted(reference, key=lambda level: reference[level], reverse=True)
    own = {name: next(level for level in best if level[0] == name) for name, _ in chosen}
    levels = list(dict.fromkeys([*best[:TOP], *chosen, *own.values()]))
    rng = random.Random(0)
    found: list[dict[Level, float]] = []
    for number in range(rounds):
        rng.shuffle(levels)
        found.append({})
        for name, clients in levels:
            found[-1] |= meter.visit(name, [clients], seconds)
        print(f"  round {number + 1} of {rounds}", file=sys.stderr, flush=True)
    return {
        level: Scored(
            configuration=score(found, [other for other in levels if other[0] == level[0]]),
            level=score(found, [level]),
        )
        for level in chosen
    }


def score(rounds: Sequence[Mapping[Level, float]], own: Sequence[Level]) -> Score:
    """The mean ratio of a choice to the best level, and its t-interval.

    Both are the best by the other rounds, of its ``own`` levels and of all. The rounds share much
    of what they take for the best, so that the interval is a little short.
    """
    logs = [{level: math.log(value) for level, value in each.items()} for each in rounds]
    ratios = []
    for number, mine in enumerate(logs):
        others = [each for other, each in enumerate(logs) if other != number]
        in_others = {level: sum(each[level] for each in others) for level in mine}
        chosen, best = (max(of, key=in_others.__getitem__) for of in (own, list(mine)))
        ratios.append(mine[chosen] - mine[best])
    mean, freedom = statistics.fmean(ratios), len(ratios) - 1
    margin = float(stdtrit(freedom, 0.975)) * statistics.stdev(ratios) / math.sqrt(len(ratios))
    ratio, low, high = (math.exp(mean + side * margin) for side in (0, -1, 1))
    return Score(ratio=ratio, low=low, high=high)


def as_good(scored: Sequence[Scored]) -> bool:
    """Whether so many choices are as near to the best as is asked for; tells how many are."""
    at_load = sum(each.level.ratio >= AS_GOOD for each in scored)
    own = [each.configuration for each in scored]
    good = sum(each.ratio >= AS_GOOD for each in own)
    surely = sum(each.low >= AS_GOOD for each in own)
    short = sum(each.high < AS_GOOD for each in own)
    print(
        f"{good} of {len(scored)} configurations have {AS_GOOD:.0%} of the best throughput, "
        f"{at_load} have it at the load that was chosen"
    )
    print(
        f"(by their intervals, {surely} surely have it and {short} surely have not; "
        f"{ENOUGH:.0%} are to have it)",
        flush=True,
    )
    return good >= ENOUGH * len(scored)


def judge(model: str, runs: int, seconds: float, rounds: int, folder: Path) -> bool:
    """Search a model, score the choices, and print them."""
    bounds: dict[str, Any] = {f"max_{name}": bound for name, bound in BOUNDS.items()}
    spec = SearchSpec(**bounds)
    loads = automatic_loads(spec, [Load(concurrency=1)])
    changes = candidates(spec, model, read_config(MODELS[model] / model), loads)
    grid = {readable_id(overrides): overrides for overrides in ({}, *changes)}
    clients = [load.concurrency or 1 for load in loads]
    reference: dict[Level, float] = {}
    with serving(model, grid) as meter:
        for name in grid:
            reference |= meter.visit(name, clients, seconds)
    found = [search(folder / f"{model}-{seed}", model, seed) for seed in range(runs)]
    chosen = [(readable_id(each.overrides), each.concurrency) for each in found]
    with serving(model, grid) as meter:
        scored = scores(meter, reference, chosen, rounds=rounds, seconds=seconds)
    print(f"\n{model}: {len(reference)} levels of {len(grid)} configurations, {rounds} rounds")
    print("of the best throughput:")
    print(f"{'seed':>4}{'wall time':>11}{'levels':>8}  {SCORED}choice")
    for seed, (each, level) in enumerate(zip(found, chosen, strict=True)):
        name, concurrency = level
        told = f"{seed:>4}{each.seconds:>9.1f} s{each.levels:>8}  {scored[level]}"
        print(f"{told}{name} at concurrency {concurrency}")
    print(f"{statistics.median(each.seconds for each in found):.1f} s in the median")
    return as_good([scored[level] for level in chosen])


def main() -> int:
    """Judge the searches of each model, and say whether enough choices are near the best."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", action="append", choices=MODELS)
    parser.add_argument("--runs", type=int, default=10, help="searches of each model")
    parser.add_argument("--rounds", type=int, default=12, help="of fresh load; at least 2")
    parser.add_argument("--seconds", type=float, default=1.5, help="of load in each visit")
    args = parser.parse_args()
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="choices-") as folder:
        kept = [
            judge(model, args.runs, args.seconds, args.rounds, Path(folder))
            for model in args.model or MODELS
        ]
    print(f"\n{(time.monotonic() - started) / 60:.0f} minutes")
    return int(not all(kept))


if __name__ == "__main__":
    sys.exit(main())
