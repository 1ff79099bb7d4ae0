"""How often the paired gate is right on a real Triton, where base and head are known.

Prints a row of the table in docs/gate.md for each scenario that is named (``tox -e gate-trials --
equal slower5``). A trial is one decision: a server of its own, two arms, quads until the gate
stops; half a minute. ``--trials`` says how many, ``--minutes`` when to stop at the latest. Beside
the gate, the same segments are judged by a fixed threshold on the means, as pytest-benchmark's
``--benchmark-compare-fail=mean:5%`` does, and by a t-test on all requests.

Hundreds of decisions take hours. ``--record`` appends each to a file, one JSON object a line, and
the rows are then of all that the file has: ``validation/gate_trials.jsonl`` is what docs/gate.md
shows. Seeds go on where those in the file end, so that no trial is a repetition.
"""

import argparse
import contextlib
import datetime
import json
import multiprocessing
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import ttest_ind

from pytest_triton_perf.collection import PerfTest
from pytest_triton_perf.domain.comparisons import Gate
from pytest_triton_perf.domain.levels import Load
from pytest_triton_perf.domain.metrics import find_metric
from pytest_triton_perf.domain.segments import Numbers
from pytest_triton_perf.domain.variants import Variant, default_name
from pytest_triton_perf.load.base import LoadGenerator, LoadReport, Traffic
from pytest_triton_perf.load.binaries import find_perf_analyzer
from pytest_triton_perf.load.perf_analyzer import PerfAnalyzer
from pytest_triton_perf.load.runner import LocalRunner
from pytest_triton_perf.markers import SweepSpec
from pytest_triton_perf.measuring import Rules
from pytest_triton_perf.pairing import Asked, PairedRun, in_turns
from pytest_triton_perf.probes.sampler import Sampler
from pytest_triton_perf.probes.watch import Watch
from pytest_triton_perf.servers.base import RunningServer, ServerSpec
from pytest_triton_perf.servers.embedded import find_server
from pytest_triton_perf.servers.local import LocalLauncher, LocalServer

LOAD = Load(concurrency=2)
THRESHOLD = 1.05
LEVEL = 0.01
"""Of the t-test, one-sided; the gate's chance of a false alarm is the same."""

SOURCE = """
import time
import numpy as np
import triton_python_backend_utils as pb

class TritonPythonModel:
    def execute(self, requests):
        answers = []
        for request in requests:
            {work}
            answers.append(pb.InferenceResponse([pb.Tensor("Y", np.zeros((1, 1), np.float32))]))
        return answers
"""
CONFIG = """
backend: "python"
max_batch_size: 8
input { name: "X" data_type: TYPE_FP32 dims: [ 1 ] }
output { name: "Y" data_type: TYPE_FP32 dims: [ 1 ] }
"""
SLEEP = "time.sleep({:.6f})"
COUNT = "sum(range({:.0f}))"

NEIGHBOUR = """
import random, time
coin = random.Random({seed})
while True:
    end = time.monotonic() + coin.expovariate(1)
    while time.monotonic() < end:
        pass
    time.sleep(coin.expovariate(1))
"""


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """What the models do: ``work`` takes ``amount``, in the head ``factor`` times as much."""

    work: str = SLEEP
    amount: float = 0.01
    factor: float = 1.0
    neighbour: bool = False

    def write(self, folder: Path) -> ServerSpec:
        """Make the model repositories of both arms."""
        for arm, factor in (("base", 1.0), ("head", self.factor)):
            version = folder / arm / "m" / "1"
            version.mkdir(parents=True)
            source = SOURCE.format(work=self.work.format(self.amount * factor))
            (version / "model.py").write_text(source)
            (version.parent / "config.pbtxt").write_text(CONFIG)
        return ServerSpec(repository=folder / "head", base=folder / "base")


SCENARIOS = {
    "equal": Scenario(),
    "equal-neighbour": Scenario(neighbour=True),
    "slower3": Scenario(factor=1.03),
    "slower5": Scenario(factor=1.05),
    "slower10": Scenario(factor=1.10),
    "cpu-equal": Scenario(work=COUNT, amount=300_000),
    "cpu-slower5": Scenario(work=COUNT, amount=300_000, factor=1.05),
    "cpu-slower10": Scenario(work=COUNT, amount=300_000, factor=1.10),
}


