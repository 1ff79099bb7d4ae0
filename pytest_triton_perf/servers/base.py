"""What the rest of the plugin needs of a server, whatever started it."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from pytest_triton_perf.domain.variants import Variant

if TYPE_CHECKING:
    from tritonclient.grpc import InferenceServerClient


@dataclass(frozen=True, kw_only=True)
class ServerSpec:
    """Which server a test needs; tests with equal specs share one running server.

    ``repository`` is ``None`` where the server has one of its own, and ``image`` where it runs
    in no container of ours. ``base`` is the repository that the paired gate compares with, a
    second one that the server can ``turn_to``. Where it compares images, the base's server is
    one of its own, from ``base_image``, and ``base`` is the same repository.
    """

    repository: Path | None
    base: Path | None = None
    image: str | None = None
    base_image: str | None = None
    server_args: tuple[str, ...] = ()


class RunningServer(Protocol):
    """A Triton that answers.

    The urls are ``host:port``, with ``https://`` before it where HTTP is encrypted, and empty
    where a remote server's was not given.
    """

    http_url: str
    grpc_url: str
    metrics_url: str

    @property
    def version(self) -> str:
        """Triton's version, e.g. ``2.51.0``."""

    @property
    def pid(self) -> int | None:
        """Root of the server's process tree on this host; ``None`` where it has none here."""

    @property
    def client(self) -> "InferenceServerClient":
        """A gRPC client of this server."""

    def logs(self) -> str:
        """What the server has written so far."""

    def load(self, variant: Variant) -> Mapping[str, Any]:
        """Serve ``variant``, freshly loaded and alone; returns the config Triton reports.

        Raises:
            ServerError: Triton refused it (with its reason) or is gone (with its last words).
        """

    def turn_to(self, repository: Path) -> None:
        """Unload what is served; from here on models are those of one of the spec's repositories.

        The process of the server stays, so that what is measured of two repositories differs in
        nothing but them.

        Raises:
            ServerError: as ``load``.
        """

    def settle(self) -> None:
        """Wait until nothing is left of what was served before ``load``.

        Raises:
            ServerError: processes of it do not end.
        """

    def alive(self) -> bool:
        """Whether the server still runs."""

    def ended(self, within_s: float = 0.0) -> str | None:
        """How the server ended, in words ("was killed by SIGKILL"); ``None`` while it runs.

        Its end is waited for as long as ``within_s``.
        """

    def begin_stop(self) -> None:
        """Ask the server to end without waiting, so that other work can go on meanwhile."""

    def stop(self) -> None:
        """End what this session started, within a bound; safe to call twice.

        Raises:
            ServerError: a remote server could not be left as it was found.
        """


class Launcher(Protocol):
    """One way to get a server."""

    def start(self, spec: ServerSpec) -> RunningServer:
        """A running server for the spec, ready to load models.

        Raises:
            MissingPartError: something has to be installed first.
            ServerError: it did not become ready; the message has its last log lines.
        """

    def describe(self) -> Mapping[str, Any]:
        """What the environment section of the results says about this way of launching."""

    def identity(self, image: str | None) -> Mapping[str, Any] | None:
        """What tells a server of ``image``, and the software that models run in, from others.

        By name, in words; ``None`` where that cannot be known.

        Raises:
            MissingPartError: the server does not run.
        """


def tail(text: str, lines: int = 15) -> str:
    """The last lines of somebody's output, indented for an error message."""
    return "\n".join(f"    {line}" for line in text.strip().splitlines()[-lines:])
