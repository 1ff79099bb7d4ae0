"""Remote mode against a real Triton that another process (here: the test) started."""

import contextlib
import http.server
import json
import os
import signal
import socket
import socketserver
import ssl
import subprocess
import threading
import time

import pytest
from metrics_server import A, B, metrics_text, serving

from pytest_triton_perf.domain.variants import Variant, default_name
from pytest_triton_perf.errors import ServerError
from pytest_triton_perf.probes.triton_metrics import MetricsEndpoint
from pytest_triton_perf.servers import model_control
from pytest_triton_perf.servers.base import ServerSpec
from pytest_triton_perf.servers.embedded import find_server
from pytest_triton_perf.servers.endpoints import Remote, parse_urls
from pytest_triton_perf.servers.local import LocalLauncher, LocalServer
from pytest_triton_perf.servers.model_config import to_dict
from pytest_triton_perf.servers.ports import Ports
from pytest_triton_perf.servers.remote import RemoteLauncher
from pytest_triton_perf.servers.triton_grpc import import_quietly

# Imported once: pytester forgets what a test imports, and numpy does not like to come twice.
triton_grpc = import_quietly("tritonclient.grpc")

TENSORS = """
input { name: "X" data_type: TYPE_FP32 dims: [ 1 ] }
output { name: "Y" data_type: TYPE_FP32 dims: [ 1 ] }
"""
STEP = 'step {{ model_name: "{}" model_version: -1 input_map {{ key: "X" value: "{}" }} ' + (
    'output_map {{ key: "Y" value: "{}" }} }}'
)
ENSEMBLE = (
    f'platform: "ensemble"\nmax_batch_size: 8\n{TENSORS}'
    f"ensemble_scheduling {{ {STEP.format('first', 'X', 'M')} {STEP.format('second', 'M', 'Y')} }}"
)
COUNT = "instance_group.count"
EXPLICIT = "--model-control-mode=explicit"
SPEC = ServerSpec(repository=None)


@pytest.fixture
def repository(project):
    """What the remote Triton serves; its tests have no repository beside them."""
    project.model("first", "pass")
    project.model("second", "pass")
    (project.repository / "chain" / "1").mkdir(parents=True)
    (project.repository / "chain" / "config.pbtxt").write_text(ENSEMBLE)
    return project.repository.rename(project.path / "elsewhere")


@pytest.fixture
def running(repository):
    """Starts the Triton that plays the remote one; it ends with the test."""
    with contextlib.ExitStack() as stack:

        def start(*args):
            launcher = LocalLauncher(find_server(), gpus="none")
            server = launcher.start(ServerSpec(repository=repository, server_args=args))
            stack.callback(server.stop)
            return server

        yield start


@pytest.fixture
def connect():
    """Connects to a Triton as a session in remote mode does."""
    with contextlib.ExitStack() as stack:

        def start(urls, **files):
            found = parse_urls(urls)
            remote = Remote(grpc=found.get("grpc"), http=found.get("http"), **files)
            server = RemoteLauncher(remote).start(SPEC)
            stack.callback(server.stop)
            return server

        yield start


def url_of(server, protocol="grpc"):
    return f"{protocol}://{server.grpc_url if protocol == 'grpc' else server.http_url}"


def variant(model, overrides=None):
    name = f"{model}_config_{overrides}" if overrides else default_name(model)
    return Variant(model=model, name=name, overrides=overrides or {})


def state(server):
    """Which models a server has loaded, with how many instances."""
    index = server.client.get_model_repository_index().models
    return {model.name: count(server, model.name) for model in index if model.state == "READY"}


def count(server, model):
    groups = to_dict(server.client.get_model_config(model).config).get("instance_group", [])
    return groups[0]["count"] if groups else None


