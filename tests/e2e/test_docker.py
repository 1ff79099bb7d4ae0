"""The docker launch mode on a real engine: what runs, with which rights, and what is left."""

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from docker_images import IMAGE
from support import wait_for

from pytest_triton_perf.domain.cpus import CpuSplit
from pytest_triton_perf.domain.levels import Load
from pytest_triton_perf.domain.variants import Variant
from pytest_triton_perf.errors import LoadError, MissingPartError, ServerError, UsageError
from pytest_triton_perf.load.base import Traffic
from pytest_triton_perf.load.perf_analyzer import PerfAnalyzer
from pytest_triton_perf.load.runner import ToolboxRunner
from pytest_triton_perf.probes.process import ProcessProbe, ProcessTree
from pytest_triton_perf.servers import engine
from pytest_triton_perf.servers.base import ServerSpec
from pytest_triton_perf.servers.containers import Container, ContainerPlan, sdk_image_of
from pytest_triton_perf.servers.docker import DockerLauncher

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
CONFIG = (
    'backend: "python"\nmax_batch_size: 8\n'
    "input { name: 'X' data_type: TYPE_FP32 dims: [ 4 ] }\n"
    "output { name: 'Y' data_type: TYPE_FP32 dims: [ 4 ] }\n"
)
MODELS = {
    "echo": "pass",
    "sevens": "assert (x == 7).all(), f'not seven: {x.flat[0]}'",
    "slow": "time.sleep(4)",
}
SDK_IMAGE = f"{IMAGE}-sdk"


def plan(gpus="none"):
    return ContainerPlan(gpus=gpus, shm_size="256m")


def launcher(sdk_image=SDK_IMAGE, gpus="none"):
    return DockerLauncher({IMAGE: sdk_image}, plan(gpus), tell=lambda text: None)


def spec(repository, *server_args, image=IMAGE):
    return ServerSpec(repository=repository, image=image, server_args=server_args)


@contextlib.contextmanager
def started(repository, *server_args, sdk_image=SDK_IMAGE):
    one = launcher(sdk_image)
    server = one.start(spec(repository, *server_args))
    try:
        yield one, server
    finally:
        server.stop()


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    folder = tmp_path_factory.mktemp("docker") / "models"
    for name, execute in MODELS.items():
        (folder / name / "1").mkdir(parents=True)
        (folder / name / "1" / "model.py").write_text(MODEL.format(execute=execute))
        (folder / name / "config.pbtxt").write_text(CONFIG)
    return folder


@pytest.fixture(scope="module")
def pair(docker_engine, built_image, repository):
    with started(repository) as both:
        yield both


@pytest.fixture(scope="module")
def server(pair):
    return pair[1]


@pytest.fixture
def generator(pair):
    return PerfAnalyzer(ToolboxRunner(pair[0].toolbox, pair[0].describe_toolbox()))


def containers_of(client, server):
    session = server._container.inspect()["Config"]["Labels"][engine.SESSION]
    found = client.containers.list(all=True, filters={"label": f"{engine.SESSION}={session}"})
    return sorted(found, key=lambda container: container.attrs["Created"])


def variant(model, name="", **overrides):
    return Variant(
        model=model, name=name or f"{model}_config_default", overrides=overrides, config={}
    )


# -- what runs, and with which rights


def test_models_are_served_and_can_be_measured_here(server):
    import tritonclient.grpc as triton

    served = server.load(variant("echo", "echo_config_0", max_batch_size=2))
    assert served["max_batch_size"] == 2
    assert server.version == "2.51.0"
    x = triton.InferInput("X", [1, 4], "FP32")
    x.set_data_from_numpy(np.full((1, 4), 3, np.float32))
    assert server.client.infer("echo", [x]).as_numpy("Y").tolist() == [[3, 3, 3, 3]]
    assert "tritonserver" in Path(f"/proc/{server.pid}/cmdline").read_text()


