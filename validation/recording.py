"""Load on a real Triton whose model sleeps for times that are known, recorded in blocks."""

import contextlib
import random
import runpy
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from pytest_triton_perf.domain.levels import Load
from pytest_triton_perf.domain.segments import Numbers, Segment
from pytest_triton_perf.measuring import FIRST_S

MODELS = Path(__file__).parent / "models"

RUNS = 10
"""Short runs in a block."""

SEGMENTS = 5
"""Segments of a short run: with ``FIRST_S`` each, the load that a budgeted level gets at least."""

LONG_S = 4.0
"""Each of the two long runs of a block, one before and one after its short runs."""

_CALLS = 1_000_000
"""Service times that the arithmetic draws."""


@dataclass(frozen=True, kw_only=True)
class Service:
    """A service of the sleeping model, one instance of it, and the closed loop that loads it.

    ``batch`` is how many requests one call serves once all clients are in step.
    """

    name: str
    clients: int
    batch: int = 1
    config: Mapping[str, Any] = field(default_factory=dict)

    @property
    def load(self) -> Load:
        """The level."""
        return Load(concurrency=self.clients)

    def arithmetic(self, metric: str) -> float:
        """What queueing makes of the service times alone, were all else to take no time.

        One server that is never idle answers ``batch`` requests in each mean service time. A
        client that sends its next request with its answer finds ``clients / batch`` calls before
        its own answer, its own included: its latency is the sum of so many service times in a
        row. All else takes time, so a real throughput is at most this, a real latency at least.
        """
        call = runpy.run_path(str(MODELS / "sleeper" / "1" / "services.py"))["SERVICES"]
        random.seed(0)
        times = np.fromiter(map(call[self.name](), [self.batch] * _CALLS), float, _CALLS)
        if metric == "throughput":
            return float(self.batch / times.mean())
        latency = np.convolve(times, np.ones(self.clients // self.batch), "valid")
        return float(1000 * np.percentile(latency, int(metric[1:3])))


SERVICES = {
    service.name: service
    for service in (
        Service(name="deterministic", clients=2),
        Service(name="lognormal", clients=2),
        Service(name="fast", clients=2),
        Service(name="bursty", clients=2),
        # All eight clients wait for each other, so that every batch is full.
        Service(
            name="batching",
            clients=8,
            batch=8,
            config={"dynamic_batching.max_queue_delay_microseconds": 2000},
        ),
    )
}


@dataclass(frozen=True, kw_only=True)
class Block:
    """Short segments in order of time, between two long ones."""

    long: Sequence[Segment]
    short: Sequence[Segment]

    def runs(self, *, in_turns: bool) -> list[Sequence[Segment]]:
        """The short segments as ``RUNS`` runs of ``SEGMENTS``.

        In a row, as those of a sweep of one level are made, or in turns with those of the other
        runs, as those of a sweep of ``RUNS`` levels are.
        """
        if in_turns:
            return [self.short[run::RUNS] for run in range(RUNS)]
        return [self.short[at : at + SEGMENTS] for at in range(0, RUNS * SEGMENTS, SEGMENTS)]


def record(service: Service, blocks: int, seconds: float) -> list[Block]:
    """Blocks of a service, fewer where the next would end after ``seconds``."""
    found: list[Block] = []
    with _loading(service) as make:
        started = time.monotonic()
        while len(found) < blocks:
            used = time.monotonic() - started
            if found and used + used / len(found) > seconds:
                break
            before = make(LONG_S)
            short = [make(FIRST_S) for _ in range(RUNS * SEGMENTS)]
            found.append(Block(long=[before, make(LONG_S)], short=short))
    return found


@contextlib.contextmanager
def _loading(service: Service) -> Iterator[Callable[[float], Segment]]:
    """A server with the service, warm; what is yielded loads it for so many seconds."""
    from pytest_triton_perf.domain.variants import Variant
    from pytest_triton_perf.load.base import Traffic
    from pytest_triton_perf.load.binaries import find_perf_analyzer
    from pytest_triton_perf.load.perf_analyzer import PerfAnalyzer
    from pytest_triton_perf.load.runner import LocalRunner
    from pytest_triton_perf.servers.base import ServerSpec
    from pytest_triton_perf.servers.embedded import find_server
    from pytest_triton_perf.servers.local import LocalLauncher
    from pytest_triton_perf.servers.model_config import apply_overrides, read_config

    traffic, load = Traffic(model="sleeper"), service.load
    generator = PerfAnalyzer(LocalRunner(find_perf_analyzer(None)))
    overrides = {"parameters.service.string_value": service.name, **service.config}
    config = apply_overrides("sleeper", read_config(MODELS / "sleeper") or {}, overrides)
    server = LocalLauncher(find_server(None), gpus="none").start(ServerSpec(repository=MODELS))
    try:
        server.load(Variant(model="sleeper", name=service.name, overrides=overrides, config=config))
        generator.warm_up(traffic, load, url=server.grpc_url, max_seconds=30)

        def make(seconds: float) -> Segment:
            return generator.run(
                traffic, load, url=server.grpc_url, seconds=seconds, max_seconds=60
            ).segment

        yield make
    finally:
        server.stop()


def save(path: Path, recorded: Mapping[str, Sequence[Block]]) -> None:
    """Write blocks by service to a compressed file of numpy's, times in whole microseconds."""
    arrays = {}
    for name, blocks in recorded.items():
        segments = [segment for block in blocks for segment in (*block.long, *block.short)]
        arrays[f"{name}.requests"] = np.array([s.sent_s.size for s in segments], dtype=np.int32)
        arrays[f"{name}.seconds"] = np.array([s.seconds for s in segments])
        # Answers ascend within a segment, so their differences are small numbers.
        arrays[f"{name}.answered"] = np.concatenate(
            [np.diff(_micros(s.answered_s - s.started), prepend=np.int32(0)) for s in segments]
        )
        arrays[f"{name}.latency"] = np.concatenate(
            [_micros(s.answered_s - s.sent_s) for s in segments]
        )
    with path.open("wb") as file:
        np.savez_compressed(file, **arrays)


def _micros(seconds: Numbers) -> "np.ndarray[Any, np.dtype[np.int32]]":
    return np.rint(1e6 * seconds).astype(np.int32)


def restore(path: Path) -> dict[str, list[Block]]:
    """What ``save`` wrote."""
    with np.load(path) as arrays:
        names = dict.fromkeys(key.partition(".")[0] for key in arrays)
        return {name: _blocks(SERVICES[name], arrays) for name in names}


def _blocks(service: Service, arrays: Mapping[str, Any]) -> list[Block]:
    requests, seconds, answered, latency = (
        arrays[f"{service.name}.{key}"] for key in ("requests", "seconds", "answered", "latency")
    )
    edges = np.cumsum(requests)[:-1]
    segments = []
    for number, (gaps, took) in enumerate(
        zip(np.split(answered, edges), np.split(latency, edges), strict=True)
    ):
        answered_s = np.cumsum(gaps, dtype=np.int64) / 1e6
        segments.append(
            Segment(
                started=0.0,
                ended=float(seconds[number]),
                in_flight=service.clients,
                sent_s=answered_s - took / 1e6,
                answered_s=answered_s,
            )
        )
    size = 2 + RUNS * SEGMENTS
    return [
        Block(long=segments[at : at + 2], short=segments[at + 2 : at + size])
        for at in range(0, len(segments), size)
    ]
