"""Collection: from marked test functions to checked, ordered perf tests.

Every problem of every selected test becomes part of one usage error, before anything starts.
"""

import inspect
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_triton_perf.against import Against
from pytest_triton_perf.analyzer.collect import ModelItem, leave_out_listed_references
from pytest_triton_perf.domain.budgets import Budget
from pytest_triton_perf.domain.comparisons import Gate
from pytest_triton_perf.domain.variants import Overrides, Variant, VariantNames, readable_id
from pytest_triton_perf.errors import UsageError
from pytest_triton_perf.markers import SweepSpec, parse_budgets, parse_gates, parse_sweep
from pytest_triton_perf.search_plans import SearchPlan, check_objectives, parse_search, plan
from pytest_triton_perf.servers.base import ServerSpec
from pytest_triton_perf.settings import Settings

if TYPE_CHECKING:
    from pytest_triton_perf.servers.endpoints import Remote

VARIANT_FIXTURE = "model_variant"
SWEEP_FIXTURE = "triton_sweep"
IMAGE_FIXTURE = "triton_image"


@dataclass(frozen=True, kw_only=True)
class PerfTest:
    """One test item: which variant it measures on which server, and what it must keep.

    Where it has a ``search``, ``variant`` is the model as it stands. ``gates`` are what it allows
    to change from the base, where there is one, and what a baseline keeps of it.
    """

    nodeid: str
    sweep: SweepSpec
    budgets: tuple[Budget, ...]
    gates: tuple[Gate, ...] = ()
    variant: Variant
    server: ServerSpec
    search: SearchPlan | None = None


PERF_TEST: pytest.StashKey[PerfTest] = pytest.StashKey()


def use_sweep_fixture(obj: Any, marked: Any) -> None:
    """Make a function that is marked ``perf_sweep`` use the sweep fixture.

    ``marked`` is its ``pytestmark``. A test that only has budgets needs no argument; its sweep
    is measured all the same. With the argument, fixtures that stand before it come before it.
    """
    marks = [mark for mark in marked if isinstance(mark, pytest.Mark)]
    if inspect.isfunction(obj) and SWEEP_FIXTURE in inspect.signature(obj).parameters:
        return
    if any(mark.name == "perf_sweep" for mark in marks) and not _uses_sweep(marks):
        pytest.mark.usefixtures(SWEEP_FIXTURE)(obj)


def use_sweep_fixture_in(collector: pytest.Collector) -> None:
    """The same for all tests of a module or a class that is marked ``perf_sweep``."""
    if not _uses_sweep(collector.iter_markers("usefixtures")):
        collector.add_marker(pytest.mark.usefixtures(SWEEP_FIXTURE))


def _uses_sweep(marks: Iterable[pytest.Mark]) -> bool:
    return any(mark.name == "usefixtures" and SWEEP_FIXTURE in mark.args for mark in marks)


def parametrize_variants(metafunc: pytest.Metafunc) -> None:
    """One test item per variant of the marker; a marker that is wrong gives one item.

    What is wrong with it is told by :func:`prepare`, once the selected tests are known.
    """
    mark = metafunc.definition.get_closest_marker("perf_sweep")
    if mark is None or VARIANT_FIXTURE not in metafunc.fixturenames:
        return
    try:
        spec = parse_sweep(mark, metafunc.definition.path.parent)
        variants = spec.variants
        ids = ["search"] if spec.searches else [readable_id(variant) for variant in variants]
    except UsageError:
        variants, ids = ({},), ["default"]
    metafunc.parametrize(VARIANT_FIXTURE, variants, indirect=True, ids=ids)


def image_given(item: pytest.Item) -> Any:
    """The image that an item is parametrized with, ``None`` where it is not."""
    return item.callspec.params.get(IMAGE_FIXTURE) if hasattr(item, "callspec") else None