@pytest.mark.skipif(not {0, 1} <= os.sched_getaffinity(0), reason="needs CPUs 0 and 1")
def test_server_and_perf_analyzer_run_on_the_cpus_that_they_get(
    docker_engine, built_image, repository
):
    cpus = CpuSplit(server=(0,), load=(1,))
    one = DockerLauncher({IMAGE: SDK_IMAGE}, replace(plan(), cpus=cpus), tell=lambda text: None)
    server = one.start(spec(repository))
    try:
        assert one.cpus == cpus
        assert os.sched_getaffinity(server.pid) == {0}
        asked = ["grep", "Cpus_allowed_list", "/proc/self/status"]
        assert server.toolbox.execute(asked, workdir="/")[1].split()[1] == b"1"
    finally:
        server.stop()


def test_a_container_is_turned_to_another_repository(docker_engine, built_image, tmp_path):
    import tritonclient.grpc as triton

    folders = {"head": tmp_path / "head", "base": tmp_path / "base"}
    for arm, execute in (("head", "x = 2 * x"), ("base", "x = 3 * x")):
        (folders[arm] / "echo" / "1").mkdir(parents=True)
        (folders[arm] / "echo" / "1" / "model.py").write_text(MODEL.format(execute=execute))
        (folders[arm] / "echo" / "config.pbtxt").write_text(CONFIG)
    one = launcher()
    server = one.start(ServerSpec(repository=folders["head"], base=folders["base"], image=IMAGE))
    try:
        x = triton.InferInput("X", [1, 4], "FP32")
        x.set_data_from_numpy(np.full((1, 4), 1, np.float32))
        answers = []
        server.load(variant("echo"))
        for arm in ("head", "base", "head"):
            server.turn_to(folders[arm])
            server.load(variant("echo"))
            answers.append(server.client.infer("echo", [x]).as_numpy("Y").flat[0])
        assert answers == [2, 3, 2]
        assert server.readable("/triton-perf/served/models/echo") == f"{folders['head']}/echo"
    finally:
        server.stop()


def test_an_engine_on_other_cpus_gives_none_of_ours(docker_engine, monkeypatch):
    with contextlib.closing(engine.connect()) as client:
        assert engine.why_no_cpus_of_ours(client) == ""
        monkeypatch.setattr(os, "cpu_count", lambda: 4096)
        assert "whose CPUs are not known here" in engine.why_no_cpus_of_ours(client)


def test_the_processes_in_the_container_are_measured_from_here(server):
    server.load(variant("echo"))
    stubs = [
        process.pid
        for process in ProcessTree(server.pid).processes(fresh=True)
        if "stub" in process.name()
    ]
    assert len(stubs) == 1
    reading = ProcessProbe(server.pid).read(fresh=True)
    assert reading.notes == ()

    def proportional_mb(pid):
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
        return int(re.search(r"(?m)^Pss:\s+(\d+) kB", text)[1]) * 1024 / 1e6

    expected = sum(map(proportional_mb, [server.pid, *stubs]))
    assert reading.cpu_memory_mb == pytest.approx(expected, rel=0.05)


def test_a_refused_variant_is_told_with_tritons_reason(server, repository):
    with pytest.raises(ServerError, match=r"Triton refused echo_config_9 \(max_batch_size=-3\): "):
        server.load(variant("echo", "echo_config_9", max_batch_size=-3))


def test_both_containers_have_few_rights_and_are_labelled(docker_engine, server):
    both = containers_of(docker_engine, server)
    assert [c.attrs["Config"]["Image"] for c in both] == [IMAGE, SDK_IMAGE]
    for container in both:
        host = container.attrs["HostConfig"]
        assert (host["CapDrop"], host["CapAdd"], host["Privileged"]) == (["ALL"], None, False)
        assert host["SecurityOpt"] == ["no-new-privileges"]
        assert host["ReadonlyRootfs"]
        assert container.attrs["Config"]["User"] == f"{os.getuid()}:{os.getgid()}"
        assert container.labels[engine.OWNER] == engine.this_process()
        assert "docker.sock" not in json.dumps(container.attrs["Mounts"])
    models, shared = (container.attrs["Mounts"] for container in both)
    # The model repository, and the folder whose link says which one is served.
    assert [mount["RW"] for mount in models] == [False, False]
    assert [mount["Source"] for mount in shared] == [str(server.toolbox.folder)]
    assert both[0].attrs["HostConfig"]["ShmSize"] == 256 << 20


