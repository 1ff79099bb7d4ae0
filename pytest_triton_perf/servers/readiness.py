"""Wait until a server answers, or is known never to."""

import http.client
import time
from collections.abc import Callable

from pytest_triton_perf.errors import ServerError
from pytest_triton_perf.servers.base import tail

_POLL_S = 0.05


def wait_until_ready(
    http_url: str,
    *,
    metrics_url: str | None,
    seconds: float,
    ended: Callable[[], str | None],
    logs: Callable[[], str],
) -> None:
    """Return when the Triton at ``http_url`` (``host:port``) is ready and serves its metrics.

    It opens ``metrics_url`` last, a moment after it said that it is ready, and ends where that
    port is taken; ``None`` where no metrics are to be waited for. ``ended`` says in words how the
    server ended (``"exited with code 1"``), ``None`` while it runs; a server that ended is not
    waited for.

    Raises:
        ServerError: it ended, or ``seconds`` have passed; with its last log lines.
    """
    deadline = time.monotonic() + seconds
    waited_for = [f"{http_url}/v2/health/ready"]
    if metrics_url is not None:
        waited_for.append(f"{metrics_url}/metrics")
    state = silent = "did not answer"
    while waited_for:
        if how := ended():
            raise ServerError(
                f"tritonserver {how} before it was ready. Its last words:\n"
                f"{last_words(logs())}\n"
                "Hint: correct what it names; extra arguments come from --triton-server-arg and "
                "from server_args of the marker"
            )
        try:
            status = _status(waited_for[0])
        except OSError:
            pass
        else:
            if status == http.HTTPStatus.OK:
                del waited_for[0]
                state = silent
                continue
            state = f"answered with HTTP status {status}"
        if time.monotonic() >= deadline:
            raise ServerError(
                f"tritonserver was not ready within {seconds:g} s: http://{waited_for[0]} {state}. "
                f"Its last words:\n{last_words(logs())}\n"
                "Hint: is the machine overloaded, or HTTP switched off by an extra server argument?"
            )
        time.sleep(_POLL_S)


def last_words(log: str) -> str:
    """The end of a server's log, without its table of options and its help.

    Triton prints the help, four hundred lines, after or before what was wrong with an argument.
    """
    before, _, help_text = log.partition("Usage: tritonserver")
    # In the help, what is not indented is a heading.
    after = [line for line in help_text.splitlines()[1:] if line[:1].strip() and line[-1] != ":"]
    lines = [*before.splitlines(), *after]
    told = [line for line in lines if line.strip() and not line.startswith(("|", "+-"))]
    return tail("\n".join(told) or "(nothing)")


def _status(address: str) -> int:
    """The HTTP status of ``host:port/path``."""
    host, _, path = address.partition("/")
    connection = http.client.HTTPConnection(host, timeout=2)
    try:
        connection.request("GET", f"/{path}")
        return connection.getresponse().status
    except http.client.HTTPException as error:
        raise OSError(str(error)) from error
    finally:
        connection.close()