def test_a_found_model_serves_a_variant_and_gets_its_config_back(running, connect):
    there = running()
    there.client.load_model("first")
    config = {**to_dict(there.client.get_model_config("first").config), "name": "first"}
    config["instance_group"] = [{"count": 3, "kind": "KIND_CPU"}]
    there.client.load_model("second", config=json.dumps({**config, "name": "second"}))
    assert state(there) == {"first": 1, "second": 3}

    server = connect(url_of(there))
    assert server.version == there.version
    assert server.pid is None
    assert server.load(variant("second", {COUNT: 2}))["instance_group"][0]["count"] == 2
    assert state(there) == {"first": 1, "second": 2}
    assert server.load(variant("second", {"max_batch_size": 4}))["max_batch_size"] == 4
    assert state(there) == {"first": 1, "second": 3}
    assert server.load(variant("second"))["max_batch_size"] == 8
    server.load(variant("first", {COUNT: 2}))
    server.load(variant("add_sub"))
    assert state(there) == {"first": 1, "second": 3, "add_sub": 1}
    server.load(variant("second", {COUNT: 1}))
    assert state(there) == {"first": 1, "second": 1}
    server.begin_stop()
    server.stop()
    server.stop()
    assert state(there) == {"first": 1, "second": 3}
    assert there.alive()


def test_a_default_that_is_loaded_is_measured_without_any_loading(running, connect):
    there = running()
    there.client.load_model("first")
    before = there.logs().count("loading: ")
    server = connect(url_of(there))
    assert server.load(variant("first"))["name"] == "first"
    server.stop()
    assert there.logs().count("loading: ") == before
    assert "successfully unloaded" not in there.logs()


def test_an_ensemble_takes_away_only_the_models_that_it_brought(running, connect):
    there = running()
    there.client.load_model("first")
    server = connect(url_of(there))
    server.load(variant("chain"))
    assert set(state(there)) == {"first", "second", "chain"}
    server.stop()
    assert state(there) == {"first": 1}


def test_a_refused_variant_shows_tritons_reason_and_the_found_one_comes_back(running, connect):
    there = running()
    there.client.load_model("first")
    server = connect(url_of(there))
    with pytest.raises(ServerError, match=r"Triton refused .*KIND_GPU(?s:.*)log of the Triton at"):
        server.load(variant("first", {"instance_group.kind": "KIND_GPU"}))
    server.stop()
    assert state(there) == {"first": 1}


@pytest.mark.parametrize(
    ("mode", "protocol"), [("none", "grpc"), ("none", "http"), ("poll", "grpc")]
)
def test_without_explicit_control_the_flag_is_named(running, connect, mode, protocol):
    poll = ["--repository-poll-secs=1"] if mode == "poll" else []
    there = running(f"--model-control-mode={mode}", *poll)
    before = state(there)
    assert set(before) == {"add_sub", "first", "second", "chain"}
    server = connect(url_of(there, protocol))
    assert server.load(variant("first"))["name"] == "first"
    with pytest.raises(ServerError) as error:
        server.load(variant("first", {COUNT: 2}))
    assert "cannot be loaded: the Triton at " in str(error.value)
    assert "does not let its models be changed" in str(error.value)
    assert f"Hint: start it with {EXPLICIT}, or measure only models that it" in str(error.value)
    server.stop()
    assert state(there) == before


def test_two_sessions_do_not_take_each_others_variants_for_found(running, connect):
    there = running()
    first = connect(url_of(there))
    with pytest.raises(ServerError, match=r"(?s)another session .* measures on .*one after the"):
        connect(url_of(there))
    first.stop()
    connect(url_of(there))


def test_a_server_that_is_gone_is_told_while_loading_and_at_the_stop(running, connect):
    there = running()
    there.client.load_model("first")
    server = connect(url_of(there))
    server.load(variant("first", {COUNT: 2}))
    os.kill(there.pid, signal.SIGKILL)
    with pytest.raises(ServerError, match=r"tritonserver at grpc://.* does not answer any more"):
        server.load(variant("first", {COUNT: 1}))
    assert not server.alive()
    with pytest.raises(ServerError, match=r"(?s)was not left as it was found.*look after first"):
        server.stop()


@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_nobody_listens(connect, protocol):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        url = f"{protocol}://127.0.0.1:{probe.getsockname()[1]}"
    with pytest.raises(ServerError) as error:
        connect(url)
    assert f"the Triton at {url} cannot be used: " in str(error.value)
    assert "refused" in str(error.value)
    assert "Hint: does Triton run there, and may this machine reach the port?" in str(error.value)


@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_a_server_that_never_answers_is_given_up(connect, protocol, monkeypatch):
    monkeypatch.setattr(model_control, "_ANSWER_S", 1.0)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        began = time.monotonic()
        with pytest.raises(ServerError, match=r"cannot be used: .*(Deadline|[Tt]imed? ?out)"):
            connect(f"{protocol}://127.0.0.1:{silent.getsockname()[1]}")
    assert time.monotonic() - began < 5


