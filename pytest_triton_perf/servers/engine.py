"""The Docker engine of this machine: reaching it, its images, and what dead sessions left."""

import contextlib
import os
import platform
import shutil
import socket
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_triton_perf.errors import MissingPartError, ServerError

if TYPE_CHECKING:
    from docker import DockerClient
    from docker.models.containers import Container
    from docker.models.images import Image

SESSION = "triton-perf.session"
OWNER = "triton-perf.owner"
FOLDER = "triton-perf.folder"
"""Labels of every container: its session, the process it belongs to, and our folder it mounts."""

FOLDER_PREFIX = "triton-perf-"
_HINTS = {
    "could not select device driver": "the engine has no NVIDIA runtime: install the NVIDIA "
    "Container Toolkit and run `nvidia-ctk runtime configure --runtime=docker`, or measure "
    "without a GPU: --triton-gpus=none",
    "bind source path does not exist": "the engine must be on this machine, and see its files",
}


def connect(timeout_s: int = 60) -> "DockerClient":
    """A client of the engine that DOCKER_HOST names, else of this machine's; close it.

    Raises:
        MissingPartError: none answers, we may not use it, or it is on another machine.
    """
    import docker
    from docker.errors import DockerException

    host = _host()
    if not host.startswith(("http+unix://", "http://127.0.0.1:", "http://localhost:")):
        raise MissingPartError(
            f"the Docker engine at {host} is on another machine: neither its ports nor the model "
            "repository could be reached\n  Hint: unset DOCKER_HOST, or start Triton there and "
            "give --triton-url"
        )
    try:
        _knock()
        return docker.from_env(timeout=timeout_s, version="auto")
    except PermissionError as error:
        raise MissingPartError(
            f"no permission to use the Docker engine at {host}: {error}\n"
            "  Hint: usermod -aG docker $USER, then log in again"
        ) from None
    except (OSError, DockerException) as error:
        installed = shutil.which("dockerd")
        raise MissingPartError(
            f"no Docker engine answers at {host}: {error}\n"
            f"  Hint: {'systemctl start docker' if installed else 'apt-get install -y docker.io'}"
        ) from None


def why_no_cpus_of_ours(client: "DockerClient") -> str:
    """Why the engine cannot give a container some of the CPUs that we see; empty where it can."""
    info = client.info()
    if not info.get("CPUSet"):
        return "the Docker engine cannot keep containers on some CPUs"
    if (info.get("NCPU"), info.get("KernelVersion")) != (os.cpu_count(), platform.release()):
        return "the Docker engine runs on a machine of its own, whose CPUs are not known here"
    return ""


def _host() -> str:
    from docker.utils import parse_host

    return str(parse_host(os.environ.get("DOCKER_HOST")))


def _knock() -> None:
    """Raise OSError where nobody listens; docker's own client then leaves its socket open."""
    host = _host()
    if host.startswith("http+unix://"):
        with socket.socket(socket.AF_UNIX) as knock:
            knock.connect(host.removeprefix("http+unix://"))


@contextlib.contextmanager
def explained(doing: str) -> Iterator[None]:
    """Turn the client's errors into ours; ``doing`` completes "the Docker engine did not".

    Raises:
        ServerError: the engine refused, or does not answer.
    """
    from docker.errors import DockerException

    try:
        _knock()
        yield
    except (OSError, DockerException) as error:  # An error of requests is an OSError.
        reason = str(getattr(error, "explanation", None) or error)
        hint = next((text for words, text in _HINTS.items() if words in reason), "")
        raise ServerError(
            f"the Docker engine did not {doing}: {reason}" + (f"\nHint: {hint}" if hint else "")
        ) from None


def find_image(
    client: "DockerClient", name: str, *, source: str, tell: Callable[[str], None]
) -> "Image":
    """The image called ``name`` (a tag or a digest), pulled where it is not here.

    ``tell`` is told how far the pull is; ``source`` is where the user named the image.

    Raises:
        MissingPartError: it is not here and cannot be pulled.
    """
    from docker.errors import DockerException, ImageNotFound

    with explained(f"look for the image {name}"), contextlib.suppress(ImageNotFound):
        return client.images.get(name)
    try:
        for progress in _pull(client, name):
            tell(progress)
        return client.images.get(name)
    except (OSError, DockerException) as error:
        raise MissingPartError(
            f"the image {name} is not on this machine and cannot be pulled: "
            f"{getattr(error, 'explanation', None) or error}\n"
            f"  Hint: correct {source}; or log in to its registry with `docker login`; or bring "
            "the image here with `docker load`"
        ) from None


def _pull(client: "DockerClient", name: str) -> Iterator[str]:
    """Pull an image; yields now and then how far it is, in words."""
    from docker.errors import DockerException

    layers: dict[str, tuple[int, int]] = {}
    told = 0.0
    yield f"pulling {name}"
    for event in client.api.pull(name, stream=True, decode=True):
        if "error" in event:
            raise DockerException(event["error"])
        detail = event.get("progressDetail") or {}
        if event.get("status") == "Downloading" and detail.get("total"):
            layers[event["id"]] = detail["current"], detail["total"]
        if layers and time.monotonic() - told > 0.2:
            told = time.monotonic()
            done, total = (sum(column) / 1e6 for column in zip(*layers.values(), strict=True))
            yield f"pulling {name}: {done:.0f} of {total:.0f} MB"


def digest(image: "Image") -> str:
    """What identifies an image's content: the registry's digest, else its own id."""
    return str(next(iter(image.attrs.get("RepoDigests") or []), image.id))


def this_process() -> str:
    """The owner label of this process: names it even after its pid went to another."""
    pid = os.getpid()
    return f"{socket.gethostname()} {_pid_namespace()} {pid} {_start_time(pid)}"


def leftovers(client: "DockerClient") -> "list[Container]":
    """Containers of sessions that are dead.

    One whose owner cannot be seen from here (another host name, another pid namespace) is taken
    to be alive.
    """
    ours = client.containers.list(all=True, filters={"label": OWNER}, ignore_removed=True)
    return [container for container in ours if _is_dead(container.labels[OWNER])]


def remove_leftovers(client: "DockerClient") -> None:
    """Remove what dead sessions left: their containers, and the folders that those mounted."""
    for container in leftovers(client):
        remove(client, str(container.id))
        folder = Path(container.labels.get(FOLDER, ""))
        if folder.name.startswith(FOLDER_PREFIX) and folder.parent == Path(tempfile.gettempdir()):
            shutil.rmtree(folder, ignore_errors=True)


def remove(client: "DockerClient", container: str) -> None:
    """End and remove a container; another session may be removing it too, or have done so."""
    from docker.errors import APIError, NotFound

    try:
        client.api.remove_container(container, force=True, v=True)
    except NotFound:
        pass
    except APIError as error:
        if "already in progress" not in str(error):
            raise


def _is_dead(owner: str) -> bool:
    *place, pid, start_time = owner.split(" ")
    return place == [socket.gethostname(), _pid_namespace()] and start_time != _start_time(int(pid))


def _pid_namespace() -> str:
    return str(Path("/proc/self/ns/pid").readlink())


def _start_time(pid: int) -> str:
    """When a process started, in ticks since boot; empty if there is none, or only a zombie."""
    try:
        state, *fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if state == "Z" else fields[18]
