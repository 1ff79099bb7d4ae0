"""A tritonserver of our own: started, loaded, refused, killed and stopped for real."""

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
import psutil
import pytest

from pytest_triton_perf.domain.variants import Variant
from pytest_triton_perf.errors import ServerError, UsageError
from pytest_triton_perf.servers.base import ServerSpec
from pytest_triton_perf.servers.embedded import find_server
from pytest_triton_perf.servers.local import LocalLauncher, LocalServer
from pytest_triton_perf.servers.model_config import apply_overrides, read_config
from pytest_triton_perf.servers.ports import Ports

MODEL = """
import triton_python_backend_utils as pb

class TritonPythonModel:
    @staticmethod
    def auto_complete_config(config):
        config.add_input({"name": "X", "data_type": "TYPE_FP32", "dims": [4]})
        config.add_output({"name": "Y", "data_type": "TYPE_FP32", "dims": [4]})
        config.set_max_batch_size(4)
        return config

    def execute(self, requests):
        inputs = [pb.get_input_tensor_by_name(r, "X").as_numpy() for r in requests]
        return [pb.InferenceResponse([pb.Tensor("Y", 2 * x)]) for x in inputs]
"""
TENSORS = """
input { name: "X" data_type: TYPE_FP32 dims: [ 4 ] }
output { name: "Y" data_type: TYPE_FP32 dims: [ 4 ] }
"""
CONFIG = f'backend: "python"\nmax_batch_size: 4\n{TENSORS}'
STEP = 'step {{ model_name: "{}" model_version: -1 input_map {{ key: "X" value: "{}" }} ' + (
    'output_map {{ key: "Y" value: "{}" }} }}'
)
COMPLETE = """
import os, pathlib, subprocess
import triton_python_backend_utils as pb

class TritonPythonModel:
    def initialize(self, args):
        if "worker" in args["model_name"]:
            self.worker = subprocess.Popen(["sleep", "60"])

    def execute(self, requests):
        inputs = [pb.get_input_tensor_by_name(r, "X").as_numpy() for r in requests]
        return [pb.InferenceResponse([pb.Tensor("Y", x)]) for x in inputs]
"""
FINALIZES = f"""{COMPLETE}
    def finalize(self):
        pathlib.Path(__file__).with_name(f"finalized-{{os.getpid()}}").touch()
"""
ENSEMBLE = (
    f'platform: "ensemble"\nmax_batch_size: 4\n{TENSORS}'
    f"ensemble_scheduling {{ {STEP.format('double', 'X', 'M')} {STEP.format('again', 'M', 'Y')} }}"
)


def add_model(repository, name, source=MODEL, config=CONFIG):
    (repository / name / "1").mkdir(parents=True)
    if source:
        (repository / name / "1" / "model.py").write_text(source)
    if config:
        (repository / name / "config.pbtxt").write_text(config)


def snapshot(folder):
    return {
        path: (path.stat().st_mtime_ns, path.is_file() and path.read_bytes())
        for path in [folder, *folder.rglob("*")]
    }


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    repository = tmp_path_factory.mktemp("models")
    add_model(repository, "double")
    add_model(repository, "again")
    add_model(repository, "completed", config=None)
    add_model(repository, "broken", source="import no_such_module\n")
    add_model(repository, "chain", source=None, config=ENSEMBLE)
    return repository


@pytest.fixture(scope="module")
def launcher():
    return LocalLauncher(find_server(), gpus="none")


@pytest.fixture(scope="module")
def shared(launcher, repository):
    """A server for the tests that leave it usable."""
    server = launcher.start(ServerSpec(repository=repository))
    yield server
    server.stop()


@pytest.fixture
def own(launcher, repository):
    """Starts servers that their test may break; they end with it."""
    started = []

    def start(*server_args):
        started.append(launcher.start(ServerSpec(repository=repository, server_args=server_args)))
        return started[-1]

    yield start
    for server in started:
        server.begin_stop()
    for server in started:
        server.stop()


@pytest.fixture
def variant(repository):
    def make(model, overrides=None):
        config = read_config(repository / model)
        name = f"{model}_config_{overrides or 'default'}"
        if config is None:
            return Variant(model=model, name=name, overrides=overrides or {})
        config = apply_overrides(model, config, overrides or {})
        return Variant(model=model, name=name, overrides=overrides or {}, config=config)

    return make


