"""Finding a perf_analyzer that runs on this machine."""

import atexit
import functools
import importlib.metadata
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from pytest_triton_perf.errors import INSTALL_EMBEDDED, MissingPartError
from pytest_triton_perf.load.runner import PerfAnalyzerBinary


def find_perf_analyzer(explicit: Path | None) -> PerfAnalyzerBinary:
    """The perf_analyzer to use: ``explicit``, else on PATH, else an embedded one.

    Each candidate is started once, to print its version; the first that answers is taken.

    Raises:
        MissingPartError: none runs here; the message says why each one does not.
    """
    if explicit is not None:
        try:
            return _try(explicit, "as given", env={})
        except _DoesNotRun as problem:
            raise MissingPartError(
                f"perf_analyzer at {explicit} does not run: {problem}\n"
                "  Hint: correct --perf-analyzer, or leave it out to use the one on PATH or the "
                f"embedded one ({INSTALL_EMBEDDED})"
            ) from None
    problems = []
    for origin, path, env in _candidates():
        try:
            return _try(path, origin, env=env)
        except _DoesNotRun as problem:
            problems.append(f"    {origin}: {problem}")
    raise MissingPartError(
        "no perf_analyzer runs on this machine:\n"
        + "\n".join(problems)
        + f"\n  Hint: {_how_to_get_one()}"
    )


def _how_to_get_one() -> str:
    if sys.version_info >= (3, 13) and _in_package("perf_analyzer", "") is not None:
        return (
            "on a glibc older than 2.38 use Python 3.10 to 3.12, whose tritonclient carries a "
            "perf_analyzer that runs there"
        )
    return INSTALL_EMBEDDED


class _DoesNotRun(Exception):
    """Why a candidate is none, in words."""


def _candidates() -> Iterator[tuple[str, Path | None, Mapping[str, str]]]:
    yield "PATH", _on_path(), {}
    env = _embedded_env()
    yield "the package perf-analyzer", _in_package("perf_analyzer", "bin/perf_analyzer"), env
    yield "the package tritonclient", _scripts() / "perf_analyzer", env


def _scripts() -> Path:
    return Path(sysconfig.get_path("scripts"))


def _on_path() -> Path | None:
    """The first on PATH outside this interpreter's own scripts folder.

    In there is one of the embedded ones, which need care of their own.
    """
    folders = [Path(folder) for folder in os.environ.get("PATH", "").split(os.pathsep) if folder]
    outside = [str(f) for f in folders if f.resolve() != _scripts().resolve()]
    found = shutil.which("perf_analyzer", path=os.pathsep.join(outside)) if outside else None
    return Path(found) if found else None


def _in_package(package: str, path: str) -> Path | None:
    spec = importlib.util.find_spec(package)
    folders = spec.submodule_search_locations if spec else None
    return Path(next(iter(folders))) / path if folders else None


def _try(path: Path | None, origin: str, *, env: Mapping[str, str]) -> PerfAnalyzerBinary:
    if path is None or not path.exists():
        raise _DoesNotRun(_why_absent(path))
    if _is_console_script(path):
        raise _DoesNotRun(
            f"{path} is pip's console script, which hides perf_analyzer's exit code; the binary "
            "itself is perf_analyzer/bin/perf_analyzer in site-packages"
        )
    try:
        version = _version(path, env)
    except _DoesNotRun as problem:
        # An embedded one that was given by its path.
        if env or "shared libraries" not in str(problem):
            raise
        env = _embedded_env()
        version = _version(path, env)
    return PerfAnalyzerBinary(path=path, version=version, origin=origin, env=env)


def _embedded_env() -> dict[str, str]:
    """What the embedded ones need beyond our environment."""
    libraries = _embedded_libraries()
    if libraries is None:
        return {}
    inherited = os.environ.get("LD_LIBRARY_PATH")
    return {"LD_LIBRARY_PATH": f"{libraries}{os.pathsep}{inherited}" if inherited else libraries}


def _why_absent(path: Path | None) -> str:
    if path is None or path.parent.name != "bin" or path.parent.parent.name != "perf_analyzer":
        return "not found" if path is None else f"{path} does not exist"
    libc = (os.confstr("CS_GNU_LIBC_VERSION") or "another libc").replace("glibc", "glibc ")
    return (
        "only its empty placeholder is installed: the real one needs glibc 2.38, this machine has "
        + " ".join(libc.split())
    )


def _is_console_script(path: Path) -> bool:
    with path.open("rb") as file:
        start = file.read(4096)
    return start.startswith(b"#!") and b"from perf_analyzer" in start


def _version(path: Path, env: Mapping[str, str]) -> str:
    try:
        answer = subprocess.run(
            [path, "--version"],
            env={**os.environ, **env},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=20,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as problem:
        raise _DoesNotRun(str(problem)) from None
    version = re.search(r"Version (\S+( \(commit \w+\))?)", answer.stdout + answer.stderr)
    if answer.returncode or version is None:
        said = (answer.stderr.strip() or answer.stdout.strip()).splitlines()[-1:]
        raise _DoesNotRun(said[0] if said else f"--version ended with {answer.returncode}")
    if path == _in_package("perf_analyzer", "bin/perf_analyzer"):
        # Its binary calls itself 0.0.0.
        return importlib.metadata.version("perf-analyzer")
    return version[1].removesuffix(" (commit unknown)")


@functools.cache
def _embedded_libraries() -> str | None:
    """A folder with the libraries that the embedded perf_analyzers ask for.

    tritonclient's asks for two while it starts, that of the package perf-analyzer opens
    libcudart.so once shared memory is used, and aborts where there is none.

    nvidia-pytriton carries them, under names of its own: links give them the names asked for.
    The folder is nobody else's, because it goes on LD_LIBRARY_PATH.
    """
    package = _in_package("pytriton", "..")
    if package is None:
        return None
    bundle = package.resolve() / "nvidia_pytriton.libs"
    links = {
        "libb64.so.0d": next(bundle.glob("libb64-*.so.0d"), None),
        "libcudart.so": next(bundle.glob("libcudart-*.so.12*"), None),
        "libcudart.so.12": next(bundle.glob("libcudart-*.so.12*"), None),
    }
    folder = tempfile.mkdtemp(prefix="triton-perf-libs-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    for name, target in links.items():
        if target is not None:
            Path(folder, name).symlink_to(target)
    return folder
