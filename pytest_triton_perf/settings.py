"""What the user asked for: options and ini keys, read and checked in one place."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from pytest_triton_perf.domain.names import listed, nearest
from pytest_triton_perf.errors import MissingPartError, UsageError
from pytest_triton_perf.options import DEFAULT_IMAGE, OPTIONS, REPORTS
from pytest_triton_perf.probes.triton_metrics import MetricsEndpoint
from pytest_triton_perf.servers.endpoints import Remote, parse_urls

_OPTIONS = {option.name: option for option in OPTIONS}


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What the user asked for, from the command line, the ini file, or the defaults.

    ``gpus`` is ``"all"``, ``"none"`` or a tuple of GPU UUIDs. ``max_seconds`` is the measuring
    time that one sweep may use, ``floor_seconds`` the load that a level gets at least before a
    budget passes on it, ``confidence`` that of printed intervals (0.95), and ``inconclusive``
    what an undecided budget does to its test: ``"warn"``, ``"fail"`` or ``"pass"``. The best
    configuration of a search goes to ``write_config``. ``against`` is what the paired gate
    compares with, a git ref or the path of a model repository, relative to ``against_home``, or
    ``against_image``, and ``max_slowdown_pct`` what it must find. A path or an
    image that was not given is ``None``. ``remote`` is the running Triton to use, ``None`` where
    one is to be started; ``metrics`` is its metrics endpoint, ``None`` where that was not given.
    ``compare`` and ``save`` are baseline files: with which to compare, and to which to add.
    ``resume`` says whether to go on with an interrupted session.
    ``no_server`` is why ``auto`` became ``docker`` although no image was given, empty where it
    did not.
    """

    launch: str
    image: str | None
    sdk_image: str | None
    shm_size: str
    mounts: Mapping[str, str]
    container_env: Mapping[str, str]
    model_repository: Path | None
    server: Path | None
    perf_analyzer: Path | None
    gpus: str | tuple[str, ...]
    server_args: tuple[str, ...]
    output: Path
    reports: tuple[str, ...]
    max_seconds: float
    floor_seconds: float
    confidence: float
    inconclusive: str
    write_config: Path | None
    resume: bool
    against: str | None
    against_home: Path
    against_image: str | None
    max_slowdown_pct: float
    compare: Path | None
    save: Path | None
    remote: Remote | None
    metrics: MetricsEndpoint | None
    no_server: str = ""

    @classmethod
    def from_config(cls, config: pytest.Config) -> "Settings":
        """Read every option once.

        Raises:
            UsageError: a value is impossible; the message names the option.
        """
        read = _Reader(config)
        read.check_choices()
        remote = _remote(read)
        return cls(
            launch=read.text("triton_launch"),
            image=read.given("triton_image"),
            sdk_image=read.given("triton_sdk_image"),
            shm_size=_size(read.text("triton_shm_size")),
            mounts=_mounts(read.lines("triton_mount")),
            container_env=_variables(read.lines("triton_env")),
            model_repository=read.path("triton_model_repository"),
            server=read.path("triton_server"),
            perf_analyzer=read.path("perf_analyzer"),
            gpus=_gpus(read.text("triton_gpus")),
            server_args=tuple(read.lines("triton_server_arg")),
            output=read.path_of("triton_perf_output"),
            reports=_reports(read.text("triton_perf_report")),
            max_seconds=_number(read, "triton_perf_max_seconds"),
            floor_seconds=_number(read, "triton_perf_floor_seconds"),
            confidence=_number(read, "triton_perf_confidence", below=1),
            inconclusive=read.text("triton_perf_inconclusive"),
            write_config=read.path("triton_perf_write_config"),
            resume=_resume(read, remote),
            against=_against("triton_perf_against", read, remote),
            against_home=read.home("triton_perf_against"),
            against_image=_against_image(read, remote),
            max_slowdown_pct=_number(read, "triton_perf_max_slowdown_pct"),
            compare=read.path("triton_perf_compare"),
            save=read.path("triton_perf_save"),
            remote=remote,
            metrics=_metrics(remote),
        )

    def decided(self, *, image_given: bool) -> "Settings":
        """The settings with the launch mode that ``auto`` means, and the image of docker mode.

        ``image_given`` says whether a test names the image to run on. In the other launch modes
        there is no image.

        Raises:
            UsageError: ``server`` is no executable file, or images are to be compared in another
                launch mode.
        """
        launch, no_server = self.launch, ""
        if launch == "auto" and self.remote is not None:
            launch = "remote"
        elif launch == "auto" and (self.image or image_given or self.against_image):
            launch = "docker"
        elif launch == "auto":
            from pytest_triton_perf.servers.embedded import find_server

            try:
                find_server(self.server)
                launch = "local"
            except MissingPartError as error:
                launch, no_server = "docker", str(error)
        if launch != "docker" and self.against_image is not None:
            raise UsageError(
                f"--triton-perf-against-image: no image is used with --triton-launch={launch}; the "
                "gate between two images needs --triton-launch=docker and --triton-image"
            )
        image = self.image or DEFAULT_IMAGE if launch == "docker" else None
        return replace(self, launch=launch, image=image, no_server=no_server)


