"""A Triton in a container of this machine's Docker engine, and perf_analyzer in a second one."""

import contextlib
import shutil
import tempfile
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from pytest_triton_perf.domain.cpus import CpuSplit, cpu_list
from pytest_triton_perf.errors import LoadError, ServerError
from pytest_triton_perf.servers import engine, warden
from pytest_triton_perf.servers.base import ServerSpec
from pytest_triton_perf.servers.containers import Container, ContainerPlan, Toolbox
from pytest_triton_perf.servers.ports import HOST, Ports, serves_metrics
from pytest_triton_perf.servers.python_backend import completion_args
from pytest_triton_perf.servers.readiness import wait_until_ready
from pytest_triton_perf.servers.triton import TritonServer

_SERVED = "/triton-perf/served"
_MODELS = f"{_SERVED}/models"
"""A link to one of the repositories, in a folder of ours: so it can be made another."""

_REPOSITORY = "/triton-perf/repository-"
_START_ATTEMPTS = 3
_POLL_S = 0.05
_PORT_TAKEN = ("port is already allocated", "address already in use")


class DockerLauncher:
    """Starts Triton in containers that only 127.0.0.1 can reach.

    ``images`` are those that servers are to be made from, each with the one that holds
    perf_analyzer for it, ``None`` where one of this machine is used instead. Making a launcher
    brings them here, which ``tell`` is told about, and removes what sessions that were killed
    left in the engine.

    Raises:
        MissingPartError: no engine that can be used, or an image that is not to be had.
        ServerError: the engine failed.
    """

    def __init__(
        self,
        images: Mapping[str, str | None],
        plan: ContainerPlan,
        *,
        tell: Callable[[str], None],
        start_seconds: float = 120.0,
    ) -> None:
        self._images = images
        self._plan = plan
        self._start_seconds = start_seconds
        self._session = uuid.uuid4().hex
        self._servers: dict[str, DockerServer] = {}
        source = "--triton-image, --triton-perf-against-image or the fixture triton_image's values"
        wanted = dict.fromkeys(images, source)
        wanted |= {sdk: "--triton-sdk-image" for sdk in images.values() if sdk is not None}
        with contextlib.closing(engine.connect()) as client:
            with engine.explained("remove the containers of dead sessions"):
                engine.remove_leftovers(client)
                if plan.cpus.server and (why := engine.why_no_cpus_of_ours(client)):
                    self._plan = replace(plan, cpus=CpuSplit(because=why))
            self._digests = {
                name: engine.digest(engine.find_image(client, name, source=source, tell=tell))
                for name, source in wanted.items()
            }

    @property
    def cpus(self) -> CpuSplit:
        """The CPUs that containers get."""
        return self._plan.cpus

    def start(self, spec: ServerSpec) -> "DockerServer":
        """A running server without any model.

        Raises:
            UsageError: a port among the extra arguments is no number.
            MissingPartError: the engine is gone.
            ServerError: see :class:`Launcher`; or the engine refused.
        """
        assert spec.image is not None, "a container has an image"
        sdk_image = self._images[spec.image]
        for attempt in range(1, _START_ATTEMPTS + 1):
            ports = Ports.choose(spec.server_args)
            server = DockerServer(spec, sdk_image, ports, self._plan, session=self._session)
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
        assert toolbox is not None, "only asked for where there are SDK images"
        return toolbox

    def describe(self) -> Mapping[str, Any]:
        """Launch mode, the images with the digests that they had, and the GPUs."""
        gpus = self._plan.gpus
        return {
            "launch": "docker",
            "images": {image: self._digests[image] for image in self._images},
            "gpus": gpus if isinstance(gpus, str) else list(gpus),
        }

    def identity(self, image: str | None) -> Mapping[str, Any]:
        """The digests of the image and of the one that holds perf_analyzer."""
        assert image is not None, "a container has an image"
        sdk_image = self._images[image]
        identity = {"the image": self._digests[image]}
        return identity if not sdk_image else identity | {"the SDK image": self._digests[sdk_image]}

    def describe_toolbox(self) -> Mapping[str, Any]:
        """Where perf_analyzer comes from."""
        return {"images": {sdk: self._digests[sdk] for sdk in self._images.values() if sdk}}