@dataclass(kw_only=True)
class Recorded:
    """What went on in a trial: each arm's latencies, and the seconds from turn to first segment."""

    arm: str = ""
    turned: float | None = None
    reloads_s: float = 0.0
    latencies_s: dict[str, list[Numbers]] = field(default_factory=lambda: {"base": [], "head": []})

    def turn(self, repository: Path) -> None:
        """An arm is about to be loaded."""
        self.arm, self.turned = repository.name, time.monotonic()

    def segment(self, report: LoadReport) -> None:
        """A segment was made."""
        if self.turned is not None:
            self.reloads_s += report.segment.started - self.turned
            self.turned = None
        self.latencies_s[self.arm].append(report.segment.steady.latency_s)


class Arms:
    """A server that tells which arm it turns to."""

    def __init__(self, server: LocalServer, recorded: Recorded) -> None:
        self._server = server
        self._recorded = recorded

    def turn_to(self, repository: Path) -> None:
        """As :class:`LocalServer`."""
        self._recorded.turn(repository)
        self._server.turn_to(repository)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._server, name)


class Recording:
    """A load generator that keeps what the segments of a trial were."""

    def __init__(self, generator: LoadGenerator, recorded: Recorded) -> None:
        self._generator = generator
        self._recorded = recorded
        self.warm_up = generator.warm_up
        self.describe = generator.describe

    def run(self, traffic: Traffic, load: Load, *, seconds: float, **how: Any) -> LoadReport:
        """As :class:`PerfAnalyzer`."""
        report = self._generator.run(traffic, load, seconds=seconds, **how)
        if seconds:
            self._recorded.segment(report)
        return report


class Silent:
    """Progress that nobody sees."""

    def step(self, text: str) -> None:
        """Say nothing."""

    def finished(self, text: str) -> None:
        """Say nothing."""


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One decision: the gate's, and what others say of its segments; times in seconds."""

    scenario: str
    seed: int
    utc: str
    status: str
    quads: int
    change_pct: float | None
    mde_pct: float | None
    seconds: float
    reload_share: float
    over_threshold: bool
    t_test: bool


def trial(name: str, seed: int, gate: Gate) -> Trial:
    """Decide once."""
    scenario, recorded = SCENARIOS[name], Recorded()
    with tempfile.TemporaryDirectory(prefix="gate-trial-") as folder:
        spec = scenario.write(Path(folder))
        servers = [start(spec)]
        watch = Watch(Sampler([]))

        def running() -> tuple[RunningServer, Watch]:
            if not servers[-1].alive():
                servers[-1].stop()
                servers.append(start(spec))
            return Arms(servers[-1], recorded), watch

        try:
            watch.start()
            run = PairedRun(
                [Asked(test=_test(spec, gate), gate=gate, load=LOAD)],
                name="m",
                gates=1,
                coin=random.Random(seed),
                rules=Rules(),
                generator=Recording(PerfAnalyzer(_runner()), recorded),
                progress=Silent(),  # type: ignore[arg-type]
            )
            started = time.monotonic()
            run.measure(in_turns(running, spec))
            seconds = time.monotonic() - started
        finally:
            watch.stop()
            servers[-1].stop()
    (found,) = [comparison for comparison in run.comparisons() if comparison.gated]
    base, head = (np.concatenate(recorded.latencies_s[arm]) for arm in ("base", "head"))
    return Trial(
        scenario=name,
        seed=seed,
        utc=datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        status=found.status,
        quads=found.quads,
        change_pct=found.change_pct,
        mde_pct=found.mde_pct,
        seconds=seconds,
        reload_share=recorded.reloads_s / seconds,
        over_threshold=bool(head.mean() > THRESHOLD * base.mean()),
        t_test=bool(ttest_ind(head, base, equal_var=False, alternative="greater").pvalue < LEVEL),
    )


def start(spec: ServerSpec) -> LocalServer:
    """A server of the trial's own."""
    return LocalLauncher(find_server(None), gpus="none").start(spec)


def _runner() -> LocalRunner:
    return LocalRunner(find_perf_analyzer(None))


