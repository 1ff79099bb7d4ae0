"""Config files as pytest items. pytest imports this only where there is such a file."""

import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pytest_triton_perf.domain.variants import Overrides
from pytest_triton_perf.errors import UnusedKeysWarning, UsageError
from pytest_triton_perf.fixtures import PERF_SESSION, told_without_traceback
from pytest_triton_perf.options import CONFIG_FILE, is_enabled


class ModelItem(pytest.Item):
    """One model of a config file, in one variant.

    ``repository`` is the file's, ``None`` where it names none; ``problems`` are what is wrong with
    the file and this model, each with its line.
    """

    def __init__(
        self,
        name: str,
        parent: pytest.Collector,
        *,
        line: int,
        overrides: Overrides,
        repository: Path | None,
        problems: tuple[str, ...],
        **more: Any,
    ) -> None:
        # Of an id that is text, pytest takes what is in brackets for parameters, as --lf does.
        super().__init__(name, parent, nodeid=f"{parent.nodeid}::{name}", **more)
        self.line = line
        self.overrides = overrides
        self.repository = repository
        self.problems = problems

    def runtest(self) -> None:
        """Measure; the budgets are judged after it, as those of a test function are."""
        from pytest_triton_perf.collection import PERF_TEST

        with told_without_traceback():
            self.config.stash[PERF_SESSION].measure(self.stash[PERF_TEST])

    def reportinfo(self) -> tuple[Path, int, str]:
        """Where the model stands in the file."""
        return self.path, self.line - 1, self.name


class ConfigFile(pytest.File):
    """A config file: Model Analyzer's, which is also this plugin's own."""

    def collect(self) -> Iterator[pytest.Item]:
        """One item per model and variant.

        Raises:
            CollectError: the file is no YAML, or names no models.
        """
        from pytest_triton_perf.analyzer.convert import convert
        from pytest_triton_perf.analyzer.parse import parse

        name = os.path.relpath(self.path, self.config.rootpath)
        try:
            found = convert(parse(self.path.read_bytes(), name))
        except (UsageError, OSError) as error:
            raise self.CollectError(str(error)) from None
        repository = found.repository and self.path.parent / Path(found.repository).expanduser()
        for test in found.tests:
            item = ModelItem.from_parent(
                self,
                name=test.name,
                line=test.line,
                overrides=test.overrides,
                repository=repository,
                problems=test.problems,
            )
            item.add_marker(pytest.mark.perf_sweep(**test.sweep))
            if test.budgets:
                item.add_marker(pytest.mark.perf_budget(**test.budgets))
            if test.search is not None:
                item.add_marker(pytest.mark.perf_search(**test.search))
            yield item
        if found.unused and is_enabled(self.config):
            keys = [f"{key} ({why})" if why else key for key, why in found.unused.items()]
            text = f"{name}: not used here: {'; '.join(keys)}"
            warnings.warn_explicit(text, UnusedKeysWarning, str(self.path), lineno=1)


def add_named_file(config: pytest.Config) -> None:
    """Have pytest collect the file that ``--triton-perf-config`` or its ini key names.

    Of an ini file, it is collected where the command line names no tests, as ``testpaths`` are.

    Raises:
        pytest.UsageError: there is not exactly one, or no such file.
    """
    typed = config.getoption("triton_perf_config")
    given = typed or config.getini("triton_perf_config")
    if len(given) > 1:
        raise pytest.UsageError(
            f"--triton-perf-config is given {len(given)} times; one file can hold many models, and "
            "files named *.triton-perf.yaml are collected by themselves"
        )
    home = config.inipath.parent if config.inipath and not typed else config.invocation_params.dir
    file = Path(os.path.normpath(home / Path(given[0]).expanduser()))
    if not file.is_file():
        raise pytest.UsageError(f"--triton-perf-config: there is no file {file}")
    config.stash[CONFIG_FILE] = file
    named = [config.invocation_params.dir / arg.partition("::")[0] for arg in config.args]
    if (typed or config.args_source != config.ArgsSource.ARGS) and file not in named:
        config.args.append(str(file))
