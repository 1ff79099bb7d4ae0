"""The load generator with the real perf_analyzer on a real server."""

import contextlib
import json
import os
import signal
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest
from numpy.typing import NDArray

from pytest_triton_perf.domain.levels import Load
from pytest_triton_perf.domain.metrics import SERVER_TIMES
from pytest_triton_perf.errors import LoadError
from pytest_triton_perf.load.base import LoadReport, Traffic, WireProtocol
from pytest_triton_perf.load.binaries import find_perf_analyzer
from pytest_triton_perf.load.inputs import with_random_inputs
from pytest_triton_perf.load.perf_analyzer import PerfAnalyzer
from pytest_triton_perf.load.runner import LocalRunner, PerfAnalyzerBinary
from pytest_triton_perf.servers.base import ServerSpec
from pytest_triton_perf.servers.embedded import find_server
from pytest_triton_perf.servers.local import LocalLauncher, LocalServer
from pytest_triton_perf.servers.model_config import to_dict

MODEL = """
import time
import triton_python_backend_utils as pb

class TritonPythonModel:
    def execute(self, requests):
        answers = []
        for request in requests:
            x = pb.get_input_tensor_by_name(request, "X").as_numpy()
            {execute}
            answers.append(pb.InferenceResponse([pb.Tensor("Y", x)]))
        return answers
"""
STREAMING_MODEL = """
import triton_python_backend_utils as pb

class TritonPythonModel:
    def execute(self, requests):
        for request in requests:
            x = pb.get_input_tensor_by_name(request, "X").as_numpy()
            sender = request.get_response_sender()
            for _ in range(3):
                sender.send(pb.InferenceResponse([pb.Tensor("Y", x)]))
            sender.send(flags=pb.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
"""
ALL_TYPES = """
            def values(name):
                return pb.get_input_tensor_by_name(request, name).as_numpy()
            for name in ("X", "HALF", "DOUBLE"):
                assert 0 <= values(name).min() < values(name).max() < 1, name
            for name in ("INT8", "INT64", "UINT16", "OPTIONAL"):
                assert set(values(name).flat) <= {0, 1}, name
            assert values("BOOL").dtype == bool
            assert values("TEXT").shape[1:] == (2, 3)
            assert all(len(text) == 128 for text in values("TEXT").flat)
            assert pb.get_input_tensor_by_name(request, "BRAIN").shape()[1:] == [5]
            time.sleep(0.002)  # a faster one's exports are too large to be asked for
"""
ALL_INPUTS = """
input [
  { name: 'HALF' data_type: TYPE_FP16 dims: [ 64 ] },
  { name: 'DOUBLE' data_type: TYPE_FP64 dims: [ 64 ] },
  { name: 'BRAIN' data_type: TYPE_BF16 dims: [ 5 ] },
  { name: 'INT8' data_type: TYPE_INT8 dims: [ 3, 3 ] },
  { name: 'INT64' data_type: TYPE_INT64 dims: [ -1 ] },
  { name: 'UINT16' data_type: TYPE_UINT16 dims: [ 3 ] },
  { name: 'OPTIONAL' data_type: TYPE_INT32 dims: [ 2 ] optional: true },
  { name: 'BOOL' data_type: TYPE_BOOL dims: [ 3 ] },
  { name: 'TEXT' data_type: TYPE_STRING dims: [ 2, 3 ] }
]
"""
LONG_SEQUENCES = """
            start = pb.get_input_tensor_by_name(request, "START").as_numpy().item()
            self.requests = getattr(self, "requests", 0) + 1
            self.sequences = getattr(self, "sequences", 0) + start
            assert self.requests > 8 * (self.sequences - 1), "the sequences are short"
"""
SEQUENCE_CONFIG = (
    "sequence_batching { control_input { name: 'START' "
    "control { kind: CONTROL_SEQUENCE_START fp32_false_true: [ 0, 1 ] } } }"
)
SEVENS = "assert (x == 7).all(), f'not seven: {x.flat[0]}'"


