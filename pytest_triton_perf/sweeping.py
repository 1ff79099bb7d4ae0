"""One test's sweep while it is measured: what was measured before, and load for the rest."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from pytest_triton_perf.bench import Bench
from pytest_triton_perf.collection import PerfTest
from pytest_triton_perf.domain.bracketing import Step, next_step, out_of_time
from pytest_triton_perf.domain.budgets import Budget, Decision
from pytest_triton_perf.domain.levels import Estimate, Load, Measurement
from pytest_triton_perf.domain.metrics import SERVER_TIMES, find_metric, percentile_of
from pytest_triton_perf.domain.sweeps import Sweep
from pytest_triton_perf.domain.verdicts import Verdict, judge
from pytest_triton_perf.errors import TritonPerfError
from pytest_triton_perf.load.base import LoadGenerator, LoadReport
from pytest_triton_perf.measuring import MeasuredLevel, Measuring, Rules, Stopwatch
from pytest_triton_perf.probes import host
from pytest_triton_perf.probes.base import totals
from pytest_triton_perf.probes.summary import combined
from pytest_triton_perf.probes.watch import Watch
from pytest_triton_perf.progress import Progress
from pytest_triton_perf.records import Record
from pytest_triton_perf.servers.base import RunningServer
from pytest_triton_perf.takes import Take

_CLIENT_BOUND = "perf_analyzer could not keep up with the load"

Start = Callable[[], tuple[RunningServer, Watch, Mapping[str, object]]]
"""Gives the running server, what watches it, and what ``Run.server_only`` says of it."""


class SweepRun:
    """The sweep of one test.

    ``name`` is what messages call its configuration. ``then`` is told of every level when it was
    loaded once, and names another one that is to be, or ``None``. ``sweep`` is what was measured,
    as far as it got (further levels come into its list), and ``verdicts`` are those that
    ``judge`` last gave.
    """

    def __init__(
        self,
        test: PerfTest,
        *,
        name: str,
        rules: Rules,
        generator: LoadGenerator,
        progress: Progress,
        then: Callable[[Measurement], Load | None] = lambda measurement: None,
    ) -> None:
        self._test = test
        self._name = name
        self._rules = rules
        self._generator = generator
        self._progress = progress
        self._then = then
        self._why_not = ""
        self._decisions: Mapping[Budget, Mapping[Load, Decision]] = {}
        self._records: dict[Load, list[Record]] = {}
        self._live: set[Load] = set()
        self._bench: Bench | None = None
        self._stopwatch = Stopwatch()
        self._done: set[Load] = set()
        self._notes: dict[Load, list[str]] = {}
        self._measuring: Measuring | None = None
        self._take: Take | None = None
        self._measurements: list[Measurement] = []
        self.sweep = Sweep(
            test=test.nodeid,
            variant=test.variant,
            image=test.server.image,
            measurements=self._measurements,
        )
        self.verdicts: list[Verdict] = []

    @property
    def sweeps(self) -> list[Sweep]:
        """The sweep, if anything was measured."""
        return [self.sweep] if self.sweep.measurements else []

    @property
    def levels_left(self) -> int:
        """How many of the levels that were asked for are not done."""
        return len(set(self._test.sweep.loads) - self._done)

    def ended_early(self, error: TritonPerfError) -> None:
        """Note why the sweep has no more levels."""
        self._why_not = str(error).partition("\n")[0]

    def measure(self, take: Take, start: Start) -> None:
        """Measure every level. What was measured before an error is kept.

        Segments that ``take`` has are taken from there. The server is started, and the variant
        loaded, when more are needed.

        Raises:
            MissingPartError, ServerError, LoadError: a level could not be measured.
        """
        spec = self._test.sweep

        def make(load: Load, seconds: float, most: float) -> LoadReport:
            record = take.next(load)
            if record is None:
                bench = self._bench or self._set_up(take, start)
                self._progress.step(f"{self._name} at {load}")
                record = bench.make(load, seconds, most, stopwatch=self._stopwatch)
                take.add(record)
                self._live.add(load)
            else:
                self._stopwatch.add(record.used_s)
            self._records.setdefault(load, []).append(record)
            return record.report

        self._take = take
        self._measuring = measuring = Measuring(
            loads=spec.loads,
            auto=spec.auto,
            budgets=self._test.budgets,
            rules=self._rules,
            make=make,
            done=self._level_done,
            then=lambda level: self._then(self._measurement(level)),
            stopwatch=self._stopwatch,
        )
        try:
            if take.is_new:
                self._set_up(take, start)
            else:
                self._use_config(take.config)
                self.sweep = replace(self.sweep, memory=take.memory)
            measuring.run()
            take.finish(self._stopwatch.lap_s())
        finally:
            self._take_over(measuring)
            if not spec.auto:
                self._let_go()

    def narrow(self, limits: Sequence[Budget]) -> None:
        """Measure further levels, to tell at which concurrency ``limits`` break.

        All of them break as load rises, or all as it falls. Once the test is judged, nothing more
        is measured.

        Raises:
            ServerError, LoadError: a level could not be measured.
        """
        if self._measuring is None or self._take is None:
            return
        try:
            for batch_size in dict.fromkeys(load.batch_size for load in self._test.sweep.loads):
                self._narrow(self._measuring, limits, batch_size)
            self._take.finish(self._stopwatch.lap_s())
        finally:
            self._take_over(self._measuring)

    def _narrow(self, measuring: Measuring, limits: Sequence[Budget], batch_size: int) -> None:
        from pytest_triton_perf.domain.deciding import NEARLY

        def step() -> Step:
            levels = {
                level.load.concurrency: self._measurement(level)
                for level in measuring.levels
                if level.load.batch_size == batch_size and level.load.concurrency is not None
            }
            return next_step(levels, limits, enough_s=NEARLY * self._rules.loaded_s(2))

        def next_load() -> Load | None:
            concurrency = step().concurrency
            if concurrency is None:
                return None
            return Load(concurrency=concurrency, batch_size=batch_size)

        in_time = measuring.measure_more(next_load)
        last = step()
        note = last.note if in_time else out_of_time(last, limits)
        if last.kept is not None and note:
            load = Load(concurrency=last.kept, batch_size=batch_size)
            self._notes.setdefault(load, []).append(note)

    def _take_over(self, measuring: Measuring) -> None:
        """Put what was measured into the sweep, which the test may hold already."""
        self._measurements[:] = [self._measurement(level) for level in measuring.levels]
        if self._bench is not None:
            self.sweep = replace(self.sweep, memory=self._bench.memory)
        self._decisions = {b: measuring.decisions(b) for b in self._test.budgets}

    def _let_go(self) -> None:
        """Keep figures only: the requests of hundreds of levels would fill the memory."""
        self._records.clear()
        self._measuring = self._take = self._bench = None

    def judge(self) -> list[Verdict]:
        """The verdict on each budget of the test."""
        self._let_go()
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

    def _set_up(self, take: Take, start: Start) -> Bench:
        """Get ready for more load. Of a sweep that is resumed, that takes none of its time."""
        server, watch, server_only = start()
        self._progress.step(f"loading {self._name}")
        bench = self._bench = Bench(
            self._test,
            name=self._name,
            server=server,
            watch=watch,
            generator=self._generator,
            before=take.memory,
        )
        config = bench.load()
        self._use_config(config)
        if take.is_new:
            take.begin(config=config, server=server_only)
            self._stopwatch.start()
        bench.warm_up(take.measured, max_seconds=self._rules.max_seconds / 2)
        self._stopwatch.start()
        return bench

    def _use_config(self, config: Mapping[str, object]) -> None:
        self.sweep = replace(self.sweep, variant=replace(self._test.variant, config=config))

    def _level_done(self, level: MeasuredLevel) -> None:
        if level.load not in self._test.sweep.loads:
            self._progress.total += 1
        self._done.add(level.load)
        measurement = self._measurement(level)
        before = ", measured before" if measurement.reused else ""
        self._progress.finished(
            f"{self._name} at {level.load}: {_short(measurement)}{before}",
            reused=measurement.reused,
        )

    def _measurement(self, level: MeasuredLevel) -> Measurement:
        """A level's figures, from all of its segments."""
        from pytest_triton_perf.domain.estimates import estimate

        percentiles = self._test.sweep.traffic.percentiles
        found = estimate(level.segments, percentiles, self._rules.confidence)
        records = self._records[level.load]
        seen = combined([(record.report.segment.seconds, record.reading) for record in records])
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
        notes += self._notes.get(level.load, [])
        faults = host.faults((record.before, record.after) for record in records)
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
            reused=level.load not in self._live,
        )


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
