"""Triton's own ways to load and unload models, over either protocol."""

import contextlib
import http.client
import json
import ssl
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import quote

from pytest_triton_perf.servers.model_config import Config, from_json, to_dict
from pytest_triton_perf.servers.triton import LOAD_S
from pytest_triton_perf.servers.triton_grpc import import_quietly

if TYPE_CHECKING:
    from tritonclient.grpc import InferenceServerClient

_ANSWER_S = 10.0
"""How long a question that needs no model to be loaded may take."""


def refused() -> Any:
    """The exception with which a Triton says no, or cannot be reached: tritonclient's."""
    return import_quietly("tritonclient.utils").InferenceServerException


class Models(Protocol):
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


def over_grpc(client: "InferenceServerClient") -> Models:
    """The models of the Triton that ``client`` is connected to."""
    return _GrpcModels(client)


def over_http(address: str, context: ssl.SSLContext | None) -> Models:
    """The models of the Triton at ``host:port``; with ``context`` the connection is encrypted."""
    return _HttpModels(address, context)


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
    """By hand: tritonclient's HTTP client brings gevent, and takes no timeouts."""

    def __init__(self, address: str, context: ssl.SSLContext | None) -> None:
        self._address = address
        self._context = context

    def version(self) -> str:
        found = self._ask("GET", "")
        if not isinstance(found, dict) or "version" not in found:
            raise refused()("what answers there is no Triton")
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
                raise refused()(
                    f"{type(error).__name__}: {error}", status="StatusCode.UNAVAILABLE"
                ) from None
        try:
            found = json.loads(text) if text else None
        except ValueError:
            raise refused()(f"HTTP status {answer.status}, and no JSON: {text[:99]!r}") from None
        if answer.status != http.HTTPStatus.OK:
            told = found.get("error") if isinstance(found, dict) else None
            raise refused()(str(told or f"HTTP status {answer.status}"))
        return found
