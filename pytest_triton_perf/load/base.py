"""What a sweep needs of a load generator."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from pytest_triton_perf.domain.levels import Load

WireProtocol = Literal["grpc", "http"]
SharedMemory = Literal["none", "system", "cuda"]


@dataclass(frozen=True, kw_only=True)
class Traffic:
    """How requests of a test look, the same for all its levels.

    ``input_data`` is ``None`` (random), ``"zero"``, ``"random"``, or the path of a JSON file
    or a directory. ``shapes`` gives each dynamic input its dimensions, without the batch.
    ``percentiles`` are the latency percentiles to report, whole numbers from 1 to 99.
    """

    model: str
    protocol: WireProtocol = "grpc"
    input_data: str | Path | None = None
    shapes: Mapping[str, tuple[int, ...]] | None = None
    shared_memory: SharedMemory = "none"
    streaming: bool = False
    percentiles: tuple[int, ...] = (50, 90, 95, 99)
    extra_args: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class LoadReport:
    """What the load generator measured at one level.

    ``values`` is keyed by metric name (throughput in infer/s, times in ms); ``missing`` gives
    the reason for each metric that was asked for and not reported. ``started`` and ``ended``
    are ``time.monotonic()`` of the load, for cutting the probes' samples.
    """

    values: Mapping[str, float]
    missing: Mapping[str, str]
    requests: int | None
    started: float
    ended: float
    notes: tuple[str, ...] = ()


class LoadGenerator(Protocol):
    """Makes one level of load on a running server and reports it."""

    def run(self, traffic: Traffic, load: Load, *, url: str, max_seconds: float) -> LoadReport:
        """Load the server once, for as long as a trustworthy figure needs.

        ``url`` is ``host:port`` of the protocol that ``traffic`` names. ``max_seconds`` bounds
        the whole call, retries included.

        Raises:
            LoadError: the level was not measured; the message has the generator's own words.
        """

    def warm_up(self, traffic: Traffic, load: Load, *, url: str, max_seconds: float) -> None:
        """Send requests that nobody measures; a first run after a model was loaded.

        Raises:
            LoadError: as ``run``.
        """

    def describe(self) -> Mapping[str, str]:
        """Name and version, for the environment section of the results."""
