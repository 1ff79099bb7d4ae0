import contextlib
import random
import socket
import threading
import time
from collections.abc import Iterator

import pytest
from metrics_server import A, B, metrics_text, serving
from support import wait_for

from pytest_triton_perf.errors import UsageError
from pytest_triton_perf.probes.base import totals
from pytest_triton_perf.probes.sampler import Sampler
from pytest_triton_perf.probes.triton_metrics import (
    Answer,
    EndpointError,
    MetricsEndpoint,
    TritonMetricsProbe,
)

CPU = "Triton's metrics endpoint knows the whole machine's CPU and memory, not the server's"
NEVER = {"cpu_memory_mb", "cpu_utilization_pct", "gpu_memory_delta_mb"}
"""What Triton's metrics tell of no server."""
ONE = metrics_text((A, 3000, 16000, 0.5, 120.5))
TWO = metrics_text((A, 3000, 16000, 0.5, 120.5), (B, 500, 24000, 0.25, 60))
NO_GPU = metrics_text()


@pytest.mark.parametrize(
    ("address", "url"),
    [
        ("h:8002", "http://h:8002/metrics"),
        ("[::1]:8002", "http://[::1]:8002/metrics"),
        ("http://h:8002", "http://h:8002/metrics"),
        ("http://h:8002/", "http://h:8002/metrics"),
        ("http://h:8002/metrics", "http://h:8002/metrics"),
        ("https://h/triton/metrics", "https://h/triton/metrics"),
    ],
)
def test_an_address_is_a_host_and_port_or_a_url(address: str, url: str) -> None:
    endpoint = MetricsEndpoint.at(address)
    assert str(endpoint) == url
    assert endpoint.tls == url.startswith("https")


@pytest.mark.parametrize(
    "address", ["h", "h:x", "h:99999", "grpc://h:8001", "http://", "h:1/m?a=b"]
)
def test_another_address_is_a_usage_error(address: str) -> None:
    with pytest.raises(UsageError) as error:
        MetricsEndpoint.at(address)
    assert f"--triton-metrics-url: {address!r}: expected host:port of Triton's" in str(error.value)


def test_figures_come_per_gpu_in_our_units() -> None:
    answer = Answer.parse(TWO)
    assert answer.gpus == {
        A: {
            "memory_mb": 3000, "memory_total_mb": 16000, "utilization_pct": 50, "power_w": 120.5,
            "energy_j": None,
        },
        B: {
            "memory_mb": 500, "memory_total_mb": 24000, "utilization_pct": 25, "power_w": 60,
            "energy_j": None,
        },
    }  # fmt: skip
    # The machine's memory is there in the text, and is not taken for the server's.
    assert answer.missing == {
        "cpu_memory_mb": CPU,
        "cpu_utilization_pct": CPU,
        "gpu_memory_delta_mb": (
            "what the idle server takes is not known: it ran before this session"
        ),
    }


def test_a_server_without_gpus_supplies_nothing() -> None:
    answer = Answer.parse(NO_GPU)
    assert answer.gpus == {}
    assert answer.missing["power_w"] == answer.missing["gpu_memory_mb"]
    assert answer.missing["gpu_memory_mb"].startswith("Triton's metrics name no GPU: it sees none,")


@pytest.mark.parametrize(
    ("gpu", "unread"),
    [
        (
            (A, 3000, 16000, 0.5, 0),
            dict.fromkeys(("power_w", "energy_per_inference_j"), "nv_gpu_power_usage"),
        ),
        ((A, 0, 0, 0.5, 120), {"gpu_memory_mb": "nv_gpu_memory_used_bytes"}),
        ((A, 3000, 16000, float("nan"), 120), {"gpu_utilization_pct": "nv_gpu_utilization"}),
    ],
)
def test_tritons_zero_for_what_it_could_not_read_is_no_figure(gpu, unread) -> None:
    missing = Answer.parse(metrics_text(gpu)).missing
    for metric, name in unread.items():
        assert missing[metric] == f"Triton could not read {name} of GPU {A}: see its log"
    assert set(missing) == {*unread, *NEVER}


def test_a_family_that_is_not_there_is_named() -> None:
    text = "".join(line for line in ONE.splitlines(True) if "nv_gpu_power_usage" not in line)
    assert Answer.parse(text).missing["power_w"] == (
        f"Triton's metrics have no nv_gpu_power_usage of GPU {A}"
    )


def test_gpu_memory_of_zero_on_a_gpu_with_memory_is_a_figure() -> None:
    assert Answer.parse(metrics_text((A, 0, 16000, 0.5, 9))).gpus[A]["memory_mb"] == 0