def add_model(
    repository: Path, name: str, code: str, *, dims: str = "4", count: int = 1, config: str = ""
) -> None:
    folder = repository / name / "1"
    folder.mkdir(parents=True)
    (folder / "model.py").write_text(code)
    (folder.parent / "config.pbtxt").write_text(
        f'backend: "python"\nmax_batch_size: 8\n{config}\n'
        f"input {{ name: 'X' data_type: TYPE_FP32 dims: [ {dims} ] }}\n"
        f"output {{ name: 'Y' data_type: TYPE_FP32 dims: [ {dims} ] }}\n"
        f"instance_group {{ kind: KIND_CPU count: {count} }}\n"
    )


@contextlib.contextmanager
def running(repository: Path) -> Iterator[LocalServer]:
    """A server with all models of the repository."""
    launcher = LocalLauncher(find_server(None), gpus="none")
    server = launcher.start(ServerSpec(repository=repository))
    try:
        for model in sorted(repository.iterdir()):
            server.client.load_model(model.name)
        yield server
    finally:
        if server.pid is not None and server.alive():
            os.kill(server.pid, signal.SIGKILL)  # it would wait for the hung model
        server.stop()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServer]:
    repository = tmp_path_factory.mktemp("models")
    add_model(repository, "echo", MODEL.format(execute="pass"))
    add_model(repository, "sevens", MODEL.format(execute=SEVENS))
    add_model(repository, "dynamic", MODEL.format(execute="pass"), dims="-1")
    add_model(repository, "steady", MODEL.format(execute="time.sleep(0.005)"), count=4)
    add_model(repository, "large", MODEL.format(execute="pass"), dims="3, 96, 96")
    add_model(repository, "nan", MODEL.format(execute="x = x * float('nan')"))
    add_model(
        repository,
        "sequence",
        MODEL.format(execute="pass"),
        config=SEQUENCE_CONFIG,
    )
    add_model(repository, "sequences", MODEL.format(execute=LONG_SEQUENCES), config=SEQUENCE_CONFIG)
    add_model(repository, "types", MODEL.format(execute=ALL_TYPES), config=ALL_INPUTS)
    add_model(repository, "slow", MODEL.format(execute="time.sleep(0.4)"), count=4)
    add_model(repository, "hung", MODEL.format(execute="time.sleep(60)"))
    add_model(
        repository,
        "streaming",
        STREAMING_MODEL,
        config="model_transaction_policy { decoupled: true }",
    )
    with running(repository) as server:
        yield server


@pytest.fixture
def generator() -> Iterator[PerfAnalyzer]:
    before = set(psutil.Process().children(recursive=True))
    yield PerfAnalyzer(LocalRunner(find_perf_analyzer(None)))
    left = set(psutil.Process().children(recursive=True)) - before
    assert [process for process in left if "perf_analyzer" in process.name()] == []


def url_of(server: LocalServer, traffic: Traffic) -> str:
    return server.grpc_url if traffic.protocol == "grpc" else server.http_url


def measure(
    generator: PerfAnalyzer,
    server: LocalServer,
    traffic: Traffic,
    load: Load | None = None,
    seconds: float = 0.5,
    max_seconds: float = 15,
) -> LoadReport:
    return generator.run(
        traffic,
        load or Load(concurrency=2),
        url=url_of(server, traffic),
        seconds=seconds,
        max_seconds=max_seconds,
    )


def latencies_ms(report: LoadReport) -> NDArray[np.float64]:
    return 1000 * (report.segment.answered_s - report.segment.sent_s)


def assert_whole(report: LoadReport, seconds: float = 0.5) -> None:
    """Requests one by one, all within their time, and the server's part of their latency."""
    segment = report.segment
    assert segment.sent_s.size > 0
    assert segment.windows == ()
    assert report.missing == {}
    assert list(report.server_ms) == list(SERVER_TIMES)
    assert 0 < report.server_ms["compute_infer_ms"] < latencies_ms(report).mean()
    assert 0.9 * seconds <= segment.seconds < seconds + 0.5
    assert segment.started <= segment.sent_s.min()
    assert segment.answered_s.max() <= segment.ended + 0.01
    assert latencies_ms(report).min() > 0


def test_describe(generator: PerfAnalyzer) -> None:
    described = generator.describe()
    assert described["name"] == "perf_analyzer"
    assert described["version"] == find_perf_analyzer(None).version