def _test(spec: ServerSpec, gate: Gate) -> PerfTest:
    traffic = Traffic(model="m", percentiles=(50, 99))
    sweep = SweepSpec(
        model="m", loads=(LOAD,), auto=False, variants=({},), traffic=traffic, server_args=()
    )
    variant = Variant(model="m", name=default_name("m"))
    return PerfTest(
        nodeid="trial", sweep=sweep, budgets=(), gates=(gate,), variant=variant, server=spec
    )


@contextlib.contextmanager
def neighbour(seed: int, *, wanted: bool) -> Iterator[None]:
    """Somebody else who keeps a core busy for random times, half of the time."""
    if not wanted:
        yield
        return
    process = subprocess.Popen([sys.executable, "-c", NEIGHBOUR.format(seed=seed)])
    try:
        yield
    finally:
        process.kill()
        process.wait()


def row(name: str, trials: Sequence[Trial]) -> str:
    """A row of the table."""
    count = len(trials)
    outcomes: Mapping[str, int] = Counter(each.status for each in trials)
    seen = [each.mde_pct for each in trials if each.mde_pct is not None]
    changes = [each.change_pct for each in trials if each.change_pct is not None]
    cells = [
        name,
        str(count),
        *(str(outcomes.get(status, 0)) for status in ("regressed", "unchanged", "improved")),
        str(count - sum(outcomes.get(s, 0) for s in ("regressed", "unchanged", "improved"))),
        f"{statistics.median(each.quads for each in trials):g}",
        f"{statistics.median(each.seconds for each in trials):.0f} s",
        f"{statistics.median(each.reload_share for each in trials):.0%}",
        f"{statistics.median(changes):+.1f}%" if changes else "-",
        f"{statistics.median(seen):.1f}%" if seen else "-",
        f"{sum(each.over_threshold for each in trials) / count:.0%}",
        f"{sum(each.t_test for each in trials) / count:.0%}",
    ]
    return f"| {' | '.join(cells)} |"


HEADER = (
    "| scenario | trials | regressed | unchanged | improved | other | quads | time | reloads | "
    "change | would see | mean:5% | t-test |"
)


def read(record: Path | None) -> list[Trial]:
    """The trials that a file has."""
    if record is None or not record.exists():
        return []
    return [Trial(**json.loads(line)) for line in record.read_text().splitlines()]


def next_seed(trials: Sequence[Trial]) -> int:
    """The first seed that none of them had, nor one that was lost with its session."""
    return 1 + max((each.seed for each in trials), default=-1)


def decide(name: str, seeds: Sequence[int], args: argparse.Namespace) -> Iterator[Trial]:
    """Trials of a scenario, as they come, until the time is up."""
    gate = Gate(
        metric=find_metric("throughput"), max_slowdown_pct=args.max_slowdown_pct, loads=(LOAD,)
    )
    deadline = time.monotonic() + 60 * args.minutes
    with (
        neighbour(seeds[0], wanted=SCENARIOS[name].neighbour),
        ProcessPoolExecutor(args.jobs, mp_context=multiprocessing.get_context("spawn")) as pool,
    ):
        waiting = list(seeds)
        running = {pool.submit(trial, name, seed, gate) for seed in waiting[: args.jobs]}
        del waiting[: args.jobs]
        while running:
            done = next(as_completed(running))
            running.remove(done)
            yield done.result()
            if waiting and time.monotonic() < deadline:
                running.add(pool.submit(trial, name, waiting.pop(0), gate))


def main() -> None:
    """Run the trials that were asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("scenarios", nargs="*", default=["equal", "slower5"], help="which")
    parser.add_argument("--trials", type=int, default=10, help="0 prints the rows of --record")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="for each scenario")
    parser.add_argument("--jobs", type=int, default=1, help="trials that are made at once")
    parser.add_argument("--max-slowdown-pct", type=float, default=5.0)
    parser.add_argument("--record", type=Path, help="file to append to")
    args = parser.parse_args()
    print(HEADER, f"|{' --- |' * 13}", sep="\n", flush=True)
    for name in args.scenarios:
        trials = [each for each in read(args.record) if each.scenario == name]
        if args.trials:
            first = next_seed(trials)
            for each in decide(name, range(first, first + args.trials), args):
                trials.append(each)
                if args.record is not None:
                    with args.record.open("a") as file:
                        file.write(f"{json.dumps(asdict(each))}\n")
        if trials:
            print(row(name, trials), flush=True)


if __name__ == "__main__":
    main()
