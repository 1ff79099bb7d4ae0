"""A Triton that runs already: used as it is, and left as it was found."""

import contextlib
import os
import re
import ssl
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_triton_perf.domain.names import listed
from pytest_triton_perf.domain.variants import Variant
from pytest_triton_perf.errors import ServerError
from pytest_triton_perf.servers.base import ServerSpec
from pytest_triton_perf.servers.endpoints import Endpoint, Remote
from pytest_triton_perf.servers.model_config import Config, apply_overrides
from pytest_triton_perf.servers.model_control import Models, over_grpc, over_http, refused
from pytest_triton_perf.servers.triton import TritonServer
from pytest_triton_perf.servers.triton_grpc import import_quietly

if TYPE_CHECKING:
    from tritonclient.grpc import InferenceServerClient

UNSEEN = "with --triton-launch=remote the server's machine cannot be looked into"
"""Why memory, utilisation and power are not measured."""

_NOT_EXPLICIT = "explicit model load / unload is not allowed"


class RemoteLauncher:
    """Starts nothing: connects to the Triton that runs at ``remote``."""

    def __init__(self, remote: Remote) -> None:
        self._remote = remote

    def start(self, spec: ServerSpec) -> "RemoteServer":
        """The running server; the models that it has loaded are noted, to be left as they are.

        Raises:
            ServerError: it does not answer within ten seconds, or another session of this user
                on this machine uses it.
        """
        from filelock import FileLock, Timeout

        name = re.sub(r"\W", "_", str(self._remote))
        lock = FileLock(Path(tempfile.gettempdir()) / f"triton-perf-{os.getuid()}-{name}.lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise ServerError(
                f"another session on this machine measures on the Triton at {self._remote}, and "
                "each would take the other's variants for the configuration it found\n"
                "Hint: run one after the other"
            ) from None
        try:
            server = RemoteServer(self._remote, lock)
            server.connect()
        except BaseException:
            lock.release()
            raise
        return server

    def describe(self) -> Mapping[str, Any]:
        """Launch mode and addresses."""
        endpoints = (self._remote.grpc, self._remote.http)
        return {"launch": "remote", "urls": [str(endpoint) for endpoint in endpoints if endpoint]}

    def identity(self, image: str | None) -> None:
        """Not known: its models, and the machine that it runs on, may have changed unseen."""


