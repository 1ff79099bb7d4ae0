"""Config files as pytest items. pytest imports this only where there is such a file."""

import os
import warnings
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest

from pytest_triton_perf.domain.variants import Overrides
from pytest_triton_perf.errors import UnusedKeysWarning, UsageError
from pytest_triton_perf.fixtures import PERF_SESSION, told_without_traceback
from pytest_triton_perf.options import CONFIG_SUFFIX, is_enabled


class ModelItem(pytest.Item):
    """One model of a config file, in one variant.

    ``repository`` is the file's, ``None`` where it names none; ``problems`` are what is wrong with
    the file and this model, each with its line. ``is_reference`` is as in ``ModelTest``.
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
        is_reference: bool,
        **more: Any,
    ) -> None:
        # Of an id that is text, pytest takes what is in brackets for parameters, as --lf does.
        super().__init__(name, parent, nodeid=f"{parent.nodeid}::{name}", **more)
        self.line = line
        self.overrides = overrides
        self.repository = repository
        self.problems = problems
        self.is_reference = is_reference

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
                is_reference=test.is_reference,
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


def leave_out_listed_references(items: list[pytest.Item]) -> None:
    """Deselect a model's own configuration where it is one of the variants that its file lists."""
    from pytest_triton_perf.collection import PERF_TEST

    variants = {
        item: (item.parent, item.stash[PERF_TEST].variant)
        for item in items
        if isinstance(item, ModelItem)
    }
    listed = {
        (parent, variant.name)
        for item, (parent, variant) in variants.items()
        if not item.is_reference
    }
    doubles: list[pytest.Item] = [
        item
        for item, (parent, variant) in variants.items()
        if item.is_reference and (parent, variant.name) in listed
    ]
    if doubles:
        items[:] = [item for item in items if item not in doubles]
        doubles[0].config.hook.pytest_deselected(items=doubles)


class NamedFile:
    """Hooks that collect the file of ``--triton-perf-config``, whatever its name is.

    ``by_itself`` says that pytest is to collect it beside the tests that it was told to collect;
    else it is collected where pytest comes across it.
    """

    @classmethod
    def of(cls, config: pytest.Config) -> "NamedFile":
        """The file that the option names, or its ini key.

        Of an ini file, it is for runs whose command line names no tests, as ``testpaths`` are.

        Raises:
            pytest.UsageError: there is not exactly one, or no such file.
        """
        typed = config.getoption("triton_perf_config")
        given = typed or config.getini("triton_perf_config")
        if len(given) > 1:
            raise pytest.UsageError(
                f"--triton-perf-config is given {len(given)} times; one file can hold many models, "
                "and files named *.triton-perf.yaml are collected by themselves"
            )
        here = config.invocation_params.dir
        home = config.inipath.parent if config.inipath and not typed else here
        file = Path(os.path.normpath(home / Path(given[0]).expanduser()))
        if not file.is_file():
            raise pytest.UsageError(f"--triton-perf-config: there is no file {file}")
        among_tests = file in (here / arg.partition("::")[0] for arg in config.args)
        for_this_run = typed or config.args_source != config.ArgsSource.ARGS
        return cls(file, by_itself=bool(for_this_run) and not among_tests)

    def __init__(self, file: Path, *, by_itself: bool) -> None:
        self._file = file
        self._by_itself = by_itself

    def pytest_ignore_collect(self, collection_path: Path) -> bool | None:
        """Pass by the file where it is collected by itself."""
        return True if self._by_itself and collection_path == self._file else None

    def pytest_collect_file(
        self, file_path: Path, parent: pytest.Collector
    ) -> pytest.Collector | None:
        """Collect the file where its name does not say what it is."""
        if file_path != self._file or file_path.name.endswith(CONFIG_SUFFIX):
            return None
        return ConfigFile.from_parent(parent, path=file_path)

    # As an argument beside a folder that it is in, pytest would leave out one or the other.
    @pytest.hookimpl(wrapper=True)
    def pytest_make_collect_report(
        self, collector: pytest.Collector
    ) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
        """Add the file to what the session collects."""
        report = yield
        if self._by_itself and isinstance(collector, pytest.Session):
            report.result.append(ConfigFile.from_parent(collector, path=self._file))
        return report
