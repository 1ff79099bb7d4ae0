"""Ports for a server: free ones, and those that the user asked for."""

import contextlib
import socket
from collections.abc import Sequence
from dataclasses import dataclass

from pytest_triton_perf.errors import ServerError, UsageError

HOST = "127.0.0.1"
"""The only address that a server of ours can be reached at."""


@dataclass(frozen=True, kw_only=True)
class Ports:
    """Ports of 127.0.0.1 that a server is to listen at."""

    http: int
    grpc: int
    metrics: int

    @classmethod
    def choose(cls, server_args: Sequence[str]) -> "Ports":
        """Free ports, except where ``server_args`` name one, which must be free.

        Raises:
            UsageError: what they name is no number.
            ServerError: the port that they name is in use.
        """
        with contextlib.ExitStack() as held:
            return cls(
                **{
                    name: _port_from(f"--{name}-port", server_args) or _free_port(held)
                    for name in ("http", "grpc", "metrics")
                }
            )


def serves_metrics(server_args: Sequence[str]) -> bool:
    """Whether metrics are at the port chosen for them: they are, unless the user has a say."""
    options = ("--allow-metrics", "--metrics-address")
    return not any(arg.partition("=")[0] in options for arg in server_args)


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
            probe.bind((HOST, int(given)))
        except (OSError, OverflowError) as error:
            raise ServerError(
                f"port {given} of {HOST}, wanted by the server argument {option}, cannot be "
                f"used: {error}. Give another port or drop the argument: a free port is "
                "then chosen"
            ) from None
    return int(given)


def _free_port(held: contextlib.ExitStack) -> int:
    """A free port, kept from being chosen again until ``held`` is closed."""
    probe = held.enter_context(socket.socket())
    probe.bind((HOST, 0))
    return int(probe.getsockname()[1])