class RemoteServer(TritonServer):
    """A Triton that is not ours.

    A model that was found loaded is changed only where a variant of it is asked for, and gets
    its configuration back before another model is served, and at the stop. What was loaded for
    this session is unloaded again.
    """

    def __init__(self, remote: Remote, held: contextlib.AbstractContextManager[Any]) -> None:
        super().__init__(
            grpc_url=remote.grpc.url if remote.grpc else "",
            http_url=remote.http.url if remote.http else "",
            metrics_url=remote.metrics_url,
        )
        self._remote = remote
        self._held = held
        self._stopped = False
        self._models: Models = (
            over_http(remote.http.address, _tls_context(remote, remote.http))
            if remote.http is not None and remote.grpc is None
            else over_grpc(self.client)
        )
        self._found: dict[str, Config] = {}
        self._plain: dict[str, Config] = {}
        """Configs that variants start from: as found, or as Triton completed them."""
        self._loaded: set[str] = set()
        """Models that were not loaded before this session, and now are."""

    def _point_at(self, repository: Path) -> None:
        raise ServerError(f"the models of the Triton at {self._remote} are not ours to change")

    def connect(self) -> None:
        """See that the server answers, and note what it serves.

        Raises:
            ServerError: see :class:`RemoteLauncher`.
        """
        try:
            self.version = self._models.version()
            self._found = {name: self._models.config(name) for name in self._models.ready()}
        except refused() as error:
            self.begin_stop()
            raise ServerError(
                f"the Triton at {self._remote} cannot be used: {_reason(error)}\n"
                f"Hint: {_advice(self._remote, _reason(error))}"
            ) from None
        self._plain = dict(self._found)

    @property
    def pid(self) -> int | None:
        """None: its processes are elsewhere."""
        return None

    def ended(self, within_s: float = 0.0) -> str | None:
        """Why the server cannot be reached, in words; ``None`` while it answers."""
        try:
            self._models.version()
        except refused() as error:
            return f"at {self._remote} does not answer any more ({_reason(error)})"
        return None

    def logs(self) -> str:
        """Where the log is: Triton does not hand it out."""
        return f"(the log of the Triton at {self._remote} is where it runs)"

    def begin_stop(self) -> None:
        """Nothing: the server is not ours to stop, and the connection is still needed."""

    def stop(self) -> None:
        """Leave the server as it was found, and the connection to it.

        Raises:
            ServerError: it could not be left so; says which model and why.
        """
        if self._stopped:
            return
        self._stopped = True
        touched = sorted({*self._loaded, *([self._model] if self._model else [])})
        try:
            self._restore()
        except refused() as error:
            raise ServerError(
                f"the Triton at {self._remote} was not left as it was found: {_reason(error)}\n"
                f"Hint: look after {listed(touched)} there: what was loaded before may serve a "
                "variant now, or nothing"
            ) from None
        finally:
            super().begin_stop()
            self._held.__exit__(None, None, None)

    def _connect(self) -> "InferenceServerClient":
        remote = self._remote
        if remote.grpc is None:
            raise ServerError(
                f"a gRPC client needs a gRPC address: --triton-url={remote.http},grpc://host:8001"
            )
        return import_quietly("tritonclient.grpc").InferenceServerClient(
            remote.grpc.address,
            ssl=remote.grpc.tls,
            root_certificates=_text(remote.ca),
            private_key=_text(remote.key),
            certificate_chain=_text(remote.certificate),
        )

    def _exchange(self, variant: Variant) -> Mapping[str, Any]:
        model, as_found = variant.model, variant.model in self._found and not variant.overrides
        if as_found or model != self._model:
            self._restore()
        if as_found:
            return {}
        self._model = model
        if model not in self._plain:
            self._load(model, None)
            self._plain[model] = self._models.config(model)
            if not variant.overrides:
                return {}
        asked = apply_overrides(model, self._plain[model], variant.overrides)
        self._models.unload(model)
        self._load(model, asked if variant.overrides else None)
        return asked

    def _config(self, model: str) -> Config:
        return self._models.config(model)

    def _load(self, model: str, config: Config | None) -> None:
        """Load, and note which models came with it: an ensemble brings others."""
        before = self._models.ready()
        try:
            self._models.load(model, config)
        finally:
            self._loaded |= self._models.ready() - before - set(self._found)

    def _restore(self) -> None:
        """Unload what was loaded for this session, and give a changed model its config back."""
        model = self._model
        # The ensemble goes before the models that it uses.
        for name in sorted(self._loaded, key=lambda name: name != model):
            self._models.unload(name)
        self._loaded.clear()
        if model in self._found:
            self._bring_back(model, self._found[model])
        self._model = None

    def _bring_back(self, model: str, config: Config) -> None:
        if model in self._models.ready() and self._models.config(model) == config:
            return  # Triton refused to change it.
        # Plainly first: Triton would keep a config that is handed to it beyond this session.
        self._models.unload(model)
        self._models.load(model, None)
        if self._models.config(model) != config:
            self._models.unload(model)
            self._models.load(model, config)

    def _refusal(self, variant: Variant, reason: str, log: str) -> ServerError:
        if _NOT_EXPLICIT in reason:
            return ServerError(
                f"{variant.name} cannot be loaded: the Triton at {self._remote} does not let its "
                f"models be changed ({reason})\n"
                "Hint: start it with --model-control-mode=explicit, or measure only models that "
                "it has loaded, without variants="
            )
        return super()._refusal(variant, reason, self.logs())


def _tls_context(remote: Remote, endpoint: Endpoint) -> ssl.SSLContext | None:
    if not endpoint.tls:
        return None
    context = ssl.create_default_context(cafile=_text(remote.ca))
    if remote.certificate is not None:
        context.load_cert_chain(remote.certificate, remote.key)
    return context


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)


def _reason(error: Any) -> str:
    return str(error.message()).strip("; \n")


def _advice(remote: Remote, reason: str) -> str:
    """What to do about a server that cannot be reached, from what the connection said."""
    used = remote.grpc or remote.http
    assert used is not None
    plain, encrypted = used.scheme.removesuffix("s"), f"{used.scheme.removesuffix('s')}s"
    if re.search("CERTIFICATE_VERIFY_FAILED|certificate verify failed|hostname", reason, re.I):
        return (
            "the server's certificate is not trusted, or not for this host name: "
            "--triton-tls-ca names the CA file that signed it"
        )
    if re.search("WRONG_VERSION_NUMBER|UNEXPECTED_EOF", reason):
        return f"the server does not use TLS there: --triton-url={plain}://{used.address}"
    if re.search("closed|reset|BadStatusLine|RemoteDisconnected|certificate required", reason):
        tls = (
            "does it ask for a client certificate (--triton-tls-cert, --triton-tls-key)?"
            if used.tls
            else f"does it use TLS (--triton-url={encrypted}://{used.address})?"
        )
        return (
            f"something listens there that does not speak {plain}: is it the right port, or {tls}"
        )
    return "does Triton run there, and may this machine reach the port?"