@pytest.mark.parametrize(
    "traffic",
    [
        Traffic(model="echo"),
        Traffic(model="echo", protocol="http", input_data="zero"),
        Traffic(model="echo", input_data="random"),
        Traffic(model="dynamic", shapes={"X": (3,)}),
        Traffic(model="echo", shared_memory="system"),
        Traffic(model="echo", protocol="http", extra_args=("-H", "x-name: a = b")),
    ],
    ids=lambda t: f"{t.protocol}-{t.input_data}-{t.shared_memory}",
)
def test_one_level(generator: PerfAnalyzer, server: LocalServer, traffic: Traffic) -> None:
    generator.warm_up(traffic, Load(concurrency=2), url=url_of(server, traffic), max_seconds=10)
    before = time.monotonic()
    report = measure(generator, server, traffic)
    assert_whole(report)
    assert before < report.segment.started < report.segment.ended < time.monotonic()
    assert report.notes == ()


def test_input_data_from_a_file_and_from_a_folder(
    generator: PerfAnalyzer, server: LocalServer, tmp_path: Path
) -> None:
    """The model refuses everything but sevens; a path may have spaces."""
    file = tmp_path / "my data.json"
    file.write_text(json.dumps({"data": [{"X": [7.0, 7.0, 7.0, 7.0]}]}))
    folder = tmp_path / "my data"
    folder.mkdir()
    (folder / "X").write_bytes(struct.pack("4f", 7, 7, 7, 7))
    assert_whole(measure(generator, server, Traffic(model="sevens", input_data=file)))
    http = Traffic(model="sevens", input_data=str(folder), protocol="http")
    assert_whole(measure(generator, server, http))


def test_request_rate_and_batch_size(generator: PerfAnalyzer, server: LocalServer) -> None:
    load = Load(request_rate=40.5, batch_size=4)
    # Windows so long that a pause of the machine leaves none empty, to be measured longer.
    report = measure(generator, server, Traffic(model="echo"), load, seconds=2)
    assert_whole(report, seconds=2)
    assert report.segment.in_flight is None
    assert report.segment.batch_size == 4
    # Of the times between requests the median: one pause of the machine takes several requests.
    assert report.segment.sent_s.size > 40
    assert np.median(np.diff(np.sort(report.segment.sent_s))) == pytest.approx(1 / 40.5, rel=0.05)


