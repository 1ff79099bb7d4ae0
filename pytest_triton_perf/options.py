"""Options and ini keys: one row each, read in one place."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_triton_perf.domain.names import listed, nearest
from pytest_triton_perf.errors import UsageError

if TYPE_CHECKING:
    from pytest_triton_perf.load.base import Traffic

LAUNCH_MODES = ("auto", "local")
REPORTS = ("csv", "plots", "html", "pdf", "md", "json")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What the user asked for, from the command line, the ini file, or the defaults.

    ``max_seconds`` is the measuring time that one sweep may use. ``gpus`` is ``"all"``,
    ``"none"`` or a tuple of GPU UUIDs.
    """

    enabled: bool
    rootdir: Path
    launch: str
    model_repository: Path | None
    server: Path | None
    perf_analyzer: Path | None
    gpus: str | tuple[str, ...]
    server_args: tuple[str, ...]
    output: Path
    reports: tuple[str, ...]
    max_seconds: float