def test_the_port_of_the_other_protocol(running, connect):
    there = running()
    with pytest.raises(ServerError, match=r"that does not speak grpc: is it the right port"):
        connect(f"grpc://{there.http_url}")
    with pytest.raises(ServerError, match=r"that does not speak http: is it the right port"):
        connect(f"http://{there.grpc_url}")


@pytest.mark.parametrize(
    ("status", "body", "words"),
    [
        (404, b"<p>not here", r"HTTP status 404, and no JSON: '<p>not here'"),
        (503, b"", "HTTP status 503"),
        (200, b"{}", "what answers there is no Triton"),
    ],
)
def test_a_web_server_that_is_no_triton(connect, status, body, words):
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body)

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with pytest.raises(ServerError, match=f"cannot be used: {words}\nHint: does Triton run"):
            connect(f"http://127.0.0.1:{server.server_address[1]}")
        server.shutdown()


def test_a_grpc_client_needs_a_grpc_address(running, connect):
    server = connect(url_of(running(), "http"))
    with pytest.raises(ServerError, match=r"a gRPC client needs a gRPC address: --triton-url=http"):
        _ = server.client


class EncryptedServer(LocalServer):
    """A Triton with TLS on its gRPC port, which asks for a client certificate."""

    def _connect(self):
        certificate, key = (str(self._repository.parent / f) for f in ("cert.pem", "key.pem"))
        return triton_grpc.InferenceServerClient(
            self.grpc_url,
            ssl=True,
            root_certificates=certificate,
            private_key=key,
            certificate_chain=certificate,
        )


@pytest.fixture
def encrypted(repository):
    """A running Triton with TLS and a self-signed certificate; and the certificate's file."""
    certificate, key = (repository.parent / name for name in ("cert.pem", "key.pem"))
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    command += ["-keyout", key, "-out", certificate, "-subj", "/CN=localhost"]
    command += ["-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run(command, check=True, capture_output=True)
    args = ("--grpc-use-ssl-mutual=1", f"--grpc-root-cert={certificate}")
    args += (f"--grpc-server-cert={certificate}", f"--grpc-server-key={key}")
    spec = ServerSpec(repository=repository, server_args=args)
    server = EncryptedServer(spec, Ports.choose(()))
    try:
        server.launch(find_server(), "none", (), 60)
        yield server, certificate
    finally:
        server.stop()


def test_tls_over_grpc(encrypted, connect, project):
    there, certificate = encrypted
    key = certificate.with_name("key.pem")
    server = connect(f"grpcs://{there.grpc_url}", ca=certificate, certificate=certificate, key=key)
    assert server.load(variant("first", {COUNT: 2}))["instance_group"][0]["count"] == 2
    server.stop()
    assert state(there) == {}
    with pytest.raises(
        ServerError, match=r"or does it ask for a client certificate \(--triton-tls-"
    ):
        connect(f"grpcs://{there.grpc_url}", ca=certificate)
    with pytest.raises(ServerError, match=r"Hint: .* is not trusted, .*: --triton-tls-ca names"):
        connect(f"grpcs://{there.grpc_url}")
    with pytest.raises(ServerError, match=r"or does it use TLS \(--triton-url=grpcs://127"):
        connect(f"grpc://{there.grpc_url}")

    # The same connection for perf_analyzer.
    files = [f"--triton-tls-ca={certificate}", f"--triton-tls-cert={certificate}"]
    project.tests(TEST)
    project.run(
        f"--triton-url=grpcs://{there.grpc_url}", *files, f"--triton-tls-key={key}", "-k", "two"
    ).assert_outcomes(passed=1)


@pytest.fixture
def https(encrypted):
    """An address of HTTPS in front of that Triton, which has HTTP only."""
    there, certificate = encrypted
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, certificate.with_name("key.pem"))
    host, port = there.http_url.split(":")

    class Handler(socketserver.BaseRequestHandler):
        def handle(self):
            with (
                contextlib.suppress(OSError),
                context.wrap_socket(self.request, server_side=True) as tls,
                socket.create_connection((host, port)) as plain,
            ):
                back = threading.Thread(target=copy, args=(plain, tls), daemon=True)
                back.start()
                copy(tls, plain)
                back.join()

    def copy(source, target):
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"https://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def test_tls_over_http(encrypted, https, connect, project):
    _, certificate = encrypted
    with pytest.raises(ServerError, match=r"Hint: .* is not trusted, .*: --triton-tls-ca names"):
        connect(https)
    with pytest.raises(ServerError, match=r"or does it use TLS \(--triton-url=https://127"):
        connect(https.replace("https", "http"))
    project.tests(TEST.replace("model=", "protocol='http', model="))
    project.run(
        f"--triton-url={https}", f"--triton-tls-ca={certificate}", "-k", "two"
    ).assert_outcomes(passed=1)


