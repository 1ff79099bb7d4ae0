"""One test's sweep while it is measured: load on a running server, and what is seen meanwhile."""

import contextlib
import gc
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from pytest_triton_perf.collection import PerfTest
from pytest_triton_perf.domain.budgets import Budget, Decision
from pytest_triton_perf.domain.levels import Estimate, Load, Measurement
from pytest_triton_perf.domain.metrics import SERVER_TIMES, find_metric, percentile_of
from pytest_triton_perf.domain.sweeps import Sweep
from pytest_triton_perf.domain.verdicts import Verdict, judge
from pytest_triton_perf.errors import LoadError, ServerError, TritonPerfError
from pytest_triton_perf.load.base import LoadGenerator, LoadReport
from pytest_triton_perf.load.inputs import with_random_inputs
from pytest_triton_perf.measuring import MeasuredLevel, Measuring, Rules
from pytest_triton_perf.probes import host
from pytest_triton_perf.probes.base import Reading, totals
from pytest_triton_perf.probes.recorder import MemoryRecorder
from pytest_triton_perf.probes.summary import combined
from pytest_triton_perf.probes.watch import Watch
from pytest_triton_perf.progress import Progress
from pytest_triton_perf.servers.base import RunningServer, tail

_CLIENT_BOUND = "perf_analyzer could not keep up with the load"


@dataclass(kw_only=True)
class _Seen:
    """What was seen of the machine during the segments of one level."""

    readings: list[tuple[float, Reading]] = field(default_factory=list)
    """Each with the length of its segment in seconds."""
    stretches: list[tuple[host.HostState, host.HostState]] = field(default_factory=list)