def prepare(
    items: list[pytest.Item],
    settings: Settings,
    can_measure: Callable[[Budget], str | None],
    against: Against | None = None,
) -> None:
    """Attach a :class:`PerfTest` to every marked item and order them for few reloads.

    ``can_measure`` answers why this session cannot measure a budget's metric, or ``None``;
    ``against`` is what the models are compared with, if anything.

    Raises:
        UsageError: everything that is wrong with any of the items.
        MissingPartError: see :class:`Against`.
    """
    resolver = _Resolver(settings, can_measure)
    problems: dict[str, None] = {}
    for item in items:
        if not isinstance(item, pytest.Function | ModelItem):
            continue
        if isinstance(item, ModelItem) and item.problems:
            problems |= dict.fromkeys(item.problems)
            continue
        mark = item.get_closest_marker("perf_sweep")
        if mark is None:
            for name in ("perf_budget", "perf_search", "perf_gate"):
                if item.get_closest_marker(name) is not None:
                    problems[f"{item.nodeid}: {name} needs a perf_sweep marker beside it"] = None
            continue
        try:
            item.stash[PERF_TEST] = resolver.resolve(item, mark)
        except UsageError as error:
            name = item.name if isinstance(item, ModelItem) else item.originalname
            where = f"{item.location[0]}:{(item.location[1] or 0) + 1}: {name}"
            problems |= dict.fromkeys(f"{where}: {line}" for line in str(error).splitlines())
    if problems:
        raise UsageError("\n".join(problems))
    leave_out_listed_references(items)
    if against is not None:
        _set_base(items, against)
    order_for_few_reloads(items)


def _set_base(items: Iterable[pytest.Item], against: Against) -> None:
    """Give each test its base. What is wrong with one is no test's mistake, and told once."""
    for item in items:
        test = item.stash.get(PERF_TEST, None)
        if test is not None:
            item.stash[PERF_TEST] = replace(test, server=against.with_base(test.server))


def order_for_few_reloads(items: list[pytest.Item]) -> None:
    """Put tests of one server, then of one model, then of one variant next to each other.

    Groups keep the order of their first test, and other tests keep their places.
    """
    places = [i for i, item in enumerate(items) if PERF_TEST in item.stash]
    seen: dict[Hashable, int] = {}

    def rank(key: Hashable) -> int:
        return seen.setdefault(key, len(seen))

    def order(item: pytest.Item) -> tuple[int, int, int]:
        test = item.stash[PERF_TEST]
        variant = test.variant
        return (
            rank(test.server),
            rank((test.server, variant.model)),
            rank((test.server, variant.name)),
        )

    ordered = sorted((items[i] for i in places), key=order)
    for place, item in zip(places, ordered, strict=True):
        items[place] = item