def in_flight(report: LoadReport) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Times at which the number of requests in flight changes, and the numbers."""
    sent, answered = report.segment.sent_s, report.segment.answered_s
    changes = sorted([*((time, 1) for time in sent), *((time, -1) for time in answered)])
    times, steps = np.array(changes).T
    return times, np.cumsum(steps)


@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_the_concurrency_is_reached_at_once_and_held_across_its_windows(
    generator: PerfAnalyzer, server: LocalServer, protocol: WireProtocol
) -> None:
    """The three windows are one stretch: nothing is lost where one ends and the next begins."""
    traffic = Traffic(model="steady", protocol=protocol)
    report = measure(generator, server, traffic, Load(concurrency=4), seconds=1)
    assert_whole(report, seconds=1)
    times, numbers = in_flight(report)
    assert numbers.max() == 4
    full = times[numbers == 4]
    assert full[0] - report.segment.started < 0.1
    # What is in flight at the end is not in the export: there the number falls.
    assert report.segment.ended - full[-1] < 0.1
    inside = (times[:-1] >= full[0]) & (times[:-1] < full[-1])
    held_s = np.diff(times)[inside]
    assert held_s[numbers[:-1][inside] >= 3].sum() > 0.95 * held_s.sum()


def test_large_tensors_are_not_recorded(generator: PerfAnalyzer, server: LocalServer) -> None:
    """27,648 numbers in and out: 220 kB of text at each request even where all are zero."""
    traffic = Traffic(model="large", input_data="zero")
    generator.warm_up(traffic, Load(concurrency=1), url=server.grpc_url, max_seconds=10)
    report = measure(generator, server, traffic)
    (window,) = report.segment.windows
    assert report.segment.sent_s.size == 0
    assert window.seconds == pytest.approx(0.5, rel=0.1)
    assert window.percentiles_ms is not None
    assert 0 < window.percentiles_ms[50] <= window.percentiles_ms[99]
    assert window.requests / window.seconds * window.avg_latency_ms / 1000 == pytest.approx(
        2, rel=0.1
    )
    # What perf_analyzer says of its windows adds up to what it says of the run.
    counts, latencies = zip(*window.parts, strict=True)
    assert len(counts) == 3
    assert sum(counts) == pytest.approx(window.requests, rel=0.05)
    assert np.average(latencies, weights=counts) == pytest.approx(window.avg_latency_ms, rel=0.05)
    (note,) = report.notes
    assert note.startswith("requests were not recorded one by one: each takes 2")
    assert note.endswith(" kB of perf_analyzer's export")


def test_a_tensor_with_nan_leaves_windows(generator: PerfAnalyzer, server: LocalServer) -> None:
    for _ in range(2):
        report = measure(generator, server, Traffic(model="nan"))
        (window,) = report.segment.windows
        assert window.requests > 0
        (note,) = report.notes
        assert "it is empty, as perf_analyzer leaves it where a tensor has NaN" in note
        assert "input_data=" in note


def with_data(server: LocalServer, traffic: Traffic) -> Traffic:
    """The traffic as a sweep sends it where the user gives no data."""
    config = to_dict(server.client.get_model_config(traffic.model).config)
    made = with_random_inputs(traffic, config)
    assert made is not traffic
    return made


@pytest.mark.parametrize("protocol", ["grpc", "http"])
@pytest.mark.parametrize("batch_size", [1, 4])
def test_random_inputs_of_every_type(
    generator: PerfAnalyzer, server: LocalServer, protocol: WireProtocol, batch_size: int
) -> None:
    """The model looks at what it gets."""
    traffic = Traffic(model="types", protocol=protocol, shapes={"INT64": (7,)})
    load = Load(concurrency=2, batch_size=batch_size)
    assert_whole(measure(generator, server, with_data(server, traffic), load))


def test_random_inputs_in_shared_memory(generator: PerfAnalyzer, server: LocalServer) -> None:
    traffic = Traffic(model="dynamic", shapes={"X": (3,)}, shared_memory="system")
    assert_whole(measure(generator, server, with_data(server, traffic)))


def test_random_inputs_leave_sequences_as_long_as_perf_analyzer_makes_them(
    generator: PerfAnalyzer, server: LocalServer
) -> None:
    """Twenty requests, more or less; the model refuses short ones."""
    traffic = with_data(server, Traffic(model="sequences"))
    assert_whole(measure(generator, server, traffic, Load(concurrency=1)))


def test_other_arguments_of_perf_analyzer(generator: PerfAnalyzer, server: LocalServer) -> None:
    asynchronous = Traffic(model="echo", extra_args=("--async", "-v"))
    assert_whole(measure(generator, server, asynchronous))
    sequences = Traffic(model="sequence", extra_args=("--sequence-length", "5"))
    assert_whole(measure(generator, server, sequences))


def test_streaming(generator: PerfAnalyzer, server: LocalServer) -> None:
    report = measure(generator, server, Traffic(model="streaming", streaming=True))
    assert_whole(report)
    assert report.notes == ("decoupled model: a latency ends with the last response of its stream",)


def test_a_proxy_in_the_environment_is_no_part_of_what_is_measured(
    generator: PerfAnalyzer, server: LocalServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    for traffic in (Traffic(model="echo"), Traffic(model="echo", protocol="http")):
        assert_whole(measure(generator, server, traffic))


STALLS = """
            now = time.monotonic()
            if now - getattr(self, "stalled", now - 1) > 1.5:
                open({log!r}, "a").write("stall\\n")
                time.sleep(1)
                self.stalled = time.monotonic()
            self.stalled = getattr(self, "stalled", now)
            time.sleep(0.003)
