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
from pytest_triton_perf.search.base import Grid, Guess, Outcome
from pytest_triton_perf.search.engine import Search
from pytest_triton_perf.search.scoring import BETWEEN_LOADS
from pytest_triton_perf.search.space import automatic_loads, coordinates, load_coordinates

NOISE = 0.02
"""Standard deviation of a level's throughput or latency, as a share of it."""

_MEMORY_NOISE = 0.003

AS_GOOD = 0.98
"""The least that a choice must have of the best throughput to be within 2 %."""


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

    def quality(self, config: Config, concurrency: int) -> float:
        """The throughput of a level, as a share of the best; 0 where it is outside the limits."""
        level = self.truth(config, concurrency)
        return level["throughput"] / self._highest if self._is_within(level) else 0.0

    def quality_of_all(self, config: Config) -> float:
        """The same of a configuration's best level."""
        return self.best(config) / self._highest

    @property
    def _highest(self) -> float:
        return max(map(self.best, CONFIGS))

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
class Machine:
    """What disturbs a measurement; all but the rates and ``drift_s`` are logarithms of speed.

    Beside the spread of a level's own load, the model is faster or slower for as long as it is
    loaded (normal; its standard deviation is drawn once a search between the two ``loads``), and
    each of its levels is by ``mode`` faster with the chance ``in_mode``. The machine drifts with
    the standard deviation ``drift``, of which a share 1/e is left after ``drift_s``. A share
    ``disturbed`` of the measurements is slower by ``disturbance`` (exponential, its mean).

    None of it favours a level, so that the long-run best stays what it is without it.
    """

    loads: tuple[float, float] = (0.0, 0.0)
    mode: float = 0.0
    in_mode: float = 0.0
    drift: float = 0.0
    drift_s: float = 1.0
    disturbed: float = 0.0
    disturbance: float = 0.0


MACHINES: Mapping[str, Machine] = {
    "calm": Machine(),
    "shared": Machine(
        loads=(0.01, 0.05),
        mode=math.log(1.1),
        in_mode=0.2,
        drift=0.03,
        drift_s=120.0,
        disturbed=0.05,
        disturbance=0.1,
    ),
}

_LOADING_S, _LEVEL_S = 0.4, 0.6
"""What loading a configuration, and then each of its levels, take in time."""


class Speed:
    """How fast a machine is from one measurement to the next, as a logarithm."""

    def __init__(self, machine: Machine, rng: np.random.Generator) -> None:
        self._machine = machine
        self._rng = rng
        self._between_loads = rng.uniform(*machine.loads)
        self._drift = rng.normal(0, machine.drift)
        self._load = 0.0
        self._modes: dict[int, float] = {}
        self.seconds = 0.0

    def load(self) -> None:
        """Another configuration is loaded."""
        self._pass(_LOADING_S)
        self._load = self._rng.normal(0, self._between_loads)
        self._modes.clear()

    def measure(self, load: int) -> float:
        """The speed of a level."""
        machine, rng = self._machine, self._rng
        self._pass(_LEVEL_S)
        if load not in self._modes:
            self._modes[load] = machine.mode * (rng.random() < machine.in_mode)
        slowed = rng.exponential(machine.disturbance) * (rng.random() < machine.disturbed)
        return float(self._load + self._modes[load] + self._drift - slowed)

    def _pass(self, seconds: float) -> None:
        self.seconds += seconds
        left = math.exp(-seconds / self._machine.drift_s)
        fresh = self._rng.normal(0, self._machine.drift)
        self._drift = left * self._drift + math.sqrt(1 - left**2) * fresh


@dataclass(frozen=True, kw_only=True)
class Result:
    """How a search ended: what it chose, as a share of the best, and what that took.

    ``quality`` is of the level, ``configuration`` of the configuration at its own best load.
    """

    quality: float
    configuration: float
    levels: int
    loads: int
    seconds: float