class _Resolver:
    """Looks at each model repository and each model config once."""

    def __init__(
        self,
        settings: Settings,
        can_measure: Callable[[Budget], str | None],
    ) -> None:
        self._settings = settings
        self._can_measure = can_measure
        self._names = VariantNames()
        self._configs: dict[tuple[Path, str], Mapping[str, Any] | None] = {}

    def resolve(self, item: pytest.Function | ModelItem, mark: pytest.Mark) -> PerfTest:
        from pytest_triton_perf.servers.model_config import dynamic_inputs

        spec, budgets, gates = self._parse(item, mark)
        search = parse_search(item.get_closest_marker("perf_search"), searches=spec.searches)
        image = self._image(item)
        problems = [reason for budget in budgets if (reason := self._can_measure(budget))]
        repository = config = None
        if self._settings.remote is None:
            repository = self._repository(item)
            config = self._config(repository, spec.model)
        else:
            spec = _for_remote(spec, self._settings.remote)
        overrides = _overrides(item)

        def variant(overrides: Overrides) -> Variant:
            return self._variant(repository, spec.model, config, overrides)

        searched = None
        if search is not None:
            check_objectives(search, spec, self._can_measure)
            searched, spec = plan(search, spec, budgets, config, variant)
        shapes, data = spec.traffic.shapes or {}, spec.traffic.input_data
        problems += [
            f"perf_sweep: input {name!r} of model {spec.model!r} has a dynamic shape; give its "
            f"dimensions without the batch: shapes={{{name!r}: (16,)}}"
            for name in dynamic_inputs(config or {})
            if name not in shapes and not isinstance(data, Path)
        ]
        if problems:
            raise UsageError("\n".join(problems))
        server = ServerSpec(
            repository=repository,
            image=image,
            server_args=(*self._settings.server_args, *spec.server_args),
        )
        return PerfTest(
            nodeid=item.nodeid,
            sweep=spec,
            budgets=budgets,
            gates=gates,
            variant=variant(overrides),
            server=server,
            search=searched,
        )

    def _parse(
        self, item: pytest.Function | ModelItem, mark: pytest.Mark
    ) -> tuple[SweepSpec, tuple[Budget, ...], tuple[Gate, ...]]:
        """What the markers of an item say."""
        # Decorators apply from the bottom up; people read them from the top down.
        budget_marks, gate_marks = (
            list(item.iter_markers(name))[::-1] for name in ("perf_budget", "perf_gate")
        )
        wrong = []
        spec: SweepSpec | None = None
        budgets: tuple[Budget, ...] = ()
        gates: tuple[Gate, ...] = ()
        try:
            spec = parse_sweep(mark, item.path.parent)
        except UsageError as error:
            wrong.append(str(error))
        try:
            budgets = parse_budgets(budget_marks, spec)
        except UsageError as error:
            wrong.append(str(error))
        try:
            pct = self._settings.max_slowdown_pct
            gates = parse_gates(gate_marks, spec, max_slowdown_pct=pct)
        except UsageError as error:
            wrong.append(str(error))
        if wrong or spec is None:
            raise UsageError("\n".join(wrong))
        return spec.with_loads_of(budgets), budgets, gates

    def _image(self, item: pytest.Function | ModelItem) -> str | None:
        """The image of the item's server, which must be known before any is started."""
        if isinstance(item, ModelItem):
            return self._settings.image
        given = image_given(item)
        if given is None:
            # The first is the plugin's own, the last the one that the item uses.
            fixtures = item._fixtureinfo.name2fixturedefs.get(IMAGE_FIXTURE, ())
            if len(fixtures) > 1:
                code = fixtures[-1].func.__code__
                raise UsageError(
                    f"the fixture {IMAGE_FIXTURE} at {code.co_filename}:{code.co_firstlineno} "
                    "says its image only while the test runs, after images are fetched; make the "
                    f"images its params: @pytest.fixture(params=['…']) def {IMAGE_FIXTURE}(request)"
                    ": return request.param"
                )
            return self._settings.image
        if not isinstance(given, str):
            raise UsageError(f"{IMAGE_FIXTURE}: the name of an image is text, not {given!r}")
        if self._settings.launch != "docker":
            raise UsageError(
                f"{IMAGE_FIXTURE}: --triton-launch={self._settings.launch} starts no container of "
                f"{given!r}; --triton-launch=docker does"
            )
        return given

    def _repository(self, item: pytest.Function | ModelItem) -> Path:
        if self._settings.model_repository is not None:
            return self._settings.model_repository.resolve()
        if isinstance(item, ModelItem) and item.repository is not None:
            return item.repository.resolve()
        candidates = [
            item.path.parent / "model_repository",
            item.config.rootpath / "model_repository",
        ]
        for candidate in candidates:
            if candidate.is_dir():
                return candidate.resolve()
        raise UsageError(
            "perf_sweep: there is no model repository: looked for "
            f"{candidates[0]} and {candidates[1]}; name it with --triton-model-repository"
        )

    def _config(self, repository: Path, model: str) -> Mapping[str, Any] | None:
        from pytest_triton_perf.servers.model_config import check_model, read_config

        key = (repository, model)
        if key not in self._configs:
            check_model(repository, model)
            self._configs[key] = read_config(repository / model)
        return self._configs[key]

    def _variant(
        self,
        repository: Path | None,
        model: str,
        config: Mapping[str, Any] | None,
        overrides: Overrides,
    ) -> Variant:
        from pytest_triton_perf.servers.model_config import apply_overrides

        changed = apply_overrides(model, config or {}, overrides)
        is_default = not overrides or changed == config
        identity = [str(repository), changed]
        name = self._names.name(model, identity, is_default=is_default)
        return Variant(
            model=model, name=name, overrides=overrides, config={} if config is None else changed
        )


def _overrides(item: pytest.Function | ModelItem) -> Overrides:
    """What the item's variant changes."""
    if isinstance(item, ModelItem):
        return item.overrides
    overrides: Overrides = item.callspec.params[VARIANT_FIXTURE]  # type: ignore[assignment]
    return overrides


def _for_remote(spec: SweepSpec, remote: "Remote") -> SweepSpec:
    """The spec with what perf_analyzer needs to reach ``remote``.

    Raises:
        UsageError: the spec asks for what a server that runs already cannot give.
    """
    from pytest_triton_perf.load.command import tls_args

    traffic = spec.traffic
    endpoint = remote.endpoint(traffic.protocol)
    if spec.server_args:
        raise UsageError(
            f"perf_sweep: server_args: the Triton at {remote} runs already; give it the arguments "
            "where it is started"
        )
    if endpoint is None:
        port = {"grpc": 8001, "http": 8000}[traffic.protocol]
        raise UsageError(
            f"perf_sweep: protocol={traffic.protocol!r} needs its address: "
            f"--triton-url={remote},{traffic.protocol}://host:{port}"
        )
    if not endpoint.tls:
        return spec
    args = tls_args(traffic.protocol, ca=remote.ca, certificate=remote.certificate, key=remote.key)
    return replace(spec, traffic=replace(traffic, extra_args=(*args, *traffic.extra_args)))
