"""The images that the Docker tests rest on: a real Triton in a container of few rights."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from docker_images import OTHER_IMAGE, build_images

if TYPE_CHECKING:
    import docker
    from docker.models.containers import Container

REPOSITORY = Path(__file__).parents[2] / "examples" / "quickstart" / "model_repository"
FEW_RIGHTS: dict[str, Any] = {
    "cap_drop": ["ALL"],
    "security_opt": ["no-new-privileges"],
    "read_only": True,
    "tmpfs": {"/tmp": ""},
}


@contextmanager
def running(client: "docker.DockerClient", image: str, *command: str, **kw: Any) -> "Iterator[Any]":
    container = client.containers.run(image, list(command), detach=True, **FEW_RIGHTS, **kw)
    try:
        yield container
    finally:
        container.remove(force=True, v=True)


@pytest.fixture(scope="module")
def server(docker_engine: "docker.DockerClient", built_image: str) -> "Iterator[Container]":
    command = ["tritonserver", "--model-repository=/models", "--model-control-mode=explicit"]
    with running(
        docker_engine,
        built_image,
        *command,
        "--load-model=add_sub",
        ipc_mode="shareable",
        ports={"8001/tcp": ("127.0.0.1", None)},
        volumes={str(REPOSITORY): {"bind": "/models", "mode": "ro"}},
    ) as container:
        yield container


def published_url(container: "Container") -> str:
    deadline = time.monotonic() + 30
    while b"Started GRPCInferenceService" not in container.logs():
        container.reload()
        assert container.status == "running", container.logs().decode()
        assert time.monotonic() < deadline, container.logs().decode()
        time.sleep(0.1)
    container.reload()
    (binding,) = container.ports["8001/tcp"]
    assert binding["HostIp"] == "127.0.0.1"
    return f"127.0.0.1:{binding['HostPort']}"


def test_a_python_model_answers_with_the_right_values(server: "Container") -> None:
    from tritonclient import grpc

    url = published_url(server)
    values = {"INPUT0": np.arange(16), "INPUT1": np.full(16, 10)}
    inputs = []
    for name, value in values.items():
        inputs.append(grpc.InferInput(name, [1, 16], "FP32"))
        inputs[-1].set_data_from_numpy(value.reshape(1, 16).astype(np.float32))
    with grpc.InferenceServerClient(url) as client:
        answer = client.infer("add_sub", inputs)
    assert answer.as_numpy("OUTPUT0").tolist() == [[float(i + 10) for i in range(16)]]
    assert answer.as_numpy("OUTPUT1").tolist() == [[float(i - 10) for i in range(16)]]


def test_perf_analyzer_measures_from_inside_the_servers_network(
    server: "Container", docker_engine: "docker.DockerClient", built_image: str
) -> None:
    published_url(server)
    with running(
        docker_engine,
        f"{built_image}-sdk",
        "sleep",
        "infinity",
        network_mode=f"container:{server.id}",
        ipc_mode=f"container:{server.id}",
        init=True,
    ) as sdk:
        command = ["perf_analyzer", "-m", "add_sub", "-i", "grpc", "-u", "127.0.0.1:8001"]
        command += ["--shared-memory", "system", "--measurement-interval", "100", "-r", "3"]
        code, words = sdk.exec_run([*command, "-s", "900"])
    assert code == 0, words.decode()
    assert b"Concurrency: 1, throughput: " in words


def test_the_second_image_is_another_one_with_the_same_server(
    docker_engine: "docker.DockerClient", built_image: str
) -> None:
    one, other = (docker_engine.images.get(tag) for tag in (built_image, OTHER_IMAGE))
    assert one.id != other.id
    assert one.attrs["RootFS"] == other.attrs["RootFS"]


def test_images_that_are_up_to_date_are_not_built_again(
    docker_engine: "docker.DockerClient", built_image: str, tmp_path: Path
) -> None:
    before = docker_engine.images.get(built_image).id
    build_images(docker_engine, tmp_path)
    assert docker_engine.images.get(built_image).id == before
