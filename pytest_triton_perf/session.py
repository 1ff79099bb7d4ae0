"""One session's measuring: servers, sweeps, verdicts, and the run that they add up to."""

import contextlib
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pytest_triton_perf.collection import PerfTest
from pytest_triton_perf.domain.budgets import Budget
from pytest_triton_perf.domain.comparisons import Comparison, Gate, Watched
from pytest_triton_perf.domain.levels import Load
from pytest_triton_perf.domain.names import with_image
from pytest_triton_perf.domain.results import Run
from pytest_triton_perf.domain.sweeps import Sweep
from pytest_triton_perf.domain.variants import readable_id
from pytest_triton_perf.domain.verdicts import Verdict
from pytest_triton_perf.errors import TritonPerfError
from pytest_triton_perf.ingredients import requests_digest
from pytest_triton_perf.journal import Journal
from pytest_triton_perf.load.base import LoadGenerator
from pytest_triton_perf.measuring import Rules
from pytest_triton_perf.pairing import Arm, Asked, PairedRun, Serve, gone_models, in_turns
from pytest_triton_perf.probes.watch import Watch
from pytest_triton_perf.progress import Progress
from pytest_triton_perf.searching import SearchRun
from pytest_triton_perf.servers.base import Launcher, RunningServer, ServerSpec
from pytest_triton_perf.sweeping import SweepRun


@dataclass(kw_only=True)
class _Watched:
    """The running server, and what watches it."""

    spec: ServerSpec
    server: RunningServer
    watch: Watch


