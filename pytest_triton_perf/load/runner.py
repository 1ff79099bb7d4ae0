"""Where perf_analyzer's processes run: on this machine, or in a container."""

import contextlib
import functools
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from pytest_triton_perf.affinity import started_on
from pytest_triton_perf.errors import ServerError
from pytest_triton_perf.load.command import EXPORT, REPORT
from pytest_triton_perf.load.parsing import last_words

_KILL_AFTER_S = 2
_TIMED_OUT = (124, 128 + signal.SIGKILL)  # exit codes of timeout(1)

# Has the kernel end what it becomes when the thread that started it is gone. A preexec_fn would do
# the same by a true fork of a process with threads, the sampler's and gRPC's: not safe.
# util-linux has a tool for it since 2018, which takes 1 ms where Python takes 10, even with the
# built-in half of "os" alone.
_SETPRIV = ("setpriv", "--pdeathsig", "KILL")
_DIE_WITH_PARENT = """
import ctypes, posix, sys
ctypes.CDLL(None).prctl(1, 9)  # PR_SET_PDEATHSIG, SIGKILL
if posix.getppid() == int(sys.argv[1]):
    posix.execv(sys.argv[2], sys.argv[2:])
"""


@dataclass(frozen=True, kw_only=True)
class PerfAnalyzerBinary:
    """A perf_analyzer that runs on this machine.

    ``env`` is what its environment needs beyond ours; ``origin`` says where it comes from, in
    words.
    """

    path: Path
    version: str
    origin: str
    env: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Run:
    """One process of perf_analyzer that ended; ``started`` and ``ended`` are monotonic seconds.

    ``clock_offset_ns`` is how far the wall clock was ahead of the monotonic one at the start,
    and ``clock_step_s`` how much further it was at the end: about 0, unless somebody set it.
    ``hung`` is one that was killed, because it had not ended in the time that it had.
    """

    exit_code: int
    csv: str
    export: bytes
    stdout: str
    stderr: str
    started: float
    ended: float
    clock_offset_ns: int
    clock_step_s: float
    hung: bool = False

    @property
    def words(self) -> str:
        """What it said last."""
        return last_words(self.stdout, self.stderr)


class Runner(Protocol):
    """Runs perf_analyzer somewhere, one process at a time."""

    def run(self, args: Sequence[str], *, url: str, seconds: float) -> Run:
        """Run it with ``args``, kill it after ``seconds``, and leave no process behind.

        ``url`` is the server's ``host:port``, the same in ``args``.

        Raises:
            LoadError: the place where it was to run is gone.
        """

    def path(self, path: Path, *, url: str) -> str:
        """A file or a folder of this machine, as perf_analyzer can open it there."""

    def describe(self) -> Mapping[str, str]:
        """Which perf_analyzer, and where it comes from."""


class LocalRunner:
    """Runs a binary of this machine, each time in a folder of its own.

    ``cpus`` are the CPUs that it runs on, empty where these are all that we may use.
    """

    def __init__(self, binary: PerfAnalyzerBinary, *, cpus: Collection[int] = ()) -> None:
        self._binary = binary
        self._cpus = cpus

    def describe(self) -> Mapping[str, str]:
        """Version, path and origin."""
        return {
            "version": self._binary.version,
            "path": str(self._binary.path),
            "origin": self._binary.origin,
        }

    def path(self, path: Path, *, url: str) -> str:
        """The path itself, absolute: perf_analyzer runs in another folder."""
        return str(path.absolute())

    def run(self, args: Sequence[str], *, url: str, seconds: float) -> Run:
        """Run the binary once, as :class:`Runner` says; it dies with this process."""
        command = [*_starter(), str(self._binary.path.absolute()), *args]
        with tempfile.TemporaryDirectory(prefix="triton-perf-load-") as name:
            folder = Path(name)
            out, err = folder / "stdout", folder / "stderr"
            with out.open("wb") as stdout, err.open("wb") as stderr:
                clock_offset_ns = _clock_offset_ns()
                started = time.monotonic()
                with started_on(self._cpus):
                    process = subprocess.Popen(
                        command,
                        cwd=folder,
                        env={**os.environ, **_no_proxy(url), **self._binary.env},
                        stdin=subprocess.DEVNULL,
                        stdout=stdout,
                        stderr=stderr,
                        start_new_session=True,
                    )
                # Not wait(timeout), which looks after the process only every 50 ms.
                waiter = threading.Thread(target=process.wait, daemon=True)
                waiter.start()
                try:
                    waiter.join(max(0.0, seconds))
                    if hung := waiter.is_alive():
                        _end(process)
                except BaseException:
                    _end(process)
                    raise
            return Run(
                exit_code=process.returncode,
                csv=_read(folder / REPORT),
                export=_read_bytes(folder / EXPORT),
                stdout=_read(out),
                stderr=_read(err),
                started=started,
                ended=time.monotonic(),
                clock_offset_ns=clock_offset_ns,
                clock_step_s=(_clock_offset_ns() - clock_offset_ns) / 1e9,
                hung=hung,
            )