def descendants(pid):
    return {process.pid for process in psutil.Process(pid).children(recursive=True)}


def instances(server):
    server.settle()
    children = psutil.Process(server.pid).children(recursive=True)
    return {child.pid for child in children if child.status() != psutil.STATUS_ZOMBIE}


def infer(server, model):
    from tritonclient.grpc import InferInput

    x = np.arange(4, dtype=np.float32).reshape(1, 4)
    tensor = InferInput("X", [1, 4], "FP32")
    tensor.set_data_from_numpy(x)
    return (server.client.infer(model, [tensor]).as_numpy("Y") / x[0, 1])[0].tolist()


def listening(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_a_started_server_answers_and_serves_nothing_yet(shared):
    assert shared.alive()
    assert shared.version.count(".") == 2
    assert shared.client.is_server_ready()
    assert all(listening(int(url.split(":")[1])) for url in (shared.http_url, shared.metrics_url))
    assert "Started GRPCInferenceService at " + shared.grpc_url in shared.logs()
    assert shared._shm_prefix in " ".join(psutil.Process(shared.pid).cmdline())


def test_each_variant_is_loaded_freshly_and_the_default_comes_back(shared, variant):
    config = shared.load(variant("double"))
    assert config["instance_group"][0]["count"] == 1
    assert infer(shared, "double") == [0, 2, 4, 6]
    default = instances(shared)
    assert len(default) == 1

    config = shared.load(variant("double", {"instance_group.count": 2}))
    assert config["instance_group"][0]["count"] == 2
    two = instances(shared)
    assert len(two) == 2
    assert not two & default

    config = shared.load(variant("double", {"dynamic_batching.max_queue_delay_microseconds": 50}))
    assert config["dynamic_batching"]["max_queue_delay_microseconds"] == "50"
    assert len(instances(shared)) == 1

    config = shared.load(variant("double"))
    assert "dynamic_batching" not in config
    assert len(instances(shared)) == 1


def test_a_server_is_turned_to_another_repository_and_loads_afresh(launcher, repository, tmp_path):
    base = tmp_path / "base"
    for model in ("double", "again"):
        add_model(base, model, source=MODEL.replace("2 * x", "3 * x"))
    add_model(base, "chain", source=None, config=ENSEMBLE)
    before = snapshot(base), snapshot(repository)
    server = launcher.start(ServerSpec(repository=repository, base=base))
    try:
        chain = Variant(model="chain", name="chain_config_default")
        processes = []
        for arm, answer in ((repository, 4), (base, 9), (base, 9), (repository, 4)):
            server.turn_to(arm)
            server.load(chain)
            assert infer(server, "chain") == [0, answer, 2 * answer, 3 * answer]
            processes.append(instances(server))
        assert all(len(found) == 2 for found in processes)
        assert len(set.union(*processes)) == 8, "each turn loads afresh"
        assert (snapshot(base), snapshot(repository)) == before
        server.turn_to(base)
        with pytest.raises(ServerError, match="Triton refused completed_config_default"):
            server.load(Variant(model="completed", name="completed_config_default"))
    finally:
        server.stop()


@pytest.fixture(scope="module")
def complete(launcher, tmp_path_factory):
    """A server whose models have complete configs, of which some must end in their own way."""
    repository = tmp_path_factory.mktemp("complete")
    add_model(repository, "plain", source=COMPLETE)
    add_model(repository, "careful", source=FINALIZES)
    add_model(repository, "worker", source=COMPLETE)
    server = launcher.start(ServerSpec(repository=repository))
    yield server
    server.stop()


def test_nothing_of_a_variant_is_left_when_the_next_is_measured(complete):
    assert "--disable-auto-complete-config" in psutil.Process(complete.pid).cmdline()
    before, memory = set(), list(Path("/dev/shm").glob(f"{complete._shm_prefix}*"))
    # Ended too late, a stub would stay: Triton asks it to finalize, and waits for ever.
    for number, count in enumerate([1, 3, 2, 1, 2, 3, 1]):
        overrides = {"instance_group.count": count}
        config = apply_overrides("plain", read_config(complete._repository / "plain"), overrides)
        name = f"plain_config_{number}"
        complete.load(Variant(model="plain", name=name, overrides=overrides, config=config))
        now = instances(complete)
        assert len(now) == count
        assert not now & before
        before = now
        regions = list(Path("/dev/shm").glob(f"{complete._shm_prefix}*"))
        assert len(regions) == len(memory) + count
    deadline = time.monotonic() + 20
    while len(psutil.Process(complete.pid).children()) > 1:
        assert time.monotonic() < deadline, "Triton did not collect the stubs that were ended"
        time.sleep(0.1)


def test_a_model_finalizes_before_the_next_is_measured(complete):
    config = read_config(complete._repository / "careful")
    complete.load(Variant(model="careful", name="careful_config_default", config=config))
    (stub,) = instances(complete)
    complete.load(Variant(model="careful", name="careful_config_0", config=config))
    complete.settle()
    assert (complete._models / "careful" / "1" / f"finalized-{stub}").exists()


def test_processes_that_a_model_leaves_are_told(complete, monkeypatch):
    monkeypatch.setattr("pytest_triton_perf.servers.warden.STOP_S", 0.5)
    for model in ("worker", "plain"):
        config = read_config(complete._repository / model)
        complete.load(Variant(model=model, name=f"{model}_config_default", config=config))
    with pytest.raises(ServerError) as error:
        complete.settle()
    assert str(error.value).startswith(
        "plain_config_default cannot be measured: processes of the model served before do not end"
    )
    assert "Hint: does that model start processes that its finalize() does not end?" in str(
        error.value
    )
    (worker,) = re.findall(r"process (\d+)", str(error.value))
    os.kill(int(worker), signal.SIGKILL)
    complete.settle()


def test_completion_changes_nothing_where_it_is_spared(complete, own_of):
    config = read_config(complete._repository / "plain")
    variant = Variant(model="plain", name="plain_config_default", config=config)
    # A model that completes its config, beside it, has Triton complete all.
    completing = own_of({"plain": COMPLETE, "completing": MODEL})
    assert "--disable-auto-complete-config" not in psutil.Process(completing.pid).cmdline()
    assert completing.load(variant) == complete.load(variant)


@pytest.fixture
def own_of(launcher, tmp_path):
    """Starts servers of a repository of these models' sources, all with the same config."""
    started = []

    def start(sources):
        for name, source in sources.items():
            add_model(tmp_path, name, source=source)
        started.append(launcher.start(ServerSpec(repository=tmp_path)))
        return started[-1]

    yield start
    for server in started:
        server.stop()


def test_the_served_variant_is_not_loaded_again(shared, variant):
    config = shared.load(variant("double"))
    before = instances(shared)
    assert shared.load(variant("double")) == config
    assert instances(shared) == before


def test_a_model_without_a_config_file_is_varied_from_what_triton_completed(shared, variant):
    assert shared.load(variant("completed"))["max_batch_size"] == 4
    config = shared.load(variant("completed", {"instance_group.count": 2}))
    assert config["instance_group"][0]["count"] == 2
    assert config["max_batch_size"] == 4
    assert len(instances(shared)) == 2
    with pytest.raises(UsageError, match=r"model 'completed': nosuch: ModelConfig has no field"):
        shared.load(variant("completed", {"nosuch": 2}))


def test_an_ensemble_brings_its_models_and_takes_them_away(shared, variant):
    shared.load(variant("chain"))
    assert infer(shared, "chain") == [0, 4, 8, 12]
    assert len(instances(shared)) == 2
    shared.load(variant("double"))
    assert len(instances(shared)) == 1
    assert infer(shared, "double") == [0, 2, 4, 6]
    shared.load(variant("chain"))
    assert infer(shared, "chain") == [0, 4, 8, 12]


def test_a_refused_variant_shows_tritons_reason_and_the_next_one_is_served(shared, variant):
    with pytest.raises(ServerError) as error:
        shared.load(variant("double", {"instance_group.kind": "KIND_GPU"}))
    first, hint, *log = str(error.value).splitlines()
    assert first.startswith("Triton refused double_config_{")
    assert "(instance_group.kind=KIND_GPU): load failed for model 'double'" in first
    assert first.endswith("has kind KIND_GPU but no GPUs are available")
    assert hint == "Hint: correct the variant. The end of Triton's log:"
    assert "failed to load 'double'" in "\n".join(log)
    shared.load(variant("double"))
    assert len(instances(shared)) == 1


def test_a_model_that_raises_is_named_with_the_users_path(shared, variant, repository):
    with pytest.raises(ServerError, match="No module named 'no_such_module'") as error:
        shared.load(variant("broken"))
    assert f"{repository}/broken/1/model.py(1)" in str(error.value)
    assert "Hint: correct the model or its config.pbtxt." in str(error.value)


def test_a_config_that_the_model_changes_is_not_measured_under_the_wrong_name(shared, variant):
    with pytest.raises(ServerError, match=r"max_batch_size is 4 where 2 was asked for\nHint: "):
        shared.load(variant("completed", {"max_batch_size": 2}))
    with pytest.raises(ServerError, match="cannot be measured"):
        shared.load(variant("completed", {"max_batch_size": 2}))


def test_the_repository_is_only_read(own, variant, repository):
    before = snapshot(repository)
    server = own()
    server.load(variant("double", {"instance_group.count": 2}))
    server.load(variant("completed"))
    assert snapshot(repository) == before


@pytest.mark.parametrize("form", [("--http-port={}",), ("--http-port", "{}")])
def test_a_port_in_use_is_an_error_before_the_start(own, form):
    with socket.socket() as busy:
        busy.bind(("127.0.0.1", 0))
        busy.listen()
        port = busy.getsockname()[1]
        with pytest.raises(ServerError) as error:
            own(*(part.format(port) for part in form))
    assert f"port {port} of 127.0.0.1, wanted by the server argument --http-port" in str(
        error.value
    )
    assert "Address already in use. Give another port or drop the argument" in str(error.value)


def test_a_port_is_a_number(own):
    with pytest.raises(UsageError, match=r"--grpc-port: a port is a number, not 'x'"):
        own("--grpc-port=x")
    with pytest.raises(UsageError, match=r"--grpc-port: a port is a number, not ''"):
        own("--grpc-port")


def test_two_servers_cannot_share_a_grpc_port(own):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = own("--grpc-port", str(port))
    assert server.grpc_url == f"127.0.0.1:{port}"
    assert server.client.is_server_ready()
    with pytest.raises(ServerError, match=f"port {port} of 127.0.0.1, .* --grpc-port"):
        own(f"--grpc-port={port}")


def test_a_chosen_port_that_is_taken_meanwhile_is_chosen_anew(own, monkeypatch):
    free = Ports.choose
    with socket.socket() as busy:
        busy.bind(("127.0.0.1", 0))
        busy.listen()
        http_taken, grpc_taken, metrics_taken = (
            replace(free(()), **{name: busy.getsockname()[1]})
            for name in ("http", "grpc", "metrics")
        )
        monkeypatch.setattr(Ports, "choose", lambda args: choices.pop(0))
        for choices in ([metrics_taken, free(())], [http_taken, grpc_taken, free(())]):
            assert own().alive()
            assert not choices
        choices = [http_taken, grpc_taken, http_taken]
        with pytest.raises(ServerError, match=r"HTTP service: .* already in use"):
            own()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--nosuch=3"], "unrecognized option '--nosuch=3'"),
        (["--grpc-address=127.0.0.1", "--http-thread-count=x"], "http-thread-count"),
        (["--model-control-mode=none", "--load-model=double"], "load-model"),
    ],
)
def test_a_wrong_argument_is_told_at_once_in_tritons_words(own, arguments, words):
    began = time.monotonic()
    with pytest.raises(ServerError) as error:
        own(*arguments)
    assert time.monotonic() - began < 30
    assert str(error.value).startswith("tritonserver exited with 1 before it was ready. Its last")
    assert words in str(error.value)
    assert "Usage" not in str(error.value)
    assert "Hint: correct what it names; extra arguments come from --triton-" in str(error.value)


