"""A tritonserver process on this machine."""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_triton_perf.domain.variants import Variant
from pytest_triton_perf.errors import ServerError, UsageError
from pytest_triton_perf.servers import warden
from pytest_triton_perf.servers.base import ServerSpec
from pytest_triton_perf.servers.embedded import ServerBinary
from pytest_triton_perf.servers.model_config import apply_overrides, not_served, to_dict
from pytest_triton_perf.servers.readiness import last_words, wait_until_ready
from pytest_triton_perf.servers.triton_grpc import import_quietly

if TYPE_CHECKING:
    import psutil
    from tritonclient.grpc import InferenceServerClient

_HOST = "127.0.0.1"
_START_ATTEMPTS = 3
_LOAD_S = 600.0


class LocalLauncher:
    """Starts tritonserver processes on this machine, on ports of 127.0.0.1.

    ``gpus`` is ``"all"``, ``"none"`` or the UUIDs of the GPUs that a server may use.
    """

    def __init__(
        self, binary: ServerBinary, *, gpus: str | tuple[str, ...], start_seconds: float = 60.0
    ) -> None:
        self._binary = binary
        self._gpus = gpus
        self._start_seconds = start_seconds

    def start(self, spec: ServerSpec) -> "LocalServer":
        """A running server without any model, which this process's end takes with it.

        Raises:
            UsageError: a port among the extra arguments is no number.
            ServerError: see :class:`Launcher`; or a port among the extra arguments is in use.
        """
        for attempt in range(1, _START_ATTEMPTS + 1):
            server = LocalServer(spec, _Ports.choose(spec.server_args))
            try:
                server.launch(self._binary, self._gpus, self._start_seconds)
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


