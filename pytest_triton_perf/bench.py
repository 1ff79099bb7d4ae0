"""A variant on a running server while load is made on it, and what is seen meanwhile."""

import contextlib
import gc
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from pytest_triton_perf.collection import PerfTest
from pytest_triton_perf.domain.levels import Load
from pytest_triton_perf.domain.timelines import MemoryTimeline
from pytest_triton_perf.errors import LoadError, ServerError
from pytest_triton_perf.load.base import LoadGenerator
from pytest_triton_perf.load.inputs import with_random_inputs
from pytest_triton_perf.measuring import Stopwatch
from pytest_triton_perf.probes import host
from pytest_triton_perf.probes.watch import Watch
from pytest_triton_perf.records import Record
from pytest_triton_perf.servers.base import RunningServer, tail

if TYPE_CHECKING:
    from pytest_triton_perf.domain.segments import Segment

END_S = 1.0
"""A Docker engine tells of a container's end a little after its connections broke."""


class Bench:
    """Loads the variant of a test and makes load on it.

    ``name`` is what messages call its configuration, and ``before`` how the memory went in an
    earlier session that measured a part of the same sweep.
    """

    def __init__(
        self,
        test: PerfTest,
        *,
        name: str,
        server: RunningServer,
        watch: Watch,
        generator: LoadGenerator,
        before: MemoryTimeline,
    ) -> None:
        self._test = test
        self._name = name
        self._server = server
        self._watch = watch
        self._generator = generator
        self._recorder = watch.recorder(before)
        traffic = test.sweep.traffic
        self._traffic = traffic
        self._url = server.grpc_url if traffic.protocol == "grpc" else server.http_url

    @property
    def memory(self) -> MemoryTimeline:
        """How the server's memory went so far."""
        return self._recorder.timeline()

    def load(self) -> Mapping[str, Any]:
        """Load the variant; returns the config that Triton reports.

        Raises:
            ServerError: as ``RunningServer.load``.
        """
        with self._recorder.phase("load"):
            config = self._server.load(self._test.variant)
            self._watch.look_again()
        self._traffic = with_random_inputs(self._test.sweep.traffic, config)
        return config

    def warm_up(self, measured: Mapping[Load, "Segment"], *, max_seconds: float) -> None:
        """Send requests that nobody measures; ``measured`` has a segment of each level so far.

        Raises:
            ServerError, LoadError: the model cannot be measured.
        """
        load = self._test.sweep.loads[0]
        with self._explained(load), self._recorder.phase("warm-up"):
            self._generator.warm_up(self._traffic, load, url=self._url, max_seconds=max_seconds)
            if measured:
                self._generator.go_on(self._traffic, measured, url=self._url)
            self._server.settle()

    def make(
        self, load: Load, seconds: float, max_seconds: float, *, stopwatch: Stopwatch
    ) -> Record:
        """Make a segment of load, as ``LoadGenerator.run``.

        Raises:
            ServerError, LoadError: nothing was recorded.
        """
        pids = [] if self._server.pid is None else [self._server.pid]
        with self._explained(load):
            before = host.look(pids)
            with self._recorder.phase(str(load)), no_garbage_collection():
                report = self._generator.run(
                    self._traffic, load, url=self._url, seconds=seconds, max_seconds=max_seconds
                )
            after = host.look(pids)
        return Record(
            load=load,
            report=report,
            reading=self._watch.level(report.segment.started, report.segment.ended),
            before=before,
            after=after,
            memory=self.memory,
            used_s=stopwatch.lap_s(),
        )

    @contextlib.contextmanager
    def _explained(self, load: Load) -> Iterator[None]:
        """Say where load failed, and whether the server died of it."""
        where = f"{self._name} at {load}"
        try:
            yield
        except LoadError as error:
            if how := self._server.ended(within_s=END_S):
                raise ServerError(
                    f"{where}: tritonserver {how}; it was being measured. Its last words:\n"
                    f"{tail(self._server.logs())}"
                ) from error
            raise LoadError(f"{where}: {error}") from error


@contextlib.contextmanager
def no_garbage_collection() -> Iterator[None]:
    """Python's garbage is collected before the load and not during it."""
    enabled = gc.isenabled()
    gc.collect(0)
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
