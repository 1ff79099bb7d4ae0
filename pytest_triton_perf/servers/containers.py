"""Containers of ours: what they are made from, with which rights, and what runs in them."""

import contextlib
import os
import signal
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_triton_perf.domain.cpus import CpuSplit, cpu_list
from pytest_triton_perf.errors import LoadError, MissingPartError, ServerError, UsageError
from pytest_triton_perf.servers import engine, warden
from pytest_triton_perf.servers.base import tail

if TYPE_CHECKING:
    from docker import DockerClient

_SHARED = "/triton-perf/shared"


@dataclass(frozen=True, kw_only=True)
class ContainerPlan:
    """What containers are given, whatever image they are made from.

    ``gpus`` is ``"all"``, ``"none"`` or UUIDs, ``shm_size`` as Docker reads it (``"1g"``).
    ``mounts`` are further paths of this machine that the server may read, each with its path in
    the container; ``env`` is added to the server's environment. ``cpus`` are those of the server
    and of perf_analyzer.
    """

    gpus: str | tuple[str, ...]
    shm_size: str
    mounts: Mapping[str, str] = field(default_factory=dict)
    env: Mapping[str, str] = field(default_factory=dict)
    cpus: CpuSplit = field(default_factory=CpuSplit)


def sdk_image_of(image: str) -> str:
    """The image with perf_analyzer that NVIDIA publishes beside a server image.

    Raises:
        UsageError: the image has no tag to tell it from.
    """
    tag = image.rpartition("/")[2].partition(":")[2]
    if not tag or "@" in image:
        raise UsageError(
            f"the image {image!r} has no tag that tells its SDK image; name that with "
            "--triton-sdk-image, or a perf_analyzer of this machine with --perf-analyzer"
        )
    return f"{image}-sdk"


class Container:
    """One container of ours, from before it exists until after it is removed."""

    def __init__(self, client: "DockerClient", plan: ContainerPlan, labels: dict[str, str]) -> None:
        # Known before the container exists: an interrupt in between cannot make us lose it.
        self.name = f"triton-perf-{uuid.uuid4().hex[:12]}"
        self._client = client
        self._gpus = plan.gpus
        self._labels = labels

    def start(
        self,
        image: str,
        command: Sequence[str],
        env: Mapping[str, str] | None = None,
        **options: Any,
    ) -> None:
        """Create and start it, without any right that serving a model does not need.

        It runs as the user who runs pytest, who can therefore read and measure what it does.
        """
        from docker.types import DeviceRequest, LogConfig, Ulimit

        gpus = self._gpus
        environment = {"HOME": "/tmp"}
        requests = []
        if gpus == "none":
            environment["NVIDIA_VISIBLE_DEVICES"] = "void"
        elif gpus == "all":
            requests = [DeviceRequest(count=-1, capabilities=[["gpu"]])]
        else:
            requests = [DeviceRequest(device_ids=list(gpus), capabilities=[["gpu"]])]
        self._client.containers.create(
            image,
            list(command),
            name=self.name,
            labels=self._labels,
            user=f"{os.getuid()}:{os.getgid()}",
            environment={**environment, **(env or {})},
            cap_drop=["ALL"],
            security_opt=["no-new-privileges"],
            read_only=True,
            tmpfs={"/tmp": "exec,mode=1777"},
            device_requests=requests,
            # For pinned memory: what NVIDIA asks for. Not every engine may set it.
            ulimits=[Ulimit(name="memlock", soft=-1, hard=-1)] if requests else [],
            log_config=LogConfig(type=LogConfig.types.JSON),
            use_config_proxy=False,
            **options,
        )
        self._client.api.start(self.name)

    def inspect(self) -> dict[str, Any]:
        """What the engine knows of it."""
        return dict(self._client.api.inspect_container(self.name))

    def ended(self) -> str | None:
        """How it ended, in words; ``None`` while it runs."""
        from docker.errors import NotFound

        try:
            with engine.explained("say how the container is"):
                try:
                    state = self.inspect()["State"]
                except NotFound:
                    return "is gone: somebody removed its container"
        except ServerError as error:
            return f"cannot be seen any more: {error}"
        if state["Running"]:
            return None
        code = state["ExitCode"]
        known = {128 + number: number.name for number in signal.Signals}
        how = f"was killed by {known[code]}" if code in known else f"exited with {code}"
        return f"{how}, out of memory (OOMKilled)" if state["OOMKilled"] else how

    def logs(self) -> str:
        """What it has written so far, or why that cannot be read."""
        try:
            with engine.explained("show its log"):
                return bytes(self._client.api.logs(self.name)).decode(errors="replace")
        except ServerError as error:
            return f"({error})"

    def signal(self, sign: str) -> None:
        """Send its main process a signal such as ``SIGTERM``, if it can still be reached."""
        with contextlib.suppress(ServerError), engine.explained(f"send {sign}"):
            self._client.api.kill(self.name, sign)

    def remove(self) -> None:
        """Remove it, whatever its state.

        An engine that is just being restarted is waited for.

        Raises:
            ServerError: the engine did not do it in ten seconds.
        """
        deadline = time.monotonic() + warden.STOP_S
        while True:
            try:
                with engine.explained(f"remove the container {self.name}"):
                    return engine.remove(self._client, self.name)
            except ServerError as error:
                if time.monotonic() >= deadline:
                    raise ServerError(
                        f"{error}\nHint: the next session with --triton-launch=docker removes it"
                    ) from None
            time.sleep(0.5)