class LocalServer:
    """A tritonserver process with its descendants, its log and its private folder."""

    def __init__(self, spec: ServerSpec, ports: "_Ports") -> None:
        self.http_url = f"{_HOST}:{ports.http}"
        self.grpc_url = f"{_HOST}:{ports.grpc}"
        self.metrics_url = f"{_HOST}:{ports.metrics}"
        self._ports = ports
        self._server_args = spec.server_args
        self._workdir = Path(tempfile.mkdtemp(prefix="triton-perf-"))
        self._log = self._workdir / "tritonserver.log"
        self._repository = spec.repository.absolute()
        self._models = self._workdir / "models"
        self._final_log: str | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._warden: subprocess.Popen[bytes] | None = None
        self._client: InferenceServerClient | None = None
        self._version = ""
        self._model: str | None = None
        self._variant: Variant | None = None
        self._served: Mapping[str, Any] = {}

    def launch(self, binary: ServerBinary, gpus: str | tuple[str, ...], seconds: float) -> None:
        """Start the process and wait until it is ready; the caller stops it on any error.

        Raises:
            ServerError: it was not ready within ``seconds``; with its last words.
        """
        env = binary.env(self._workdir)
        self._mirror_repository()
        if gpus != "all":
            env["CUDA_VISIBLE_DEVICES"] = "" if gpus == "none" else ",".join(gpus)
        command = [
            str(binary.path),
            f"--model-repository={self._models}",
            "--model-control-mode=explicit",
            f"--http-address={_HOST}",
            f"--grpc-address={_HOST}",
            f"--http-port={self._ports.http}",
            f"--grpc-port={self._ports.grpc}",
            f"--metrics-port={self._ports.metrics}",
            f"--backend-config=python,shm-region-prefix-name={self._shm_prefix}",
            *(["--allow-gpu-metrics=false"] if gpus == "none" else []),
            *binary.args(self._workdir),
            *self._server_args,
        ]
        with self._log.open("wb") as log:
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
        wait_until_ready(self.http_url, seconds=seconds, ended=self._ended, logs=self.logs)
        self._version = str(self.client.get_server_metadata().version)

    @property
    def version(self) -> str:
        """Triton's version, e.g. ``2.51.0``."""
        return self._version

    @property
    def pid(self) -> int | None:
        """Process id of tritonserver; its python models are children of it."""
        return None if self._process is None else self._process.pid

    @property
    def client(self) -> "InferenceServerClient":
        """A gRPC client of this server, the same one at every call."""
        if self._client is None:
            self._client = import_quietly("tritonclient.grpc").InferenceServerClient(self.grpc_url)
        return self._client

    def logs(self) -> str:
        """What the server has written so far; after ``stop``, all that it wrote."""
        if self._final_log is not None:
            return self._final_log
        return self._readable(self._log.read_text(errors="replace")) if self._log.exists() else ""

    def alive(self) -> bool:
        """Whether the process runs."""
        return self._process is not None and self._process.poll() is None

    def load(self, variant: Variant) -> Mapping[str, Any]:
        """Serve ``variant``, freshly loaded and alone; nothing to do where it is served already.

        The model served before is unloaded first, never changed in place: Triton keeps an
        override when it is asked for the plain model again, and keeps instances, with what they
        allocated, when only their number changes.

        Returns the config that Triton reports, as :data:`Config`.

        Raises:
            UsageError: the model has no config file, and the one that Triton completed has no
                such path as an override names.
            ServerError: see :class:`RunningServer`.
        """
        if self._variant is not None and self._variant.name == variant.name and self.alive():
            return self._served
        self._variant = None
        with self._explained(variant):
            self._unload()
            # From here on it is unloaded before the next, also where only a part was loaded.
            self._model = variant.model
            asked = variant.config
            if variant.overrides and not asked:
                self.client.load_model(variant.model, client_timeout=_LOAD_S)
                asked = apply_overrides(variant.model, self._config(), variant.overrides)
                self._unload()
            leaving = self._descendants()
            config = json.dumps(asked) if asked else None
            self.client.load_model(variant.model, config=config, client_timeout=_LOAD_S)
            self._served = self._config()
        if difference := not_served(self._served, asked, variant.overrides):
            raise ServerError(
                f"{variant.name} cannot be measured: in what Triton serves, {difference}\n"
                "Hint: does the model set this in auto_complete_config? Then change it there, or "
                "give --triton-server-arg=--disable-auto-complete-config"
            )
        if left := _still_there(leaving):
            raise ServerError(
                f"{variant.name} cannot be measured: processes of the model served before do not "
                f"end ({left}), and their memory would be counted for this one\n"
                "Hint: does that model start processes that its finalize() does not end?"
            )
        self._variant = variant
        return self._served

    def begin_stop(self) -> None:
        """Ask the server to end, and return at once: ending takes Triton two to four seconds."""
        if self._client is not None:
            self._client.close()
            self._client = None
        if self._process is not None and self.alive():
            self._process.terminate()

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

    def _mirror_repository(self) -> None:
        """Make folders as in the user's repository, with links to its files, for Triton to serve.

        A python model leaves a ``__pycache__`` beside its source, and may write there itself:
        that lands in our folders, and the user's repository is only ever read.
        """
        for folder, _, files in os.walk(self._repository, followlinks=True):
            mirrored = self._models / Path(folder).relative_to(self._repository)
            mirrored.mkdir()
            for file in files:
                (mirrored / file).symlink_to(Path(folder, file))

    def _readable(self, text: str) -> str:
        """Triton's words with the user's own paths."""
        return text.replace(str(self._models), str(self._repository))

    def _ended(self) -> str | None:
        """How the process ended, in words; ``None`` while it runs."""
        if self._process is None or self._process.poll() is None:
            return None
        code = self._process.returncode
        return f"was killed by {signal.Signals(-code).name}" if code < 0 else f"exited with {code}"

    @contextlib.contextmanager
    def _explained(self, variant: Variant) -> Iterator[None]:
        """Turn the client's error into ours, with Triton's reason or its last words."""
        refused = import_quietly("tritonclient.utils").InferenceServerException
        earlier = len(self.logs())
        try:
            yield
        except refused as error:
            # A dying process closes its connections a little before it can be seen to be dead.
            if self._process is not None and error.status() == "StatusCode.UNAVAILABLE":
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self._process.wait(2)
            if how := self._ended():
                raise ServerError(
                    f"tritonserver {how}; it was to load {variant.name}. Its last words:\n"
                    f"{last_words(self.logs())}"
                ) from None
            reason = self._readable(error.message()).strip("; \n")
            changes = ", ".join(f"{path}={value}" for path, value in variant.overrides.items())
            raise ServerError(
                f"Triton refused {variant.name}{f' ({changes})' if changes else ''}: "
                f"{reason}\n"
                f"Hint: correct the {'variant' if changes else 'model or its config.pbtxt'}. "
                f"The end of Triton's log:\n{last_words(self.logs()[earlier:])}"
            ) from None

    def _config(self) -> dict[str, Any]:
        return to_dict(self.client.get_model_config(self._model).config)

    def _unload(self) -> None:
        if self._model is not None:
            self.client.unload_model(self._model, unload_dependents=True)

    def _descendants(self) -> "list[psutil.Process]":
        import psutil

        try:
            return psutil.Process(self.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            return []


def _still_there(leaving: "list[psutil.Process]") -> str:
    """Wait for the processes of the model before; which are still there, empty if none.

    Triton ends the stubs of python models one after the other, in more than a second each, and
    says that the model is unloaded before that.
    """
    import psutil

    _, left = psutil.wait_procs(leaving, timeout=warden.STOP_S + 2 * len(leaving))
    return ", ".join(f"process {process.pid}" for process in left)


@dataclass(frozen=True, kw_only=True)
class _Ports:
    http: int
    grpc: int
    metrics: int

    @classmethod
    def choose(cls, server_args: Sequence[str]) -> "_Ports":
        """Free ports of 127.0.0.1, except where ``server_args`` name one, which must be free."""
        with contextlib.ExitStack() as held:
            return cls(
                **{
                    name: _port_from(f"--{name}-port", server_args) or _free_port(held)
                    for name in ("http", "grpc", "metrics")
                }
            )


def _port_from(option: str, server_args: Sequence[str]) -> int | None:
    """The port that the user's arguments give with ``option``, checked to be free."""
    given = None
    for arg, following in zip(server_args, [*server_args[1:], ""], strict=False):
        name, equals, value = arg.partition("=")
        if name == option:
            given = value if equals else following
    if given is None:
        return None
    if not given.isdecimal():
        raise UsageError(f"server argument {option}: a port is a number, not {given!r}")
    with socket.socket() as probe:
        # Triton's gRPC would share a busy port with another server without a word.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((_HOST, int(given)))
        except (OSError, OverflowError) as error:
            raise ServerError(
                f"port {given} of {_HOST}, wanted by the server argument {option}, cannot be "
                f"used: {error}. Give another port or drop the argument: a free port is "
                "then chosen"
            ) from None
    return int(given)


def _free_port(held: contextlib.ExitStack) -> int:
    """A free port, kept from being chosen again until ``held`` is closed."""
    probe = held.enter_context(socket.socket())
    probe.bind((_HOST, 0))
    return int(probe.getsockname()[1])