def search(
    server: Server, mode: SearchMode, seed: int, machine: Machine = MACHINES["calm"]
) -> Result:
    """One search of the automatic space.

    ``levels`` counts every level that was measured, again for each round of the finals,
    ``loads`` how often a configuration was loaded, and ``seconds`` what all of that may take.
    """
    rng = np.random.default_rng(seed)
    engine = Search(_grid(server), mode=mode, seed=seed)
    speed = Speed(machine, rng)
    levels = loads = 0
    loaded = -1
    while (spot := engine.ask()) is not None:
        config = CONFIGS[spot.candidate]
        if spot.candidate != loaded:
            loads += 1
            loaded = spot.candidate
            speed.load()
        if config.instances > server.most:
            engine.lost(spot.candidate)
            continue
        levels += 1
        truth = server.truth(config, LOADS[spot.load].concurrency or 1)
        faster = speed.measure(spot.load)
        engine.tell(spot, _outcome(server, truth, faster, rng))
    chosen = engine.found.ranking()[0]
    config = CONFIGS[chosen.candidate]
    return Result(
        quality=server.quality(config, LOADS[chosen.load].concurrency or 1),
        configuration=server.quality_of_all(config),
        levels=levels,
        loads=loads,
        seconds=speed.seconds,
    )


def _grid(server: Server) -> Grid:
    found = [{"max_batch_size": c.batch, "instance_group.count": c.instances} for c in CONFIGS]
    return Grid(
        candidates=coordinates(found[1:], found[0]),
        loads=load_coordinates(LOADS),
        constraints=[() for _ in server.limits],
        monotone=True,
    )


def _outcome(
    server: Server,
    truth: Mapping[str, float],
    faster: float,
    rng: np.random.Generator,
) -> Outcome:
    """What one measurement of a level tells, with the errors that its own load suggests."""
    error = math.hypot(BETWEEN_LOADS, NOISE)

    def guess(name: str) -> Guess:
        if name == "memory_mb":
            return Guess(math.log(truth[name]) + rng.normal(0, _MEMORY_NOISE), 0.01)
        sign = 1 if name == "throughput" else -1
        return Guess(math.log(truth[name]) + sign * faster + rng.normal(0, NOISE), error)

    score = guess("throughput")
    slacks = [
        Guess(math.log(limit) - far, error)
        for name, limit in server.limits.items()
        for far, error in [guess(name)]
    ]
    return Outcome(score=score, slacks=tuple(slacks))


def table(mode: SearchMode, machine: Machine, seeds: Sequence[int]) -> list[list[str]]:
    """A row per server: how often the choice was within 2 % of the best, and what it took.

    First that of a configuration and a load, then that of the configuration alone.
    """
    rows = []
    for name, server in SERVERS.items():
        results = [search(server, mode, seed, machine) for seed in seeds]
        good = sum(result.quality >= AS_GOOD for result in results)
        alone = sum(result.configuration >= AS_GOOD for result in results)
        levels = [result.levels for result in results]
        rows.append(
            [
                name,
                f"{good} of {len(results)}",
                f"{alone} of {len(results)}",
                f"{min(result.quality for result in results):.1%}",
                f"{np.mean(levels):.0f}",
                f"{max(levels) / LEVELS:.1%}",
                f"{np.mean([result.loads for result in results]):.0f}",
                f"{np.median([result.seconds for result in results]):.0f} s",
            ]
        )
    return rows


def main() -> None:
    """Print the table of each mode."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=40)
    parser.add_argument("--first-seed", type=int, default=0, help="those below 40 were tuned on")
    parser.add_argument("--mode", action="append", choices=("quick", "optuna", "brute"))
    parser.add_argument("--machine", action="append", choices=MACHINES)
    options = parser.parse_args()
    seeds = range(options.first_seed, options.first_seed + options.seeds)
    head = (
        "server",
        "within 2 %",
        "configuration",
        "worst",
        "levels",
        f"at most, of {LEVELS}",
        "loads",
        "seconds",
    )
    for mode in options.mode or ("quick", "optuna"):
        for machine in options.machine or MACHINES:
            print(f"\n{mode}, {machine}:\n\n| {' | '.join(head)} |\n|{' --- |' * len(head)}")
            for row in table(mode, MACHINES[machine], seeds):
                print(f"| {' | '.join(row)} |", flush=True)


if __name__ == "__main__":
    main()
