"""A tritonserver process on this machine."""

import contextlib
import functools
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from pytest_triton_perf.affinity import started_on
from pytest_triton_perf.errors import ServerError
from pytest_triton_perf.servers import warden
from pytest_triton_perf.servers.base import ServerSpec
from pytest_triton_perf.servers.embedded import ServerBinary, python_of_models
from pytest_triton_perf.servers.ports import HOST, Ports, serves_metrics
from pytest_triton_perf.servers.python_backend import completion_args
from pytest_triton_perf.servers.readiness import wait_until_ready
from pytest_triton_perf.servers.triton import TritonServer

_START_ATTEMPTS = 3


class LocalLauncher:
    """Starts tritonserver processes on this machine, on ports of 127.0.0.1.

    ``gpus`` is ``"all"``, ``"none"`` or the UUIDs of the GPUs that a server may use; ``cpus`` are
    the CPUs that it runs on, empty where these are all that we may use.
    """

    def __init__(
        self,
        binary: ServerBinary,
        *,
        gpus: str | tuple[str, ...],
        cpus: Collection[int] = (),
        start_seconds: float = 60.0,
    ) -> None:
        self._binary = binary
        self._gpus = gpus
        self._cpus = cpus
        self._start_seconds = start_seconds

    def start(self, spec: ServerSpec) -> "LocalServer":
        """A running server without any model, which this process's end takes with it.

        Raises:
            UsageError: a port among the extra arguments is no number.
            ServerError: see :class:`Launcher`; or a port among the extra arguments is in use.
        """
        for attempt in range(1, _START_ATTEMPTS + 1):
            server = LocalServer(spec, Ports.choose(spec.server_args))
            try:
                server.launch(self._binary, self._gpus, self._cpus, self._start_seconds)
            except ServerError as error:
                server.stop()
                # Somebody took a chosen port before Triton did. One that the user chose is
                # looked at again when the ports are chosen.
                if attempt == _START_ATTEMPTS or "already in use" not in str(error):
                    raise
            except BaseException:
                server.stop()
                raise
            else:
                return server
        raise AssertionError("unreachable: the last attempt returns or raises")

    def describe(self) -> Mapping[str, Any]:
        """Launch mode, server binary and where it was found, and the GPUs it may use."""
        return {
            "launch": "local",
            "path": str(self._binary.path),
            "origin": self._binary.origin,
            "gpus": self._gpus if isinstance(self._gpus, str) else list(self._gpus),
        }

    def identity(self, image: str | None) -> Mapping[str, Any]:
        """The binary and its version, and what python models of the embedded one run in."""
        return self._identity

    @functools.cached_property
    def _identity(self) -> Mapping[str, Any]:
        path = str(self._binary.path)
        identity = {"tritonserver": self._binary.version(), "the path of tritonserver": path}
        return identity | (python_of_models() if self._binary.origin == "embedded" else {})