@pytest.mark.parametrize("text", ["", "hello\n", "<html>no</html>\n", '{"a": 1}\n', "up 1\n"])
def test_garbage_is_no_answer(text: str) -> None:
    with pytest.raises(ValueError, match="are no metrics of a Triton"):
        Answer.parse(text)


def test_damaged_text_is_an_error_and_no_figure() -> None:
    """Whatever is broken in the text: a ``ValueError``, or figures that are numbers."""
    rng = random.Random(4)
    for _ in range(2000):
        at, length = rng.randrange(len(TWO)), rng.randrange(1, 9)
        damage = "".join(rng.choice('{}="\\ #\n0x') for _ in range(rng.randrange(3)))
        with contextlib.suppress(ValueError):
            answer = Answer.parse(TWO[:at] + damage + TWO[at + length :])
            assert all(
                value is None or value >= 0
                for gpu in answer.gpus.values()
                for value in gpu.values()
            )


def test_thousands_of_models_cost_no_parsing() -> None:
    models = "".join(f'nv_inference_count{{model="m{i}"}} 5\n' for i in range(20_000))
    started = time.thread_time()
    assert set(Answer.parse(models + ONE).gpus) == {A}
    assert time.thread_time() - started < 0.5  # the parser alone takes seconds


# -- over HTTP


def asked(address: str, seconds: float = 2.0) -> str:
    """The words with which the endpoint at ``address`` is refused."""
    with pytest.raises(EndpointError) as error:
        MetricsEndpoint.at(address).ask(seconds)
    prefix, _, why = str(error.value).partition("/metrics: ")
    assert prefix == f"Triton's metrics endpoint http://{address}"
    return why


def test_an_endpoint_is_read() -> None:
    with serving(lambda: ONE) as address:
        assert set(MetricsEndpoint.at(address).ask(2).gpus) == {A}


def test_nobody_listens() -> None:
    assert asked("127.0.0.1:1") == "[Errno 111] Connection refused"


def test_an_unknown_host() -> None:
    assert "known" in asked("no-such-host.invalid:8002")


def test_another_web_server() -> None:
    with serving(lambda: "<html>It works!</html>\n") as address:
        assert asked(address) == (
            "what it sends are no metrics of a Triton: '<html>It works!</html>\\n'"
        )
    with serving(lambda: ONE, status=404) as address:
        assert asked(address) == "HTTP status 404 (Not Found)"