def test_ports_are_published_on_loopback_only(docker_engine, server):
    triton = containers_of(docker_engine, server)[0]
    bindings = [b for all_of_one in triton.ports.values() for b in all_of_one]
    assert {b["HostIp"] for b in bindings} == {"127.0.0.1"}
    urls = (server.http_url, server.grpc_url, server.metrics_url)
    assert {f"127.0.0.1:{b['HostPort']}" for b in bindings} == set(urls)


def test_the_description_names_the_images_and_their_digests(docker_engine, pair):
    digest = docker_engine.images.get(IMAGE).id
    assert pair[0].describe() == {
        "launch": "docker",
        "images": {IMAGE: digest},
        "gpus": "none",
    }
    sdk_digest = docker_engine.images.get(SDK_IMAGE).id
    assert pair[0].describe_toolbox() == {"images": {SDK_IMAGE: sdk_digest}}


HALF_A_SECOND = {"seconds": 0.5, "max_seconds": 30}


@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_a_level_is_measured_in_the_toolbox(generator, server, protocol):
    server.load(variant("echo"))
    url = server.grpc_url if protocol == "grpc" else server.http_url
    traffic = Traffic(model="echo", protocol=protocol)
    before = time.monotonic()
    report = generator.run(traffic, Load(concurrency=2), url=url, **HALF_A_SECOND)
    # The export came back from the container, with times of this machine.
    assert report.segment.sent_s.size > 10
    assert before < report.segment.started < report.segment.ended < time.monotonic()


def test_shared_memory_is_the_servers(generator, server):
    server.load(variant("echo"))
    traffic = Traffic(model="echo", shared_memory="system")
    report = generator.run(traffic, Load(concurrency=1), url=server.grpc_url, **HALF_A_SECOND)
    assert report.segment.sent_s.size > 10


@pytest.mark.parametrize("value", [7.0, 8.0])
def test_input_data_of_this_machine_is_sent(generator, server, tmp_path, value):
    server.load(variant("sevens"))
    data = tmp_path / "data.json"
    data.write_text(json.dumps({"data": [{"X": [value] * 4}]}))
    traffic = Traffic(model="sevens", input_data=data)
    sent = (
        contextlib.nullcontext() if value == 7.0 else pytest.raises(LoadError, match="not seven: 8")
    )
    with sent:
        generator.run(traffic, Load(concurrency=1), url=server.grpc_url, **HALF_A_SECOND)


def test_a_folder_of_input_data_is_sent(generator, server, tmp_path):
    server.load(variant("sevens"))
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "X").write_bytes(np.full(4, 7, np.float32).tobytes())
    traffic = Traffic(model="sevens", input_data=tmp_path / "data")
    generator.run(traffic, Load(concurrency=1), url=server.grpc_url, **HALF_A_SECOND)


def commands(docker_engine, server):
    toolbox = containers_of(docker_engine, server)[1:]
    return [row[-1] for container in toolbox for row in container.top()["Processes"]]


def test_a_hang_is_ended_inside_the_container(generator, server, docker_engine):
    server.load(variant("slow"))
    with pytest.raises(LoadError, match="perf_analyzer hung on 'slow' at concurrency 1"):
        generator.warm_up(
            Traffic(model="slow"), Load(concurrency=1), url=server.grpc_url, max_seconds=3
        )
    assert commands(docker_engine, server) == ["sleep infinity"]


def test_an_interrupt_ends_the_load_and_the_next_level_gets_another_container(
    generator, server, docker_engine
):
    import threading

    server.load(variant("slow"))
    timer = threading.Timer(1, signal.raise_signal, [signal.SIGINT])
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        generator.warm_up(
            Traffic(model="slow"), Load(concurrency=1), url=server.grpc_url, max_seconds=60
        )
    timer.join()
    assert commands(docker_engine, server) == []
    server.load(variant("echo"))
    traffic = Traffic(model="echo")
    generator.run(traffic, Load(concurrency=1), url=server.grpc_url, **HALF_A_SECOND)