class SweepRun:
    """The sweep of one test.

    ``name`` is what messages call its configuration. ``sweep`` is what was measured, as far as it
    got, and ``verdicts`` are those that ``judge`` last gave.
    """

    def __init__(
        self,
        test: PerfTest,
        *,
        name: str,
        rules: Rules,
        generator: LoadGenerator,
        progress: Progress,
    ) -> None:
        self._test = test
        self._name = name
        self._rules = rules
        self._generator = generator
        self._progress = progress
        self._why_not = ""
        self._decisions: Mapping[Budget, Mapping[Load, Decision]] = {}
        self._seen: dict[Load, _Seen] = {}
        self._done: set[Load] = set()
        self.sweep = Sweep(
            test=test.nodeid, variant=test.variant, image=test.server.image, measurements=[]
        )
        self.verdicts: list[Verdict] = []

    @property
    def levels_left(self) -> int:
        """How many of the levels that were asked for are not done."""
        return len(set(self._test.sweep.loads) - self._done)

    def ended_early(self, error: TritonPerfError) -> None:
        """Note why the sweep has no more levels."""
        self._why_not = str(error).partition("\n")[0]

    def measure(self, server: RunningServer, watch: Watch) -> None:
        """Load the variant and measure every level. What was measured before an error is kept.

        Raises:
            ServerError, LoadError: a level could not be measured.
        """
        recorder = watch.recorder()
        try:
            self._progress.step(f"loading {self._name}")
            with recorder.phase("load"):
                config = server.load(self._test.variant)
                watch.look_again()
            self.sweep = replace(self.sweep, variant=replace(self._test.variant, config=config))
            self._measure_levels(server, watch, recorder)
        finally:
            self.sweep = replace(self.sweep, memory=recorder.timeline())

    def judge(self) -> list[Verdict]:
        """The verdict on each budget of the test."""
        loads = self._test.sweep.loads
        if self._test.sweep.auto:
            loads = tuple(dict.fromkeys([*loads, *(level.load for level in self.sweep)]))
        self.verdicts = [
            judge(
                budget,
                self.sweep,
                loads,
                decisions=self._decisions.get(budget, {}),
                why=self._why_not,
            )
            for budget in self._test.budgets
        ]
        return self.verdicts

    def _measure_levels(
        self, server: RunningServer, watch: Watch, recorder: MemoryRecorder
    ) -> None:
        spec = self._test.sweep
        traffic = with_random_inputs(spec.traffic, self.sweep.variant.config)
        url = server.grpc_url if traffic.protocol == "grpc" else server.http_url
        pids = [] if server.pid is None else [server.pid]

        def make(load: Load, seconds: float, max_seconds: float) -> LoadReport:
            self._progress.step(f"{self._name} at {load}")
            with self._explained(load, server):
                before = host.look(pids)
                with recorder.phase(str(load)), _no_garbage_collection():
                    report = self._generator.run(
                        traffic, load, url=url, seconds=seconds, max_seconds=max_seconds
                    )
                after = host.look(pids)
            seen = self._seen.setdefault(load, _Seen())
            seen.stretches.append((before, after))
            segment = report.segment
            seen.readings.append((segment.seconds, watch.level(segment.started, segment.ended)))
            return report

        def done(level: MeasuredLevel) -> None:
            if level.load not in spec.loads:
                self._progress.total += 1
            self._done.add(level.load)
            text = _short(self._measurement(level))
            self._progress.finished(f"{self._name} at {level.load}: {text}")

        measuring = Measuring(
            loads=spec.loads,
            auto=spec.auto,
            budgets=self._test.budgets,
            rules=self._rules,
            make=make,
            done=done,
        )
        try:
            with self._explained(spec.loads[0], server), recorder.phase("warm-up"):
                self._generator.warm_up(
                    traffic, spec.loads[0], url=url, max_seconds=self._rules.max_seconds / 2
                )
                server.settle()
            measuring.run()
        finally:
            measurements = [self._measurement(level) for level in measuring.levels]
            self.sweep = replace(self.sweep, measurements=measurements)
            self._decisions = {b: measuring.decisions(b) for b in self._test.budgets}

    @contextlib.contextmanager
    def _explained(self, load: Load, server: RunningServer) -> Iterator[None]:
        """Say where load failed, and whether the server died of it."""
        where = f"{self._name} at {load}"
        try:
            yield
        except LoadError as error:
            if how := server.ended():
                raise ServerError(
                    f"{where}: tritonserver {how}; it was being measured. Its last words:\n"
                    f"{tail(server.logs())}"
                ) from error
            raise LoadError(f"{where}: {error}") from error

    def _measurement(self, level: MeasuredLevel) -> Measurement:
        """A level's figures, from all of its segments."""
        from pytest_triton_perf.domain.estimates import estimate

        percentiles = self._test.sweep.traffic.percentiles
        found = estimate(level.segments, percentiles, self._rules.confidence)
        seen = combined(self._seen[level.load].readings)
        rate = found.values.get("throughput")
        inferences = None if rate is None else rate.value * level.loaded_s
        plain = {**_server_times(level.reports), **totals(seen, inferences=inferences)}
        values = {**found.values, **{name: Estimate(value=v) for name, v in plain.items()}}
        missing = dict(found.missing)
        for report in level.reports:
            missing |= report.missing
        missing |= seen.missing
        missing.setdefault("energy_per_inference_j", "there is no throughput to relate energy to")
        notes = [*found.notes, *(note for report in level.reports for note in report.notes)]
        faults = host.faults(self._seen[level.load].stretches)
        if not all(report.keeps_up for report in level.reports):
            faults = (*faults, _CLIENT_BOUND)
        return Measurement(
            load=level.load,
            requests=found.requests,
            wall_s=round(level.loaded_s, 3),
            values=values,
            missing={name: why for name, why in missing.items() if name not in values},
            gpus=seen.gpus,
            notes=tuple(dict.fromkeys([*notes, *seen.notes])),
            faults=faults,
        )


@contextlib.contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """Python's garbage is collected before the load and not during it."""
    enabled = gc.isenabled()
    gc.collect(0)
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _server_times(reports: Sequence[LoadReport]) -> dict[str, float]:
    """Triton's means per request, over all segments that have them."""
    times = {}
    for name in SERVER_TIMES:
        parts = [(r.server_ms[name], r.segment.requests) for r in reports if name in r.server_ms]
        requests = sum(count for _, count in parts)
        if requests:
            times[name] = sum(ms * count for ms, count in parts) / requests
    return times


def _short(measurement: Measurement) -> str:
    """Throughput and the highest percentile, for a progress line."""
    tails = [name for name in measurement.values if percentile_of(name)]
    shown = ["throughput", *tails[-1:]]
    metrics = [find_metric(name) for name in shown if name in measurement.values]
    return ", ".join(
        f"{metric.label} {metric.format(measurement.values[metric.name].value)}"
        for metric in metrics
    )
