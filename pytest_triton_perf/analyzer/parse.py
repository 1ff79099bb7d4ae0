"""YAML as values that know their line. Pure: bytes in, values out, and no object constructed."""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from pytest_triton_perf.errors import UsageError

MAX_BYTES = 256 * 1024
MAX_DEPTH = 32
MAX_VALUES = 10_000
"""Far over what a config needs, and read within seconds."""

_TOO_MANY = f"this is more than {MAX_VALUES:,} values, with what aliases repeat"
_TAG = "tag:yaml.org,2002:"
_TEXTS = ("str", "timestamp", "value", "merge")
_TAB = re.compile(r"\s*\t")


@dataclass(frozen=True, kw_only=True)
class Value:
    """One value of a file: a number, a text, a truth value, ``None``, a list or a mapping.

    ``line`` is that of its key, where it has one. ``text`` is a scalar as it was typed. ``size``
    and ``depth`` count the values in it, those that aliases repeat included.
    """

    file: str
    line: int
    data: Any
    text: str = ""
    size: int = field(default=1, repr=False)
    depth: int = field(default=0, repr=False)

    @property
    def where(self) -> str:
        """``analyzer.yaml:7``, for the beginning of a message."""
        return f"{self.file}:{self.line}"

    @property
    def plain(self) -> Any:
        """The value as YAML's own loader would give it, with text for dates."""
        if isinstance(self.data, list):
            return [value.plain for value in self.data]
        if isinstance(self.data, Mapping):
            return {key: value.plain for key, value in self.data.items()}
        return self.data


@dataclass(kw_only=True)
class _Open:
    """A list or a mapping whose end has not been read."""

    event: Any
    is_mapping: bool
    inside: list[Value] = field(default_factory=list)


def parse(content: bytes, file: str) -> Value:
    """The one document of a YAML file; ``file`` is what messages call it.

    Raises:
        UsageError: what is wrong first, with its line.
    """
    if len(content) > MAX_BYTES:
        raise UsageError(
            f"{file}: it has {len(content):,} bytes; a config has {MAX_BYTES:,} at most"
        )
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise UsageError(f"{file}:{line}: this is not UTF-8; save the file as UTF-8") from None
    return _Builder(file).build(text)


