"""The seconds that Triton's python backend takes between two variants, and how they are spared.

Each instance of a python model runs in a stub, a process of its own, and so does the completion
of its config at every load. To see whether a stub is healthy, Triton sleeps for a second before it
ends it, one stub after the other (``StubLauncher::UpdateHealth`` in its python_backend). No option
changes that; but a config that nothing completes needs no stub, and a stub that has nothing left
to do need not be waited for. What a model's source does is not guessed: where it is not in plain
sight, Triton does as ever.
"""

import ast
import contextlib
import os
import re
import sys
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_triton_perf.errors import UsageError
from pytest_triton_perf.servers.model_config import model_files, models_in, read_config

if TYPE_CHECKING:
    import psutil

_COMPLETES = ("auto_complete_config",)
_ENDS = (
    *("finalize", "__del__", "atexit", "tempfile", "open", "print", "stdout", "logging"),
    *("import_module", "__import__", "exec", "eval", "sqlite3", "shelve", "dbm", "mmap"),
)
"""Words of a source whose process may have something to do at its end: clean up, write a buffer."""

_NOTHING_TO_END = {"triton_python_backend_utils", "numpy", "torch", "cupy"}
"""Libraries whose processes leave nothing undone: what they hold, on a GPU too, goes with them."""

_STUB = "triton_python_backend_stub"
_KILLED_S = 5.0
_POLL_S = 0.01


def completion_args(*repositories: Path) -> list[str]:
    """The server's argument that spares the completion of configs, where it changes none.

    Triton knows it for all models of a server together. So every model of its repositories must be
    a python model or an ensemble with inputs and outputs in its ``config.pbtxt``, and no python
    model may have ``auto_complete_config``: to a config like that, Triton adds nothing.
    """
    try:
        folders = [folder for repository in repositories for folder in models_in(repository)]
        configs = {folder: read_config(folder) for folder in folders}
    except UsageError:
        return []
    python = [config for config in configs.values() if config and config.get("backend") == "python"]
    complete = all(config and _is_complete(folder, config) for folder, config in configs.items())
    return ["--disable-auto-complete-config"] if python and complete else []


def _is_complete(folder: Path, config: Mapping[str, Any]) -> bool:
    sides = [config.get("input"), config.get("output")]
    described = all(
        tensors and all({"name", "data_type", "dims"} <= tensor.keys() for tensor in tensors)
        for tensors in sides
    )
    if config.get("backend") != "python":
        return described and config.get("platform") == "ensemble"
    return described and all(_lacks(_COMPLETES, file) for file in model_files(folder, config))


def end_idle_stubs(
    server: "psutil.Process", serves: Callable[[str], bool], readable: Callable[[str], str]
) -> None:
    """End at once those stubs of served models whose end is nothing to wait for.

    They are those that started no process, and in whose model's source nothing says that its end
    matters. To be called before Triton is told to unload the model, never after: it would ask a
    stub that it saw alive to finalize, and wait for the answer for ever. A dead one it collects.
    The shared memory that it would then leave behind is removed.

    ``serves`` says whether a model is served: all of these are about to be unloaded, those inside
    an ensemble included. ``readable`` gives the path of this machine for one of the server's.
    """
    import psutil

    shared_memory = Path(f"/proc/{server.pid}/root/dev/shm")
    if not os.access(shared_memory, os.W_OK):
        return
    ended = []
    for process, stub in _stubs(server):
        with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            if serves(stub.model) and _is_idle(process, stub, readable):
                process.kill()
                ended.append(process)
                (shared_memory / stub.region).unlink(missing_ok=True)
    wait_ended(ended, _KILLED_S)


def nothing_to_end(
    server: "psutil.Process", served: Collection[str], readable: Callable[[str], str]
) -> bool:
    """Whether the server can be killed with all of its processes, and nothing is lost.

    So it is where they are stubs that ``end_idle_stubs`` would end, and every model of ``served``
    runs in one of them. Triton itself takes two to five seconds to end them.
    """
    import psutil

    try:
        processes = list(filter(_runs, server.children(recursive=True)))
        stubs = _stubs(server)
        idle = [stub for process, stub in stubs if _is_idle(process, stub, readable)]
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return False
    return len(idle) == len(processes) and set(served) <= {stub.model for stub in idle}


def leaving(server: "psutil.Process", serves: Callable[[str], bool]) -> "list[psutil.Process]":
    """Processes of models that Triton does not serve (any more), and what they started."""
    import psutil

    found: list[psutil.Process] = []
    for process, stub in _stubs(server):
        if not serves(stub.model):
            with contextlib.suppress(psutil.NoSuchProcess):
                found += [process, *process.children(recursive=True)]
    return found


def wait_ended(processes: "Iterable[psutil.Process]", seconds: float) -> "list[psutil.Process]":
    """Wait for the end of processes; those that are still there after ``seconds``.

    One that Triton has not collected yet (a zombie) has ended: it has neither memory nor work.
    """
    deadline = time.monotonic() + seconds
    left = list(filter(_runs, processes))
    while left and time.monotonic() < deadline:
        time.sleep(_POLL_S)
        left = list(filter(_runs, left))
    return left


def _runs(process: "psutil.Process") -> bool:
    import psutil

    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@dataclass(frozen=True, kw_only=True)
class _Stub:
    """What a stub's command line says: ``stub <repository>/<model>/<version>/model.py <region> …``.

    ``region`` is the name of its shared memory.
    """

    source: str
    region: str

    @classmethod
    def of(cls, process: "psutil.Process") -> "_Stub | None":
        """``None`` for a process that is no stub."""
        match process.cmdline():
            case [binary, source, region, *_] if Path(binary).name == _STUB:
                return cls(source=source, region=region.lstrip("/"))
        return None

    @property
    def model(self) -> str:
        return Path(self.source).parent.parent.name


def _stubs(server: "psutil.Process") -> "list[tuple[psutil.Process, _Stub]]":
    import psutil

    found: list[tuple[psutil.Process, _Stub]] = []
    with contextlib.suppress(psutil.NoSuchProcess):
        for process in server.children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                if (stub := _Stub.of(process)) is not None:
                    found.append((process, stub))
    return found


def _is_idle(process: "psutil.Process", stub: _Stub, readable: Callable[[str], str]) -> bool:
    """Whether the end of a stub is nothing to wait for."""
    return not process.children() and _may_be_killed(Path(readable(stub.source)))


def _may_be_killed(source: Path) -> bool:
    """Whether neither a model's source nor what it imports has anything to do at its end."""
    if not _lacks(_ENDS, source):
        return False
    imported = {
        name.partition(".")[0]
        for node in ast.walk(ast.parse(source.read_bytes()))
        for name in _imports(node)
    }
    return imported <= sys.stdlib_module_names | _NOTHING_TO_END


def _imports(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        return ["." if node.level else str(node.module)]
    return []


def _lacks(words: Collection[str], source: Path) -> bool:
    """Whether a model is a class in plain sight, in whose file none of the words occurs."""
    try:
        text = source.read_bytes()
        classes = [
            node
            for node in ast.parse(text).body
            if isinstance(node, ast.ClassDef) and node.name == "TritonPythonModel"
        ]
    except (OSError, SyntaxError, ValueError):
        return False
    plain = len(classes) == 1 and not (
        classes[0].bases or classes[0].keywords or classes[0].decorator_list
    )
    return plain and not re.search(rb"\b(%s)\b" % "|".join(words).encode(), text)