def test_tls_where_there_is_none(running, connect):
    there = running()
    with pytest.raises(ServerError, match=r"does not use TLS there: --triton-url=grpc://127"):
        connect(f"grpcs://{there.grpc_url}")
    with pytest.raises(ServerError, match=r"does not use TLS there: --triton-url=http://127"):
        connect(f"https://{there.http_url}")


TEST = """
import pytest

@pytest.mark.perf_sweep(model="add_sub", concurrency=[1, 2])
@pytest.mark.perf_budget(p99_latency_ms=1000)
def test_plain(triton_server, triton_sweep):
    assert triton_server.pid is None
    assert triton_sweep.at(concurrency=2).cpu_memory_mb is None
    assert "cannot be looked into" in triton_sweep.levels[0].why_missing("gpu_memory_mb")

@pytest.mark.perf_sweep(model="add_sub", concurrency=1, variants={"instance_group.count": [2]})
@pytest.mark.perf_budget(min_throughput=1)
def test_two(triton_sweep, model_variant):
    assert model_variant.name == "add_sub_config_0"
"""


def test_a_session_on_a_remote_server(project, running):
    there = running()
    there.client.load_model("first")
    project.tests(TEST)
    result = project.run(f"--triton-url={there.grpc_url}", reports="all")
    result.assert_outcomes(passed=2)
    assert state(there) == {"first": 1}
    data = json.loads((project.output / "results.json").read_text())
    assert data["environment"]["server"] == {
        "launch": "remote",
        "urls": [f"grpc://{there.grpc_url}"],
    }
    assert data["environment"]["triton"]["version"] == there.version
    assert [(m["variant"], m["concurrency"]) for m in data["measurements"]] == [
        ("add_sub_config_default", 1),
        ("add_sub_config_default", 2),
        ("add_sub_config_0", 1),
    ]
    for measurement in data["measurements"]:
        assert measurement["cpu_memory_mb"] is None
        assert "cannot be looked into" in measurement["missing"]["cpu_memory_mb"]
    assert {verdict["status"] for verdict in data["verdicts"]} == {"passed"}


def test_a_session_over_http_alone(project, running):
    there = running()
    there.client.load_model("add_sub")
    config = to_dict(there.client.get_model_config("add_sub").config)
    config["instance_group"][0]["count"] = 3
    there.client.load_model("add_sub", config=json.dumps(config))
    project.tests(TEST.replace("model=", "protocol='http', model="))
    project.run(f"--triton-url=http://{there.http_url}").assert_outcomes(passed=2)
    assert state(there) == {"add_sub": 3}


def test_a_server_killed_while_it_is_measured(project, running):
    there = running()
    project.tests(
        """
        import pytest

        @pytest.mark.perf_sweep(model="first", concurrency=[1, 2, 3, 4, 5, 6, 7, 8])
        @pytest.mark.perf_budget(min_throughput=1)
        def test_it():
            pass
        """
    )
    run = project.start(f"--triton-url={there.grpc_url}")
    told = project.path / "out.txt"
    deadline = time.monotonic() + 60
    while "first_config_default at concurrency 2: " not in told.read_text():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    killer = threading.Timer(0.5, os.kill, [there.pid, signal.SIGKILL])
    killer.start()
    assert run.wait(60) == 1
    killer.join()
    words = told.read_text()
    assert f"tritonserver at grpc://{there.grpc_url} does not answer any more (" in words
    assert f"the Triton at grpc://{there.grpc_url} was not left as it was found" in words
    assert "INTERNALERROR" not in words
    data = json.loads((project.output / "results.json").read_text())
    assert [m["concurrency"] for m in data["measurements"]][:2] == [1, 2]
    assert data["verdicts"][0]["status"] == "not_measured"