class _Reader:
    """Command line, then ini, then default; paths relative to where they were written."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config

    def _find(self, name: str) -> tuple[Any, Path]:
        config = self._config
        if (given := config.getoption(name)) is not None:
            return given, config.invocation_params.dir
        home = config.inipath.parent if config.inipath else config.rootpath
        return config.getini(name) or _OPTIONS[name].default, home

    def text(self, name: str) -> str:
        return str(self._find(name)[0])

    def switch(self, name: str) -> bool:
        return bool(self._find(name)[0])

    def lines(self, name: str) -> list[str]:
        return self._find(name)[0] or []

    def given(self, name: str) -> str | None:
        return self.text(name) if self._find(name)[0] else None

    def path(self, name: str) -> Path | None:
        return self.path_of(name) if self._find(name)[0] else None

    def home(self, name: str) -> Path:
        return self._find(name)[1]

    def path_of(self, name: str) -> Path:
        given, home = self._find(name)
        return home / Path(given).expanduser()

    def check_choices(self) -> None:
        """Check what argparse does not see: choices in an ini file."""
        for option in OPTIONS:
            if option.choices and (value := self.text(option.name)) not in option.choices:
                raise UsageError(
                    f"{option.name}: {value!r} is not valid{nearest(value, option.choices)}; "
                    f"expected {listed(option.choices, 'or')}"
                )


def _remote(read: _Reader) -> Remote | None:
    if read.text("triton_launch") not in ("auto", "remote"):
        return None
    urls = read.given("triton_url")
    if urls is None:
        if read.text("triton_launch") == "remote":
            raise UsageError(
                "--triton-launch=remote needs --triton-url=host:port, where the running Triton "
                "speaks gRPC (its port 8001, if nobody changed it)"
            )
        return None
    if read.lines("triton_server_arg"):
        raise UsageError(
            "--triton-server-arg: the Triton at --triton-url runs already; give it the argument "
            "where it is started"
        )
    found = parse_urls(urls)
    metrics_url = read.given("triton_metrics_url") or ""
    encrypted = any(endpoint.tls for endpoint in found.values())
    encrypted |= metrics_url.startswith("https://")
    files = {name: read.path(f"triton_tls_{name}") for name in ("ca", "cert", "key")}
    for name, file in files.items():
        if file is not None and not encrypted:
            raise UsageError(
                f"--triton-tls-{name}: nothing in --triton-url={urls} is encrypted; write "
                "grpcs://host:port or https://host:port"
            )
        if file is not None and not file.is_file():
            raise UsageError(f"--triton-tls-{name}: there is no file {file}")
    if (files["cert"] is None) != (files["key"] is None):
        raise UsageError("--triton-tls-cert and --triton-tls-key: give both, or neither")
    return Remote(
        grpc=found.get("grpc"),
        http=found.get("http"),
        metrics_url=metrics_url,
        ca=files["ca"],
        certificate=files["cert"],
        key=files["key"],
    )


def _resume(read: _Reader, remote: Remote | None) -> bool:
    resume = read.switch("triton_perf_resume")
    if resume and remote is not None:
        raise UsageError(
            "--triton-perf-resume: the models of a Triton that runs already are not seen, so that "
            "one that changed would go unnoticed; run without it"
        )
    return resume


def _against(name: str, read: _Reader, remote: Remote | None) -> str | None:
    against = read.given(name)
    if against is not None and remote is not None:
        raise UsageError(
            f"--{name.replace('_', '-')}: the Triton at {remote} has its own models; the gate "
            "needs one that this session starts: leave out --triton-url"
        )
    return against


def _against_image(read: _Reader, remote: Remote | None) -> str | None:
    image = _against("triton_perf_against_image", read, remote)
    if image is not None and read.given("triton_perf_against") is not None:
        raise UsageError(
            "--triton-perf-against-image: --triton-perf-against is given too, and with both it "
            "could not be told what a change comes from; run the two gates one after the other"
        )
    return image


def _metrics(remote: Remote | None) -> MetricsEndpoint | None:
    if remote is None or not remote.metrics_url:
        return None
    return MetricsEndpoint.at(
        remote.metrics_url, ca=remote.ca, certificate=remote.certificate, key=remote.key
    )


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


def _size(text: str) -> str:
    if not re.fullmatch("[1-9][0-9]*[bkmg]?", text):
        raise UsageError(
            f"--triton-shm-size: {text!r} is not valid; expected a size such as 512m or 2g"
        )
    return text


def _mounts(lines: list[str]) -> Mapping[str, str]:
    """Paths of this machine, each with its path in the container."""
    mounts = {}
    for line in lines:
        here, _, there = line.rpartition(":")
        path = Path(here).expanduser()
        if not path.is_absolute() or not there.startswith("/") or not path.exists():
            raise UsageError(
                f"--triton-mount: {line!r} is not valid; expected HOST:CONTAINER, both absolute, "
                "the first of which exists"
            )
        mounts[str(path)] = there
    return mounts


def _variables(lines: list[str]) -> Mapping[str, str]:
    variables = {}
    for line in lines:
        name, equals, value = line.partition("=")
        if not name or not equals:
            raise UsageError(f"--triton-env: {line!r} is not valid; expected NAME=VALUE")
        variables[name] = value
    return variables


def _number(read: _Reader, name: str, *, below: float = math.inf) -> float:
    text = read.text(name)
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 < number < below:
        upper = "" if below == math.inf else f" and below {below:g}"
        flag = _OPTIONS[name].flag
        raise UsageError(f"{flag}: expected a number above 0{upper}, not {text!r}")
    return number