class LocalServer(TritonServer):
    """A tritonserver process with its descendants, its log and its private folder."""

    def __init__(self, spec: ServerSpec, ports: Ports) -> None:
        super().__init__(
            grpc_url=f"{HOST}:{ports.grpc}",
            http_url=f"{HOST}:{ports.http}",
            metrics_url=f"{HOST}:{ports.metrics}",
        )
        self._ports = ports
        self._server_args = spec.server_args
        self._workdir = Path(tempfile.mkdtemp(prefix="triton-perf-"))
        self._log = self._workdir / "tritonserver.log"
        assert spec.repository is not None, "a local server has no repository of its own"
        self._repository = spec.repository.absolute()
        self._repositories = [self._repository, *([spec.base.absolute()] if spec.base else [])]
        self._models = self._workdir / "models"
        self._final_log: str | None = None
        self._ending = False
        self._process: subprocess.Popen[bytes] | None = None
        self._warden: subprocess.Popen[bytes] | None = None

    def launch(
        self,
        binary: ServerBinary,
        gpus: str | tuple[str, ...],
        cpus: Collection[int],
        seconds: float,
    ) -> None:
        """Start the process and wait until it is ready; the caller stops it on any error.

        Raises:
            ServerError: it was not ready within ``seconds``; with its last words.
        """
        env = binary.env(self._workdir)
        for repository in self._repositories:
            self._mirror(repository)
        self._point_at(self._repository)
        if gpus != "all":
            env["CUDA_VISIBLE_DEVICES"] = "" if gpus == "none" else ",".join(gpus)
        command = [
            str(binary.path),
            f"--model-repository={self._models}",
            "--model-control-mode=explicit",
            f"--http-address={HOST}",
            f"--grpc-address={HOST}",
            f"--http-port={self._ports.http}",
            f"--grpc-port={self._ports.grpc}",
            f"--metrics-port={self._ports.metrics}",
            f"--backend-config=python,shm-region-prefix-name={self._shm_prefix}",
            *(["--allow-gpu-metrics=false"] if gpus == "none" else []),
            *binary.args(self._workdir),
            *completion_args(*self._repositories),
            *self._server_args,
        ]
        with self._log.open("wb") as log, started_on(cpus):
            self._process = subprocess.Popen(
                command,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._warden = subprocess.Popen(
            [sys.executable, "-IS", warden.__file__, str(self._process.pid), str(self._workdir)],
            stdin=subprocess.PIPE,
            start_new_session=True,
        )
        wait_until_ready(
            self.http_url,
            metrics_url=self.metrics_url if serves_metrics(self._server_args) else None,
            seconds=seconds,
            ended=self.ended,
            logs=self.logs,
        )
        self.version = str(self.client.get_server_metadata().version)

    @property
    def pid(self) -> int | None:
        """Process id of tritonserver; its python models are children of it."""
        return None if self._process is None else self._process.pid

    def logs(self) -> str:
        """What the server has written so far; after ``stop``, all that it wrote."""
        if self._final_log is not None:
            return self._final_log
        return self.readable(self._log.read_text(errors="replace")) if self._log.exists() else ""

    def ended(self, within_s: float = 0.0) -> str | None:
        """How the process ended, see :class:`TritonServer`; ``None`` also before it started."""
        if self._process is None:
            return None
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(within_s)
        code = self._process.poll()
        if code is None:
            return None
        return f"was killed by {signal.Signals(-code).name}" if code < 0 else f"exited with {code}"

    def alive(self) -> bool:
        """Whether the process runs."""
        return self._process is not None and self.ended() is None

    def readable(self, text: str) -> str:
        """Triton's words with the user's own paths."""
        return text.replace(str(self._models), str(self._repository))

    def begin_stop(self) -> None:
        """Ask the server to end, and return at once: ending may take Triton some seconds."""
        if self._process is not None and self.alive() and not self._ending:
            self._ending = True
            self._process.send_signal(self._end_signal(self._server_args))
        super().begin_stop()

    def stop(self) -> None:
        """End the server within ten seconds, with all that it left behind; safe to call twice."""
        if self._final_log is not None:
            return
        self.begin_stop()
        try:
            if self._process is not None:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self._process.wait(warden.STOP_S)
        finally:
            if self._process is not None:
                self._process.kill()
                self._process.wait()
            self._final_log = self.logs()
            if self._warden is not None and self._warden.stdin is not None:
                # It finds the server gone, and does the rest.
                self._warden.stdin.close()
                self._warden.wait()
            else:
                shutil.rmtree(self._workdir, ignore_errors=True)

    @property
    def _shm_prefix(self) -> str:
        return self._workdir.name

    def _point_at(self, repository: Path) -> None:
        self._repository = repository.absolute()
        self._models.unlink(missing_ok=True)
        self._models.symlink_to(self._mirrored(self._repository))

    def _mirrored(self, repository: Path) -> Path:
        return self._workdir / f"repository-{self._repositories.index(repository)}"

    def _mirror(self, repository: Path) -> None:
        """Make folders as in the user's repository, with links to its files, for Triton to serve.

        A python model leaves a ``__pycache__`` beside its source, and may write there itself:
        that lands in our folders, and the user's repository is only ever read.
        """
        for folder, _, files in os.walk(repository, followlinks=True):
            mirrored = self._mirrored(repository) / Path(folder).relative_to(repository)
            mirrored.mkdir()
            for file in files:
                (mirrored / file).symlink_to(Path(folder, file))