"""


def test_no_stall_is_lost(generator: PerfAnalyzer, tmp_path: Path) -> None:
    """A second of silence, wherever in a segment it falls: each is in some segment."""
    log = tmp_path / "stalls"
    add_model(tmp_path / "models", "stalls", MODEL.format(execute=STALLS.format(log=str(log))))
    load, traffic = Load(concurrency=2), Traffic(model="stalls")
    with running(tmp_path / "models") as server:
        generator.warm_up(traffic, load, url=server.grpc_url, max_seconds=10)
        measure(generator, server, traffic, load)
        log.write_text("")
        reports = [measure(generator, server, traffic, load, seconds=0.3) for _ in range(12)]
    stalls = len(log.read_text().splitlines())
    assert stalls >= 3
    # One client is served then and the other waits: two requests a stall.
    slow = sum(np.count_nonzero(latencies_ms(report) > 500) for report in reports)
    assert slow == 2 * stalls
    assert all(report.segment.steady.reason == "" for report in reports)
    assert not any("gave no report" in note for report in reports for note in report.notes)


def test_a_stall_counts_where_requests_are_not_recorded(
    generator: PerfAnalyzer, tmp_path: Path
) -> None:
    stalls = MODEL.format(execute=STALLS.format(log=str(tmp_path / "stalls")))
    add_model(tmp_path / "models", "stalls", stalls, dims="3, 96, 96")
    load, traffic = Load(concurrency=2), Traffic(model="stalls", input_data="zero")
    with running(tmp_path / "models") as server:
        generator.warm_up(traffic, load, url=server.grpc_url, max_seconds=10)
        windows = [
            window
            for _ in range(10)
            for window in measure(generator, server, traffic, load, seconds=0.6).segment.windows
        ]
    long = [window for window in windows if window.seconds > 1.2]
    assert 1 <= len(long) < len(windows) == 10
    for window in long:
        assert window.percentiles_ms is None
        # Little's law: the requests that waited are in the mean.
        assert window.requests * window.avg_latency_ms / 1000 > 1.5 * window.seconds
        assert window.requests / window.seconds < 250


def test_a_slow_model_gets_a_longer_window(generator: PerfAnalyzer, server: LocalServer) -> None:
    traffic = Traffic(model="slow")
    load = Load(concurrency=4)
    generator.warm_up(traffic, load, url=server.grpc_url, max_seconds=8)
    for _ in range(2):
        report = measure(generator, server, traffic, load, max_seconds=8)
        assert latencies_ms(report).min() >= 400
        # Half a second was asked for, in which perf_analyzer would report nothing.
        assert 1.5 < report.segment.seconds < 8
        assert 8 <= report.segment.sent_s.size < 100


def test_a_model_too_slow_for_the_time_given(generator: PerfAnalyzer, server: LocalServer) -> None:
    with pytest.raises(LoadError) as caught:
        measure(generator, server, Traffic(model="slow"), Load(concurrency=1), max_seconds=1.4)
    message = str(caught.value)
    assert message.startswith("'slow' at concurrency 1 cannot be measured within 1.4 s: a request ")
    assert "and perf_analyzer needs three measuring windows" in message
    assert "raise --triton-perf-max-seconds" in message


def test_no_time_at_all(generator: PerfAnalyzer, server: LocalServer) -> None:
    with pytest.raises(LoadError, match=r"cannot be measured within 0\.1 s: perf_analyzer needs"):
        measure(generator, server, Traffic(model="echo"), max_seconds=0.1)


@pytest.mark.parametrize(
    ("traffic", "load", "advice"),
    [
        (Traffic(model="nope"), Load(concurrency=1), "has not loaded this model"),
        (Traffic(model="dynamic"), Load(concurrency=1), "shapes={'X': (…)}"),
        (Traffic(model="streaming"), Load(concurrency=1), "use streaming=True"),
        (Traffic(model="echo"), Load(concurrency=1, batch_size=9), "max_batch_size of 8"),
        (Traffic(model="sevens", input_data="zero"), Load(concurrency=1), "model failed"),
        (Traffic(model="echo", input_data="/nowhere"), Load(concurrency=1), "'/nowhere'"),
        (Traffic(model="echo", extra_args=("--no",)), Load(concurrency=1), "_args=('--no',)"),
    ],
)
@pytest.mark.parametrize("call", ["run", "warm_up"])
def test_errors_name_the_level_the_cause_and_the_way_out(
    generator: PerfAnalyzer,
    server: LocalServer,
    call: str,
    traffic: Traffic,
    load: Load,
    advice: str,
) -> None:
    seconds = {"seconds": 0.5, "max_seconds": 10} if call == "run" else {"max_seconds": 10}
    with pytest.raises(LoadError) as caught:
        getattr(generator, call)(traffic, load, url=server.grpc_url, **seconds)
    title, hint, words, *said = str(caught.value).splitlines()
    assert title == f"perf_analyzer did not measure {traffic.model!r} at {load} (exit code 99)"
    assert hint.startswith("  Hint: ")
    assert advice in hint
    assert words == "  perf_analyzer's last words:"
    assert 1 <= len(said) <= 8


def test_a_hung_model_ends_in_bounded_time(generator: PerfAnalyzer, server: LocalServer) -> None:
    began = time.monotonic()
    with pytest.raises(LoadError) as caught:
        measure(generator, server, Traffic(model="hung"), Load(concurrency=1), max_seconds=2)
    assert time.monotonic() - began < 6
    message = str(caught.value)
    assert message.startswith("perf_analyzer hung on 'hung' at concurrency 1 and was killed: ")
    assert "had not ended after 1.0 s" in message
    assert "perf_analyzer's last words:\n    " in message


def test_an_interrupt_ends_perf_analyzer(generator: PerfAnalyzer, server: LocalServer) -> None:
    timer = threading.Timer(1, signal.raise_signal, [signal.SIGINT])
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        measure(generator, server, Traffic(model="hung"), Load(concurrency=1))
    timer.join()


def test_perf_analyzer_ends_with_a_killed_parent(server: LocalServer) -> None:
    code = (
        "from pytest_triton_perf.load.binaries import *\n"
        "from pytest_triton_perf.load.perf_analyzer import *\n"
        "from pytest_triton_perf.load.runner import *\n"
        "PerfAnalyzer(LocalRunner(find_perf_analyzer(None))).run("
        f"Traffic(model='hung'), Load(concurrency=1), url={server.grpc_url!r}, "
        "seconds=1, max_seconds=60)"
    )
    with subprocess.Popen([sys.executable, "-c", code]) as parent:
        try:
            child = wait_for_perf_analyzer(parent.pid)
        finally:
            parent.kill()
    child.wait(5)


def wait_for_perf_analyzer(parent: int) -> psutil.Process:
    deadline = time.monotonic() + 15
    while time.monotonic() < deadline:
        for child in psutil.Process(parent).children():
            if child.name() == "perf_analyzer" and "hung" in child.cmdline():
                return child
        time.sleep(0.05)
    raise AssertionError("perf_analyzer was not started")


@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_a_server_killed_under_load(
    generator: PerfAnalyzer, tmp_path: Path, protocol: WireProtocol
) -> None:
    add_model(tmp_path / "models", "echo", MODEL.format(execute="time.sleep(0.05)"))
    with running(tmp_path / "models") as server:
        assert server.pid is not None
        timer = threading.Timer(1, os.kill, [server.pid, signal.SIGKILL])
        timer.start()
        traffic = Traffic(model="echo", protocol=protocol)
        with pytest.raises(LoadError) as caught:
            measure(generator, server, traffic, Load(concurrency=2), seconds=5)
        timer.join()
    message = str(caught.value)
    assert "perf_analyzer did not measure 'echo' at concurrency 2" in message
    assert "no server answers at 127.0.0.1:" in message


def fake(tmp_path: Path, script: str) -> PerfAnalyzer:
    """A perf_analyzer that misbehaves in a way that the real one cannot be made to."""
    path = tmp_path / "fake"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return PerfAnalyzer(LocalRunner(PerfAnalyzerBinary(path=path, version="0", origin="test")))


def record_nothing(generator: PerfAnalyzer) -> None:
    generator.run(
        Traffic(model="m"), Load(concurrency=1), url="127.0.0.1:1", seconds=1, max_seconds=5
    )


def test_a_run_without_any_report_is_repeated_once_and_then_an_error(tmp_path: Path) -> None:
    generator = fake(tmp_path, f"echo run >> {tmp_path}/runs; echo all is well")
    with pytest.raises(LoadError, match=r"(?s)did not measure .* \(exit code 0\).*all is well"):
        record_nothing(generator)
    assert (tmp_path / "runs").read_text() == "run\nrun\n"


def test_a_crash_is_named(tmp_path: Path) -> None:
    generator = fake(tmp_path, "kill -SEGV $$")
    with pytest.raises(LoadError, match=r"(?s)\(killed by signal 11\).*\(it said nothing\)"):
        record_nothing(generator)
