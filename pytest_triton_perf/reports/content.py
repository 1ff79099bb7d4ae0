"""The words of the reports: decided once, here, and set by each output its own way.

Pure: everything comes from the :class:`~pytest_triton_perf.domain.results.Run`. Of its
``environment`` two keys are read by name, where they exist: ``triton`` (a mapping with
``version``) and ``gpus`` (a list of mappings with ``uuid``, ``name`` and
``memory_total_mb``); the rest is shown as it is.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pytest_triton_perf.domain.budgets import Budget
from pytest_triton_perf.domain.levels import Estimate
from pytest_triton_perf.domain.metrics import interval_text
from pytest_triton_perf.domain.names import listed
from pytest_triton_perf.domain.results import Run
from pytest_triton_perf.domain.searched import SearchResult
from pytest_triton_perf.domain.sweeps import Level, Sweep
from pytest_triton_perf.domain.tables import percent
from pytest_triton_perf.domain.variants import Variant
from pytest_triton_perf.domain.verdicts import Verdict

NOT_MEASURED = "–"
STATUSES = ("failed", "not_measured", "inconclusive", "passed")
"""Of verdicts, the worst first."""


@dataclass(frozen=True, kw_only=True)
class Miss:
    """How far a level is from the constraints of its test.

    ``share`` is the worst relative distance to a limit: 0 where all are kept, infinite where
    one could not be judged. ``budget`` and ``level`` are where that was; ``None`` for 0.
    """

    share: float
    budget: Budget | None = None
    level: Level | None = None


def levels_of(run: Run, model: str) -> list[Level]:
    """All measured levels of a model."""
    return [level for sweep in run.sweeps if sweep.model == model for level in sweep.levels]


def configurations_of(run: Run, model: str) -> dict[str, list[Level]]:
    """The levels of each configuration of a model, in order of first measurement."""
    return {
        name: [level for sweep in sweeps for level in sweep.levels]
        for name, sweeps in run.configurations.items()
        if sweeps[0].model == model
    }


def budgets_of(run: Run, sweeps: Iterable[Sweep]) -> list[Budget]:
    """The distinct budgets of the tests that made the sweeps."""
    found = [verdict.budget for sweep in sweeps for verdict in run.verdicts_of(sweep)]
    return list({constraint(budget): budget for budget in found}.values())


def model_budgets(run: Run, model: str) -> list[Budget]:
    """The distinct budgets of all tests of a model."""
    return budgets_of(run, (sweep for sweep in run.sweeps if sweep.model == model))


def constraint(budget: Budget) -> str:
    """A budget in words: ``p99 latency ≤ 25 ms at every load``."""
    sign = "≤" if budget.metric.better == "lower" else "≥"
    return f"{budget.metric.label} {sign} {budget.limit:g} {budget.metric.unit} {budget.where}"


def satisfies(run: Run, level: Level) -> bool | None:
    """Whether a level keeps the budgets that apply to it; ``None`` where none does."""
    budgets = [b for b in budgets_of(run, [level.sweep]) if level.load.matches(b.at)]
    return all(budget.holds_on(level.measurement) for budget in budgets) if budgets else None


def miss(run: Run, level: Level) -> Miss:
    """How far a level is from the constraints.

    A budget for all loads is judged on the level itself, one for certain loads on those: a
    configuration that breaks its limit at concurrency 8 is no choice at concurrency 16 either.
    """
    budgets = budgets_of(run, [level.sweep])
    if not budgets:
        return Miss(share=math.inf if model_budgets(run, level.sweep.model) else 0.0)
    worst = Miss(share=0.0)
    for budget in budgets:
        judged = level.sweep.levels_at(budget.at) if budget.at else (level,)
        if not judged:
            worst = Miss(share=math.inf, budget=budget)
        for one in judged:
            share = _share(budget, one)
            if share > worst.share:
                worst = Miss(share=share, budget=budget, level=one)
    return worst


def _share(budget: Budget, level: Level) -> float:
    value = level.measurement.value(budget.metric.name)
    if value is None:
        return math.inf
    over = value - budget.limit if budget.metric.better == "lower" else budget.limit - value
    return max(0.0, over / budget.limit)


def best_level(run: Run, levels: Sequence[Level]) -> tuple[Level, Miss] | None:
    """The level with the most throughput among those within the constraints.

    Where none is within, the nearest to them; ``None`` where throughput was never measured.
    Of equals, the default configuration.
    """
    measured = [
        (level, miss(run, level))
        for level in levels
        if level.measurement.value("throughput") is not None
    ]
    if not measured:
        return None

    def rank(pair: tuple[Level, Miss]) -> tuple[float, float, bool]:
        level, missed = pair
        return (-missed.share, _throughput(level), level.sweep.variant.is_default)

    return max(measured, key=rank)


def best_levels(run: Run, model: str) -> list[tuple[Level, Miss]]:
    """The best level of each configuration, the best configuration first.

    Before all others is what a search chose: it compared them over several measurements.
    """
    chosen = chosen_for_throughput(run, model)
    ranked = _ranked(run, configurations_of(run, model).values())
    return sorted(ranked, key=lambda pair: run.configuration(pair[0].sweep) != chosen)


def _ranked(run: Run, configurations: Iterable[Sequence[Level]]) -> list[tuple[Level, Miss]]:
    """The best level of each by a single measurement, the best first."""
    best = [best_level(run, levels) for levels in configurations]
    found = [pair for pair in best if pair is not None]
    return sorted(
        found,
        key=lambda p: (p[1].share, -_throughput(p[0]), not p[0].sweep.variant.is_default),
    )


def _rate(level: Level) -> Estimate:
    return level.measurement.values["throughput"]


def _throughput(level: Level) -> float:
    return _rate(level).value


def summary_sentence(run: Run, model: str) -> str:
    """Which configuration of a model is best, by how much, and how sure that is, in sentences.

    What searches found comes first.
    """
    ranked = _ranked(run, configurations_of(run, model).values())
    sentence = _best_sentence(run, model, ranked)
    name = chosen_for_throughput(run, model)
    if name is not None and ranked and run.configuration(ranked[0][0].sweep) != name:
        sentence = (
            f"{best_note(run, name)} Others may have more in a single measurement: the search "
            "compared them over several."
        )
    return " ".join([*(f"{search}." for search in _searches(run, model)), sentence])


def _searches(run: Run, model: str) -> list[SearchResult]:
    return [search for search in run.searches if search.model == model]


def chosen_for_throughput(run: Run, model: str) -> str | None:
    """The configuration that searches chose for its throughput, if they agree on one."""
    chosen = {
        name
        for search in _searches(run, model)
        if search.best is not None and set(search.objectives) == {"throughput"}
        for name, sweeps in run.configurations.items()
        if sweeps[0].variant.name == search.best.variant
    }
    return chosen.pop() if len(chosen) == 1 else None


def _best_sentence(run: Run, model: str, ranked: Sequence[tuple[Level, Miss]]) -> str:
    levels, names = levels_of(run, model), list(configurations_of(run, model))
    lead = (
        f"In {_count(len(levels), 'measurement')} "
        f"{'across' if len(names) > 1 else 'of'} {_count(len(names), 'configuration')}"
    )
    if not ranked:
        why = {level.why_missing("throughput") for level in levels}
        return f"{lead}, no throughput was measured: {'; '.join(sorted(why))}."
    level, missed = ranked[0]
    if missed.share > 0:
        return f"{lead}, {_nearest(run, level, missed)}"
    constrained = bool(model_budgets(run, model))
    under = "under the given constraints" if constrained else "with no constraints given"
    if len(names) == 1:
        return f"{lead}, {names[0]} provides at best {_rate_text(level)}, {under}."
    return f"{lead}, {_gain(run, ranked, under)}"


def _gain(run: Run, ranked: Sequence[tuple[Level, Miss]], under: str) -> str:
    """The rest of the sentence: the best of several configurations against the default."""
    level, _ = ranked[0]
    name, rate = run.configuration(level.sweep), _infer_per_s(level)
    if level.sweep.variant.is_default:
        return (
            f"the default configuration {name} provides the best throughput: {rate}. "
            f"No other configuration gains over it, {under}.{_certainty(run, level)}"
        )
    text = f"{name} provides the best throughput: {rate}"
    default = _default_beside(level, ranked)
    its_default = f"default configuration{' on that image' if len(run.images) > 1 else ''}"
    if default is None:
        text = f"{text}, {under}. The {its_default} was not measured."
        return f"{text}{_certainty(run, level)}"
    if default[1].share > 0:
        return (
            f"{text}, {under}. The {its_default} is within them at no measured load "
            f"({_infer_per_s(default[0])} where it comes nearest).{_certainty(run, level)}"
        )
    gain = _percent(100 * (_throughput(level) / _throughput(default[0]) - 1))
    text = f"{text}. This is {gain} over the {its_default} ({_infer_per_s(default[0])}), {under}."
    return f"{text}{_certainty(run, level, default[0])}"


def _certainty(run: Run, *levels: Level) -> str:
    """The sentences on the throughput intervals of one level, or of two that are compared."""
    rates = [_rate(level) for level in levels]
    texts = [interval_text(_number, rate.ci) for rate in rates]
    if not all(texts):
        return " Not all of this has an interval: the difference may be noise." * (len(levels) > 1)
    what = "the best throughput lies" if len(levels) == 1 else "the two lie"
    text = f" At {100 * run.confidence:g}% confidence, {what} in {listed(texts)} infer/sec."
    if len(levels) > 1 and _overlap(*rates):
        return f"{text} Their intervals overlap: the difference may be noise."
    return text


def _overlap(one: Estimate, other: Estimate) -> bool:
    """Whether two intervals have a value in common, so that their difference may be 0."""
    (low, high), (other_low, other_high) = one.ci or (None, None), other.ci or (None, None)
    apart = high is not None and other_low is not None and high < other_low
    return not (apart or (other_high is not None and low is not None and other_high < low))


def gain_text(level: Level, ranked: Iterable[tuple[Level, Miss]]) -> str:
    """How much more throughput a level has than the default's best one: ``+12.0%``.

    With a word where their intervals overlap, so that it may be noise.
    """
    default = _default_beside(level, ranked)
    if default is None or default[0] is level:
        return NOT_MEASURED
    text = f"{100 * (_throughput(level) / _throughput(default[0]) - 1):+.1f}%"
    return f"{text}, unsure" if _overlap(_rate(level), _rate(default[0])) else text


def _default_beside(
    level: Level, ranked: Iterable[tuple[Level, Miss]]
) -> tuple[Level, Miss] | None:
    """The default configuration on the same image as ``level``, if it was measured."""
    defaults = (pair for pair in ranked if pair[0].sweep.variant.is_default)
    return next((pair for pair in defaults if pair[0].sweep.image == level.sweep.image), None)


def _nearest(run: Run, level: Level, missed: Miss) -> str:
    """The rest of the sentence where no configuration is within the constraints."""
    budget = missed.budget
    if budget is None:
        return "no configuration was judged against the constraints."
    if missed.level is None or math.isinf(missed.share):
        why = missed.level.why_missing(budget.metric.name) if missed.level else "no such load"
        return (
            f"no configuration is known to satisfy the constraints: {budget.metric.label} "
            f"{budget.where} was not measured ({why})."
        )
    estimate = missed.level.measurement.values[budget.metric.name]
    side = "over" if budget.metric.better == "lower" else "under"
    # The level that breaks a limit and the level whose throughput is given may differ.
    rate = "" if budget.metric.name == "throughput" else f" ({_rate_text(level)})"
    return (
        f"no configuration satisfies the constraints. {run.configuration(level.sweep)} at "
        f"{level.load}{rate} comes nearest: {budget.metric.label} "
        f"{budget.metric.format(estimate.value)}"
        f"{_spaced(interval_text(budget.metric.number, estimate.ci))}"
        f"{'' if missed.level.load == level.load else f' at {missed.level.load}'}, "
        f"{percent(missed.share)} {side} the limit of {budget.limit:g} {budget.metric.unit}."
    )


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _infer_per_s(level: Level) -> str:
    return f"{_number(_throughput(level))} infer/sec"


def _rate_text(level: Level) -> str:
    """The throughput with its interval: ``7122 infer/sec [6900, 7340]``."""
    return f"{_infer_per_s(level)}{_spaced(interval_text(_number, _rate(level).ci))}"


def _number(value: float) -> str:
    return f"{value:.{0 if value >= 100 else 1 if value >= 10 else 2}f}"


def _spaced(text: str) -> str:
    return f" {text}" if text else ""


def _percent(gain: float) -> str:
    """``a 12% gain``, ``an 8% gain``, ``a 0.4% gain``."""
    if gain < 0.1:
        return "a gain of less than 0.1%"
    text = f"{gain:.0f}" if gain >= 1 else f"{gain:.1f}"
    return f"{'an' if text.startswith('8') or text in ('11', '18') else 'a'} {text}% gain"


def hardware(run: Run, model: str) -> str:
    """The GPUs that the model ran on, by name, or ``CPU``."""
    levels = [lv for lv in levels_of(run, model) if not _on_cpu(lv.sweep.variant.config)]
    return listed([_gpu(gpu) for gpu in _gpus(run, levels).values()] or ["CPU"])


def gpu_memory_sentence(run: Run, model: str) -> str:
    """How much memory the watched GPUs have together; empty without a GPU.

    GB are 10**9 bytes. Empty too where that of one of them is not known.
    """
    gpus = _gpus(run, levels_of(run, model)).values()
    memory_mb = [gpu["memory_total_mb"] for gpu in gpus if gpu.get("memory_total_mb")]
    if not gpus or len(memory_mb) < len(gpus):
        return ""
    return f"Total Available GPU Memory: {sum(memory_mb) / 1000:.1f} GB"


def _gpus(run: Run, levels: Iterable[Level]) -> dict[str, Mapping[str, Any]]:
    """What is known of each GPU that was watched while the levels were measured, by UUID."""
    # Those of a remote server are known by its own metrics alone.
    known = {gpu["uuid"]: gpu for gpu in run.environment.get("gpus") or ()}
    return {
        uuid: {"uuid": uuid, **reading, **known.get(uuid, {})}
        for level in levels
        for uuid, reading in level.measurement.gpus.items()
    }


def _gpu(gpu: Mapping[str, Any]) -> str:
    uuid, memory_mb = gpu["uuid"], gpu.get("memory_total_mb")
    if memory_mb is None:
        return str(uuid)
    gigabytes = f"{memory_mb / 1000:.1f} GB"
    return f"{gpu['name']} ({gigabytes}, {uuid})" if "name" in gpu else f"{uuid} ({gigabytes})"


def _on_cpu(config: Mapping[str, Any]) -> bool:
    kinds = [group.get("kind") for group in config.get("instance_group", ())]
    return bool(kinds) and all(kind == "KIND_CPU" for kind in kinds)


def facts(run: Run, model: str) -> list[tuple[str, str]]:
    """What a reader needs to know beside the sentence."""
    rows = [("Model", model), ("Measured on", hardware(run, model))]
    if version := (run.environment.get("triton") or {}).get("version"):
        rows.append(("Triton", str(version)))
    if run.images:
        rows.append(("Images" if len(run.images) > 1 else "Image", listed(run.images)))
    targets = [constraint(budget) for budget in model_budgets(run, model)]
    return [*rows, ("Constraint targets", "; ".join(targets) or "none")]


def environment_rows(run: Run) -> list[tuple[str, str]]:
    """The environment, one row per value: ``("machine cores", "2")``."""
    return list(_flat("", run.environment))


def _flat(key: str, value: Any) -> Iterable[tuple[str, str]]:
    if isinstance(value, Mapping):
        for name, part in value.items():
            yield from _flat(f"{key} {name}".strip().replace("_", " "), part)
    elif isinstance(value, list | tuple) and any(isinstance(part, Mapping) for part in value):
        for number, part in enumerate(value, 1):
            yield from _flat(f"{key} {number}", part)
    elif isinstance(value, list | tuple):
        yield key, ", ".join(map(str, value)) or NOT_MEASURED
    else:
        yield key, NOT_MEASURED if value is None else str(value)


def by_badness(run: Run) -> list[Verdict]:
    """All verdicts, the worst first."""
    return sorted(run.verdicts, key=lambda verdict: STATUSES.index(verdict.status))


def tally(run: Run) -> str:
    """``2 failed, 7 passed``; the worst first."""
    counts = {s: sum(v.status == s for v in run.verdicts) for s in STATUSES}
    parts = [f"{n} {status.replace('_', ' ')}" for status, n in counts.items() if n]
    return ", ".join(parts) or "no budgets were set"


def overrides_text(variant: Variant) -> str:
    """What a variant changes, in words."""
    if not variant.overrides:
        return "nothing: the configuration of the repository"
    return ", ".join(f"{path} = {value}" for path, value in variant.overrides.items())


def best_note(run: Run, name: str) -> str:
    """How a configuration's best throughput compares with the default's, as a sentence."""
    model = run.configurations[name][0].model
    # Each variant has such a sentence: to rank all of them every time would take their square.
    ranked = _ranked(
        run,
        (
            levels
            for other, levels in configurations_of(run, model).items()
            if other == name or levels[0].sweep.variant.is_default
        ),
    )
    best = {run.configuration(level.sweep): (level, missed) for level, missed in ranked}
    if name not in best:
        return f"No throughput of {name} was measured."
    level, missed = best[name]
    where = f"{_rate_text(level)} at {level.load}"
    if missed.share:
        text = f"{name} is within the constraints at no measured load; nearest is {where}"
    else:
        under = " under the given constraints" if model_budgets(run, model) else ""
        text = f"{name} provides at best {where}{under}"
    default = _default_beside(level, ranked)
    if level.sweep.variant.is_default or default is None:
        return f"{text}."
    return f"{text}; the default configuration, {_rate_text(default[0])} at {default[0].load}."
