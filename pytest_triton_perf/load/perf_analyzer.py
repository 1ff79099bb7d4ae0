"""perf_analyzer: finding a binary that runs here, and measuring one load level with it."""

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
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from pytest_triton_perf.domain.levels import Load
from pytest_triton_perf.errors import INSTALL_EMBEDDED, LoadError, MissingPartError
from pytest_triton_perf.load import windows
from pytest_triton_perf.load.base import LoadReport, Traffic
from pytest_triton_perf.load.command import build_args
from pytest_triton_perf.load.parsing import (
    ParsedReport,
    hint,
    parse_report,
    window_too_short,
)
from pytest_triton_perf.load.runner import PerfAnalyzerBinary, Run, Runner


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


@dataclass(kw_only=True)
class _Experience:
    """What the runs of one kind of traffic taught since the model was loaded."""

    at_least_ms: float = windows.BASE_MS
    lessons: dict[Load, windows.Lesson] = field(default_factory=dict)


class PerfAnalyzer:
    """A :class:`~pytest_triton_perf.load.base.LoadGenerator`: one process per level."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner
        self._experiences: dict[tuple[str, str], _Experience] = {}

    def describe(self) -> Mapping[str, str]:
        """Its name, and what the runner says of it."""
        return {"name": "perf_analyzer", **self._runner.describe()}

    def run(self, traffic: Traffic, load: Load, *, url: str, max_seconds: float) -> LoadReport:
        """Measure one level, as :class:`~pytest_triton_perf.load.base.LoadGenerator` says.

        A level with fewer than 100 requests is measured once more with a longer window, as far
        as ``max_seconds`` allows.

        Raises:
            LoadError: the level was not measured, or cannot be within ``max_seconds``.
            UsageError: streaming over HTTP.
        """
        deadline = time.monotonic() + max_seconds
        known = self._experiences.setdefault((url, repr(traffic)), _Experience())
        wanted_ms = windows.first_window(
            load, list(known.lessons.values()), at_least_ms=known.at_least_ms
        )
        empty_ms = windows.SHORTEST_MS  # the longest window in which no request was answered
        latency_s = 0.0  # what a request seems to take, at most
        extended = retried = False
        while True:
            longest_ms = windows.longest_window(deadline - time.monotonic(), latency_s)
            window_ms = min(wanted_ms, longest_ms)
            if window_ms <= empty_ms:
                raise _does_not_fit(traffic, load, max_seconds, empty_ms, latency_s)
            run = self._process(traffic, load, url, window_ms, deadline)
            report = parse_report(run.csv, run.stdout, load, traffic.percentiles)
            if report is None:
                if window_too_short(run.words):
                    latency_s = max(latency_s, run.ended - run.started)
                    empty_ms = window_ms
                    wanted_ms = windows.longer_window(window_ms, latency_s)
                elif run.exit_code == 0 and not retried:
                    retried = True  # a very short window now and then ends without any report
                else:
                    raise _not_measured(traffic, load, url, run)
                continue
            lesson = _lesson(load, report)
            known.lessons[load] = lesson
            if report.requests is not None and report.requests < windows.ENOUGH_REQUESTS:
                latency_s = lesson.latency_s
                wanted_ms = windows.enough_window(lesson.rate, latency_s)
                left_ms = windows.longest_window(deadline - time.monotonic(), latency_s)
                if not extended and min(wanted_ms, left_ms) > 1.5 * window_ms:
                    extended = True
                    continue
            return _report(report, traffic, run)

    def warm_up(self, traffic: Traffic, load: Load, *, url: str, max_seconds: float) -> None:
        """Send requests that nobody measures, for about half a second.

        What was learnt about this traffic before is forgotten: the model is a new one.

        Raises:
            LoadError: the model cannot be measured like this at all, or hangs.
            UsageError: streaming over HTTP.
        """
        known = self._experiences[(url, repr(traffic))] = _Experience()
        window_ms = windows.WARM_UP_MS
        deadline = time.monotonic() + max_seconds
        run = self._process(traffic, load, url, window_ms, deadline)
        if window_too_short(run.words):
            known.at_least_ms = windows.longer_window(window_ms, run.ended - run.started)
        elif run.exit_code != 0:
            raise _not_measured(traffic, load, url, run)

    def _process(
        self, traffic: Traffic, load: Load, url: str, window_ms: float, deadline: float
    ) -> Run:
        """Run perf_analyzer once, and take one that hangs for an error."""
        if traffic.input_data not in (None, "zero", "random"):
            there = self._runner.path(Path(traffic.input_data), url=url)
            traffic = replace(traffic, input_data=there)
        args = build_args(traffic, load, url=url, window_ms=window_ms)
        seconds = deadline - time.monotonic()
        run = self._runner.run(args, url=url, seconds=seconds)
        if run.hung:
            raise _hung(traffic, load, window_ms, seconds, run.words)
        return run


def _lesson(load: Load, report: ParsedReport) -> windows.Lesson:
    slowest_ms = max((v for k, v in report.values.items() if k.endswith("_latency_ms")), default=0)
    rate = report.values["throughput"] / load.batch_size
    return windows.Lesson(load=load, rate=rate, latency_s=slowest_ms / 1000)


def _report(report: ParsedReport, traffic: Traffic, run: Run) -> LoadReport:
    notes = report.notes
    if report.requests is None:
        notes += ("perf_analyzer did not say how many requests these figures rest on",)
    elif report.requests < windows.ENOUGH_REQUESTS:
        highest = max(traffic.percentiles, default=99)
        notes += (f"p{highest} rests on only {report.requests} requests",)
    if run.exit_code != 0:
        notes += (f"perf_analyzer ended with exit code {run.exit_code} after its report",)
    return LoadReport(
        values=report.values,
        missing=report.missing,
        requests=report.requests,
        started=run.started,
        ended=run.ended,
        notes=notes,
    )


def _not_measured(traffic: Traffic, load: Load, url: str, run: Run) -> LoadError:
    code = run.exit_code
    ending = f"exit code {code}" if code >= 0 else f"killed by signal {-code}"
    advice = hint(
        run.words, url=url, input_data=str(traffic.input_data), extra_args=traffic.extra_args
    )
    lines = [
        f"perf_analyzer did not measure {traffic.model!r} at {load} ({ending})",
        *([f"  Hint: {advice}"] if advice else []),
        "  perf_analyzer's last words:",
        run.words,
    ]
    return LoadError("\n".join(lines))


def _hung(traffic: Traffic, load: Load, window_ms: float, waited_s: float, said: str) -> LoadError:
    return LoadError(
        f"perf_analyzer hung on {traffic.model!r} at {load} and was killed: it was to measure for "
        f"{windows.run_seconds(window_ms):.1f} s and had not ended after {waited_s:.1f} s\n"
        "  Hint: the model did not answer in that time: see the server's log; if its requests "
        "really take so long, raise --triton-perf-max-seconds\n"
        f"  perf_analyzer's last words:\n{said}"
    )


def _does_not_fit(
    traffic: Traffic, load: Load, max_seconds: float, empty_ms: float, latency_s: float
) -> LoadError:
    seems = ""
    if latency_s:
        least_s = windows.run_seconds(empty_ms) / 3
        seems = f"a request seems to take between {least_s:.1f} and {latency_s:.1f} s, and "
    return LoadError(
        f"{traffic.model!r} at {load} cannot be measured within {max_seconds:g} s: {seems}"
        "perf_analyzer needs three measuring windows with answered requests in each\n"
        "  Hint: raise --triton-perf-max-seconds"
    )
