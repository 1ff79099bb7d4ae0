"""The paired gate: one variant in the base and in the head, in turns.

Both arms are served by the same process, one at a time and never together: nothing differs between
them but the repository, an arm has the machine's memory to itself, and it is loaded afresh whenever
its turn comes, so that what differs from load to load counts as noise. (Two servers would differ
for the whole session in how their processes happen to lie in memory; two names for one model would
break ensembles.) Arms that are two images get a server of their own at each turn, for the same
reason. A quad is base, head, head, base or the other way round, as a coin says.
"""

import contextlib
import math
import random
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

from pytest_triton_perf.bench import END_S, no_garbage_collection
from pytest_triton_perf.collection import PerfTest
from pytest_triton_perf.domain.comparisons import Comparison, Gate, change_pct, interval_pct
from pytest_triton_perf.domain.levels import Load
from pytest_triton_perf.domain.metrics import Metric, find_metric, percentile_name
from pytest_triton_perf.domain.variants import Variant
from pytest_triton_perf.errors import ServerError, TritonPerfError, UsageError
from pytest_triton_perf.load.base import LoadGenerator, Traffic
from pytest_triton_perf.load.inputs import with_random_inputs
from pytest_triton_perf.measuring import Rules
from pytest_triton_perf.probes.base import totals
from pytest_triton_perf.probes.watch import Watch
from pytest_triton_perf.progress import Progress
from pytest_triton_perf.servers.base import RunningServer, ServerSpec, tail

if TYPE_CHECKING:
    from pytest_triton_perf.domain.gating import Finding

Arm = Literal["base", "head"]
_ARMS: tuple[Arm, Arm] = ("base", "head")

Serve = Callable[[Arm], tuple[RunningServer, Watch]]
"""Turns to an arm: the server that loads its models from then on, and what watches it."""

_SEGMENT_S = 0.45
_RELOADS = 3
"""Of a quad, which has four segments: where these are as long, less than half of it is reloads."""

_MOST_FOR_SEGMENTS = 16
"""Segments are not made so long that fewer quads than this fit into the time."""

