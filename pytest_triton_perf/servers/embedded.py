"""Find a tritonserver, and what the one from the ``nvidia-pytriton`` wheel needs to run."""

import importlib.metadata
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pytest_triton_perf.errors import INSTALL_EMBEDDED, MissingPartError, UsageError
from pytest_triton_perf.servers.readiness import last_words

Origin = Literal["--triton-server", "PATH", "embedded"]

_PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
_OWN_LIBRARIES = "lib"


@dataclass(frozen=True, kw_only=True)
class ServerBinary:
    """A tritonserver executable and where it was found.

    ``libraries`` is the folder of the shared libraries that came in the wheel of an embedded
    server, ``None`` for any other.
    """

    path: Path
    origin: Origin
    libraries: Path | None = None

    def env(self, workdir: Path | None = None) -> dict[str, str]:
        """The environment to start the server with: this process's own, completed.

        A python model of the embedded server runs in the packages of this very environment.
        ``workdir`` is what ``args`` was given.
        """
        env = dict(os.environ)
        if self.libraries is not None:
            folders = [self.libraries, *_python_library_folders(), env.get("LD_LIBRARY_PATH")]
            if workdir is not None:
                folders.insert(0, workdir / _OWN_LIBRARIES)
            env["LD_LIBRARY_PATH"] = os.pathsep.join(str(f) for f in folders if f)
            # The embedded interpreter ignores PYTHONPATH; it takes the packages of the first
            # python3 on PATH.
            env["PATH"] = os.pathsep.join([str(Path(sys.prefix, "bin")), env.get("PATH", "")])
        return env

    def version(self) -> str:
        """Triton's version, in its own words: ``2.51.0``.

        Raises:
            MissingPartError: the binary does not run; with its last words.
        """
        # Without a repository it prints its version among the options and exits at once.
        nowhere = ["--model-repository=/nonexistent", "--allow-metrics=false"]
        try:
            shown = subprocess.run(
                [self.path, *nowhere, "--allow-http=false", "--allow-grpc=false"],
                env=self.env(),
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                check=False,
                timeout=30,
            )
        except subprocess.TimeoutExpired:
            raise MissingPartError(
                f"{self.path} does not run as a tritonserver: it did not say its version\n"
                "Hint: give a working one with --triton-server"
            ) from None
        found = re.search(r"server_version\s*\|\s*([\w.]+)", shown.stdout)
        if found is None:
            raise MissingPartError(
                f"{self.path} does not run as a tritonserver. Its last words:\n"
                f"{last_words(shown.stdout)}\n"
                "Hint: give a working one with --triton-server"
            )
        return found[1]

    def args(self, workdir: Path) -> list[str]:
        """Arguments that this binary needs; ``workdir`` must live as long as the server.

        The wheel holds the python backend in parts, one stub per Python version: they are put
        together in ``workdir``.
        """
        if self.libraries is None:
            return []
        folder = workdir / "backends" / "python"
        folder.mkdir(parents=True)
        parts = self.path.parents[1] / "backends" / "python"
        for name in ("libtriton_python.so", "triton_python_backend_utils.py"):
            shutil.copy(parts / name, folder)
        stub = folder / "triton_python_backend_stub"
        shutil.copy(_stub(self.path), stub)
        stub.chmod(0o755)
        own = workdir / _OWN_LIBRARIES
        own.mkdir()
        for bundled in _bundled_python(self.libraries):
            (own / bundled.name).symlink_to(_shared_python())
        return [f"--backend-directory={folder.parent}"]


def python_of_models() -> dict[str, object]:
    """What python models of the embedded server run in: this Python and its packages."""
    packages = {(str(d.metadata["Name"]), d.version) for d in importlib.metadata.distributions()}
    return {"Python": sys.version, "the Python packages": sorted(packages)}


def find_server(explicit: Path | None = None) -> ServerBinary:
    """The tritonserver to start: the one given, else the one on PATH, else the embedded one.

    Raises:
        UsageError: ``explicit`` is no executable file.
        MissingPartError: there is none, or the embedded one cannot run; the message has the
            command that mends it.
    """
    if explicit is not None:
        path = explicit.expanduser().absolute()
        if not path.is_file() or not os.access(path, os.X_OK):
            state = "is not executable" if path.is_file() else "is not a file"
            raise UsageError(
                f"--triton-server={explicit}: {path} {state}; give the path of a tritonserver "
                "binary, or drop the option to use the one on PATH or the embedded one"
            )
        return ServerBinary(path=path, origin="--triton-server")
    if on_path := shutil.which("tritonserver"):
        return ServerBinary(path=Path(on_path), origin="PATH")
    return find_embedded()