class _Builder:
    """Puts values together from YAML's events: without recursion, and within the bounds."""

    def __init__(self, file: str) -> None:
        import yaml

        self._file = file
        self._yaml: Any = yaml
        self._scalars = self._yaml.SafeLoader("")
        self._anchors: dict[str, Value] = {}
        self._open: list[_Open] = []
        self._root: Value | None = None

    def build(self, text: str) -> Value:
        for event in self._events(text):
            self._take(event)
        if self._root is None or self._root.data is None:
            raise UsageError(f"{self._file}: it is empty; name the models under profile_models")
        return self._root

    def _events(self, text: str) -> Iterator[Any]:
        yaml = self._yaml
        try:
            yield from yaml.parse(text, Loader=yaml.SafeLoader)
        except yaml.reader.ReaderError as error:
            line = text.count("\n", 0, error.position) + 1
            raise self._error(line, f"the character {error.character:#x} is not allowed") from None
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            line = mark.line if mark else 0
            if _TAB.match((text.splitlines() or [""])[min(line, text.count("\n"))]):
                raise self._error(line + 1, "a tab indents this line; YAML takes spaces") from None
            raise self._error(line + 1, f"this is not YAML: {error.problem}") from None

    def _take(self, event: Any) -> None:
        yaml = self._yaml
        match event:
            case yaml.DocumentStartEvent():
                if self._root is not None:
                    raise self._at(event, "a second document begins here; a config is one")
            case yaml.SequenceStartEvent() | yaml.MappingStartEvent():
                is_mapping = isinstance(event, yaml.MappingStartEvent)
                self._check_tag(event, ("map" if is_mapping else "seq",))
                if len(self._open) >= MAX_DEPTH:
                    raise self._at(event, f"values are nested more than {MAX_DEPTH} deep")
                self._open.append(_Open(event=event, is_mapping=is_mapping))
            case yaml.SequenceEndEvent() | yaml.MappingEndEvent():
                ended = self._open.pop()
                self._add(self._collected(ended), ended.event.anchor)
            case yaml.ScalarEvent():
                self._add(self._scalar(event), event.anchor)
            case yaml.AliasEvent():
                if event.anchor not in self._anchors:
                    raise self._at(event, f"there is no finished value &{event.anchor} before this")
                line = event.start_mark.line + 1
                self._add(replace(self._anchors[event.anchor], line=line), None)

    def _add(self, value: Value, anchor: str | None) -> None:
        if anchor is not None:
            self._anchors[anchor] = value
        if not self._open:
            self._root = value
            return
        self._open[-1].inside.append(value)
        if len(self._open[-1].inside) > 2 * MAX_VALUES:  # Keys count too.
            raise self._at(self._open[-1].event, _TOO_MANY)

    def _collected(self, ended: _Open) -> Value:
        inside = ended.inside
        size = 1 + sum(value.size for value in inside)
        depth = 1 + max((value.depth for value in inside), default=0)
        if size > MAX_VALUES:
            raise self._at(ended.event, _TOO_MANY)
        if depth > MAX_DEPTH:
            raise self._at(ended.event, f"values are nested more than {MAX_DEPTH} deep")
        data = self._mapping(inside) if ended.is_mapping else inside
        line = ended.event.start_mark.line + 1
        return Value(file=self._file, line=line, data=data, size=size, depth=depth)

    def _mapping(self, inside: list[Value]) -> dict[str, Value]:
        found: dict[str, Value] = {}
        merged: dict[str, Value] = {}
        for key, value in zip(inside[::2], inside[1::2], strict=True):
            if isinstance(key.data, list | Mapping):
                raise self._error(key.line, "a key is a plain text")
            if key.text == "<<":
                for source in value.data if isinstance(value.data, list) else [value]:
                    if not isinstance(source.data, Mapping):
                        raise self._error(key.line, "<< merges a mapping, or a list of them")
                    merged = {**source.data, **merged}
            elif key.text in found:
                first = found[key.text].line
                raise self._error(key.line, f"{key.text!r} stands in line {first} already")
            else:
                found[key.text] = replace(value, line=key.line)
        return {**merged, **found}

    def _scalar(self, event: Any) -> Value:
        yaml, text = self._yaml, event.value
        tag = event.tag
        if tag in (None, "!"):
            tag = self._scalars.resolve(yaml.ScalarNode, text, event.implicit)
        self._check_tag(event, (*_TEXTS, "int", "float", "bool", "null"), tag)
        data = text
        # YAML 1.1 takes 1:8:2 for a number to the base of 60, where a range is meant.
        if tag.removeprefix(_TAG) not in _TEXTS and ":" not in text:
            try:
                data = self._scalars.construct_object(yaml.ScalarNode(tag, text))
            except (ValueError, LookupError):
                kind = tag.removeprefix(_TAG)
                raise self._at(event, f"{_short(text)} cannot be read as {kind}") from None
        return Value(file=self._file, line=event.start_mark.line + 1, data=data, text=text)

    def _check_tag(self, event: Any, allowed: Iterable[str], tag: str | None = None) -> None:
        tag = tag or event.tag
        if tag not in (None, "!", *(f"{_TAG}{name}" for name in allowed)):
            short = tag.replace(_TAG, "!!")
            raise self._at(event, f"the tag {short} is not read: a config has plain values only")

    def _at(self, event: Any, problem: str) -> UsageError:
        return self._error(event.start_mark.line + 1, problem)

    def _error(self, line: int, problem: str) -> UsageError:
        return UsageError(f"{self._file}:{line}: {problem}")


def _short(text: str) -> str:
    return repr(text if len(text) <= 40 else f"{text[:40]}…")
