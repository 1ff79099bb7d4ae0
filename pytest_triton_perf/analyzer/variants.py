"""``model_config_parameters``: which values of the model config a file goes through."""

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pytest_triton_perf.analyzer.parse import Value
from pytest_triton_perf.analyzer.values import mapping, scalar, shown, wrong
from pytest_triton_perf.domain.names import nearest
from pytest_triton_perf.domain.variants import Overrides

MAX_VARIANTS = 1000


@dataclass(frozen=True, kw_only=True)
class Choice:
    """One value for a path of the model config.

    ``label`` says what was chosen, where there was a choice: ``instance_group.count=2``.
    """

    value: Any
    label: tuple[str, ...] = ()


Space = Mapping[str, Sequence[Choice]]
"""Path of the model config -> what it can be."""


def space(parameters: Value) -> Space:
    """What each path can be.

    A list is several values for a field that has one, and one value for a field that is a list;
    several values for that one are a list of lists. This is how Model Analyzer reads them. A key
    without a value leaves the model config as it is.

    Raises:
        UsageError: a field that a model config does not have, or values of another kind.
    """
    from pytest_triton_perf.servers.model_config import config_type

    fields = mapping("model_config_parameters", parameters)
    return dict(_of_message("", config_type(), fields))


def combinations(found: Space, where: Value) -> Iterator[tuple[str, Overrides]]:
    """All variants of a space, each with its label; the last path varies fastest.

    Raises:
        UsageError: they are too many.
    """
    for choices in _product(found.values(), where):
        label = "-".join(part for choice in choices for part in choice.label)
        yield label, {path: choice.value for path, choice in zip(found, choices, strict=True)}


def _of_message(
    prefix: str, message: Any, fields: Mapping[str, Value]
) -> Iterator[tuple[str, Sequence[Choice]]]:
    for name, value in fields.items():
        path = f"{prefix}{name}"
        yield from _of_field(path, _field(message, path, value), value)


def _field(message: Any, path: str, value: Value) -> Any:
    """The field of ``message`` that ``path`` ends with."""
    name = path.rpartition(".")[2]
    field = message.fields_by_name.get(name)
    if field is None:
        hint = nearest(name, list(message.fields_by_name))
        raise wrong(value, f"{path}: {message.name} has no such field{hint}")
    return field


def _of_field(path: str, field: Any, value: Value) -> Iterator[tuple[str, Sequence[Choice]]]:
    """The paths at and below ``path`` that ``value`` sets."""
    from pytest_triton_perf.servers.model_config import is_map, is_repeated

    message = field.message_type
    if value.data is None:
        return
    if is_map(field):
        entry = message.fields_by_name["value"]
        for key, one in mapping(path, value).items():
            if not key or set(key) & set(".[]"):
                raise wrong(one, f"{path}: a key with '.', '[' or ']' cannot be set: {key!r}")
            yield from _of_field(f"{path}.{key}", entry, one)
    elif message is not None and not is_repeated(field) and isinstance(value.data, Mapping):
        if value.data:
            yield from _of_message(f"{path}.", message, value.data)
        else:
            yield path, (Choice(value={}),)
    else:
        yield path, _choices(path, field, value)


def _choices(path: str, field: Any, value: Value) -> Sequence[Choice]:
    """What a field can be as a whole."""
    from pytest_triton_perf.servers.model_config import is_repeated

    if not is_repeated(field):
        if not isinstance(value.data, list):
            return _single(path, field, value)
        swept = [_single(path, field, one) for one in value.data]
    else:
        if not isinstance(value.data, list) or not value.data:
            raise wrong(value, f"{path}: it is a list; expected one, not {shown(value)}")
        if not isinstance(value.data[0].data, list):
            return _list(path, field, value)
        swept = [_list(path, field, one) for one in value.data]
    found = [choice for choices in swept for choice in choices]
    if not 0 < len(found) <= MAX_VARIANTS:
        raise wrong(value, f"{path}: expected 1 to {MAX_VARIANTS:,} values, not {len(found):,}")
    for i, choice in enumerate(found):
        if choice.value in [other.value for other in found[:i]]:
            raise wrong(value, f"{path}: {_text(choice.value)} appears twice")
    return [Choice(value=c.value, label=(f"{path}={_text(c.value)}",)) for c in found]


def _list(path: str, field: Any, value: Value) -> Sequence[Choice]:
    """The values of a field that is a list; one of each element's choices is in each."""
    if not isinstance(value.data, list):
        raise wrong(value, f"{path}: expected a list in the list, not {shown(value)}")
    several = len(value.data) > 1
    elements = [
        _single(f"{path}.{i}" if several else path, field, one) for i, one in enumerate(value.data)
    ]
    return [
        Choice(value=[c.value for c in one], label=tuple(part for c in one for part in c.label))
        for one in _product(elements, value)
    ]


def _single(path: str, field: Any, value: Value) -> Sequence[Choice]:
    """The values of one scalar or one message."""
    if field.message_type is None:
        text = scalar(path, value)
        is_text = field.cpp_type == field.CPPTYPE_STRING
        return (Choice(value=text if is_text else value.data),)
    if not isinstance(value.data, Mapping):
        raise wrong(value, f"{path}: expected a mapping, not {shown(value)}")
    inner: dict[str, Sequence[Choice]] = {}
    for name, one in value.data.items():
        below = _field(field.message_type, f"{path}.{name}", one)
        if one.data is not None:
            inner[name] = _nested(f"{path}.{name}", below, one)
    return [
        Choice(
            value={name: c.value for name, c in zip(inner, one, strict=True)},
            label=tuple(part for c in one for part in c.label),
        )
        for one in _product(inner.values(), value)
    ]


def _nested(path: str, field: Any, value: Value) -> Sequence[Choice]:
    """The values of a field of a message that is replaced as a whole."""
    from pytest_triton_perf.servers.model_config import is_map

    if not is_map(field):
        return _choices(path, field, value)
    entry = field.message_type.fields_by_name["value"]
    items = mapping(path, value)
    return [
        Choice(
            value={key: c.value for key, c in zip(items, one, strict=True)},
            label=tuple(part for c in one for part in c.label),
        )
        for one in _product([_choices(f"{path}.{k}", entry, v) for k, v in items.items()], value)
    ]


def _product(parts: Iterable[Sequence[Choice]], where: Value) -> list[tuple[Choice, ...]]:
    given = list(parts)
    if math.prod(len(choices) for choices in given) > MAX_VARIANTS:
        raise wrong(where, f"model_config_parameters: more than {MAX_VARIANTS:,} variants")
    return list(itertools.product(*given))


def _text(value: Any) -> str:
    """A value for a test id: ``[{kind:KIND_CPU,count:1}]``."""
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{key}:{_text(one)}" for key, one in value.items()) + "}"
    if isinstance(value, list):
        return f"[{','.join(map(_text, value))}]"
    return str(value).lower() if isinstance(value, bool) else str(value)