class DockerServer(TritonServer):
    """A container with tritonserver and, where there is an SDK image, its toolbox."""

    def __init__(
        self,
        spec: ServerSpec,
        sdk_image: str | None,
        ports: Ports,
        plan: ContainerPlan,
        *,
        session: str,
    ) -> None:
        super().__init__(
            grpc_url=f"{HOST}:{ports.grpc}",
            http_url=f"{HOST}:{ports.http}",
            metrics_url=f"{HOST}:{ports.metrics}",
        )
        assert spec.repository is not None, "a container has no repository of its own"
        self._spec = spec
        base = spec.base or spec.repository
        self._repositories = list(dict.fromkeys((spec.repository, base)))
        self._ports = ports
        self._plan = plan
        self._engine = engine.connect()
        self._folder = Path(tempfile.mkdtemp(prefix=engine.FOLDER_PREFIX))
        labels = {
            engine.SESSION: session,
            engine.OWNER: engine.this_process(),
            engine.FOLDER: str(self._folder),
        }
        self._container = Container(self._engine, plan, labels)
        self.toolbox = (
            Toolbox(
                self._engine,
                plan,
                labels,
                self._folder,
                image=sdk_image,
                beside=self._container.name,
            )
            if sdk_image is not None
            else None
        )
        self._pid: int | None = None
        self._final_log: str | None = None
        self._ending = False

    def launch(self, seconds: float) -> None:
        """Start the containers and wait until Triton is ready; the caller stops it on any error.

        Raises:
            MissingPartError: there is no perf_analyzer in the SDK image.
            ServerError: the engine refused, or Triton was not ready within ``seconds``.
        """
        from docker.types import Mount

        self._link_folder.mkdir()
        self._point_at(self._repositories[0])
        places = {str(path): self._place(path) for path in self._repositories}
        image = str(self._spec.image)
        ports = (self._ports.http, self._ports.grpc, self._ports.metrics)
        with engine.explained(f"start a container of {image}"):
            self._container.start(
                image,
                [
                    "tritonserver",
                    f"--model-repository={_MODELS}",
                    "--model-control-mode=explicit",
                    f"--http-port={self._ports.http}",
                    f"--grpc-port={self._ports.grpc}",
                    f"--metrics-port={self._ports.metrics}",
                    *(["--allow-gpu-metrics=false"] if self._plan.gpus == "none" else []),
                    *completion_args(*self._repositories),
                    *self._spec.server_args,
                ],
                env=self._plan.env,
                mounts=[
                    Mount(there, here, type="bind", read_only=True)
                    for here, there in {
                        str(self._link_folder): _SERVED,
                        **places,
                        **self._plan.mounts,
                    }.items()
                ],
                # The same number on both sides: a URL is good on this machine and in the toolbox.
                ports={f"{port}/tcp": (HOST, port) for port in ports},
                shm_size=self._plan.shm_size,
                ipc_mode="shareable",
                cpuset_cpus=cpu_list(self._plan.cpus.server),
            )
        if self.toolbox is not None:
            try:
                self.toolbox.check()
            except LoadError:
                if self.ended() is None:
                    raise
        wait_until_ready(
            self.http_url,
            metrics_url=self.metrics_url if serves_metrics(self._spec.server_args) else None,
            seconds=seconds,
            ended=self.ended,
            logs=self.logs,
        )
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
        return text.replace(_MODELS, str(self._repository))

    @property
    def _link_folder(self) -> Path:
        """Of this machine, the folder that the container sees as ``_SERVED``."""
        return self._folder / "served"

    def _place(self, repository: Path) -> str:
        """Where the container sees a repository."""
        return f"{_REPOSITORY}{self._repositories.index(repository)}"

    def _point_at(self, repository: Path) -> None:
        self._repository = repository
        link = self._link_folder / Path(_MODELS).name
        link.unlink(missing_ok=True)
        link.symlink_to(self._place(repository))

    def begin_stop(self) -> None:
        """Ask Triton to end, and return at once."""
        if self._final_log is None and not self._ending:
            self._ending = True
            self._container.signal(self._end_signal(self._spec.server_args).name)
        super().begin_stop()

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
