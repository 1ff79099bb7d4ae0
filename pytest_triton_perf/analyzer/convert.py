"""A config file as tests: what each measures, and the limits that it has to keep."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from pytest_triton_perf.analyzer import keys
from pytest_triton_perf.analyzer.model import Model, ModelTest
from pytest_triton_perf.analyzer.parse import Value
from pytest_triton_perf.analyzer.values import Problems, scalar, shown, texts, truth, wrong
from pytest_triton_perf.domain.names import nearest
from pytest_triton_perf.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class Config:
    """A whole file: its tests, and the keys of it that are not used, each with what to use instead.

    ``repository`` is the path of the model repository as it was typed, ``None`` where it was not.
    The problems of the file are those of each of its tests.
    """

    tests: tuple[ModelTest, ...]
    repository: str | None
    unused: Mapping[str, str]


def convert(root: Value) -> Config:
    """What a file means; what is wrong with it is in the problems of its tests.

    Raises:
        UsageError: it names no models.
    """
    if not isinstance(root.data, Mapping):
        raise wrong(root, f"a config is a mapping of keys to values, not {shown(root)}")
    given: dict[str, Value] = {k: v for k, v in root.data.items() if v.data is not None}
    named = _named_models(root, given)
    problems = Problems()
    unused: dict[str, str] = {}
    for key, value in root.data.items():
        problems.attempt(_check_key, key, value, unused)
    repository = problems.attempt(_repository, given)
    models = [Model(name, section, given) for name, section in named.items()]
    tests = [test for model in models for test in model.tests()]
    for model in models:
        unused |= model.unused
    used = {key for model in models for key in model.used}
    for key in ("objectives", *keys.BOUNDS):
        if key in given and key not in used:
            unused[key] = keys.NO_SEARCH
    return Config(
        tests=tuple(
            replace(test, problems=(*dict.fromkeys([*problems.found, *test.problems]),))
            for test in tests
        ),
        repository=repository,
        unused=unused,
    )


def _named_models(root: Value, given: Mapping[str, Value]) -> dict[str, Value]:
    """The section of each model, empty where it has none."""
    if "profile_models" not in given:
        for key, value in given.items():
            if (hint := nearest(key, ["profile_models"])) and key not in keys.NOT_USED:
                raise wrong(value, f"unknown key {key!r}{hint}")
        raise UsageError(
            f"{root.file}: it names no models; profile_models: [add_sub] measures the model add_sub"
        )
    models = given["profile_models"]
    found: dict[str, Value] = {}
    if isinstance(models.data, Mapping):
        found = dict(models.data)
    else:
        for part in _parts(models):
            sections = part.data if isinstance(part.data, Mapping) else {part.text: _empty(part)}
            for name, section in sections.items():
                if name in found:
                    line = found[name].line
                    raise wrong(section, f"model {name!r} stands in line {line} already")
                found[name] = section
    if not found or not all(found):
        raise wrong(models, "profile_models: it names no model")
    return found


def _parts(models: Value) -> list[Value]:
    """The parts of ``profile_models`` where it is a list, or ``a,b``."""
    if not isinstance(models.data, list):
        return texts("profile_models", models)
    for part in models.data:
        if not isinstance(part.data, Mapping):
            scalar("profile_models", part)
    return models.data


def _empty(value: Value) -> Value:
    return replace(value, data=None, text="")


def _repository(given: Mapping[str, Value]) -> str | None:
    value = given.get("model_repository")
    return None if value is None else scalar("model_repository", value)


def _check_key(key: str, value: Value, unused: dict[str, str]) -> None:
    known = (*keys.FILE_KEYS, keys.SEARCH_MODE, *keys.BOUNDS)
    if key in keys.NOT_USED:
        unused[key] = keys.NOT_USED[key]
    elif key in keys.MODEL_KEYS and key not in known:
        raise wrong(value, f"{key} stands with a model: profile_models: {{add_sub: {{{key}: …}}}}")
    elif key not in known:
        raise wrong(value, f"unknown key {key!r}{nearest(key, [*known, *keys.NOT_USED])}")
    elif key == "model_type" and value.text.lower() != "generic":
        raise wrong(value, "model_type: only generic models can be measured; tokens are not timed")
    elif (
        key == "run_config_profile_models_concurrently_enable"
        and value.data is not None
        and truth(key, value)
    ):
        raise wrong(
            value, f"{key}: models are measured one after the other here; remove the key to do that"
        )
