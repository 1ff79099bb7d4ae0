"""Model configurations: read from a repository, changed by path, as Triton's JSON."""

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pytest_triton_perf.domain.names import listed, nearest
from pytest_triton_perf.domain.variants import Overrides
from pytest_triton_perf.errors import UsageError
from pytest_triton_perf.servers.triton_grpc import import_quietly

Config = dict[str, Any]
"""A model config as the load API takes it: proto field names, 64-bit integers as text, no
value that equals its default. Equal configurations are equal dicts."""

CONFIG_FILE = "config.pbtxt"


def read_config(model_dir: Path) -> Config | None:
    """The model's ``config.pbtxt``; ``None`` where it has none and Triton completes it.

    Raises:
        UsageError: the file is no model config; the message has its line.
    """
    text_format = import_quietly("google.protobuf.text_format")

    file = model_dir / CONFIG_FILE
    if not file.is_file():
        return None
    message = _message()
    try:
        text_format.Parse(file.read_text(encoding="utf-8"), message)
    except text_format.ParseError as error:
        raise UsageError(f"{file}:{error}; correct the model config") from None
    except UnicodeDecodeError as error:
        raise UsageError(f"{file}: not a text file ({error}); correct the model config") from None
    return to_dict(message)


def to_dict(message: Any) -> Config:
    """A ``ModelConfig`` message as a dict."""
    json_format = import_quietly("google.protobuf.json_format")

    config: Config = json_format.MessageToDict(message, preserving_proto_field_name=True)
    return config


def to_text(config: Mapping[str, Any]) -> str:
    """A config as ``config.pbtxt`` has it."""
    json_format = import_quietly("google.protobuf.json_format")
    text_format = import_quietly("google.protobuf.text_format")

    text: str = text_format.MessageToString(json_format.ParseDict(dict(config), _message()))
    return text


def from_json(found: Mapping[str, Any]) -> Config:
    """A model config as Triton writes it over HTTP: with defaults, and numbers as numbers."""
    json_format = import_quietly("google.protobuf.json_format")

    # A newer Triton has fields that our protobuf does not know.
    return to_dict(json_format.ParseDict(dict(found), _message(), ignore_unknown_fields=True))


def apply_overrides(model: str, config: Mapping[str, Any], overrides: Overrides) -> Config:
    """A copy of ``config`` with the value at each path replaced.

    A path goes through field names, keys of maps (``parameters.device.string_value``) and
    elements of lists: ``instance_group.count`` means every instance group (one is made where
    there is none), ``instance_group[0].count`` or ``instance_group.0.count`` the first. A value
    is a number, text, an enum's name, or a dict or list for a whole part of the config, which
    it replaces; ``None`` removes it.

    Raises:
        UsageError: the config has no such path (the nearest one is named), or the value is
            not one for it.
    """
    json_format = import_quietly("google.protobuf.json_format")

    changed: Config = copy.deepcopy(dict(config))
    for path, value in overrides.items():
        _replace(changed, config_type(), _segments(path), value, f"model {model!r}: {path}")
        try:
            changed = to_dict(json_format.ParseDict(changed, _message()))
        except json_format.ParseError as error:
            raise UsageError(
                f"model {model!r}: {path}: {value!r} cannot be used: {error}"
            ) from None
    return changed


def not_served(served: Mapping[str, Any], asked: Mapping[str, Any], overrides: Overrides) -> str:
    """What differs, at the paths of ``overrides``, between two configs; empty if nothing does.

    A path may lead to more in ``served`` than was asked for: Triton completes configs.
    """
    differences = []
    for path, value in overrides.items():
        if value == "KIND_AUTO":  # Triton decides, and reports what it decided.
            continue
        want, have = (_at(config, _segments(path)) for config in (asked, served))
        if not _covers(have, want):
            is_now = "not set" if have is None else repr(have)
            differences.append(f"{path} is {is_now} where {value!r} was asked for")
    return "; ".join(differences)


def check_model(repository: Path, model: str) -> Path:
    """The folder of ``model``, checked as far as can be known without a server.

    Raises:
        UsageError: no such repository or model, or the model lacks its version folder or its
            python file; the message says what to create.
    """
    if not repository.is_dir():
        state = "is not a directory" if repository.exists() else "does not exist"
        raise UsageError(
            f"model repository {repository} {state}; give the folder that holds the models "
            "with --triton-model-repository"
        )
    models = [folder.name for folder in models_in(repository)]
    if model not in models:
        have = f"it has {listed(models)}" if models else "it has no model at all"
        raise UsageError(f"model {model!r} is not in {repository}{nearest(model, models)}; {have}")
    folder = repository / model
    config = read_config(folder)
    versions = _versions(folder)
    if not versions:
        raise UsageError(
            f"model {model!r}: {folder} has no version folder; put the model's files into "
            f"{folder / '1'} (an ensemble needs an empty one)"
        )
    if config is not None and config.get("backend") == "python":
        files = model_files(folder, config)
        if not any(file.is_file() for file in files):
            raise UsageError(
                f"model {model!r}: {files[-1]} is missing; its config says "
                f'backend: "python", which needs this file'
            )
    return folder


