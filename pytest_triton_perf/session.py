"""One session's measuring: servers, sweeps, verdicts, and the run that they add up to."""

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from pytest_triton_perf.collection import PerfTest
from pytest_triton_perf.domain.levels import Estimate, Load, Measurement
from pytest_triton_perf.domain.metrics import find_metric, percentile_of
from pytest_triton_perf.domain.results import Run
from pytest_triton_perf.domain.sweeps import Sweep
from pytest_triton_perf.domain.variants import Variant
from pytest_triton_perf.domain.verdicts import Verdict, judge
from pytest_triton_perf.errors import LoadError, ServerError, TritonPerfError
from pytest_triton_perf.load.base import LoadGenerator, LoadReport
from pytest_triton_perf.probes.base import Reading, totals
from pytest_triton_perf.probes.recorder import MemoryRecorder
from pytest_triton_perf.probes.watch import Watch
from pytest_triton_perf.progress import Progress
from pytest_triton_perf.servers.base import Launcher, RunningServer, ServerSpec, tail


@dataclass(kw_only=True)
class _Watched:
    """The running server, and what watches it."""

    spec: ServerSpec
    server: RunningServer
    watch: Watch


class PerfSession:
    """What the tests of one pytest process share: one server at a time, and the results.

    The concrete parts come from ``fixtures.compose``; only their protocols are known here.
    ``watch`` makes what watches a server, ``turn`` is held while a sweep is measured, and
    ``max_seconds`` is the measuring time of one sweep.
    """

    def __init__(
        self,
        *,
        launcher: Launcher,
        generator: LoadGenerator,
        watch: Callable[[RunningServer], Watch],
        turn: contextlib.AbstractContextManager[Any],
        max_seconds: float,
        environment: Mapping[str, Any],
        progress: Progress,
    ) -> None:
        self._launcher = launcher
        self._generator = generator
        self._watch = watch
        self._turn = turn
        self._max_seconds = max_seconds
        self._environment = dict(environment)
        self._progress = progress
        self._current: _Watched | None = None
        self._server_only: dict[str, Any] = {}
        self._sweeps: dict[str, Sweep] = {}
        self._verdicts: dict[str, list[Verdict]] = {}
        self._why_not: dict[str, str] = {}

    def server(self, spec: ServerSpec) -> RunningServer:
        """The running server for ``spec``; another one, or a dead one, is replaced.

        Raises:
            MissingPartError, ServerError: as ``Launcher.start``.
        """
        return self._watched(spec).server

    def measure(self, test: PerfTest) -> Sweep:
        """Measure every load level of a test. What was measured before an error is kept.

        Raises:
            MissingPartError, ServerError, LoadError: a level could not be measured.
        """
        measured: list[Measurement] = []
        self._sweeps[test.nodeid] = _sweep(test, test.variant, measured)
        try:
            with self._turn:
                watched = self._watched(test.server)
                with self._recorded(test, watched.watch) as recorder:
                    self._progress.step(f"loading {test.variant.name}")
                    with recorder.phase("load"):
                        config = watched.server.load(test.variant)
                        watched.watch.look_again()
                    served = replace(test.variant, config=config)
                    self._sweeps[test.nodeid] = _sweep(test, served, measured)
                    for measurement in self._levels(test, watched, recorder):
                        measured.append(measurement)
        except TritonPerfError as error:
            self._why_not[test.nodeid] = str(error).partition("\n")[0]
            raise
        finally:
            self._progress.dropped(len(test.sweep.loads) - len(measured))
            self._progress.clear()
        return self._sweeps[test.nodeid]

    def judge(self, test: PerfTest) -> list[tuple[Verdict, Sweep]]:
        """The verdict on each budget of a test, with the sweep it rests on."""
        sweep = self._sweeps.get(test.nodeid) or _sweep(test, test.variant, [])
        why = self._why_not.get(test.nodeid, "")
        verdicts = [judge(budget, sweep, test.sweep.loads, why) for budget in test.budgets]
        self._verdicts[test.nodeid] = verdicts
        return [(verdict, sweep) for verdict in verdicts]

    def sweep(self, test: PerfTest) -> Sweep | None:
        """What was measured for a test, as far as it got."""
        return self._sweeps.get(test.nodeid)

    def verdicts(self, test: PerfTest) -> list[Verdict]:
        """The verdicts that ``judge`` last gave for a test."""
        return self._verdicts.get(test.nodeid, [])

    def server_log(self) -> str:
        """What the current server has written so far; empty where none runs."""
        return "" if self._current is None else self._current.server.logs()

    def run(self, *, wall_s: float, exit_status: int) -> Run:
        """Everything measured and decided so far."""
        return Run(
            environment=self._environment,
            server_only=self._server_only,
            sweeps=[sweep for sweep in self._sweeps.values() if sweep.measurements],
            verdicts=[verdict for verdicts in self._verdicts.values() for verdict in verdicts],
            wall_s=wall_s,
            exit=exit_status,
        )

    def begin_stop(self) -> None:
        """Ask the server to end without waiting for it."""
        if self._current is not None:
            self._current.watch.stop()
            self._current.server.begin_stop()

    def stop(self) -> None:
        """End the server and what watches it; safe to call at any time."""
        current, self._current = self._current, None
        if current is not None:
            try:
                current.watch.stop()
            finally:
                current.server.stop()

    def _watched(self, spec: ServerSpec) -> _Watched:
        current = self._current
        if current is not None and (current.spec != spec or not current.server.alive()):
            self.stop()
        if self._current is None:
            self._progress.step("starting Triton")
            server = self._launcher.start(spec)
            try:
                watch = self._watch(server)
                watch.start()
            except BaseException:
                server.stop()
                raise
            self._current = _Watched(spec=spec, server=server, watch=watch)
            self._environment["triton"] = {"version": server.version}
            self._server_only = {
                "cpu_memory_mb": watch.idle.cpu_memory_mb,
                "gpus": {uuid: dict(gpu) for uuid, gpu in watch.idle.gpus.items()},
            }
        return self._current

    @contextlib.contextmanager
    def _recorded(self, test: PerfTest, watch: Watch) -> Iterator[MemoryRecorder]:
        """Give the test's sweep its memory timeline, however far the block comes."""
        recorder = watch.recorder()
        try:
            yield recorder
        finally:
            sweep = self._sweeps[test.nodeid]
            self._sweeps[test.nodeid] = replace(sweep, memory=recorder.timeline())

    def _levels(
        self, test: PerfTest, watched: _Watched, recorder: MemoryRecorder
    ) -> Iterator[Measurement]:
        """Measure the levels one by one; each may use its share of the time that is left."""
        loads, traffic, server = test.sweep.loads, test.sweep.traffic, watched.server
        url = server.grpc_url if traffic.protocol == "grpc" else server.http_url
        deadline = time.monotonic() + self._max_seconds
        for index, load in enumerate(loads):
            self._progress.step(f"{test.variant.name} at {load}")
            share = (deadline - time.monotonic()) / (len(loads) - index)
            try:
                if index == 0:
                    with recorder.phase("warm-up"):
                        self._generator.warm_up(traffic, load, url=url, max_seconds=share / 2)
                    share = (deadline - time.monotonic()) / len(loads)
                with recorder.phase(str(load)):
                    report = self._generator.run(traffic, load, url=url, max_seconds=share)
            except LoadError as error:
                where = f"{test.variant.name} at {load}"
                if how := server.ended():
                    raise ServerError(
                        f"{where}: tritonserver {how}; it was being measured. Its last words:\n"
                        f"{tail(server.logs())}"
                    ) from error
                raise LoadError(f"{where}: {error}") from error
            seen = watched.watch.level(report.started, report.ended)
            measurement = _measurement(load, report, seen)
            self._progress.finished(f"{test.variant.name} at {load}: {_short(measurement)}")
            yield measurement