def test_a_toolbox_that_was_killed_is_told(generator, server, docker_engine):
    server.load(variant("echo"))
    run = (Traffic(model="echo"), Load(concurrency=1))
    generator.run(*run, url=server.grpc_url, **HALF_A_SECOND)
    containers_of(docker_engine, server)[1].kill()
    with pytest.raises(LoadError, match="the Docker engine did not run perf_analyzer in a cont"):
        generator.run(*run, url=server.grpc_url, **HALF_A_SECOND)
    generator.run(*run, url=server.grpc_url, **HALF_A_SECOND)


# -- starting and stopping


def test_stop_removes_everything_and_keeps_the_log(docker_engine, built_image, repository):
    with started(repository) as (_, server):
        folder, made = server.toolbox.folder, containers_of(docker_engine, server)
        begun = time.monotonic()
        server.stop()
        assert time.monotonic() - begun < 10
    assert "Started GRPCInferenceService" in server.logs()
    assert not server.alive()
    left = {c.id for c in docker_engine.containers.list(all=True, ignore_removed=True)}
    assert left.isdisjoint(container.id for container in made)
    assert not folder.exists()


def test_a_server_that_ends_is_not_waited_for(docker_engine, built_image, repository):
    begun = time.monotonic()
    with pytest.raises(ServerError, match=r"tritonserver exited with 1 before it was ready") as e:
        launcher().start(spec(repository, "--no-such-option"))
    assert "unrecognized option '--no-such-option'" in str(e.value)
    assert time.monotonic() - begun < 30


def test_a_port_of_the_users_is_published(docker_engine, built_image, repository):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with started(repository, f"--http-port={port}", sdk_image=None) as (_, server):
        assert server.http_url == f"127.0.0.1:{port}"
        assert server.toolbox is None


def test_a_gpu_without_an_nvidia_runtime_is_told(docker_engine, built_image, repository):
    if "nvidia" in docker_engine.info()["Runtimes"]:
        pytest.skip("this engine has an NVIDIA runtime")
    with pytest.raises(ServerError, match="could not select device driver") as error:
        launcher(gpus=("GPU-1234",)).start(spec(repository))
    assert "install the NVIDIA Container Toolkit" in str(error.value)
    assert "--triton-gpus=none" in str(error.value)


def test_an_sdk_image_without_perf_analyzer_is_told(docker_engine, built_image, repository):
    with pytest.raises(MissingPartError, match="perf_analyzer does not run in the image") as error:
        launcher(sdk_image=IMAGE).start(spec(repository))
    assert "Hint: correct --triton-sdk-image" in str(error.value)


def test_out_of_memory_is_told(docker_engine, built_image):
    one = Container(docker_engine, plan(), {})
    try:
        # Written to, or the kernel gives it no memory.
        eat = "b = b'x' * 10**9"
        one.start(IMAGE, ["python3", "-c", eat], mem_limit="32m", memswap_limit="32m")
        deadline = time.monotonic() + 30
        while (how := one.ended()) is None and time.monotonic() < deadline:
            time.sleep(0.1)
    finally:
        one.remove()
    assert how == "was killed by SIGKILL, out of memory (OOMKilled)"
    assert one.ended() == "is gone: somebody removed its container"


# -- the engine and its images


def test_no_engine_is_told(monkeypatch, tmp_path):
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/docker.sock")
    with pytest.raises(MissingPartError, match=r"no Docker engine answers at .*docker\.sock") as e:
        engine.connect()
    assert "Hint: " in str(e.value)


def test_an_engine_of_another_machine_is_told(monkeypatch):
    monkeypatch.setenv("DOCKER_HOST", "tcp://docker.invalid:2375")
    with pytest.raises(MissingPartError, match=r"is on another machine.*\n.*--triton-url"):
        engine.connect()


def test_a_socket_that_we_may_not_use_is_told(docker_engine):
    if os.geteuid():
        pytest.skip("needs root, to become somebody else")
    code = (
        "import os, docker, requests, psutil\n"
        "from pytest_triton_perf.servers import engine\n"
        "os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
        "engine.connect()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60
    )
    assert "no permission to use the Docker engine at http+unix" in done.stderr
    assert "Hint: usermod -aG docker $USER" in done.stderr