def models_in(repository: Path) -> list[Path]:
    """The folders of a repository that are models, by name."""
    return sorted(path for path in repository.iterdir() if _looks_like_model(path))


def model_files(folder: Path, config: Mapping[str, Any]) -> list[Path]:
    """Where a python model's source is to be, for each of its versions."""
    file = config.get("default_model_filename", "model.py")
    return [version / file for version in _versions(folder)]


def dynamic_inputs(config: Mapping[str, Any]) -> list[str]:
    """Names of the inputs that have a variable dimension (-1), beside the batch."""
    return [
        str(tensor["name"])
        for tensor in config.get("input", [])
        if any(int(dim) < 0 for dim in tensor.get("dims", []))
    ]


def config_type() -> Any:
    """The descriptor of a model config: its ``fields_by_name`` are what can be set."""
    return _message().DESCRIPTOR


def is_repeated(field: Any) -> bool:
    """Whether a field holds a list or a map."""
    # In every version of protobuf: its label is gone from the newest.
    return bool(field.default_value == [])


def is_map(field: Any) -> bool:
    """Whether a field is a map."""
    return field.message_type is not None and field.message_type.GetOptions().map_entry


def _message() -> Any:
    return import_quietly("tritonclient.grpc.model_config_pb2").ModelConfig()


def _segments(path: str) -> list[str]:
    return path.replace("[", ".").replace("]", "").split(".")


def _replace(node: Config, descriptor: Any, segments: list[str], value: Any, where: str) -> None:
    """Put ``value`` at ``segments`` below ``node``, a message of the type ``descriptor``."""
    name, *rest = segments
    field = descriptor.fields_by_name.get(name)
    if field is None:
        fields = list(descriptor.fields_by_name)
        raise UsageError(
            f"{where}: {descriptor.name} has no field {name!r}{nearest(name, fields)}; "
            f"its fields are {listed(fields)}"
        )
    message = field.message_type
    if is_map(field) and rest:
        node, (name, *rest) = node.setdefault(name, {}), rest
        message = message.fields_by_name["value"].message_type
    elif rest and is_repeated(field):
        _replace_elements(node.setdefault(name, []), message, rest, value, where)
        return
    if rest and message is None:
        raise UsageError(f"{where}: {name!r} is a plain value, it has no field {rest[0]!r}")
    if rest:
        _replace(node.setdefault(name, {}), message, rest, value, where)
    elif value is None:
        node.pop(name, None)
    else:
        node[name] = value


def _replace_elements(
    elements: list[Any], descriptor: Any, segments: list[str], value: Any, where: str
) -> None:
    """Do as ``_replace`` in the element that ``segments`` begins with, or in every one."""
    first, *rest = segments
    chosen = range(len(elements) or 1)
    if first.isdecimal():
        if int(first) > len(elements):
            raise UsageError(
                f"{where}: there is no element {first}, only {len(elements)} (the first is 0)"
            )
        chosen, segments = range(int(first), int(first) + 1), rest
    elements += [{} for _ in range(chosen.stop - len(elements))]
    for index in chosen:
        if segments and descriptor is None:
            raise UsageError(f"{where}: a plain value has no field {segments[0]!r}")
        if segments:
            _replace(elements[index], descriptor, segments, value, where)
        else:
            elements[index] = value


def _at(node: Any, segments: list[str]) -> Any:
    """What lies at a path: a list where it leads through every element of one."""
    if not segments or node is None:
        return node
    name, *rest = segments
    if isinstance(node, list):
        if not name.isdigit():
            return [_at(element, segments) for element in node]
        return _at(node[int(name)], rest) if int(name) < len(node) else None
    return _at(node.get(name), rest) if isinstance(node, Mapping) else None


def _covers(have: Any, want: Any) -> bool:
    if isinstance(want, Mapping) and isinstance(have, Mapping):
        return all(_covers(have.get(key), value) for key, value in want.items())
    if isinstance(want, list) and isinstance(have, list):
        return len(have) == len(want) and all(map(_covers, have, want))
    return bool(have == want)


def _looks_like_model(path: Path) -> bool:
    return path.is_dir() and ((path / CONFIG_FILE).is_file() or bool(_versions(path)))


def _versions(folder: Path) -> list[Path]:
    versions = [p for p in folder.iterdir() if p.is_dir() and p.name.isdecimal()]
    return sorted(versions, key=lambda p: int(p.name))
