"""Fixtures of a real Docker engine and of real Triton images."""

import contextlib
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from docker_images import IMAGE, build_images
from support import PROJECT_MARK, missing_part

if TYPE_CHECKING:
    import docker

CACHE = Path.home() / ".cache" / "pytest-triton-perf" / "docker"
"""Of the engine that the tests start: outlives them, because the images do."""

_START_S = 30.0
_STOP_S = 30.0


class OwnEngine:
    """The engine that the tests start where none answers."""

    def __init__(self, dockerd: str) -> None:
        self._dockerd = dockerd
        self._log = CACHE / "dockerd.log"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and wait until it answers.

        Raises:
            RuntimeError: it does not come to; with its last words.
        """
        CACHE.mkdir(parents=True, exist_ok=True)
        places = [f"--{name}={CACHE / name}" for name in ("data-root", "exec-root", "pidfile")]
        with self._log.open("wb") as out:
            self._process = subprocess.Popen(
                [self._dockerd, "--log-level=warn", *places],
                # It outlives the test that asked for it first, whose processes are counted.
                env={key: value for key, value in os.environ.items() if key != PROJECT_MARK},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C is for pytest: its containers end before this
            )
        deadline = time.monotonic() + _START_S
        while not _answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                words = "\n".join(self._log.read_text(errors="replace").splitlines()[-10:])
                raise RuntimeError(f"dockerd does not start ({self._log}):\n{words}")
            time.sleep(0.1)

    def stop(self) -> None:
        """End it, with all that runs in it; safe to call twice."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


@contextlib.contextmanager
def running_engine() -> Iterator[OwnEngine | None]:
    """An engine that is there; ``None`` where another one answers and none had to be started.

    Raises:
        RuntimeError: none answers and none can be started.
    """
    if _answers():
        yield None
        return
    if "DOCKER_HOST" in os.environ:
        raise RuntimeError(f"no Docker engine answers at {os.environ['DOCKER_HOST']}")
    dockerd = shutil.which("dockerd", path=f"{os.environ['PATH']}:/usr/sbin")
    if os.geteuid() or dockerd is None:
        raise RuntimeError("no Docker engine answers; to start one needs root and docker.io")
    engine = OwnEngine(dockerd)
    try:
        engine.start()
        yield engine
    finally:
        engine.stop()


@pytest.fixture(scope="session")
def own_engine() -> Iterator[OwnEngine | None]:
    """An engine that lives as long as the session; ``None`` where another one answers."""
    with contextlib.ExitStack() as stack:
        try:
            engine = stack.enter_context(running_engine())
        except RuntimeError as error:
            missing_part(str(error))
        yield engine


@pytest.fixture(scope="session")
def docker_engine(own_engine: OwnEngine | None) -> Iterator["docker.DockerClient"]:
    """A client of the engine that answers here, else of our own."""
    import docker

    with contextlib.closing(docker.from_env(timeout=300)) as client:
        client.ping()
        yield client


@pytest.fixture(scope="session")
def built_image(docker_engine: "docker.DockerClient") -> str:
    """The tag of a server image; its SDK image has the same tag and ``-sdk``.

    ``docker_images.OTHER_IMAGE`` is there then, too.
    """
    CACHE.mkdir(parents=True, exist_ok=True)
    try:
        build_images(docker_engine, CACHE)
    except RuntimeError as error:
        missing_part(f"no Triton image can be built: {error}")
    return IMAGE


def _answers() -> bool:
    """Whether an engine answers, not only listens, as one does that is about to fail.

    Asked without docker's client, which leaves its socket open where it finds none.
    """
    from docker.utils import parse_host

    host = str(parse_host(os.environ.get("DOCKER_HOST")))
    if not host.startswith("http+unix://"):
        return True
    with socket.socket(socket.AF_UNIX) as knock, contextlib.suppress(OSError):
        knock.settimeout(_START_S)
        knock.connect(host.removeprefix("http+unix://"))
        knock.sendall(b"GET /_ping HTTP/1.0\r\n\r\n")
        return b" 200 " in knock.recv(64)
    return False
