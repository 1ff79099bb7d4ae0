"""A Triton in a container of this machine's Docker engine, and perf_analyzer in a second one."""

import contextlib
import os
import shutil
import signal
import tempfile
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_triton_perf.errors import LoadError, MissingPartError, ServerError, UsageError
from pytest_triton_perf.servers import engine, warden
from pytest_triton_perf.servers.base import ServerSpec, tail
from pytest_triton_perf.servers.ports import HOST, Ports
from pytest_triton_perf.servers.readiness import wait_until_ready
from pytest_triton_perf.servers.triton import TritonServer

if TYPE_CHECKING:
    from docker import DockerClient

_MODELS = "/triton-perf/models"
_SHARED = "/triton-perf/shared"
_START_ATTEMPTS = 3
_POLL_S = 0.05
_PORT_TAKEN = ("port is already allocated", "address already in use")


@dataclass(frozen=True, kw_only=True)
class ContainerPlan:
    """What containers are made from.

    ``sdk_image`` holds perf_analyzer; ``None`` where one of this machine is used instead.
    ``gpus`` is ``"all"``, ``"none"`` or UUIDs, ``shm_size`` as Docker reads it (``"1g"``).
    ``mounts`` are further paths of this machine that the server may read, each with its path in
    the container; ``env`` is added to the server's environment.
    """

    image: str
    sdk_image: str | None
    gpus: str | tuple[str, ...]
    shm_size: str
    mounts: Mapping[str, str] = field(default_factory=dict)
    env: Mapping[str, str] = field(default_factory=dict)


def sdk_image_of(image: str) -> str:
    """The image with perf_analyzer that NVIDIA publishes beside a server image.

    Raises:
        UsageError: the image has no tag to tell it from.
    """
    tag = image.rpartition("/")[2].partition(":")[2]
    if not tag or "@" in image:
        raise UsageError(
            f"--triton-image: {image!r} has no tag that tells its SDK image; name that with "
            "--triton-sdk-image, or a perf_analyzer of this machine with --perf-analyzer"
        )
    return f"{image}-sdk"


class DockerLauncher:
    """Starts Triton in containers that only 127.0.0.1 can reach.

    Making one brings the images here, which ``tell`` is told about, and removes what sessions
    that were killed left in the engine.

    Raises:
        MissingPartError: no engine that can be used, or an image that is not to be had.
        ServerError: the engine failed.
    """

    def __init__(
        self, plan: ContainerPlan, *, tell: Callable[[str], None], start_seconds: float = 120.0
    ) -> None:
        self._plan = plan
        self._start_seconds = start_seconds
        self._session = uuid.uuid4().hex
        self._servers: dict[str, DockerServer] = {}
        wanted = {"image": (plan.image, "--triton-image")}
        if plan.sdk_image is not None:
            wanted["sdk_image"] = (plan.sdk_image, "--triton-sdk-image")
        with contextlib.closing(engine.connect()) as client:
            with engine.explained("remove the containers of dead sessions"):
                engine.remove_leftovers(client)
            self._digests = {
                part: engine.digest(engine.find_image(client, name, option=option, tell=tell))
                for part, (name, option) in wanted.items()
            }

    def start(self, spec: ServerSpec) -> "DockerServer":
        """A running server without any model.

        Raises:
            UsageError: a port among the extra arguments is no number.
            MissingPartError: the engine is gone.
            ServerError: see :class:`Launcher`; or the engine refused.
        """
        for attempt in range(1, _START_ATTEMPTS + 1):
            ports = Ports.choose(spec.server_args)
            server = DockerServer(spec, ports, self._plan, session=self._session)
            try:
                server.launch(self._start_seconds)
            except ServerError as error:
                server.stop()
                taken = any(words in str(error) for words in _PORT_TAKEN)
                if attempt == _START_ATTEMPTS or not taken:
                    raise
            except BaseException:
                server.stop()
                raise
            else:
                self._servers |= {server.grpc_url: server, server.http_url: server}
                return server
        raise AssertionError("unreachable: the last attempt returns or raises")

    def toolbox(self, url: str) -> "Toolbox":
        """The container with perf_analyzer beside the server at ``url`` (``host:port``)."""
        toolbox = self._servers[url].toolbox
        assert toolbox is not None, "only asked for where the plan names an SDK image"
        return toolbox

    def describe(self) -> Mapping[str, Any]:
        """Launch mode, the images with the digests that they had, and the GPUs."""
        gpus = self._plan.gpus
        return {
            "launch": "docker",
            "image": self._plan.image,
            "digest": self._digests["image"],
            "gpus": gpus if isinstance(gpus, str) else list(gpus),
        }

    def describe_toolbox(self) -> Mapping[str, str]:
        """Where perf_analyzer comes from."""
        return {"image": str(self._plan.sdk_image), "digest": self._digests["sdk_image"]}


class _Container:
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
        try:
            with engine.explained("show its log"):
                return bytes(self._client.api.logs(self.name)).decode(errors="replace")
        except ServerError as error:
            return f"({error})"

    def signal(self, sign: str) -> None:
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


