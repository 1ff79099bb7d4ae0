"""One model of a config file, as tests."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from pytest_triton_perf.analyzer import flags, keys, limits, variants
from pytest_triton_perf.analyzer.parse import Value
from pytest_triton_perf.analyzer.values import (
    NOTHING,
    Problems,
    choice,
    mapping,
    number,
    numbers,
    texts,
    truth,
    wrong,
)
from pytest_triton_perf.domain.metrics import percentile_of
from pytest_triton_perf.domain.names import nearest
from pytest_triton_perf.domain.variants import Overrides

_LOADS = ("concurrency", "request_rate")
_PARAMETERS = ("batch_sizes", *_LOADS)
_SHORTHANDS = {"latency_budget": "perf_latency_p99", "min_throughput": "perf_throughput"}
_DEFAULTS = {"concurrency": (1, 1024), "request_rate": (16, 8192)}
"""Model Analyzer's bounds."""


@dataclass(frozen=True, kw_only=True)
class ModelTest:
    """One test of a file: a model in one variant, or in a search for its best one.

    ``sweep``, ``budgets`` and ``search`` are the arguments of the markers ``perf_sweep``,
    ``perf_budget`` and ``perf_search``; ``search`` is ``None`` where there is none. A reference is
    the model's own configuration, which the variants are compared with.
    """

    name: str
    line: int
    sweep: Mapping[str, Any]
    budgets: Mapping[str, float] = field(default_factory=dict)
    search: Mapping[str, Any] | None = None
    overrides: Overrides = field(default_factory=dict)
    problems: tuple[str, ...] = ()
    is_reference: bool = False


