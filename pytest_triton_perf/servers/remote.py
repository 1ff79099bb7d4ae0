"""A Triton that runs already: used as it is, and left as it was found."""

import contextlib
import http.client
import json
import os
import re
import ssl
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import quote

from pytest_triton_perf.domain.names import listed, nearest
from pytest_triton_perf.domain.variants import Variant
from pytest_triton_perf.errors import ServerError, UsageError
from pytest_triton_perf.servers.base import ServerSpec
from pytest_triton_perf.servers.model_config import Config, apply_overrides, from_json, to_dict
from pytest_triton_perf.servers.triton import LOAD_S, TritonServer
from pytest_triton_perf.servers.triton_grpc import import_quietly

if TYPE_CHECKING:
    from tritonclient.grpc import InferenceServerClient

UNSEEN = "with --triton-launch=remote the server's machine cannot be looked into"
"""Why memory, utilisation and power are not measured."""

_SCHEMES = ("grpc", "grpcs", "http", "https")
_ANSWER_S = 10.0
"""How long a question that needs no model to be loaded may take."""
_NOT_EXPLICIT = "explicit model load / unload is not allowed"


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """Where one protocol is spoken: ``address`` is ``host:port``."""

    scheme: str
    address: str

    @property
    def tls(self) -> bool:
        """Whether the connection is encrypted."""
        return self.scheme in ("grpcs", "https")

    @property
    def url(self) -> str:
        """As tritonclient and perf_analyzer take it: ``host:port``, for HTTPS with its scheme."""
        return f"https://{self.address}" if self.scheme == "https" else self.address

    def __str__(self) -> str:
        return f"{self.scheme}://{self.address}"


@dataclass(frozen=True, kw_only=True)
class Remote:
    """The running Triton to use, and the PEM files that TLS needs.

    At least one of ``grpc`` and ``http`` is given; the first that is also controls the models.
    """

    grpc: Endpoint | None
    http: Endpoint | None
    metrics_url: str = ""
    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None

    def endpoint(self, protocol: str) -> Endpoint | None:
        """Where ``"grpc"`` or ``"http"`` is spoken, ``None`` where that was not given."""
        return self.grpc if protocol == "grpc" else self.http

    def __str__(self) -> str:
        return str(self.grpc or self.http)