@pytest.mark.parametrize("tag", ["24.10-py3", "@sha256:" + "0" * 64])
def test_an_image_that_cannot_be_pulled_is_told(docker_engine, tag):
    # Nothing listens at this registry.
    image = f"127.0.0.1:9/no/such{tag if tag[0] == '@' else f':{tag}'}"
    told = []
    with pytest.raises(MissingPartError, match="is not on this machine and cannot be pulled: "):
        DockerLauncher({image: None}, plan(), tell=told.append)
    assert told == [f"pulling {image}"]


def test_the_sdk_image_stands_beside_the_server_image():
    assert sdk_image_of("127.0.0.1:5000/tritonserver:25.01-py3") == (
        "127.0.0.1:5000/tritonserver:25.01-py3-sdk"
    )
    for image in ("127.0.0.1:5000/tritonserver", f"tritonserver:1@sha256:{'0' * 64}"):
        with pytest.raises(UsageError, match="has no tag that tells its SDK image"):
            sdk_image_of(image)


def test_only_what_dead_processes_left_is_removed(docker_engine, built_image, tmp_path):
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    mine = engine.this_process().split(" ")
    owner = " ".join([*mine[:2], str(child.pid), engine._start_time(child.pid)])
    elsewhere = " ".join(["another-host", *mine[1:3], "1"])
    made = {}
    try:
        for whose, label in {"child": owner, "me": " ".join(mine), "other": elsewhere}.items():
            made[whose] = Container(docker_engine, plan(), {engine.OWNER: label})
            made[whose].start(IMAGE, ["sleep", "60"])
        engine.remove_leftovers(docker_engine)
        assert [one.ended() for one in made.values()] == [None] * 3
        child.communicate(b"\n")
        engine.remove_leftovers(docker_engine)
        assert made["child"].ended() == "is gone: somebody removed its container"
        assert (made["me"].ended(), made["other"].ended()) == (None, None)
    finally:
        for one in made.values():
            one.remove()


class Wire:
    """A socket that leads to the engine until it is cut: the engine's end, as a client sees it."""

    def __init__(self, path, host):
        self.path = str(path)
        self._process = subprocess.Popen(
            [sys.executable, "-c", WIRE, self.path, host.removeprefix("http+unix://")]
        )
        wait_for(path.exists)

    def cut(self):
        self._process.kill()
        self._process.wait()
        Path(self.path).unlink(missing_ok=True)


WIRE = """
import socket, sys, threading

def copy(source, target):
    while data := source.recv(65536):
        target.sendall(data)
    target.shutdown(socket.SHUT_WR)

listener = socket.socket(socket.AF_UNIX)
listener.bind(sys.argv[1])
listener.listen()
while True:
    client, _ = listener.accept()
    engine = socket.socket(socket.AF_UNIX)
    engine.connect(sys.argv[2])
    for ends in ((client, engine), (engine, client)):
        threading.Thread(target=copy, args=ends, daemon=True).start()
"""


def test_an_engine_that_goes_away_is_told(
    docker_engine, built_image, repository, monkeypatch, tmp_path
):
    from docker.utils import parse_host

    real = str(parse_host(os.environ.get("DOCKER_HOST")))
    if not real.startswith("http+unix://"):
        pytest.skip("the engine does not listen at a socket file")
    wire, made = Wire(tmp_path / "docker.sock", real), []
    monkeypatch.setenv("DOCKER_HOST", f"unix://{wire.path}")
    try:
        one = launcher()
        server = one.start(spec(repository))
        made = containers_of(docker_engine, server)
        server.load(variant("echo"))
        wire.cut()
        assert "cannot be seen any more: the Docker engine did not say" in server.ended()
        with pytest.raises(LoadError, match="the Docker engine did not run perf_analyzer in a"):
            server.toolbox.execute(["true"], workdir="/tmp")
        begun = time.monotonic()
        with pytest.raises(ServerError, match=r"did not remove the container .*\n.*next session"):
            server.stop()
        assert time.monotonic() - begun < 30
    finally:
        wire.cut()
        for container in made:
            engine.remove(docker_engine, container.id)
