"""What a sweep needs of a load generator."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

from pytest_triton_perf.domain.levels import Load

if TYPE_CHECKING:
    from pytest_triton_perf.domain.segments import Segment

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
    """What the load generator recorded at one level.

    ``server_ms`` is the server's part of the latency by metric name (``queue_ms`` …), means per
    request over the segment; ``missing`` has the reason for each that is not there. Where
    ``keeps_up`` is false, the client was the bottleneck, and ``notes`` say how.
    """

    segment: "Segment"
    server_ms: Mapping[str, float]
    missing: Mapping[str, str]
    keeps_up: bool = True
    notes: tuple[str, ...] = ()


class LoadGenerator(Protocol):
    """Makes load on a running server and records it; what it means is for statistics."""

    def run(
        self, traffic: Traffic, load: Load, *, url: str, seconds: float, max_seconds: float
    ) -> LoadReport:
        """Load the server for about ``seconds``, longer where its requests take longer.

        ``url`` is ``host:port`` of the protocol that ``traffic`` names. ``max_seconds`` bounds
        the whole call, retries included. All segments of one level hold single requests, or all
        of them hold windows, until the next ``warm_up``.

        Raises:
            LoadError: nothing was recorded; the message has the generator's own words.
        """

    def warm_up(self, traffic: Traffic, load: Load, *, url: str, max_seconds: float) -> None:
        """Send requests that nobody measures; a first run after a model was loaded.

        Raises:
            LoadError: as ``run``.
        """

    def go_on(self, traffic: Traffic, measured: "Mapping[Load, Segment]", *, url: str) -> None:
        """Continue levels of which an earlier session had these segments; after ``warm_up``."""

    def describe(self) -> Mapping[str, str]:
        """Name and version, for the environment section of the results."""