class Toolbox:
    """A container that sleeps beside the server, in its network and its shared memory.

    perf_analyzer is executed in it: a container for each level would take several times as long.
    """

    mounted = _SHARED

    def __init__(
        self,
        client: "DockerClient",
        plan: ContainerPlan,
        labels: dict[str, str],
        folder: Path,
        *,
        image: str,
        beside: str,
    ) -> None:
        self.folder = folder
        self._client = client
        self._plan = plan
        self._labels = labels
        self._image = image
        self._beside = f"container:{beside}"
        self._container: Container | None = None

    def check(self) -> None:
        """Start it, and see that perf_analyzer runs in it.

        Raises:
            MissingPartError: it does not.
            LoadError: the container did not start.
        """
        code, out, err = self.execute(["perf_analyzer", "--version"], workdir=_SHARED)
        if code:
            raise MissingPartError(
                f"perf_analyzer does not run in the image {self._image} (exit code "
                f"{code}):\n{tail((out + err).decode(errors='replace'))}\n"
                "  Hint: correct --triton-sdk-image, or name a perf_analyzer of this machine with "
                "--perf-analyzer"
            )

    def execute(self, argv: Sequence[str], *, workdir: str) -> tuple[int, bytes, bytes]:
        """Run a command in the container; its exit code, standard output and standard error.

        Raises:
            LoadError: the container did not start, or ended meanwhile.
        """
        try:
            with engine.explained(f"run perf_analyzer in a container of {self._image}"):
                container = self._running()
                api = self._client.api
                command = api.exec_create(container.name, list(argv), workdir=workdir)["Id"]
                out, err = api.exec_start(command, demux=True)
                code = api.exec_inspect(command)["ExitCode"]
        except ServerError as error:
            raise LoadError(str(error)) from None
        if code != 0 and (how := container.ended()):
            raise LoadError(f"the container that perf_analyzer ran in {how}")
        return int(code), out or b"", err or b""

    def end(self) -> None:
        """End it with all that runs in it; the next command starts another one.

        Raises:
            ServerError: the engine did not remove it.
        """
        if self._container is not None:
            self._container.remove()
            self._container = None

    def _running(self) -> Container:
        from docker.types import Mount

        if self._container is None:
            self._container = Container(self._client, self._plan, self._labels)
            self._container.start(
                self._image,
                ["infinity"],
                entrypoint=["sleep"],
                network_mode=self._beside,
                ipc_mode=self._beside,
                cpuset_cpus=cpu_list(self._plan.cpus.load),
                mounts=[Mount(_SHARED, str(self.folder), type="bind")],
            )
        return self._container