def find_embedded() -> ServerBinary:
    """The server of the ``nvidia-pytriton`` wheel in this environment, checked to be runnable.

    Raises:
        MissingPartError: see :func:`find_server`.
    """
    # find_spec does not import a top-level package, and importing this one costs a second.
    spec = importlib.util.find_spec("pytriton")
    package = Path(spec.origin).parent if spec is not None and spec.origin else None
    if package is None or not (package / "tritonserver" / "bin" / "tritonserver").is_file():
        raise MissingPartError(
            "no tritonserver: none was given with --triton-server, none is on PATH, and the "
            f"embedded one is not installed. Install it: {INSTALL_EMBEDDED}"
        )
    server = ServerBinary(
        path=package / "tritonserver" / "bin" / "tritonserver",
        origin="embedded",
        libraries=package.parent / "nvidia_pytriton.libs",
    )
    stub = _stub(server.path)
    if not stub.is_file():
        have = sorted((p.name for p in stub.parents[1].iterdir()), key=lambda v: int(v[2:]))
        raise MissingPartError(
            f"the embedded Triton has no python backend for Python {_PYTHON}, only for "
            f"{', '.join(have)}: run pytest with one of these, or install another tritonserver "
            "and give it with --triton-server"
        )
    for binary in (server.path, stub):
        check_libraries(binary, server.env())
    if _bundled_python(package.parent / "nvidia_pytriton.libs"):
        _shared_python()
    _check_numpy()
    return server


def _check_numpy() -> None:
    try:
        numpy = importlib.metadata.version("numpy")
    except importlib.metadata.PackageNotFoundError:
        return  # A model that needs it says so while it is loaded.
    if int(numpy.partition(".")[0]) >= 2:
        # The stub's pybind11 2.10 reads the size of an item where numpy 2 keeps something else:
        # models would answer fast, with empty tensors (triton-inference-server/python_backend,
        # pull request 384).
        raise MissingPartError(
            f"the embedded Triton exchanges empty tensors with models under numpy {numpy}; it "
            f"needs numpy 1. Install it: {INSTALL_EMBEDDED}"
        )


def check_libraries(binary: Path, env: Mapping[str, str]) -> None:
    """Ask the dynamic loader whether ``binary`` finds its shared libraries under ``env``.

    Raises:
        MissingPartError: it does not; the message names them and the command that mends it.
    """
    # What ldd does: the loader resolves everything, prints it, and runs nothing.
    traced = subprocess.run(
        [binary],
        env={**env, "LD_TRACE_LOADED_OBJECTS": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    judge_libraries(binary, traced.stdout + traced.stderr)


def judge_libraries(binary: Path, loader_words: str) -> None:
    """What the dynamic loader's trace of ``binary`` means; raises as :func:`check_libraries`."""
    lines = loader_words.splitlines()
    missing = sorted({line.split()[0] for line in lines if "=> not found" in line})
    if python := re.search(r"(libpython3\.\d+)\.so", " ".join(missing)):
        raise MissingPartError(_no_libpython(python[1]))
    if missing:
        raise MissingPartError(
            f"{binary} needs {', '.join(missing)}, which this machine does not have. "
            f"Install the wheel again: {INSTALL_EMBEDDED} --force-reinstall"
        )
    if old := [line for line in lines if "version `" in line and "not found" in line]:
        raise MissingPartError(
            f"{binary} does not run on this machine: {old[0].strip()}. The embedded Triton needs "
            "glibc 2.35 or newer (Debian 12, Ubuntu 22.04); install another tritonserver and "
            "give it with --triton-server"
        )


def _bundled_python(libraries: Path) -> list[Path]:
    """The wheel's own libpython of this Python version, which it has for 3.13 alone.

    It finds only a standard library that was built as it was, and Debian's was not: the stub
    gets this Python's instead, under the name that it asks for.
    """
    major, minor = _PYTHON.split(".")
    return sorted(libraries.glob(f"libpython{major}-*.{minor}.so.1.0"))


def _shared_python() -> Path:
    """The shared library of this Python.

    Raises:
        MissingPartError: it has none here.
    """
    name = f"libpython{_PYTHON}.so.1.0"
    for folder in _python_library_folders():
        if (Path(folder) / name).is_file():
            return Path(folder) / name
    raise MissingPartError(_no_libpython(f"libpython{_PYTHON}"))


def _no_libpython(library: str) -> str:
    return (
        f"the embedded Triton runs python models in {library}.so.1.0, which this machine does "
        f"not have. Install it: apt-get install -y {library} "
        f"(or use a Python {library.removeprefix('libpython')} that was built with "
        "--enable-shared)"
    )


def _stub(server: Path) -> Path:
    stubs = server.parents[1] / "python_backend_stubs"
    return stubs / _PYTHON / "triton_python_backend_stub"


def _python_library_folders() -> list[str]:
    """Where this Python's shared library can be; LIBDIR is wrong in a relocated build."""
    folders = [str(sysconfig.get_config_var("LIBDIR") or ""), str(Path(sys.base_prefix, "lib"))]
    return list(dict.fromkeys(folders))
