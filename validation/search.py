"""How good the search is, on simulated servers whose best configuration is known.

Prints the table of docs/search.md (``tox -e validate-search``; some minutes of one core, or less
with ``--seeds 3``). Seeds are fixed: the same versions print the same figures.

The space is the automatic one: the default configuration (no dynamic batching), and maximum
batch sizes from 1 to 128 with 1 to 5 instances, each at concurrency 1 to 1024: 451 levels.
"""

import argparse
import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from pytest_triton_perf.domain.levels import Load
from pytest_triton_perf.domain.searches import SearchMode, SearchSpec
from pytest_triton_perf.search.base import Grid, Guess, Outcome, Spot
from pytest_triton_perf.search.engine import Search
from pytest_triton_perf.search.space import automatic_loads, coordinates, load_coordinates

NOISE = 0.02
"""Standard deviation of a level's first throughput or latency, as a share of it."""

_MEMORY_NOISE = 0.003


@dataclass(frozen=True)
class Config:
    """What of a configuration a simulated server goes by."""

    batch: int
    instances: int
    dynamic: bool = True


DEFAULT = Config(batch=8, instances=1, dynamic=False)
CONFIGS = [
    DEFAULT,
    *(Config(2**i, instances) for i, instances in itertools.product(range(8), range(1, 6))),
]
LOADS = automatic_loads(SearchSpec(), [Load(concurrency=1)])
LEVELS = len(CONFIGS) * len(LOADS)


@dataclass(frozen=True, kw_only=True)
class Server:
    """A server whose throughput and latency follow from its configuration and the load.

    An execution takes ``fixed_s`` and ``item_s`` for each request in it. Every further busy
    instance makes all of them slower by the share ``contention``, and more than ``cores`` do not
    run at once. ``limits`` are of the search; with more than ``most`` instances the model dies.
    """

    fixed_s: float
    item_s: float
    contention: float = 0.0
    cores: int = 99
    most: int = 99
    limits: Mapping[str, float] = field(default_factory=dict)

    def truth(self, config: Config, concurrency: int) -> dict[str, float]:
        """The long-run figures of a level."""
        busy = min(config.instances, concurrency)
        size = max(1.0, min(config.batch if config.dynamic else 1, concurrency / config.instances))
        seconds = self.fixed_s + self.item_s * size
        seconds *= (1 + self.contention * (busy - 1)) * max(1.0, busy / self.cores)
        throughput = busy * size / seconds
        return {
            "throughput": throughput,
            "p99_latency_ms": 1250 * concurrency / throughput,
            "memory_mb": 500 + config.instances * (200 + 12 * config.batch),
        }

    def best(self, config: Config) -> float:
        """The most throughput of a configuration within the limits; 0 where it has none."""
        levels = [self.truth(config, load.concurrency or 1) for load in LOADS]
        within = [level["throughput"] for level in levels if self._is_within(level)]
        return max(within, default=0.0) if config.instances <= self.most else 0.0

    def _is_within(self, level: Mapping[str, float]) -> bool:
        return all(level[name] <= limit for name, limit in self.limits.items())


SERVERS: Mapping[str, Server] = {
    "instances help": Server(fixed_s=0.004, item_s=0.0005),
    "batches help most": Server(fixed_s=0.010, item_s=0.00002),
    "instances get in each other's way": Server(fixed_s=0.004, item_s=0.0005, contention=0.35),
    "one instance is best": Server(fixed_s=0.004, item_s=0.002, contention=1.2),
    "two cores": Server(fixed_s=0.004, item_s=0.001, cores=2),
    "memory excludes the best": Server(fixed_s=0.004, item_s=0.0005, limits={"memory_mb": 3000}),
    "little memory": Server(fixed_s=0.008, item_s=0.0002, limits={"memory_mb": 1800}),
    "p99 within 25 ms": Server(fixed_s=0.004, item_s=0.0005, limits={"p99_latency_ms": 25}),
    "p99 and memory": Server(
        fixed_s=0.004,
        item_s=0.0005,
        contention=0.1,
        limits={"p99_latency_ms": 40, "memory_mb": 2500},
    ),
    "dies with 4 instances": Server(fixed_s=0.004, item_s=0.0005, most=3),
}