def test_a_server_that_is_never_ready_is_given_up_and_ended(repository):
    launcher = LocalLauncher(find_server(), gpus="none", start_seconds=1)
    before = descendants(os.getpid())
    with pytest.raises(ServerError) as error:
        launcher.start(ServerSpec(repository=repository, server_args=("--allow-http=false",)))
    assert "was not ready within 1 s: http://127.0.0.1:" in str(error.value)
    assert "/v2/health/ready did not answer. Its last words:\n    " in str(error.value)
    assert "Hint: is the machine overloaded, or HTTP switched off" in str(error.value)
    assert descendants(os.getpid()) == before


def test_a_killed_server_is_known_and_leaves_nothing(own, variant):
    server = own()
    server.load(variant("double"))
    stubs = [psutil.Process(pid) for pid in instances(server)]
    os.kill(server.pid, signal.SIGKILL)
    with pytest.raises(ServerError) as error:
        server.load(variant("again"))
    assert "tritonserver was killed by SIGKILL; it was to load again_config" in str(error.value)
    assert "successfully loaded 'double'" in str(error.value)
    assert not server.alive()
    server.stop()
    assert_gone(server, stubs)


def test_stop_leaves_nothing_and_can_be_repeated(own, variant):
    server = own()
    server.load(variant("double"))
    family = [psutil.Process(server.pid), *psutil.Process(server.pid).children(recursive=True)]
    assert list(Path("/dev/shm").glob(f"{server._shm_prefix}*"))
    server.begin_stop()
    server.stop()
    server.stop()
    assert server.ended() == "was killed by SIGKILL", "nothing of it is worth seconds of waiting"
    assert "successfully loaded 'double'" in server.logs()
    assert_gone(server, family)