def test_a_cancelled_session_leaves_the_server_as_it_was_found(project, running):
    there = running()
    there.client.load_model("add_sub")
    many = TEST.replace("concurrency=1,", "concurrency=list(range(1, 40)),")
    project.tests(many.replace("min_throughput=1)", 'min_throughput=1, at={"concurrency": 39})'))
    run = project.start(f"--triton-url={there.grpc_url}", "-k", "two")
    told = project.path / "out.txt"
    deadline = time.monotonic() + 60
    while "add_sub_config_0 at concurrency 1: " not in told.read_text():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert state(there) == {"add_sub": 2}
    run.send_signal(signal.SIGTERM)
    assert run.wait(30) == 143
    assert state(there) == {"add_sub": 1}


GPU_TEST = """
import pytest

@pytest.mark.perf_sweep(model="first", concurrency=[1, 2])
@pytest.mark.perf_budget(max_gpu_memory_mb=4000, max_power_w=300)
def test_fits():
    pass

@pytest.mark.perf_sweep(model="first", concurrency=1)
@pytest.mark.perf_budget(max_gpu_memory_mb=2000)
def test_does_not_fit():
    pass
"""


def test_tritons_own_metrics_are_the_source_of_gpu_figures(project, running):
    """This Triton has no GPU: the endpoint is another one, which says what such a Triton says."""
    there = running()
    project.tests(GPU_TEST)
    started = time.monotonic()

    def answer():
        second = int(2 * (time.monotonic() - started))  # refreshed each half second
        return metrics_text(
            (A, 3000, 16000, 0.5, 100), (B, 500 + second % 2, 24000, 0.3, 60), cpu=second
        )

    with serving(answer) as address:
        result = project.run(
            f"--triton-url={there.grpc_url}", f"--triton-metrics-url={address}", reports="all"
        )
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["*gpu_memory_mb <= 2000 MB at every load: failed*"])
    data = json.loads((project.output / "results.json").read_text())
    for level in data["measurements"]:
        assert level["gpu_memory_mb"] in (3500, 3501)
        assert (level["gpu_utilization_pct"], level["power_w"]) == (40, 160)
        assert level["gpu_memory_delta_mb"] is level["cpu_memory_mb"] is None
        assert "the whole machine's" in level["missing"]["cpu_memory_mb"]
        assert any(f"by Triton's metrics (http://{address}/metrics)" in n for n in level["notes"])
    (idle,) = data["server_only"]
    assert (idle["cpu_memory_mb"], idle["gpus"]) == (None, {})
    memory = data["memory_timelines"][0]
    assert set(memory["curves"]) == {"gpu_memory_mb"}
    assert set(memory["gpus"]) == {A, B}
    assert "Total Available GPU Memory: 40.0 GB" in (project.output / "summary.md").read_text()
    assert (project.output / "plots/simple/first/gpu_mem_v_latency.png").is_file()


def test_a_real_triton_without_a_gpu_supplies_no_gpu_figures(project, running):
    there = running()
    endpoint = MetricsEndpoint.at(there.metrics_url)
    first = endpoint.ask(2)
    assert first.gpus == {}
    deadline = time.monotonic() + 10
    while endpoint.ask(2).refreshed == first.refreshed:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    project.tests(GPU_TEST)
    result = project.run(
        f"--triton-url={there.grpc_url}", f"--triton-metrics-url={there.metrics_url}"
    )
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(
        ["*test_it.py:3: test_fits: max_power_w cannot be measured: Triton's metrics name no GPU*"]
    )


def test_metrics_that_are_lost_while_measuring_are_no_pass(project, running):
    there = running()
    project.tests(GPU_TEST)
    asked = []

    def answer():
        asked.append(1)
        return metrics_text((A, 300, 16000, 0.5, 100)) if len(asked) == 1 else "gone\n"

    with serving(answer) as address:
        result = project.run(
            f"--triton-url={there.grpc_url}", f"--triton-metrics-url={address}", "-k", "test_fits"
        )
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*Triton's metrics endpoint http://*: what it sends are no*"])
    data = json.loads((project.output / "results.json").read_text())
    assert {verdict["status"] for verdict in data["verdicts"]} == {"not_measured"}
