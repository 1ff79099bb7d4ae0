"""Options, ini keys and marker names: one row each, read in one place."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from pytest_triton_perf.domain.names import listed, nearest
from pytest_triton_perf.errors import UsageError

MARKERS = (
    "perf_sweep(model, concurrency, request_rate, batch_size, variants, ...): measure a model on "
    "Triton at several load levels, one test per variant of its config (needs --triton-perf)",
    "perf_budget(**limits, at): a limit that the test's sweep must keep, such as "
    "p99_latency_ms=25 or min_throughput=800",
)

REPORTS = ("csv", "plots", "html", "pdf", "md", "json")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What the user asked for, from the command line, the ini file, or the defaults.

    ``gpus`` is ``"all"``, ``"none"`` or a tuple of GPU UUIDs. ``max_seconds`` is the measuring
    time that one sweep may use. A path that was not given is ``None``.
    """

    enabled: bool
    model_repository: Path | None
    server: Path | None
    perf_analyzer: Path | None
    gpus: str | tuple[str, ...]
    server_args: tuple[str, ...]
    output: Path
    reports: tuple[str, ...]
    max_seconds: float

    @classmethod
    def from_config(cls, config: pytest.Config) -> "Settings":
        """Read every option once.

        Raises:
            UsageError: a value is impossible; the message names the option.
        """
        read = _Reader(config)
        return cls(
            enabled=is_enabled(config),
            model_repository=read.path("triton_model_repository"),
            server=read.path("triton_server"),
            perf_analyzer=read.path("perf_analyzer"),
            gpus=_gpus(read.text("triton_gpus")),
            server_args=tuple(read.lines("triton_server_arg")),
            output=read.path("triton_perf_output") or Path(),
            reports=_reports(read.text("triton_perf_report")),
            max_seconds=_seconds(read.text("triton_perf_max_seconds")),
        )


def is_enabled(config: pytest.Config) -> bool:
    """Whether this session runs the sweeps."""
    return bool(config.getoption("triton_perf") or config.getini("triton_perf"))


def add_options(parser: pytest.Parser) -> None:
    """Declare every option and its ini key of the same name."""
    group = parser.getgroup("triton-perf", "performance budgets for models on Triton")
    enable = "run the perf sweeps"
    group.addoption("--triton-perf", action="store_true", default=None, help=enable)
    parser.addini("triton_perf", enable, type="bool", default=False)
    for option in _OPTIONS:
        group.addoption(
            option.flag,
            dest=option.name,
            metavar=option.metavar,
            action="append" if option.repeatable else "store",
            choices=option.choices,
            default=None,
            help=f"{option.help} (default: {option.shown_default})",
        )
        kind: Any = "linelist" if option.repeatable else "string"
        parser.addini(option.name, option.help, type=kind, default=None)


@dataclass(frozen=True, kw_only=True)
class _Option:
    flag: str
    help: str
    metavar: str | None = None
    default: str | None = None
    shown_default: str | None = None
    choices: tuple[str, ...] | None = None
    repeatable: bool = False

    @property
    def name(self) -> str:
        return self.flag.lstrip("-").replace("-", "_")


def _option(flag: str, text: str, default: str | None = None, **more: Any) -> _Option:
    more.setdefault("shown_default", default)
    return _Option(flag=flag, help=text, default=default, **more)


_OPTIONS = (
    _option(
        "--triton-launch",
        "how Triton comes to exist: auto takes a tritonserver that was given, is on PATH or is "
        "the embedded one",
        "auto",
        choices=("auto", "local"),
    ),
    _option(
        "--triton-model-repository",
        "the model repository",
        metavar="PATH",
        shown_default="model_repository beside the test file, then the one in the rootdir",
    ),
    _option(
        "--triton-server",
        "the tritonserver binary",
        metavar="PATH",
        shown_default="PATH, then the embedded one",
    ),
    _option(
        "--perf-analyzer",
        "the perf_analyzer binary",
        metavar="PATH",
        shown_default="PATH, then the embedded one",
    ),
    _option("--triton-gpus", "GPUs the server may use: all, none, or UUIDs", "all", metavar="LIST"),
    _option(
        "--triton-server-arg",
        "one extra tritonserver argument; repeatable",
        metavar="ARG",
        repeatable=True,
        shown_default="none",
    ),
    _option("--triton-perf-output", "where results go", "triton-perf-results", metavar="DIR"),
    _option("--triton-perf-report", f"which of {listed(REPORTS)}", "all", metavar="LIST"),
    _option("--triton-perf-max-seconds", "measuring time one sweep may use", "120", metavar="S"),
)
_DEFAULTS = {option.name: option.default for option in _OPTIONS}


class _Reader:
    """Command line, then ini, then default; paths relative to where they were written."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config

    def _find(self, name: str) -> tuple[Any, Path]:
        config = self._config
        if (given := config.getoption(name)) is not None:
            return given, config.invocation_params.dir
        home = config.inipath.parent if config.inipath else config.rootpath
        return config.getini(name) or _DEFAULTS[name], home

    def text(self, name: str) -> str:
        return str(self._find(name)[0])

    def lines(self, name: str) -> list[str]:
        return self._find(name)[0] or []

    def path(self, name: str) -> Path | None:
        given, home = self._find(name)
        return home / Path(given).expanduser() if given else None


def _gpus(text: str) -> str | tuple[str, ...]:
    if text in ("all", "none"):
        return text
    parts = _parts(text)
    for part in parts:
        if not part.startswith(("GPU-", "MIG-")):
            raise UsageError(
                f"--triton-gpus: {part!r} is not valid; expected all, none, or GPU UUIDs as "
                "`nvidia-smi -L` prints them, separated by commas"
            )
    return parts


def _reports(text: str) -> tuple[str, ...]:
    if text == "all":
        return REPORTS
    parts = _parts(text)
    for part in parts:
        if part not in REPORTS:
            raise UsageError(
                f"--triton-perf-report: {part!r} is not valid{nearest(part, REPORTS)}; expected "
                f"all, or some of {listed(REPORTS)}, separated by commas"
            )
    return parts


def _parts(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(","))


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise UsageError(f"--triton-perf-max-seconds: expected a number above 0, not {text!r}")
    return seconds