def test_a_model_finalizes_before_its_server_ends(launcher, tmp_path):
    mark = tmp_path / "finalized"
    source = f"{COMPLETE}\n    def finalize(self):\n        pathlib.Path({str(mark)!r}).touch()\n"
    add_model(tmp_path / "models", "careful", source)
    server = launcher.start(ServerSpec(repository=tmp_path / "models"))
    try:
        config = read_config(tmp_path / "models" / "careful")
        server.load(Variant(model="careful", name="careful_config_default", config=config))
    finally:
        server.stop()
    assert mark.exists()
    assert server.ended() == "exited with 0"


def test_a_server_and_its_models_run_on_the_cpus_that_they_get(repository, variant):
    ours = os.sched_getaffinity(0)
    launcher = LocalLauncher(find_server(), gpus="none", cpus=[min(ours)])
    server = launcher.start(ServerSpec(repository=repository))
    try:
        assert os.sched_getaffinity(0) == ours
        server.load(variant("double"))
        for process in (server.pid, *instances(server)):
            for thread in Path(f"/proc/{process}/task").iterdir():
                assert os.sched_getaffinity(int(thread.name)) == {min(ours)}
    finally:
        server.stop()


def test_a_server_with_arguments_of_the_user_ends_by_itself(own, variant):
    server = own("--log-verbose=0")
    server.load(variant("double"))
    server.stop()
    assert server.ended() == "exited with 0"


