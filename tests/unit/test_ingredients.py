"""Each ingredient changes alone, and nothing else does."""

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pytest_triton_perf.collection import PerfTest
from pytest_triton_perf.domain.levels import Load
from pytest_triton_perf.domain.variants import Variant
from pytest_triton_perf.ingredients import Ingredients, difference
from pytest_triton_perf.load.base import Traffic
from pytest_triton_perf.markers import SweepSpec
from pytest_triton_perf.servers.base import ServerSpec

ENVIRONMENT = {
    "plugin_version": "0.1.0",
    "system": "Linux",
    "cpu": "fast",
    "cpu_count": 2,
    "cpu_isolation": {"none": "they share 0-1: fewer than 4 CPUs"},
    "gpus": [{"uuid": "GPU-a"}],
    "driver": "550",
    "load_generator": {"name": "perf_analyzer", "version": "2.51", "path": "/bin/pa"},
}


class Launcher:
    def __init__(self, identity: Mapping[str, Any] | None) -> None:
        self._identity = identity

    def identity(self, image: str | None) -> Mapping[str, Any] | None:
        return self._identity


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    for model in ("m", "other", "inner"):
        folder = tmp_path / "models" / model / "1"
        folder.mkdir(parents=True)
        (folder / "model.py").write_text(f"# {model}")
        (folder.parent / "config.pbtxt").write_text('backend: "python"')
    return tmp_path / "models"


def perf_test(repository: Path | None, **traffic: Any) -> PerfTest:
    spec = SweepSpec(
        model="m",
        loads=(Load(concurrency=1),),
        auto=False,
        variants=({},),
        traffic=Traffic(model="m", **traffic),
        server_args=(),
    )
    return PerfTest(
        nodeid="test_it",
        sweep=spec,
        budgets=(),
        variant=Variant(model="m", name="m_config_default", config={"max_batch_size": 8}),
        server=ServerSpec(repository=repository),
    )


def found(
    test: PerfTest,
    *,
    environment: Mapping[str, Any] = ENVIRONMENT,
    identity: Mapping[str, Any] | None = None,
    settings: Mapping[str, Any] | None = None,
    token: str = "hunter2",
) -> dict[str, str]:
    launcher: Any = Launcher(identity or {"tritonserver": "2.51.0"})
    told = settings or {"--triton-gpus": "all"}
    secret = {"--triton-env": {"TOKEN": token}}
    ingredients = Ingredients(launcher, environment, told, secret=secret).of(test)
    assert ingredients is not None
    return ingredients


def test_all_of_them_are_named(repository: Path) -> None:
    assert list(found(perf_test(repository))) == [
        *("the plugin", "the operating system", "the CPU"),
        *("the CPUs of server and perf_analyzer", "the GPUs", "the GPU driver"),
        *("perf_analyzer", "--triton-gpus", "--triton-env", "tritonserver", "the model's config"),
        *("the server's arguments", "the requests", "model file m/1/model.py"),
    ]


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"environment": {**ENVIRONMENT, "plugin_version": "0.2.0"}}, "the plugin changed from"),
        ({"environment": {**ENVIRONMENT, "system": "BSD"}}, "operating system changed from Linux"),
        ({"environment": {**ENVIRONMENT, "cpu_count": 4}}, "the CPU changed from 2 x fast to 4 x"),
        ({"environment": {**ENVIRONMENT, "gpus": []}}, "the GPUs changed from"),
        ({"environment": {**ENVIRONMENT, "driver": None}}, "the GPU driver changed from 550"),
        (
            {"environment": {**ENVIRONMENT, "load_generator": {"version": "2.60"}}},
            "perf_analyzer changed from",
        ),
        ({"identity": {"tritonserver": "2.52.0"}}, "tritonserver changed from 2.51.0 to 2.52.0"),
        ({"settings": {"--triton-gpus": "none"}}, "--triton-gpus changed from all to none"),
    ],
)
def test_each_of_the_session_counts(repository: Path, changed: dict[str, Any], words: str) -> None:
    test = perf_test(repository)
    (why,) = difference(found(test), found(test, **changed))
    assert words in why


def test_a_secret_counts_and_is_not_told(repository: Path) -> None:
    before, now = (found(perf_test(repository), token=token) for token in ("hunter2", "hunter3"))
    assert difference(before, now) == ["--triton-env changed"]
    assert "hunter" not in str([before, now])


