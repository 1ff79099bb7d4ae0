"""What every launch mode does with the models of its running server."""

import contextlib
import json
import signal
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_triton_perf.domain.variants import Variant
from pytest_triton_perf.errors import ServerError
from pytest_triton_perf.servers import python_backend, warden
from pytest_triton_perf.servers.model_config import (
    Config,
    apply_overrides,
    not_served,
    to_dict,
)
from pytest_triton_perf.servers.readiness import last_words
from pytest_triton_perf.servers.triton_grpc import import_quietly

if TYPE_CHECKING:
    import psutil
    from tritonclient.grpc import InferenceServerClient

LOAD_S = 600.0
"""How long a model may take to load."""

_ASK_S = 1.0
"""How long a server may take to say what it serves, when it is about to be ended."""


class TritonServer(ABC):
    """A running server under explicit model control; a subclass knows how it came to exist.

    The urls are ``host:port``. A subclass sets ``version`` once the server answers, and says in
    the methods up to ``stop`` what it knows of its server; all the others are the same for every
    launch mode.
    """

    def __init__(self, *, grpc_url: str, http_url: str, metrics_url: str) -> None:
        self.grpc_url = grpc_url
        self.http_url = http_url
        self.metrics_url = metrics_url
        self.version = ""
        self._client: InferenceServerClient | None = None
        self._model: str | None = None
        self._variant: Variant | None = None
        self._served: Mapping[str, Any] = {}
        self._leaving: list[psutil.Process] = []

    @property
    @abstractmethod
    def pid(self) -> int | None:
        """Root of the server's process tree on this host; ``None`` where it has none here."""

    @abstractmethod
    def ended(self, within_s: float = 0.0) -> str | None:
        """How the server ended, in words ("exited with 1"); ``None`` while it runs.

        A dying server closes its connections a little before it can be seen to be dead: where
        that is known, its end is waited for as long as ``within_s``.
        """

    @abstractmethod
    def logs(self) -> str:
        """What the server has written so far; after ``stop``, all that it wrote."""

    def readable(self, text: str) -> str:
        """Triton's words with the user's own paths."""
        return text

    def _end_signal(self, server_args: Sequence[str]) -> signal.Signals:
        """How to end the server: SIGKILL where that loses nothing, else SIGTERM.

        Not where it was given arguments: it may have traces or a log of its own to write.
        """
        root = None if server_args else self._root()
        refused = import_quietly("tritonclient.utils").InferenceServerException
        if root is not None:
            with contextlib.suppress(refused):
                index = self.client.get_model_repository_index(client_timeout=_ASK_S)
                # One that was never loaded has no state.
                gone = ("", "UNAVAILABLE")
                served = {model.name for model in index.models if model.state not in gone}
                if python_backend.nothing_to_end(root, served, self.readable):
                    return signal.SIGKILL
        return signal.SIGTERM

    def begin_stop(self) -> None:
        """Ask the server to end without waiting; here, only close the connection to it."""
        client, self._client = self._client, None
        if client is not None:
            client.close()

    @abstractmethod
    def stop(self) -> None:
        """End what this session started, within a bound; safe to call twice."""

    @property
    def client(self) -> "InferenceServerClient":
        """A gRPC client of this server, the same one at every call."""
        if self._client is None:
            self._client = self._connect()
        return self._client

    def alive(self) -> bool:
        """Whether the server still runs."""
        return self.ended() is None

    def load(self, variant: Variant) -> Mapping[str, Any]:
        """Serve ``variant``, freshly loaded and alone; nothing to do where it is served already.

        The model served before is unloaded first, never changed in place: Triton keeps an
        override when it is asked for the plain model again, and keeps instances, with what they
        allocated, when only their number changes. Its processes may end a little later, see
        ``settle``.

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
            asked = self._exchange(variant)
            self._served = self._config(variant.model)
        if difference := not_served(self._served, asked, variant.overrides):
            raise ServerError(
                f"{variant.name} cannot be measured: in what Triton serves, {difference}\n"
                "Hint: does the model set this in auto_complete_config? Then change it there, or "
                "give --triton-server-arg=--disable-auto-complete-config"
            )
        self._variant = variant
        return self._served

    def turn_to(self, repository: Path) -> None:
        """Unload what is served, and find models in ``repository`` from here on.

        Raises:
            ServerError: see :class:`RunningServer`.
        """
        variant, self._variant = self._variant, None
        if variant is not None:
            with self._explained(variant):
                self._unload()
            self._model = None
        self._point_at(repository)

    @abstractmethod
    def _point_at(self, repository: Path) -> None:
        """Make Triton's model repository another one, while nothing of it is served.

        Raises:
            ServerError: the repository of this server is not ours to change.
        """

    def settle(self) -> None:
        """Wait until only the served variant takes memory and time of the machine.

        Raises:
            ServerError: see :class:`RunningServer`.
        """
        leaving, self._leaving = self._leaving, []
        seconds = warden.STOP_S + 2 * len(leaving)
        if left := python_backend.wait_ended(leaving, seconds):
            served = self._variant.name if self._variant else "the variant"
            raise ServerError(
                f"{served} cannot be measured: processes of the model served before do not end "
                f"({', '.join(f'process {process.pid}' for process in left)}), and their memory "
                "would be counted for this one\n"
                "Hint: does that model start processes that its finalize() does not end?"
            )

    def _connect(self) -> "InferenceServerClient":
        return import_quietly("tritonclient.grpc").InferenceServerClient(self.grpc_url)

    def _exchange(self, variant: Variant) -> Mapping[str, Any]:
        """Unload what was served and load ``variant``; returns the config that was asked for."""
        self._unload()
        # From here on it is unloaded before the next, also where only a part was loaded.
        self._model = variant.model
        asked = variant.config
        if variant.overrides and not asked:
            self.client.load_model(variant.model, client_timeout=LOAD_S)
            asked = apply_overrides(variant.model, self._config(variant.model), variant.overrides)
            self._unload()
        self._note_leaving()
        config = json.dumps(asked) if asked else None
        self.client.load_model(variant.model, config=config, client_timeout=LOAD_S)
        return asked

    @contextlib.contextmanager
    def _explained(self, variant: Variant) -> Iterator[None]:
        """Turn the client's error into ours, with Triton's reason or its last words."""
        refused = import_quietly("tritonclient.utils").InferenceServerException
        earlier = len(self.logs())
        try:
            yield
        except refused as error:
            lost = error.status() == "StatusCode.UNAVAILABLE"
            if how := self.ended(within_s=2 if lost else 0):
                raise ServerError(
                    f"tritonserver {how}; it was to load {variant.name}. Its last words:\n"
                    f"{last_words(self.logs())}"
                ) from None
            reason = self.readable(error.message()).strip("; \n")
            raise self._refusal(variant, reason, self.logs()[earlier:]) from None

    def _refusal(self, variant: Variant, reason: str, log: str) -> ServerError:
        """The error for a variant that Triton refused; ``log`` is what it wrote meanwhile."""
        changes = ", ".join(f"{path}={value}" for path, value in variant.overrides.items())
        return ServerError(
            f"Triton refused {variant.name}{f' ({changes})' if changes else ''}: {reason}\n"
            f"Hint: correct the {'variant' if changes else 'model or its config.pbtxt'}. "
            f"The end of Triton's log:\n{last_words(log)}"
        )

    def _config(self, model: str) -> Config:
        return to_dict(self.client.get_model_config(model).config)

    def _unload(self) -> None:
        if self._model is not None:
            if (server := self._root()) is not None:
                python_backend.end_idle_stubs(server, self.client.is_model_ready, self.readable)
            self.client.unload_model(self._model, unload_dependents=True)

    def _note_leaving(self) -> None:
        """Keep for ``settle`` which processes of what was unloaded are still there."""
        if (server := self._root()) is not None:
            found = python_backend.leaving(server, self.client.is_model_ready)
            self._leaving = list({*self._leaving, *found})

    def _root(self) -> "psutil.Process | None":
        """The server's process, where it can be seen here and lives."""
        import psutil

        with contextlib.suppress(psutil.NoSuchProcess):
            return None if self.pid is None else psutil.Process(self.pid)
        return None
