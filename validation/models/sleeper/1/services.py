"""Service times whose truth is known: seconds that a call with so many items sleeps."""

import itertools
import random


def deterministic(items: int) -> float:
    """Always 5 ms."""
    return 0.005


def lognormal(items: int) -> float:
    """Median 1 ms, sigma 0.5."""
    return 0.001 * random.lognormvariate(0, 0.5)


def fast(items: int) -> float:
    """Median 0.3 ms, sigma 0.5."""
    return 0.0003 * random.lognormvariate(0, 0.5)


def batching(items: int) -> float:
    """4 ms a batch and 0.1 ms an item."""
    return 0.004 + 0.0001 * items


class Bursty:
    """1 ms, and 2 % of the calls 5 ms, in bursts of 25 or so."""

    def __init__(self) -> None:
        stretches = itertools.cycle([(0.001, 1225), (0.005, 25)])
        self._times = itertools.chain.from_iterable(
            itertools.repeat(seconds, 1 + int(random.expovariate(1 / calls)))
            for seconds, calls in stretches
        )

    def __call__(self, items: int) -> float:
        """The next call's seconds."""
        return next(self._times)


SERVICES = {
    "deterministic": lambda: deterministic,
    "lognormal": lambda: lognormal,
    "fast": lambda: fast,
    "bursty": Bursty,
    "batching": lambda: batching,
}
"""What gives each its own sequence of calls, by the value of ``parameters.service``."""