def assert_gone(server, processes):
    _, left = psutil.wait_procs(processes, timeout=5)
    assert [p for p in left if p.status() != psutil.STATUS_ZOMBIE] == []
    assert list(Path("/dev/shm").glob(f"{server._shm_prefix}*")) == []
    assert not server._workdir.exists()


def test_a_server_that_was_never_launched_can_be_stopped(repository):
    server = LocalServer(ServerSpec(repository=repository), Ports.choose(()))
    assert (server.pid, server.logs(), server.alive()) == (None, "", False)
    server.stop()
    assert not server._workdir.exists()


def test_a_killed_pytest_takes_its_server_with_it(repository):
    script = (
        "import sys, time\n"
        "from pathlib import Path\n"
        "from pytest_triton_perf.servers.base import ServerSpec\n"
        "from pytest_triton_perf.servers.embedded import find_server\n"
        "from pytest_triton_perf.servers.local import LocalLauncher\n"
        "launcher = LocalLauncher(find_server(), gpus='none')\n"
        "server = launcher.start(ServerSpec(repository=Path(sys.argv[1])))\n"
        "print(server.pid, server._workdir, flush=True)\n"
        "time.sleep(60)\n"
    )
    command = [sys.executable, "-c", script, str(repository)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        pid, workdir = parent.stdout.readline().split()
        server = psutil.Process(int(pid))
        parent.kill()
    psutil.wait_procs([server], timeout=15)
    assert not server.is_running() or server.status() == psutil.STATUS_ZOMBIE
    deadline = time.monotonic() + 10
    while Path(workdir).exists():
        assert time.monotonic() < deadline, "the server's private folder is still there"
        time.sleep(0.1)


def test_a_launcher_describes_itself(launcher):
    description = launcher.describe()
    assert description["launch"] == "local"
    assert description["gpus"] == "none"
    assert Path(description["path"]).name == "tritonserver"
