"""Where a Triton that runs already is: ``--triton-url``."""

from dataclasses import dataclass
from pathlib import Path

from pytest_triton_perf.domain.names import listed, nearest
from pytest_triton_perf.errors import UsageError

_SCHEMES = ("grpc", "grpcs", "http", "https")


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