def parse_urls(text: str) -> dict[str, Endpoint]:
    """The endpoints in ``--triton-url``, by protocol: ``host:8001`` or ``http://host:8000``.

    Raises:
        UsageError: a part is no such URL, or a protocol is there twice.
    """
    found: dict[str, Endpoint] = {}
    for part in text.split(","):
        scheme, _, address = part.strip().rstrip("/").rpartition("://")
        scheme = scheme or "grpc"
        host, _, port = address.rpartition(":")
        if scheme not in _SCHEMES:
            raise UsageError(
                f"--triton-url: {part!r}: unknown scheme {scheme!r}{nearest(scheme, _SCHEMES)}; "
                f"expected {listed(_SCHEMES, 'or')}"
            )
        if not host or "/" in address or not port.isdecimal() or not 0 < int(port) < 65536:
            raise UsageError(
                f"--triton-url: {part!r}: expected host:port of gRPC, as in triton.example:8001, "
                "or http://host:port; both can be given, separated by a comma"
            )
        protocol = scheme.removesuffix("s")
        if protocol in found:
            raise UsageError(f"--triton-url: {text!r} names two addresses for {protocol}; give one")
        found[protocol] = Endpoint(scheme=scheme, address=address)
    return found


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
        self._models: _Models = (
            _GrpcModels(self.client) if remote.grpc else _HttpModels(remote, _tls_context(remote))
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
        except _refused() as error:
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
        except _refused() as error:
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
        except _refused() as error:
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


class _Models(Protocol):
    """The questions and orders that a Triton is given, over either protocol.

    Each raises tritonclient's ``InferenceServerException``.
    """

    def version(self) -> str:
        """Triton's version."""

    def ready(self) -> set[str]:
        """Models that are loaded."""

    def config(self, model: str) -> Config:
        """The config that a loaded model has."""

    def load(self, model: str, config: Config | None) -> None:
        """Load, or load anew, with ``config`` instead of the repository's."""

    def unload(self, model: str) -> None:
        """Unload this model only."""


class _GrpcModels:
    def __init__(self, client: "InferenceServerClient") -> None:
        self._client = client

    def version(self) -> str:
        return str(self._client.get_server_metadata(client_timeout=_ANSWER_S).version)

    def ready(self) -> set[str]:
        index = self._client.get_model_repository_index(client_timeout=_ANSWER_S)
        return {model.name for model in index.models if model.state == "READY"}

    def config(self, model: str) -> Config:
        return to_dict(self._client.get_model_config(model, client_timeout=_ANSWER_S).config)

    def load(self, model: str, config: Config | None) -> None:
        text = json.dumps(config) if config else None
        self._client.load_model(model, config=text, client_timeout=LOAD_S)

    def unload(self, model: str) -> None:
        self._client.unload_model(model, client_timeout=LOAD_S)


class _HttpModels:
    """Over HTTP by hand: tritonclient's HTTP client brings gevent, and takes no timeouts."""

    def __init__(self, remote: Remote, context: ssl.SSLContext | None) -> None:
        assert remote.http is not None
        self._address = remote.http.address
        self._context = context

    def version(self) -> str:
        found = self._ask("GET", "")
        if not isinstance(found, dict) or "version" not in found:
            raise _refused()("what answers there is no Triton")
        return str(found["version"])

    def ready(self) -> set[str]:
        index = self._ask("POST", "/repository/index", {})
        return {model["name"] for model in index if model.get("state") == "READY"}

    def config(self, model: str) -> Config:
        return from_json(self._ask("GET", f"/models/{quote(model, safe='')}/config"))

    def load(self, model: str, config: Config | None) -> None:
        parameters = {"parameters": {"config": json.dumps(config)}} if config else {}
        self._order(model, "load", parameters)

    def unload(self, model: str) -> None:
        self._order(model, "unload", {})

    def _order(self, model: str, what: str, body: Mapping[str, Any]) -> None:
        self._ask("POST", f"/repository/models/{quote(model, safe='')}/{what}", body, LOAD_S)

    def _ask(self, method: str, path: str, body: Any = None, seconds: float = 0) -> Any:
        connection = (
            http.client.HTTPSConnection(self._address, timeout=_ANSWER_S, context=self._context)
            if self._context
            else http.client.HTTPConnection(self._address, timeout=_ANSWER_S)
        )
        with contextlib.closing(connection):
            try:
                connection.connect()
                connection.sock.settimeout(seconds or _ANSWER_S)
                sent = None if body is None else json.dumps(body)
                connection.request(method, f"/v2{path}", sent)
                answer = connection.getresponse()
                text = answer.read().decode(errors="replace")
            except (OSError, http.client.HTTPException) as error:
                raise _refused()(
                    f"{type(error).__name__}: {error}", status="StatusCode.UNAVAILABLE"
                ) from None
        try:
            found = json.loads(text) if text else None
        except ValueError:
            raise _refused()(f"HTTP status {answer.status}, and no JSON: {text[:99]!r}") from None
        if answer.status != http.HTTPStatus.OK:
            told = found.get("error") if isinstance(found, dict) else None
            raise _refused()(str(told or f"HTTP status {answer.status}"))
        return found


def _tls_context(remote: Remote) -> ssl.SSLContext | None:
    if remote.http is None or not remote.http.tls:
        return None
    context = ssl.create_default_context(cafile=_text(remote.ca))
    if remote.certificate is not None:
        context.load_cert_chain(remote.certificate, remote.key)
    return context


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)


def _refused() -> Any:
    return import_quietly("tritonclient.utils").InferenceServerException


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
