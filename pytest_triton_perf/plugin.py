"""The pytest11 entry: hook functions only, each a few lines.

Without ``--triton-perf`` only this module, the options and the fixtures are imported; with it,
``lifecycle`` brings the hooks of a session that measures.
"""

from pathlib import Path
from typing import Any

import pytest

from pytest_triton_perf import hookspecs, options
from pytest_triton_perf.fixtures import model_variant, triton_image, triton_server, triton_sweep

__all__ = ["model_variant", "triton_image", "triton_server", "triton_sweep"]


def pytest_addhooks(pluginmanager: pytest.PytestPluginManager) -> None:
    pluginmanager.add_hookspecs(hookspecs)


def pytest_addoption(parser: pytest.Parser) -> None:
    options.add_options(parser)


def pytest_configure(config: pytest.Config) -> None:
    for marker in options.MARKERS:
        config.addinivalue_line("markers", marker)
    if config.getoption("triton_perf_config") or config.getini("triton_perf_config"):
        from pytest_triton_perf.analyzer.collect import NamedFile

        config.pluginmanager.register(NamedFile.of(config), "triton-perf-config")
    if options.is_enabled(config):
        from pytest_triton_perf.lifecycle import Lifecycle

        config.pluginmanager.register(Lifecycle.of(config), "triton-perf-lifecycle")


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    if file_path.name.endswith(options.CONFIG_SUFFIX):
        from pytest_triton_perf.analyzer.collect import ConfigFile

        return ConfigFile.from_parent(parent, path=file_path)
    return None


def pytest_pycollect_makeitem(collector: Any, name: str, obj: object) -> None:
    if callable(obj) and collector.get_closest_marker("perf_sweep"):
        from pytest_triton_perf.collection import use_sweep_fixture_in

        use_sweep_fixture_in(collector)
    elif marked := getattr(obj, "pytestmark", None):
        from pytest_triton_perf.collection import use_sweep_fixture

        use_sweep_fixture(obj, marked)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if metafunc.definition.get_closest_marker("perf_sweep"):
        from pytest_triton_perf.collection import parametrize_variants

        parametrize_variants(metafunc)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not options.is_enabled(config):
        skip = pytest.mark.skip(reason="needs --triton-perf")
        for item in items:
            if item.get_closest_marker("perf_sweep"):
                item.add_marker(skip)


def pytest_assertrepr_compare(op: str, left: object, right: object) -> list[str] | None:
    if isinstance(left, float) or isinstance(right, float):
        from pytest_triton_perf.domain.explain import explain_comparison

        return explain_comparison(op, left, right)
    return None
