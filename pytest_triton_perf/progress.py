"""What a person sees while minutes pass: one status line on a terminal, plain lines in a log."""

import contextlib
import functools
import shutil
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from _pytest.terminal import TerminalReporter


class Progress:
    """Tells which variant and level is measured, how many are left, and the time left.

    On a terminal a single line is rewritten and removed before pytest prints a result; elsewhere
    every finished level leaves a line. Without a terminal reporter (an xdist worker, ``-q -q``)
    nothing is written.
    """

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._started: float | None = None
        self._shown = False
        self.total = 0
        self.done = 0
        self._reused = 0

    @functools.cached_property
    def _reporter(self) -> "TerminalReporter | None":
        """Looked up late: it is registered after the plugins are configured."""
        reporter = self._config.pluginmanager.getplugin("terminalreporter")
        return None if self._config.get_verbosity() < -1 else reporter

    @property
    def _live(self) -> bool:
        return self._reporter is not None and bool(self._reporter.isatty)

    def step(self, text: str) -> None:
        """What happens now (starting a server, loading a variant, measuring a level)."""
        if self._started is None:
            self._started = time.monotonic()
        if self._reporter is not None and self._live:
            with self._uncaptured():
                if not self._shown:
                    self._reporter.ensure_newline()
                    self._shown = True
                level = min(self.done + 1, self.total)
                line = f"triton-perf [{level}/{self.total}] {text}{self._time_left()}"
                width = shutil.get_terminal_size().columns - 1
                self._reporter.rewrite(line[:width], erase=True)

    def finished(self, text: str, *, reused: bool = False) -> None:
        """A level is measured, or was before (``reused``); ``text`` says what came out."""
        self.done += 1
        self._reused += reused
        if self._reporter is not None and not self._live:
            with self._uncaptured():
                self._reporter.ensure_newline()
                line = f"triton-perf [{self.done}/{self.total}] {text}{self._time_left()}"
                self._reporter.write_line(line)

    def dropped(self, levels: int) -> None:
        """Levels that will not be measured after all: their sweep failed."""
        self.total -= levels

    def clear(self) -> None:
        """Remove the status line."""
        if self._reporter is not None and self._shown:
            with self._uncaptured():
                self._reporter.rewrite("", erase=True)
                self._reporter.rewrite("")
            self._shown = False

    def _time_left(self) -> str:
        measured = self.done - self._reused
        if not measured or self._started is None or self.done >= self.total:
            return ""
        each = (time.monotonic() - self._started) / measured
        return f" · about {_duration(each * (self.total - self.done))} left"

    @contextlib.contextmanager
    def _uncaptured(self) -> Iterator[None]:
        with contextlib.ExitStack() as stack:
            if capture := self._config.pluginmanager.getplugin("capturemanager"):
                stack.enter_context(capture.global_and_fixture_disabled())
            yield


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{max(seconds, 1):.0f} s"
    return f"{seconds / 60:.0f} min"