class Model:
    """The section of one model, and the keys of the file that stand for what it does not have.

    ``used`` has the keys of the file that only some files use, and ``unused`` those of the model
    that nothing uses, with what to use instead.
    """

    def __init__(self, name: str, section: Value, file: Mapping[str, Value]) -> None:
        self.used: set[str] = set()
        self.unused: dict[str, str] = {}
        self._name = name
        self._where = section
        self._file = file
        self._problems = Problems()
        given = self._problems.attempt(mapping, name, section, default=NOTHING)
        for key, value in given.items():
            self._problems.attempt(self._check_key, key, value)
        self._section = {key: value for key, value in given.items() if value.data is not None}

    def tests(self) -> list[ModelTest]:
        """Its tests; one that only has problems where there are any."""
        attempt = self._problems.attempt
        loads = attempt(self._listed_loads)
        search = attempt(self._search, loads)
        if search is None and "objectives" in self._section:
            self.unused[f"objectives of {self._name}"] = keys.NO_SEARCH
        sweep = {
            "model": self._name,
            "batch_size": attempt(self._batch_sizes),
            **({} if search is None else {"variants": "search"}),
            **(loads or attempt(self._automatic_loads, search, default={})),
            **self._flags(),
        }
        budgets = self._budgets()
        asked = [*budgets, *(search or {}).get("objective", ())]
        percentiles = {p for name in asked if (p := percentile_of(name))}
        sweep["percentiles"] = sorted({*flags.PERCENTILES, *percentiles, *sweep["percentiles"]})
        found = [("", {})] if search is not None else attempt(self._variants, default=[])
        if self._problems.found:
            found = [("", {})]
        tests = [
            ModelTest(
                name=f"{self._name}[{label}]" if label else self._name,
                line=self._where.line,
                sweep=sweep,
                budgets=budgets,
                search=search,
                overrides=overrides,
                problems=tuple(self._problems.found),
            )
            for label, overrides in found
        ]
        if len(tests) > 1:
            own = replace(tests[0], overrides=self._on_cpu(), budgets={}, is_reference=True)
            tests.append(replace(own, name=f"{self._name}[default]"))
        return tests

    def _check_key(self, key: str, value: Value) -> None:
        if key in keys.NOT_USED_OF_A_MODEL:
            self.unused[key] = keys.NOT_USED[key]
        elif key not in keys.MODEL_KEYS:
            hint = nearest(key, [*keys.MODEL_KEYS, *keys.NOT_USED_OF_A_MODEL])
            if key in keys.FILE_KEYS:
                hint = "; put it into parameters" if key in _PARAMETERS else "; it is the file's"
            raise wrong(value, f"{self._name}: a model has no key {key!r}{hint}")

    def _given(self, key: str) -> Value | None:
        """The model's own value of a key, else the file's, which it replaces as a whole."""
        return self._section.get(key) or self._file.get(key)

    # -- loads

    def _parameters(self) -> list[dict[str, Value]]:
        """What the model says of its loads, then what the file does."""
        scopes: list[dict[str, Value]] = []
        for of in (self._section, self._file):
            found = mapping("parameters", of["parameters"]) if "parameters" in of else NOTHING
            for key, value in found.items():
                if key not in _PARAMETERS:
                    raise wrong(
                        value, f"parameters: unknown key {key!r}{nearest(key, _PARAMETERS)}"
                    )
            scopes.append({key: value for key, value in found.items() if value.data is not None})
        for key in _PARAMETERS:
            if key in self._file:
                if key in scopes[1]:
                    line = self._file[key].line
                    raise wrong(scopes[1][key], f"parameters: {key} stands in line {line} already")
                scopes[1][key] = self._file[key]
        return scopes

    def _batch_sizes(self) -> list[float]:
        given = next((s["batch_sizes"] for s in self._parameters() if "batch_sizes" in s), None)
        return [1] if given is None else numbers("batch_sizes", given, whole=True)

    def _listed_loads(self) -> dict[str, Any] | None:
        for scope in self._parameters():
            listed = {key: scope[key] for key in _LOADS if key in scope}
            if len(listed) > 1:
                raise wrong(listed["request_rate"], "give concurrency or request_rate, not both")
            for key, value in listed.items():
                return {key: numbers(key, value, whole=key == "concurrency")}
        return None

    def _automatic_loads(self, search: Mapping[str, Any] | None) -> dict[str, Any]:
        """The loads where none are listed: as Model Analyzer, doubling from bound to bound."""
        if self._is_true("run_config_search_disable"):
            return {"concurrency": [1]}
        bounds = self._bounds()
        by_rate = self._is_true("request_rate_search_enable")
        by_rate |= any(name in bounds for name in ("min_request_rate", "max_request_rate"))
        kind = "request_rate" if by_rate else "concurrency"
        ends = [bounds.get(f"{end}_{kind}") for end in ("min", "max")]
        if search is not None or (not by_rate and ends == [None, None]):
            return {kind: "auto"}
        self.used |= {key for key, name in keys.BOUNDS.items() if name.endswith(kind)}
        low, high = (given or default for given, default in zip(ends, _DEFAULTS[kind], strict=True))
        loads = []
        while low <= high:
            loads.append(low)
            low *= 2
        if not loads:
            raise wrong(self._where, f"{self._name}: min_{kind} is over max_{kind}")
        return {kind: loads}

    def _is_true(self, key: str) -> bool:
        return key in self._file and truth(key, self._file[key])

    # -- variants

    def _variants(self) -> list[tuple[str, Overrides]]:
        space = self._space()
        if "instance_group" not in space:
            space |= {path: (variants.Choice(value=v),) for path, v in self._on_cpu().items()}
        found = list(variants.combinations(space, self._where))
        return found if len(found) > 1 else [("", overrides) for _, overrides in found]

    def _space(self) -> dict[str, Any]:
        given = self._section.get("model_config_parameters")
        return dict(variants.space(given)) if given else {}

    def _on_cpu(self) -> Overrides:
        """What ``cpu_only`` changes."""
        given = self._section.get("cpu_only")
        return {"instance_group.kind": "KIND_CPU"} if given and truth("cpu_only", given) else {}

    def _bounds(self) -> dict[str, float]:
        found = {}
        for key, name in keys.BOUNDS.items():
            if key in self._file:
                whole = not name.endswith("rate")
                found[name], *more = numbers(key, self._file[key], whole=whole)
                if more:
                    raise wrong(self._file[key], f"{key}: expected one number")
        return found

    def _search(self, loads: Mapping[str, Any] | None) -> dict[str, Any] | None:
        """The search that the file means, ``None`` where it lists what to measure."""
        mode = self._file.get(keys.SEARCH_MODE)
        listed = loads is not None or "model_config_parameters" in self._section
        if self._is_true("run_config_search_disable") or (mode is None and listed):
            return None
        found: dict[str, Any] = {}
        if mode is not None:
            found["mode"] = choice(keys.SEARCH_MODE, mode, ("quick", "brute", "optuna"))
        if (objectives := self._objectives()) is not None:
            found["objective"] = objectives
        if self._on_cpu():
            raise wrong(self._section["cpu_only"], "cpu_only: use --triton-gpus=none in a search")
        if space := self._space():
            found["parameters"] = {path: [c.value for c in cs] for path, cs in space.items()}
        self.used |= {"objectives", *keys.BOUNDS}
        return {**found, **self._bounds()}

    # -- limits

    def _objectives(self) -> dict[str, float] | None:
        given = self._given("objectives")
        if given is None:
            return None
        if isinstance(given.data, Mapping):
            weights = {tag: (value, number(tag, value)) for tag, value in given.data.items()}
        else:
            weights = {part.text: (part, 1.0) for part in texts("objectives", given)}
        found = {}
        for tag, (value, weight) in weights.items():
            if tag not in keys.OBJECTIVES:
                raise wrong(value, f"objectives: {limits.unknown_metric(tag, keys.OBJECTIVES)}")
            if not weight > 0:
                raise wrong(value, f"objectives: {tag}: a weight is a number above 0")
            found[keys.OBJECTIVES[tag]] = weight
        return found

    def _budgets(self) -> dict[str, float]:
        """The constraints as budgets: the file's shorthands come before what else says the same."""
        given = self._given("constraints")
        attempt = self._problems.attempt
        found = {} if given is None else attempt(mapping, "constraints", given, default=NOTHING)
        kept: dict[str, tuple[Value, float]] = {}
        for tag, value in found.items():
            name, limit = attempt(limits.limit, tag, value, default=("", 0.0))
            if name in kept:
                line = kept[name][0].line
                self._problems.found.append(f"{value.where}: {tag} is what line {line} limits")
            if name:
                kept[name] = (value, limit)
        for key, tag in _SHORTHANDS.items():
            if key in self._file:
                budget = keys.CONSTRAINTS[tag][1]
                limit = attempt(limits.checked, key, budget, self._file[key])
                kept[budget] = (self._file[key], limit)
        return {name: limit for name, (_, limit) in kept.items()}

    # -- flags

    def _flags(self) -> dict[str, Any]:
        found: dict[str, Any] = {"percentiles": flags.PERCENTILES}
        if (protocol := self._file.get("client_protocol")) is not None:
            choices = ("grpc", "http")
            found["protocol"] = self._problems.attempt(choice, "client_protocol", protocol, choices)
        if (given := self._given("perf_analyzer_flags")) is not None:
            sweep, unused = flags.perf_analyzer(given, self._problems)
            found |= sweep
            self.unused |= unused
        if (given := self._given("triton_server_flags")) is not None:
            found["server_args"] = flags.server_args(given, self._problems)
        return found