def _sweep(test: PerfTest, variant: Variant, measured: list[Measurement]) -> Sweep:
    return Sweep(test=test.nodeid, variant=variant, measurements=measured)


def _measurement(load: Load, report: LoadReport, seen: Reading) -> Measurement:
    wall_s = report.ended - report.started
    inferences = report.values.get("throughput", 0.0) * wall_s
    values = {**report.values, **totals(seen, inferences=inferences)}
    missing = {
        name: why for name, why in {**seen.missing, **report.missing}.items() if name not in values
    }
    if "energy_per_inference_j" not in values:
        missing.setdefault("energy_per_inference_j", "there is no throughput to relate energy to")
    return Measurement(
        load=load,
        requests=report.requests,
        wall_s=round(wall_s, 3),
        values={name: Estimate(value=value) for name, value in values.items()},
        missing=missing,
        gpus=seen.gpus,
        notes=(*report.notes, *seen.notes),
    )


def _short(measurement: Measurement) -> str:
    """Throughput and the highest percentile, for a progress line."""
    tails = [name for name in measurement.values if percentile_of(name)]
    shown = ["throughput", *tails[-1:]]
    metrics = [find_metric(name) for name in shown if name in measurement.values]
    return ", ".join(
        f"{metric.label} {metric.format(measurement.values[metric.name].value)}"
        for metric in metrics
    )
