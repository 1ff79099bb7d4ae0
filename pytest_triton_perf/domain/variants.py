"""Variants: a model's configuration with some of its values replaced."""

import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pytest_triton_perf.errors import UsageError

Overrides = Mapping[str, Any]
"""Path of the model config -> value, e.g. ``{"instance_group.count": 2}``."""


@dataclass(frozen=True, kw_only=True)
class Variant:
    """One configuration of a model, under the name that reports and files use.

    ``config`` is the whole model config as Triton's JSON, empty where the model has no
    ``config.pbtxt`` and Triton completes it while loading.
    """

    model: str
    name: str
    overrides: Overrides = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_default(self) -> bool:
        """Whether this is the model as its repository has it."""
        return self.name == default_name(self.model)


def default_name(model: str) -> str:
    """The name of a model's own configuration (Model Analyzer's convention)."""
    return f"{model}_config_default"


def expand(variants: Any) -> list[Overrides]:
    """All combinations that a ``variants=`` argument means.

    ``None`` is the model as it stands. A mapping of path to a list of values is the cartesian
    product, the last path varying fastest. A list of mappings of path to value is taken as it
    is; ``{}`` in it is the model as it stands.

    Raises:
        UsageError: the argument has another shape, or a path has no values.
    """
    if variants is None:
        return [{}]
    if isinstance(variants, Mapping):
        for path, values in variants.items():
            if not isinstance(path, str):
                raise UsageError(f"variants: a path is text, not {path!r}")
            if not isinstance(values, Sequence) or isinstance(values, str) or not values:
                raise UsageError(f"variants[{path!r}]: expected a list of values, not {values!r}")
        product = itertools.product(*variants.values())
        return [dict(zip(variants, values, strict=True)) for values in product]
    if (
        isinstance(variants, Sequence)
        and not isinstance(variants, str)
        and variants
        and all(isinstance(v, Mapping) and all(isinstance(p, str) for p in v) for v in variants)
    ):
        return [dict(v) for v in variants]
    raise UsageError(
        "variants: expected a mapping of config path to a list of values, a list of mappings of "
        f"config path to value, or 'search', not {variants!r}"
    )


def readable_id(overrides: Overrides) -> str:
    """The test id of a variant: ``max_batch_size=8-instance_group.count=2``."""
    parts = [f"{path}={_short(value)}" for path, value in overrides.items()]
    return "-".join(parts) or "default"


def _short(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))


class VariantNames:
    """Gives each distinct configuration of a model its name, in order of first appearance."""

    def __init__(self) -> None:
        self._names: dict[str, dict[str, str]] = {}

    def name(self, model: str, identity: Any, *, is_default: bool) -> str:
        """``<model>_config_default`` or ``<model>_config_<n>``; equal identities share a name.

        ``identity`` is anything JSON can hold that is equal for equal configurations.
        """
        if is_default:
            return default_name(model)
        names = self._names.setdefault(model, {})
        key = json.dumps(identity, sort_keys=True)
        return names.setdefault(key, f"{model}_config_{len(names)}")