_MEMORY = ("cpu_memory_mb", "gpu_memory_mb")


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A gate of a test at one load."""

    test: PerfTest
    gate: Gate
    load: Load


@dataclass(kw_only=True, eq=False)
class _Track:
    """One metric of one test at one load: what the quads gave so far, and what that says.

    ``logs`` are those of the quad that is being made.
    """

    asked: Asked
    metric: Metric
    gated: bool
    logs: dict[Arm, list[float]] = field(default_factory=dict)
    worse: list[float] = field(default_factory=list)
    finding: "Finding | None" = None
    why_not: str = ""

    @property
    def is_open(self) -> bool:
        """Whether quads go on because of it."""
        settled = self.finding is not None and self.finding.settled
        return self.gated and not self.why_not and not settled


@dataclass(kw_only=True, eq=False)
class _Point:
    """Load that serves all gates that are asked at it; ``requests`` are as both arms get them."""

    traffic: Traffic
    load: Load
    tracks: list[_Track] = field(default_factory=list)
    requests: Traffic | None = None

    @property
    def is_open(self) -> bool:
        return any(track.is_open for track in self.tracks)


class _DiedError(ServerError):
    """The server of an arm died while that was loaded or measured."""


class PairedRun:
    """The quads of all gates on one variant, which ``asked`` names, and what comes of them.

    ``gates`` is how many gates share the session's chance of a false alarm, ``coin`` decides the
    orders, and ``rules`` say for how many seconds load is made at most. ``notes`` are remarks
    that a reader of the outcome must see.
    """

    def __init__(
        self,
        asked: Sequence[Asked],
        *,
        name: str,
        gates: int,
        coin: random.Random,
        rules: Rules,
        generator: LoadGenerator,
        progress: Progress,
    ) -> None:
        self._test = asked[0].test
        self._name = name
        self._gates = gates
        self._coin = coin
        self._rules = rules
        self._generator = generator
        self._progress = progress
        self._points = _points(asked)
        self.notes: list[str] = []
        self._quads = 0
        self._loaded_s = 0.0
        self._reloads_s = 0.0

    @cached_property
    def is_new(self) -> bool:
        """Whether the base has no such model."""
        from pytest_triton_perf.servers.model_config import models_in

        base = self._test.server.base
        return base is None or self._test.sweep.model not in [m.name for m in models_in(base)]

    def measure(self, serve: Serve) -> None:
        """Make quads until all gates are decided, or the time is up.

        A quad in which the server dies is made once more: Triton itself does now and then, of
        models that come and go.

        Raises:
            ServerError, LoadError: an arm could not be loaded or measured; says which.
            UsageError: the variant is not possible in the base.
        """
        arms = self._arms()
        while self._quads < self._most_quads and any(point.is_open for point in self._points):
            self._progress.step(f"gate of {self._name}: quad {self._quads + 1}")
            try:
                self._quad(arms, serve)
            except _DiedError as error:
                if self.notes:
                    raise
                died = str(error).partition("\n")[0]
                self.notes.append(f"gate of {self._name}: {died}; one more was started for it")
        told = ", ".join(f"{c.metric} {c.status}" for c in self.comparisons() if c.gated)
        self._progress.finished(f"gate of {self._name}: {told} after {self._quads} quads")

    def ended_early(self, error: TritonPerfError) -> None:
        """Note why gates that are not decided will not be."""
        for track in self._tracks:
            if track.is_open:
                track.why_not = str(error).partition("\n")[0]

    def comparisons(self) -> list[Comparison]:
        """What came out: that of each gate, and of the metrics that were measured beside it."""
        told = [track for track in self._tracks if track.gated or self._is_measured(track)]
        return [self._comparison(track) for track in told]

    @property
    def _tracks(self) -> list[_Track]:
        return [track for point in self._points for track in point.tracks]

    def _arms(self) -> Mapping[Arm, Variant]:
        from pytest_triton_perf.servers.model_config import (
            apply_overrides,
            check_model,
            read_config,
        )

        base, variant = self._test.server.base, self._test.variant
        assert base is not None
        try:
            config = read_config(check_model(base, variant.model))
            changed = apply_overrides(variant.model, config or {}, variant.overrides)
        except UsageError as error:
            raise UsageError(f"the base: {error}") from None
        in_base = replace(variant, config={} if config is None else changed)
        return {"base": in_base, "head": variant}

    @property
    def _most_quads(self) -> int:
        """How many quads there can be in the time that is allowed."""
        from pytest_triton_perf.domain.gating import MOST_QUADS

        if not self._quads:
            return MOST_QUADS
        in_time = int(self._rules.max_seconds * self._quads / self._loaded_s)
        return max(self._quads, min(MOST_QUADS, in_time))

    def _quad(self, arms: Mapping[Arm, Variant], serve: Serve) -> None:
        first, second = _ARMS if self._coin.random() < 0.5 else _ARMS[::-1]
        seconds = self._segment_s
        points = [point for point in self._points if point.is_open]
        tracks = [track for point in points for track in point.tracks]
        for track in tracks:
            track.logs = {"base": [], "head": []}
        for turn, arm in enumerate((first, second, second, first)):
            if turn != 2:
                server, watch = self._load(arm, arms[arm], points, serve)
            with _explained(arm, server):
                for point in points:
                    self._segment(arm, point, seconds, server, watch)
        self._quads += 1
        for track in tracks:
            if not track.why_not:
                self._judge(track)

    @property
    def _segment_s(self) -> float:
        """How long segments of the next quad are: the same for both arms."""
        if not self._quads:
            return _SEGMENT_S
        reload_s = self._reloads_s / (_RELOADS * self._quads)
        longest_s = self._rules.max_seconds / (4 * len(self._points) * _MOST_FOR_SEGMENTS)
        return max(_SEGMENT_S, min(reload_s, longest_s))

    def _load(
        self, arm: Arm, variant: Variant, points: Sequence[_Point], serve: Serve
    ) -> tuple[RunningServer, Watch]:
        """Load an arm afresh, and send it requests that nobody measures."""
        started = time.monotonic()
        with _explained(arm):
            server, watch = serve(arm)
        with _explained(arm, server):
            config = server.load(variant)
            server.settle()
            watch.look_again()
            for point in points:
                self._warm_up(point, config, _url(server, point.traffic))
        self._reloads_s += time.monotonic() - started
        return server, watch

    def _warm_up(self, point: _Point, config: Mapping[str, Any], url: str) -> None:
        patience_s = self._rules.max_seconds / 2
        if point.requests is None:
            point.requests = with_random_inputs(point.traffic, config)
            self._generator.warm_up(point.requests, point.load, url=url, max_seconds=patience_s)
        self._generator.run(point.requests, point.load, url=url, seconds=0, max_seconds=patience_s)

    def _segment(
        self, arm: Arm, point: _Point, seconds: float, server: RunningServer, watch: Watch
    ) -> None:
        """Make load on the arm that is served, and note what each metric was."""
        from pytest_triton_perf.domain.estimates import estimate

        assert point.requests is not None
        with no_garbage_collection():
            segment = self._generator.run(
                point.requests,
                point.load,
                url=_url(server, point.traffic),
                seconds=seconds,
                max_seconds=self._rules.max_seconds / 2,
            ).segment
        self._loaded_s += segment.seconds
        found = estimate([segment], point.traffic.percentiles)
        seen = watch.level(segment.started, segment.ended)
        values = {name: got.value for name, got in found.values.items()} | totals(seen)
        missing = {**seen.missing, **found.missing}
        for track in point.tracks:
            name = track.metric.name
            if (value := values.get(name)) is not None and value > 0:
                track.logs[arm].append(math.log(value))
            elif not track.why_not:
                why = missing.get(name, "it was 0, which cannot be compared")
                track.why_not = f"{track.metric.label} of the {arm}: {why}"

    def _judge(self, track: _Track) -> None:
        from pytest_triton_perf.domain.gating import find

        more = (sum(track.logs["head"]) - sum(track.logs["base"])) / 2
        track.worse.append(more if track.metric.better == "lower" else -more)
        allowed = track.asked.gate.allowed
        track.finding = find(track.worse, allowed=allowed, gates=self._gates, most=self._most_quads)

    def _is_measured(self, track: _Track) -> bool:
        return track.finding is not None and not track.why_not

    def _comparison(self, track: _Track) -> Comparison:
        test, gate, metric = track.asked.test, track.asked.gate, track.metric
        about = Comparison(
            test=test.nodeid,
            model=test.variant.model,
            variant=test.variant.name,
            image=test.server.image,
            metric=metric.name,
            load=track.asked.load,
            gated=track.gated,
            mode=gate.mode,
            max_slowdown_pct=gate.max_slowdown_pct,
            quads=len(track.worse),
            status="not_comparable",
            reason=track.why_not or "the session ended before a quad was complete",
        )
        if self.is_new:
            return replace(about, status="no_baseline", reason="the base has no such model")
        if track.why_not or (finding := track.finding) is None:
            return about
        mde = finding.detectable
        return replace(
            about,
            change_pct=change_pct(metric, finding.change),
            ci_pct=interval_pct(metric, finding.interval),
            mde_pct=None if mde is None else abs(change_pct(metric, mde)),
            status=finding.outcome,
            reason=self._why_undecided() if finding.outcome == "inconclusive" else "",
        )

    def _why_undecided(self) -> str:
        from pytest_triton_perf.domain.gating import MOST_QUADS

        if self._quads < MOST_QUADS:
            return f"{self._quads} quads do not tell; raise --triton-perf-max-seconds"
        return f"the machine is too noisy: {self._quads} quads do not tell"


def _points(asked: Sequence[Asked]) -> list[_Point]:
    """Where load is made: once for all that ask for the same, with the metrics to be told."""
    points: list[_Point] = []
    for each in asked:
        traffic = each.test.sweep.traffic
        known = [p for p in points if (p.traffic, p.load) == (traffic, each.load)]
        point = known[0] if known else _Point(traffic=traffic, load=each.load)
        if not known:
            points.append(point)
        point.tracks.append(_Track(asked=each, metric=each.gate.metric, gated=True))
    for point in points:
        point.tracks += _beside(point)
    return points


def _beside(point: _Point) -> Iterator[_Track]:
    """The other metrics of each test, which fail nothing."""
    latencies = ["avg_latency_ms", *map(percentile_name, point.traffic.percentiles)]
    closed = point.load.concurrency is not None
    names = [*(["throughput"] if closed else []), *latencies, *_MEMORY]
    for test in dict.fromkeys(track.asked.test.nodeid for track in point.tracks):
        gates = [track for track in point.tracks if track.asked.test.nodeid == test]
        gated = {track.metric.name for track in gates}
        for name in names:
            if name not in gated:
                yield _Track(asked=gates[0].asked, metric=find_metric(name), gated=False)


def _url(server: RunningServer, traffic: Traffic) -> str:
    return server.grpc_url if traffic.protocol == "grpc" else server.http_url


def in_turns(running: Callable[[], tuple[RunningServer, Watch]], spec: ServerSpec) -> Serve:
    """Both repositories of ``spec`` on one server, whose process stays while it lives."""

    def serve(arm: Arm) -> tuple[RunningServer, Watch]:
        server, watch = running()
        repository = spec.base if arm == "base" else spec.repository
        assert repository is not None
        server.turn_to(repository)
        return server, watch

    return serve


@contextlib.contextmanager
def _explained(arm: Arm, server: RunningServer | None = None) -> Iterator[None]:
    """Say which arm could not be loaded or measured, and whether the server died of it."""
    try:
        yield
    except TritonPerfError as error:
        if server is not None and (how := server.ended(within_s=END_S)):
            raise _DiedError(
                f"the {arm}: tritonserver {how} when it was to be measured\nIts last words:\n"
                f"{tail(server.logs())}"
            ) from error
        raise type(error)(f"the {arm}: {error}") from error


def gone_models(servers: Iterable[ServerSpec]) -> list[Comparison]:
    """A comparison for each model that a base has and its head has not."""
    from pytest_triton_perf.servers.model_config import models_in

    pairs = dict.fromkeys((s.repository, s.base) for s in servers if s.repository and s.base)
    gone = {
        model.name: None
        for head, base in pairs
        for model in models_in(base)
        if model.name not in [kept.name for kept in models_in(head)]
    }
    return [
        Comparison(
            model=model,
            status="vanished",
            reason=f"the base has the model {model!r}, the head has not",
        )
        for model in gone
    ]