@contextlib.contextmanager
def raw(*parts: bytes, pause: float = 0.0) -> Iterator[str]:
    """A server that sends the parts to whoever connects, with pauses, and hangs up."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            with contextlib.suppress(OSError):
                line, _ = listener.accept()
                with line:
                    line.recv(9999)
                    for part in parts:
                        line.sendall(part)
                        time.sleep(pause)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"127.0.0.1:{listener.getsockname()[1]}"
    thread.join(5)


HEAD = b"HTTP/1.1 200 OK\r\n"


def test_something_that_speaks_no_http() -> None:
    with raw(b"\x00\x00\x06\x04 settings of gRPC") as address:
        assert asked(address) == "what answers there does not speak HTTP (BadStatusLine)"


def test_an_answer_that_is_cut_off_has_no_figures() -> None:
    # The last number would be a smaller one, which is worse than none.
    body = ONE.encode()[: ONE.index("120.5") + 2]
    with raw(HEAD + b"Content-Length: 9999\r\n\r\n" + body) as address:
        assert asked(address) == "its answer was cut off"
    with raw(HEAD + b"\r\n" + body) as address:
        assert asked(address) == "its answer was cut off"


def test_an_answer_that_does_not_come() -> None:
    with raw(HEAD, pause=1) as address:
        assert asked(address, 0.2) == "it did not answer within 0.2 s"


def test_an_answer_that_trickles() -> None:
    with raw(HEAD + b"\r\n", *[b"nv_x 1\n"] * 20, pause=0.1) as address:
        started = time.monotonic()
        assert asked(address, 0.3) == "it did not answer within 0.3 s"
        assert time.monotonic() - started < 1


def test_an_answer_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    from pytest_triton_perf.probes import triton_metrics

    monkeypatch.setattr(triton_metrics, "_MOST_BYTES", 10**6)
    with raw(HEAD + b"\r\n", *[b"nv_x 1\n" * 10**5] * 10) as address:
        assert asked(address) == "it sends more than 1 MB"


# -- the probe


def test_readings_are_of_whole_devices() -> None:
    with serving(lambda: TWO) as address:
        reading = TritonMetricsProbe(MetricsEndpoint.at(address)).read()
    assert {gpu["process_memory_mb"] for gpu in reading.gpus.values()} == {None}
    assert totals(reading) == {
        "gpu_memory_mb": 3500,
        "gpu_utilization_pct": 37.5,
        "power_w": 180.5,
    }
    assert reading.cpu_memory_mb is None
    assert reading.missing["cpu_memory_mb"] == CPU


def test_only_what_triton_refreshed_is_a_figure() -> None:
    answers = [ONE, ONE, metrics_text((A, 3000, 16000, 0.5, 120.5), cpu=0.7)]
    with serving(lambda: answers.pop(0)) as address:
        probe = TritonMetricsProbe(MetricsEndpoint.at(address))
        first, same, later = probe.read(), probe.read(), probe.read()
    assert first.gpus == later.gpus != {}
    assert same.gpus == {}
    assert same.missing["power_w"] == (
        f"Triton did not refresh its metrics (http://{address}/metrics) in this interval"
    )


def test_energy_is_tritons_counter_and_without_it_power_times_time() -> None:
    counter = '# TYPE nv_energy_consumption counter\nnv_energy_consumption{gpu_uuid="%s"} %d'
    joules = iter(range(1000, 2000, 50))  # 50 J each quarter of a second

    def answer() -> str:
        now = next(joules)
        return metrics_text((A, 3000, 16000, 0.5, 100), cpu=now, more=counter % (A, now))

    with (
        serving(answer) as address,
        Sampler([TritonMetricsProbe(MetricsEndpoint.at(address))]) as sampler,
    ):
        start = time.monotonic()
        time.sleep(1.1)
        end = time.monotonic()
        seen = sampler.summary(start, end)
        at = [at for at, _ in sampler.series(start, end)[0]]
    assert len(at) >= 3
    rate = 50 * (len(at) - 1) / (at[-1] - at[0])
    assert seen.gpus[A]["energy_j"] == pytest.approx(rate * (end - start))
    with (
        serving(lambda: ONE) as address,
        Sampler([TritonMetricsProbe(MetricsEndpoint.at(address))]) as sampler,
    ):
        start = time.monotonic()
        wait_for(lambda: sampler.series(start, time.monotonic())[0])
        end = time.monotonic()
        seen = sampler.summary(start, end)
    assert seen.gpus[A]["energy_j"] == pytest.approx(120.5 * (end - start))


def test_requests_do_not_make_a_figure_fresh() -> None:
    answers = [ONE, ONE.replace('version="1"} 7', 'version="1"} 8')]
    with serving(lambda: answers.pop(0)) as address:
        probe = TritonMetricsProbe(MetricsEndpoint.at(address))
        assert probe.read().gpus
        assert not probe.read().gpus


def test_no_utilization_but_zero_is_no_figure_until_there_was_another() -> None:
    loads = [0.0, 0.9, 0.0]
    with serving(lambda: metrics_text((A, 3, 9, loads[0], 5), cpu=len(loads))) as address:
        probe = TritonMetricsProbe(MetricsEndpoint.at(address))
        readings = [(probe.read(), loads.pop(0)) for _ in range(3)]
    assert [r.gpus[A]["utilization_pct"] for r, _ in readings] == [None, 90, 0]
    assert readings[0][0].missing["gpu_utilization_pct"] == (
        f"Triton's metrics have had nothing but 0 for the utilization of GPU {A}, "
        "which is also what they have where it cannot be read"
    )
    assert "gpu_utilization_pct" not in readings[2][0].missing


def test_one_failure_loses_neither_the_level_nor_the_source() -> None:
    answers = ["garbage\n", ONE]
    with serving(lambda: answers.pop(0) if len(answers) > 1 else answers[0]) as address:
        probe = TritonMetricsProbe(MetricsEndpoint.at(address))
        start = time.monotonic()
        with Sampler([probe]) as sampler:
            while not any(reading.gpus for _, reading in sampler.series(start, start + 60)[0]):
                time.sleep(0.01)
            seen = sampler.summary(start, time.monotonic())
            remarks = probe.remarks(sampler, start, time.monotonic())
    assert seen.gpus[A]["memory_mb"] == 3000
    assert set(seen.missing) == NEVER
    assert remarks == [
        "GPU memory, utilization and power are those of whole devices, their other users included, "
        f"by Triton's metrics (http://{address}/metrics)",
        "Triton refreshed its metrics only once while this was measured; it does so twice per "
        "--metrics-interval-ms, each second unless told otherwise",
    ]


def test_an_endpoint_that_is_gone_is_a_reason_for_each_metric() -> None:
    probe = TritonMetricsProbe(MetricsEndpoint.at("127.0.0.1:1"))
    start = time.monotonic()
    with Sampler([probe]) as sampler:
        seen = sampler.read_now()
        assert probe.remarks(sampler, start, time.monotonic()) == []
    why = "Triton's metrics endpoint http://127.0.0.1:1/metrics: [Errno 111] Connection refused"
    assert seen.missing == dict.fromkeys(probe.metrics, why)