class DockerServer(TritonServer):
    """A container with tritonserver and, where the plan asks for one, its toolbox."""

    def __init__(
        self, spec: ServerSpec, ports: Ports, plan: ContainerPlan, *, session: str
    ) -> None:
        super().__init__(
            grpc_url=f"{HOST}:{ports.grpc}",
            http_url=f"{HOST}:{ports.http}",
            metrics_url=f"{HOST}:{ports.metrics}",
        )
        self._spec = spec
        self._ports = ports
        self._plan = plan
        self._engine = engine.connect()
        self._folder = Path(tempfile.mkdtemp(prefix=engine.FOLDER_PREFIX))
        labels = {
            engine.SESSION: session,
            engine.OWNER: engine.this_process(),
            engine.FOLDER: str(self._folder),
        }
        self._container = _Container(self._engine, plan, labels)
        self.toolbox = (
            Toolbox(self._engine, plan, labels, self._folder, beside=self._container.name)
            if plan.sdk_image is not None
            else None
        )
        self._pid: int | None = None
        self._final_log: str | None = None

    def launch(self, seconds: float) -> None:
        """Start the containers and wait until Triton is ready; the caller stops it on any error.

        Raises:
            MissingPartError: there is no perf_analyzer in the SDK image.
            ServerError: the engine refused, or Triton was not ready within ``seconds``.
        """
        from docker.types import Mount

        ports = (self._ports.http, self._ports.grpc, self._ports.metrics)
        with engine.explained(f"start a container of {self._plan.image}"):
            self._container.start(
                self._plan.image,
                [
                    "tritonserver",
                    f"--model-repository={_MODELS}",
                    "--model-control-mode=explicit",
                    f"--http-port={self._ports.http}",
                    f"--grpc-port={self._ports.grpc}",
                    f"--metrics-port={self._ports.metrics}",
                    *(["--allow-gpu-metrics=false"] if self._plan.gpus == "none" else []),
                    *self._spec.server_args,
                ],
                env=self._plan.env,
                mounts=[
                    Mount(there, here, type="bind", read_only=True)
                    for here, there in {
                        str(self._spec.repository): _MODELS,
                        **self._plan.mounts,
                    }.items()
                ],
                # The same number on both sides: a URL is good on this machine and in the toolbox.
                ports={f"{port}/tcp": (HOST, port) for port in ports},
                shm_size=self._plan.shm_size,
                ipc_mode="shareable",
            )
        if self.toolbox is not None:
            try:
                self.toolbox.check()
            except LoadError:
                if self.ended() is None:
                    raise
        wait_until_ready(self.http_url, seconds=seconds, ended=self.ended, logs=self.logs)
        self._pid = self._find_pid()
        self.version = str(self.client.get_server_metadata().version)

    @property
    def pid(self) -> int | None:
        """The container's main process, where this machine shows it."""
        return self._pid

    def ended(self, within_s: float = 0.0) -> str | None:
        """How the container ended, see :class:`TritonServer`."""
        deadline = time.monotonic() + within_s
        while (how := self._container.ended()) is None and time.monotonic() < deadline:
            time.sleep(_POLL_S)
        return how

    def alive(self) -> bool:
        """Whether the container runs."""
        return self._final_log is None and self.ended() is None

    def logs(self) -> str:
        """What the server has written so far; after ``stop``, all that it wrote."""
        if self._final_log is not None:
            return self._final_log
        return self.readable(self._container.logs())

    def readable(self, text: str) -> str:
        """Triton's words with the user's own paths."""
        return text.replace(_MODELS, str(self._spec.repository))

    def begin_stop(self) -> None:
        """Ask Triton to end, and return at once."""
        super().begin_stop()
        if self._final_log is None:
            self._container.signal("SIGTERM")

    def stop(self) -> None:
        """End the server within ten seconds, and remove its containers; safe to call twice.

        Raises:
            ServerError: the engine is gone, and the containers could not be removed.
        """
        if self._final_log is not None:
            return
        with contextlib.ExitStack() as last:
            last.callback(self._engine.close)
            last.callback(shutil.rmtree, self._folder, ignore_errors=True)
            last.callback(self._container.remove)
            if self.toolbox is not None:
                last.callback(self.toolbox.end)
            self.begin_stop()
            self.ended(within_s=warden.STOP_S)
            self._final_log = self.logs()

    def _find_pid(self) -> int | None:
        """The main process as this machine numbers it, unless another kernel runs it."""
        pid = int(self._container.inspect()["State"]["Pid"])
        try:
            command = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        except OSError:
            return None
        return pid if f"--grpc-port={self._ports.grpc}".encode() in command else None


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
        beside: str,
    ) -> None:
        self.folder = folder
        self._client = client
        self._plan = plan
        self._labels = labels
        self._beside = f"container:{beside}"
        self._container: _Container | None = None

    def check(self) -> None:
        """Start it, and see that perf_analyzer runs in it.

        Raises:
            MissingPartError: it does not.
            LoadError: the container did not start.
        """
        code, out, err = self.execute(["perf_analyzer", "--version"], workdir=_SHARED)
        if code:
            raise MissingPartError(
                f"perf_analyzer does not run in the image {self._plan.sdk_image} (exit code "
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
            with engine.explained(f"run perf_analyzer in a container of {self._plan.sdk_image}"):
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

    def _running(self) -> _Container:
        from docker.types import Mount

        if self._container is None:
            self._container = _Container(self._client, self._plan, self._labels)
            self._container.start(
                str(self._plan.sdk_image),
                ["infinity"],
                entrypoint=["sleep"],
                network_mode=self._beside,
                ipc_mode=self._beside,
                mounts=[Mount(_SHARED, str(self.folder), type="bind")],
            )
        return self._container