class Toolbox(Protocol):
    """A running container that has perf_analyzer and shares the server's network and memory.

    ``folder`` is a folder of this machine, and ``mounted`` the container's path of it.
    """

    folder: Path
    mounted: str

    def execute(self, argv: Sequence[str], *, workdir: str) -> tuple[int, bytes, bytes]:
        """Run a command in it; its exit code, standard output and standard error.

        Raises:
            LoadError: the container is gone.
        """

    def end(self) -> None:
        """End the container with all that runs in it; the next command gets another one.

        Raises:
            ServerError: the engine did not remove it.
        """


class ToolboxRunner:
    """Runs the perf_analyzer of a container that is started once and called many times.

    ``toolbox`` gives the container that stands beside the server at a URL.
    """

    def __init__(self, toolbox: Callable[[str], Toolbox], description: Mapping[str, str]) -> None:
        self._toolbox = toolbox
        self._description = description

    def describe(self) -> Mapping[str, str]:
        """What it was made with."""
        return self._description

    def path(self, path: Path, *, url: str) -> str:
        """The container's path of a copy, made afresh: the original may have changed."""
        toolbox = self._toolbox(url)
        copy = toolbox.folder / "inputs" / path.name
        if path.is_dir():
            shutil.copytree(path, copy, dirs_exist_ok=True)
        else:
            copy.parent.mkdir(exist_ok=True)
            shutil.copyfile(path, copy)
        return f"{toolbox.mounted}/inputs/{path.name}"

    def run(self, args: Sequence[str], *, url: str, seconds: float) -> Run:
        """Run perf_analyzer once in the container, as :class:`Runner` says.

        An engine cannot end what it executes, so ``timeout`` does that in the container.
        """
        toolbox = self._toolbox(url)
        limit = ["timeout", f"--kill-after={_KILL_AFTER_S}", f"{max(0.001, seconds):.3f}"]
        with tempfile.TemporaryDirectory(dir=toolbox.folder, prefix="run-") as name:
            folder = Path(name)
            clock_offset_ns = _clock_offset_ns()
            started = time.monotonic()
            try:
                exit_code, stdout, stderr = toolbox.execute(
                    [*limit, "perf_analyzer", *args], workdir=f"{toolbox.mounted}/{folder.name}"
                )
            except BaseException:
                with contextlib.suppress(ServerError):  # The server's own stop tries it again.
                    toolbox.end()
                raise
            ended = time.monotonic()
            return Run(
                exit_code=exit_code,
                csv=_read(folder / REPORT),
                export=_read_bytes(folder / EXPORT),
                stdout=stdout.decode(errors="replace"),
                stderr=stderr.decode(errors="replace"),
                started=started,
                ended=ended,
                clock_offset_ns=clock_offset_ns,
                clock_step_s=(_clock_offset_ns() - clock_offset_ns) / 1e9,
                hung=exit_code in _TIMED_OUT and ended - started >= seconds,
            )


def _starter() -> tuple[str, ...]:
    """A command before another one, which then dies with this process."""
    if _setpriv_works():
        return _SETPRIV
    return (sys.executable, "-I", "-S", "-c", _DIE_WITH_PARENT, str(os.getpid()))


@functools.cache
def _setpriv_works() -> bool:
    try:
        return subprocess.run([*_SETPRIV, "true"], capture_output=True, check=False).returncode == 0
    except OSError:
        return False


def _no_proxy(url: str) -> dict[str, str]:
    """Environment that keeps traffic to this machine off a proxy, which gRPC and curl obey."""
    host = url.rpartition(":")[0].strip("[]")
    if host not in ("127.0.0.1", "localhost", "::1"):
        return {}
    others = os.environ.get("no_proxy") or os.environ.get("NO_PROXY")
    return {"no_proxy": f"{others},{host}" if others else host}


def _clock_offset_ns() -> int:
    """How far the wall clock is ahead of the monotonic one, read as closely together as can be."""
    readings = []
    for _ in range(5):
        before, wall, after = time.monotonic_ns(), time.time_ns(), time.monotonic_ns()
        readings.append((after - before, wall - (before + after) // 2))
    return min(readings)[1]


def _read(path: Path) -> str:
    return _read_bytes(path).decode(errors="replace")


def _read_bytes(path: Path) -> bytes:
    return path.read_bytes() if path.exists() else b""


def _end(process: "subprocess.Popen[bytes]") -> None:
    """End the process and all of its group, within about two seconds."""
    for sign in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, sign)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_KILL_AFTER_S)
