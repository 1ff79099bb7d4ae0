"""A segment survives the journal with every bit, in few bytes."""

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from loops import closed_loop, lognormal

from pytest_triton_perf.domain.levels import Load
from pytest_triton_perf.domain.segments import Segment, Window
from pytest_triton_perf.domain.timelines import Curve, MemoryTimeline, Phase
from pytest_triton_perf.load.base import LoadReport
from pytest_triton_perf.probes.base import Reading
from pytest_triton_perf.probes.host import HostState
from pytest_triton_perf.records import (
    Record,
    UnreadableRecord,
    pack,
    record_from_json,
    record_to_json,
    unpack,
)


def record(load: Load | None = None, segment: Segment | None = None, **changes: Any) -> Record:
    state = HostState(at=1.5, busy_s=0.1 + 0.2, stolen_s=0.0, throttled_s={"/sys/group": 1 / 3})
    whole = Record(
        load=load or Load(concurrency=2),
        report=LoadReport(
            segment=segment or closed_loop(lognormal(7, 500), 2, started=1e5 / 3),
            server_ms={"queue_ms": 0.1},
            missing={"compute_input_ms": "no statistics"},
            keeps_up=False,
            notes=("one", "two"),
        ),
        reading=Reading(
            cpu_memory_mb=1e6 / 7,
            gpus={"GPU-a": {"power_w": 0.1, "throttle_reasons": "heat", "memory_mb": None}},
            missing={"power_w": "lost"},
            notes=("hung",),
        ),
        before=state,
        after=replace(state, at=2.5),
        memory=MemoryTimeline(
            phases=(Phase(name="load", start_s=0.0, end_s=0.25),),
            curves={"cpu_memory_mb": Curve(at_s=[0.1], mb=[10.0])},
            gpus={"GPU-a": Curve(at_s=[0.1, 0.2], mb=[10.0, 11.5])},
        ),
        used_s=1 / 7,
    )
    return replace(whole, **changes)


def through_json(before: Record) -> Record:
    return record_from_json(json.loads(json.dumps(record_to_json(before))))


def test_everything_survives_to_the_last_bit() -> None:
    before = record()
    after = through_json(before)
    for name in ("sent_s", "answered_s"):
        old, new = (getattr(r.report.segment, name) for r in (before, after))
        assert old.tobytes() == new.tobytes()
    same = before.report.segment
    assert replace(after, report=replace(after.report, segment=same)) == before
    assert (after.report.segment.started, after.report.segment.ended) == (same.started, same.ended)
    assert (after.report.segment.in_flight, after.report.segment.batch_size) == (2, 1)


def test_windows_survive_with_their_percentiles() -> None:
    percentiles = {50: 1.25, 99: 2.5}
    windows = (
        Window(requests=10, seconds=0.5, avg_latency_ms=1.5, percentiles_ms=percentiles),
        Window(requests=11, seconds=0.25, avg_latency_ms=1.75, parts=((5.5, 1.5), (5.5, 2.0))),
    )
    segment = Segment(started=1.0, ended=2.0, windows=windows)
    after = through_json(record(Load(request_rate=2.5), segment))
    assert after.report.segment.windows == windows
    assert after.report.segment.requests == 21
    assert after.load == Load(request_rate=2.5)


@pytest.mark.parametrize(
    "numbers",
    [
        np.empty(0),
        np.array([123456.789012345]),
        np.array([1.0, 2.0, np.inf, np.inf]),  # requests that failed
        np.array([1 / 3, 2 / 3, 1e-300, -5.5]),  # of another clock than nanoseconds
        np.array([3e9, 4e9]),
    ],
)
def test_any_times_survive(numbers: "np.typing.NDArray[np.float64]") -> None:
    assert unpack(pack(numbers)).tobytes() == numbers.tobytes()


def test_a_request_takes_few_bytes() -> None:
    rng = np.random.default_rng(3)
    took_ns = rng.lognormal(14, 0.3, 30_000).astype(np.int64)  # about 1.2 ms
    answered_ns = 10**15 + np.cumsum(took_ns)
    answered_s, sent_s = answered_ns / 1e9, (answered_ns - took_ns) / 1e9
    assert len(pack(answered_s) + pack(sent_s)) / 30_000 < 9
    assert np.array_equal(unpack(pack(answered_s)), answered_s)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        ({"load": {"concurrency": 1, "clients": 2}}, "TypeError: .*clients"),
        ({"memory": {}}, "KeyError: 'phases'"),
        ({"load": {}}, "either a concurrency or a request rate"),
    ],
)
def test_a_record_of_another_shape_is_told_from_one(damage: Any, words: str) -> None:
    data = record_to_json(record())
    with pytest.raises(UnreadableRecord, match=words):
        record_from_json({**data, **damage})


@pytest.mark.parametrize(
    "text", ["", "n", "x" + pack(np.ones(3))[1:], "nAAAA", pack(np.ones(3))[:-4]]
)
def test_times_that_are_damaged_are_told_from_others(text: str) -> None:
    data = record_to_json(record())
    with pytest.raises(UnreadableRecord):
        record_from_json({**data, "segment": {**data["segment"], "sent_s": text}})