def test_each_of_the_test_counts(repository: Path) -> None:
    test = perf_test(repository)
    config = replace(test, variant=replace(test.variant, config={"max_batch_size": 4}))
    args = replace(test, server=replace(test.server, server_args=("--log-verbose=1",)))
    requests = perf_test(repository, extra_args=("--async",))
    for other, name in [
        (config, "the model's config"),
        (args, "the server's arguments"),
        (requests, "the requests"),
    ]:
        (why,) = difference(found(test), found(other))
        assert why.startswith(f"{name} changed")


def test_what_changes_no_load_does_not_count(repository: Path) -> None:
    test = perf_test(repository)
    before = found(test)
    cache = repository / "m" / "1" / "__pycache__"
    cache.mkdir()
    (cache / "model.pyc").write_bytes(b"made from model.py")
    os.utime(repository / "m" / "1" / "model.py", (0, 0))
    # The config counts as what is made of it, with its overrides.
    (repository / "m" / "config.pbtxt").write_text('# a comment\nbackend: "python"')
    (repository / "other" / "1" / "model.py").write_text("# not served")
    assert found(test) == before == found(perf_test(repository, percentiles=(99,)))


def test_files_of_the_model_count_by_content_and_name(repository: Path) -> None:
    test = perf_test(repository)
    before = found(test)
    (repository / "m" / "weights").write_bytes(b"w")
    after = found(test)
    assert difference(before, after) == ["model file m/weights is new"]
    assert difference(after, before) == ["model file m/weights is gone"]
    (repository / "m" / "weights").unlink()
    (repository / "m" / "1" / "model.py").write_text("# changed")
    assert difference(before, found(test)) == ["model file m/1/model.py changed"]


def test_weights_behind_a_link_count_by_content(repository: Path, tmp_path: Path) -> None:
    (tmp_path / "weights").write_bytes(b"1")
    (repository / "m" / "weights").symlink_to(tmp_path / "weights")
    (repository / "m" / "nowhere").symlink_to("/only/in/the/container")
    before = found(perf_test(repository))
    (tmp_path / "weights").write_bytes(b"2")
    assert difference(before, found(perf_test(repository))) == ["model file m/weights changed"]


def test_a_version_that_is_a_linked_folder_counts(repository: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "weights").write_bytes(b"1")
    (repository / "m" / "2").symlink_to(tmp_path / "elsewhere")
    before = found(perf_test(repository))
    (tmp_path / "elsewhere" / "weights").write_bytes(b"2")
    assert difference(before, found(perf_test(repository))) == ["model file m/2/weights changed"]


def test_models_that_are_served_with_it_count(repository: Path) -> None:
    config = {"ensemble_scheduling": {"step": [{"model_name": "inner"}]}}
    test = perf_test(repository)
    ensemble = replace(test, variant=replace(test.variant, config=config))
    named = replace(test, server=replace(test.server, server_args=("--load-model=other",)))
    every = replace(test, server=replace(test.server, server_args=("--load-model=*",)))

    def models(test: PerfTest) -> set[str]:
        return {name.split()[-1].split("/")[0] for name in found(test) if name.startswith("model ")}

    assert models(test) == {"m"}
    assert models(ensemble) == {"m", "inner"}
    assert models(named) == {"m", "other"}
    assert models(every) == {"m", "other", "inner"}
    assert "model file inner/config.pbtxt" in found(ensemble)


def test_input_data_counts_by_content(repository: Path, tmp_path: Path) -> None:
    data = tmp_path / "data.json"
    data.write_text("[1]")
    test = perf_test(repository, input_data=data)
    before = found(test)
    data.write_text("[2]")
    assert difference(before, found(test)) == ["input data data.json changed"]


def test_a_file_that_changes_while_the_session_runs_is_like_no_other(repository: Path) -> None:
    file = repository / "m" / "1" / "model.py"
    launcher: Any = Launcher({})
    ingredients = Ingredients(launcher, ENVIRONMENT, {}, secret={})
    test = perf_test(repository)
    first = ingredients.of(test)
    file.write_text("# changed, while the server serves the old one")
    during = ingredients.of(test)
    later = Ingredients(launcher, ENVIRONMENT, {}, secret={}).of(test)
    assert during not in (first, later)
    assert first != later


def test_of_a_remote_server_they_are_not_known() -> None:
    launcher: Any = Launcher(None)
    assert Ingredients(launcher, ENVIRONMENT, {}, secret={}).of(perf_test(None)) is None


def test_of_many_differences_three_are_named() -> None:
    now = {f"model file {n}": "sha256:aa" for n in range(5)}
    assert difference({}, now) == [
        *(f"model file {n} is new" for n in range(3)),
        "and 2 more",
    ]