class PerfSession:
    """What the tests of one pytest process share: one server at a time, and the results.

    The concrete parts come from ``fixtures.compose``; only their protocols are known here.
    ``watch`` makes what watches a server, ``turn`` is held while a sweep is measured, ``rules``
    say how long it may be, ``journal`` keeps what is measured, ``ingredients`` are what a test's
    sweep is measured from, and ``images`` are those of all tests. ``seed`` is that of the coin of
    the paired gate.
    """

    def __init__(
        self,
        *,
        launcher: Launcher,
        generator: LoadGenerator,
        watch: Callable[[RunningServer], Watch],
        turn: contextlib.AbstractContextManager[Any],
        rules: Rules,
        journal: Journal,
        ingredients: Callable[[PerfTest], Mapping[str, str] | None],
        environment: Mapping[str, Any],
        images: Sequence[str],
        progress: Progress,
        seed: int = 0,
    ) -> None:
        self._launcher = launcher
        self._generator = generator
        self._watch = watch
        self._turn = turn
        self._rules = rules
        self._journal = journal
        self._ingredients = ingredients
        self._environment = dict(environment)
        self._images = images
        self._progress = progress
        self._current: _Watched | None = None
        self._server_only: dict[str | None, Mapping[str, Any]] = {}
        self._runs: dict[str, SweepRun | SearchRun] = {}
        self._measured: dict[str, PerfTest] = {}
        self._coin = random.Random(seed)
        self._paired: list[PairedRun] = []
        self._gone: list[Comparison] = []

    def server(self, spec: ServerSpec) -> RunningServer:
        """The running server for ``spec``; another one, or a dead one, is replaced.

        Raises:
            MissingPartError, ServerError: as ``Launcher.start``.
        """
        return self._watched(spec).server

    def measure(self, test: PerfTest) -> Sweep:
        """Measure every load level of a test, but for those that the journal has.

        What was measured before an error is kept.

        A sweep of automatic concurrency can measure more until the test is judged.

        Raises:
            MissingPartError, ServerError, LoadError: a level could not be measured.
        """

        def narrow(limits: Sequence[Budget]) -> None:
            assert isinstance(sweeping, SweepRun)
            try:
                with self._turn:
                    sweeping.narrow(limits)
            except TritonPerfError as error:
                sweeping.ended_early(error)
                raise
            finally:
                self._progress.clear()

        sweeping = self._runs[test.nodeid] = self._new_run(test)
        self._measured[test.nodeid] = test
        try:
            with self._turn:
                if isinstance(sweeping, SearchRun):
                    sweeping.measure()
                else:
                    self._measure_sweep(sweeping, test)
        except TritonPerfError as error:
            sweeping.ended_early(error)
            raise
        finally:
            self._progress.dropped(sweeping.levels_left)
            self._progress.clear()
        if isinstance(sweeping, SweepRun) and test.sweep.auto:
            return replace(sweeping.sweep, narrow=narrow)
        return sweeping.sweep

    def judge(self, test: PerfTest) -> list[tuple[Verdict, Sweep]]:
        """The verdict on each budget of a test, with the sweep it rests on."""
        sweeping = self._runs.setdefault(test.nodeid, self._new_run(test))
        return [(verdict, sweeping.sweep) for verdict in sweeping.judge()]

    def compare(self, tests: Sequence[PerfTest]) -> None:
        """Measure the base and the head of all gates of tests that were measured, side by side.

        ``tests`` are all of the session: they share its chance of a false alarm.
        """
        gates = sum(len(gate.loads) or 1 for test in tests for gate in test.gates)
        groups: dict[tuple[ServerSpec, str], list[Asked]] = {}
        for test in tests:
            if test.nodeid in self._runs:
                asked = groups.setdefault((test.server, test.variant.name), [])
                asked += [
                    Asked(test=test, gate=g, load=at)
                    for g in test.gates
                    for at in self._at(test, g)
                ]
        self._gone = gone_models(test.server for test in tests)
        for (server, variant), asked in groups.items():
            run = PairedRun(
                asked,
                name=with_image(variant, server.image, self._images),
                gates=gates,
                coin=self._coin,
                rules=self._rules,
                generator=self._generator,
                progress=self._progress,
            )
            self._paired.append(run)
        self._progress.total += len(self._paired)
        for run, (server, _) in zip(self._paired, groups, strict=True):
            self._measure_pair(run, server)

    def _measure_pair(self, run: PairedRun, server: ServerSpec) -> None:
        if run.is_new:
            self._progress.dropped(1)
            return
        try:
            with self._turn:
                run.measure(self._serve(server))
        except TritonPerfError as error:
            self._progress.dropped(1)
            run.ended_early(error)
        finally:
            self._progress.clear()

    def _serve(self, spec: ServerSpec) -> Serve:
        """How the arms of a gate are served."""

        def running(spec: ServerSpec) -> tuple[RunningServer, Watch]:
            watched = self._watched(spec)
            return watched.server, watched.watch

        def serve(arm: Arm) -> tuple[RunningServer, Watch]:
            # Also where the arm stays: what differs from start to start counts as noise then.
            self.stop()
            return running(replace(spec, image=spec.base_image if arm == "base" else spec.image))

        if spec.base_image is None:
            return in_turns(lambda: running(spec), spec)

        return serve

    def _at(self, test: PerfTest, gate: Gate) -> tuple[Load, ...]:
        """The loads of a gate; of an automatic ramp, the highest that was measured."""
        levels = self._runs[test.nodeid].sweep.levels
        return gate.loads or (levels[-1].load if levels else test.sweep.loads[-1],)

    def comparisons(self) -> list[Comparison]:
        """What the paired gate found so far."""
        return [*self._gone, *(found for run in self._paired for found in run.comparisons())]

    def sweep(self, test: PerfTest) -> Sweep | None:
        """What was measured for a test, as far as it got."""
        sweeping = self._runs.get(test.nodeid)
        return None if sweeping is None else sweeping.sweep

    def verdicts(self, test: PerfTest) -> list[Verdict]:
        """The verdicts that ``judge`` last gave for a test."""
        sweeping = self._runs.get(test.nodeid)
        return [] if sweeping is None else sweeping.verdicts

    def search(self, test: PerfTest) -> SearchRun | None:
        """The search of a test that searches, as far as it got."""
        run = self._runs.get(test.nodeid)
        return run if isinstance(run, SearchRun) else None

    def server_log(self) -> str:
        """What the current server has written so far; empty where none runs."""
        return "" if self._current is None else self._current.server.logs()

    def run(self, *, wall_s: float, exit_status: int) -> Run:
        """Everything measured and decided so far."""
        return Run(
            environment=self._environment,
            server_only=list(self._server_only.values()),
            sweeps=[sweep for run in self._runs.values() for sweep in run.sweeps],
            verdicts=[verdict for run in self._runs.values() for verdict in run.verdicts],
            searches=[
                run.result
                for run in self._runs.values()
                if isinstance(run, SearchRun) and run.result is not None
            ],
            comparisons=self.comparisons(),
            watched=list(self._watch_list()),
            wall_s=wall_s,
            exit=exit_status,
            notes=[*self._journal.notes, *(note for run in self._paired for note in run.notes)],
        )

    def _watch_list(self) -> Iterator[Watched]:
        """What a baseline keeps: the gates of each test, but for those whose model is searched."""
        for test in self._measured.values():
            if test.search is not None:
                continue
            image = test.server.image
            digest = None if image is None else (self._launcher.identity(image) or {})["the image"]
            requests = requests_digest(test.sweep.traffic)
            for gate in test.gates:
                for load in self._at(test, gate):
                    yield Watched(
                        test=test.nodeid,
                        name=_sweep_name(test),
                        model=test.variant.model,
                        variant=test.variant.name,
                        image=image,
                        image_digest=digest,
                        metric=gate.metric.name,
                        load=load,
                        requests=requests,
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

    def _measure_sweep(self, run: SweepRun, test: PerfTest, part: str = "") -> None:
        """Measure a sweep; ``part`` tells those of one test and variant apart."""
        take = self._journal.take(f"{_sweep_name(test)}{part}", self._ingredients(test))
        if not take.is_new:
            self._server_only.setdefault(test.server.image, take.server)
        run.measure(take, lambda: self._started(test.server))

    def _started(self, spec: ServerSpec) -> tuple[RunningServer, Watch, Mapping[str, Any]]:
        watched = self._watched(spec)
        server, idle = watched.server, watched.watch.idle
        row = self._server_only[spec.image] = {
            "image": spec.image,
            "version": server.version,
            "cpu_memory_mb": idle.cpu_memory_mb,
            "gpus": {uuid: dict(gpu) for uuid, gpu in idle.gpus.items()},
        }
        return server, watched.watch, row

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
        return self._current

    def _new_run(self, test: PerfTest) -> SweepRun | SearchRun:
        if test.search is None:
            return self._sweep_run(test)
        return SearchRun(
            test,
            test.search,
            rules=self._rules,
            measure=self._measure_sweep,
            progress=self._progress,
            sweep_run=self._sweep_run,
        )

    def _sweep_run(self, test: PerfTest, **how: Any) -> SweepRun:
        return SweepRun(
            test,
            name=with_image(test.variant.name, test.server.image, self._images),
            generator=self._generator,
            progress=self._progress,
            **{"rules": self._rules, **how},
        )


def _sweep_name(test: PerfTest) -> str:
    """What the sweep of a test is called in every session: variants are counted in each anew."""
    variant = readable_id(test.variant.overrides)
    return test.nodeid if variant in test.nodeid else f"{test.nodeid} ({variant})"