@dataclass(frozen=True, kw_only=True)
class Result:
    """How a search ended: what it chose, as a share of the best, and what that took."""

    quality: float
    levels: int
    loads: int


def search(server: Server, mode: SearchMode, seed: int) -> Result:
    """One search of the automatic space.

    ``levels`` counts every level that was measured, again for each round of the finals, and
    ``loads`` how often a configuration was loaded.
    """
    rng = np.random.default_rng(seed)
    engine = Search(_grid(server), mode=mode, seed=seed)
    sums: dict[Spot, dict[str, float]] = {}
    weights: dict[Spot, float] = {}
    levels = loads = 0
    loaded = -1
    while (turn := engine.ask()) is not None:
        spot, share = turn
        loads += spot.candidate != loaded
        loaded = spot.candidate
        config = CONFIGS[spot.candidate]
        if config.instances > server.most:
            engine.lost(spot.candidate)
            continue
        levels += 1
        truth = server.truth(config, LOADS[spot.load].concurrency or 1)
        total = sums.setdefault(spot, dict.fromkeys(truth, 0.0))
        weights[spot] = weights.get(spot, 0.0) + share
        for name, value in truth.items():
            sigma = _MEMORY_NOISE if name == "memory_mb" else NOISE / math.sqrt(share)
            total[name] += share * (math.log(value) + rng.normal(0, sigma))
        engine.tell(spot, _outcome(server, total, weights[spot]))
    chosen = engine.found.ranking()[0].candidate
    best = max(map(server.best, CONFIGS))
    return Result(quality=server.best(CONFIGS[chosen]) / best, levels=levels, loads=loads)


def _grid(server: Server) -> Grid:
    found = [{"max_batch_size": c.batch, "instance_group.count": c.instances} for c in CONFIGS]
    return Grid(
        candidates=coordinates(found[1:], found[0]),
        loads=load_coordinates(LOADS),
        constraints=[() for _ in server.limits],
        monotone=True,
    )


def _outcome(server: Server, total: Mapping[str, float], weight: float) -> Outcome:
    error = math.hypot(0.01, NOISE / math.sqrt(weight))
    return Outcome(
        score=Guess(total["throughput"] / weight, error),
        slacks=tuple(
            Guess(math.log(limit) - total[name] / weight, 0.01 if name == "memory_mb" else error)
            for name, limit in server.limits.items()
        ),
    )


def table(mode: SearchMode, seeds: Sequence[int]) -> list[list[str]]:
    """A row per server: how often the choice was within 2 % of the best, and what it took."""
    rows = []
    for name, server in SERVERS.items():
        results = [search(server, mode, seed) for seed in seeds]
        good = sum(result.quality >= 0.98 for result in results)
        levels = [result.levels for result in results]
        rows.append(
            [
                name,
                f"{good} of {len(results)}",
                f"{min(result.quality for result in results):.1%}",
                f"{np.mean(levels):.0f}",
                f"{max(levels) / LEVELS:.1%}",
                f"{np.mean([result.loads for result in results]):.0f}",
            ]
        )
    return rows


def main() -> None:
    """Print the table of each mode."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=40)
    parser.add_argument("--mode", action="append", choices=("quick", "optuna", "brute"))
    options = parser.parse_args()
    head = ("server", "within 2 %", "worst", "levels", f"at most, of {LEVELS}", "loads")
    for mode in options.mode or ("quick", "optuna"):
        print(f"\n{mode}:\n\n| {' | '.join(head)} |\n|{' --- |' * len(head)}")
        for row in table(mode, range(options.seeds)):
            print(f"| {' | '.join(row)} |", flush=True)


if __name__ == "__main__":
    main()
