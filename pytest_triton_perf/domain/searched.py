"""How a search ended: the configurations that were compared, and the best of them."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal

from pytest_triton_perf.domain.budgets import Budget
from pytest_triton_perf.domain.levels import Estimate, Load
from pytest_triton_perf.domain.metrics import find_metric, interval_text, percentile_of
from pytest_triton_perf.domain.names import nearest
from pytest_triton_perf.domain.sweeps import Level, Sweep
from pytest_triton_perf.domain.tables import columns, figure
from pytest_triton_perf.domain.variants import Variant, default_name, readable_id
from pytest_triton_perf.errors import SweepError, UsageError

Standing = Literal["best", "behind", "outside", "lost"]
"""Of a configuration: it is the best, it is not, it keeps the limits at no load that was
measured, or it could not be measured."""


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A configuration that a search measured, or tried to.

    ``load`` is where it is best (or nearest to the limits), ``None`` where it was not measured;
    ``why`` says what it misses, or what went wrong.
    """

    variant: str
    standing: Standing
    load: Load | None = None
    why: str = ""


@dataclass(frozen=True, kw_only=True)
class SearchResult:
    """How the search of one test ended; plain data.

    ``candidates`` come best first, those that could not be measured last. ``gain`` is the ratio
    of the best one's objective to the default's, each at its best load, from load that was made
    after the choice; ``None`` where the default is the best, or keeps the limits nowhere. Of the
    ``space`` so many ``levels`` were measured; ``configurations`` is how many it has. ``config`` is
    the first candidate's model config as it was asked for.
    """

    test: str
    model: str
    mode: str
    objectives: Mapping[str, float]
    candidates: Sequence[Candidate]
    levels: int
    space: int
    configurations: int
    wall_s: float
    config: Mapping[str, Any] = field(default_factory=dict)
    gain: Estimate | None = None
    note: str = ""

    @property
    def best(self) -> Candidate | None:
        """The best configuration; ``None`` where none keeps the limits."""
        return next((each for each in self.candidates if each.standing == "best"), None)

    def __str__(self) -> str:
        """What the search found, in a sentence or two."""
        effort = (
            f"{self.levels} of {self.space} levels of {self.configurations} configurations were "
            f"measured in {self.wall_s:.0f} s"
        )
        note = f"; {self.note}" if self.note else ""
        if self.best is None:
            return f"{self.model}: no configuration keeps the budgets ({effort}{note})"
        best = f"{self.model}: {self.best.variant} is the best configuration"
        if self.best.variant == default_name(self.model):
            best += ", the model as it stands,"
        return f"{best} at {self.best.load}{self._gain_text()} ({effort}{note})"

    def _gain_text(self) -> str:
        if self.gain is None:
            return ""
        name, *others = self.objectives
        better, what = "higher", find_metric(name).label
        change = _more
        if others:
            better, what = "better", "the weighted objective"
        elif find_metric(name).better == "lower":
            better, change = "lower", _less
        gain, interval = change(self.gain.value), interval_text(change, self.gain.ci)
        return f": {what} is {gain}% {interval} {better} than the default configuration's"

    def to_json(self) -> dict[str, Any]:
        """The result in the shape of ``results.json``."""
        data = {each.name: getattr(self, each.name) for each in fields(self)}
        gain = self.gain
        return {
            **data,
            "objectives": dict(self.objectives),
            "candidates": [
                {**asdict(each), "load": None if each.load is None else asdict(each.load)}
                for each in self.candidates
            ],
            "gain": None if gain is None else {"value": gain.value, "ci": gain.ci},
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "SearchResult":
        """What :meth:`to_json` wrote."""
        gain = data["gain"]
        ci = None if gain is None or gain["ci"] is None else tuple(gain["ci"])
        candidates = [
            Candidate(**{**each, "load": None if each["load"] is None else Load(**each["load"])})
            for each in data["candidates"]
        ]
        estimate = None if gain is None else Estimate(value=gain["value"], ci=ci)
        return cls(**{**data, "candidates": candidates, "gain": estimate})


@dataclass(frozen=True, kw_only=True, repr=False)
class SearchedSweep(Sweep):
    """The sweep of the configuration that a search chose, and what it was compared with.

    ``candidates`` are the sweeps of all that were measured, this one among them; ``budgets`` are
    what the search had to keep.
    """

    search: SearchResult
    candidates: Sequence[Sweep] = ()
    budgets: Sequence[Budget] = field(default=())

    @property
    def best_variant(self) -> Variant:
        """The best configuration: ``name``, ``overrides``, ``config``."""
        return self.variant

    def pareto(self, *metrics: str) -> tuple[Level, ...]:
        """The levels, of all configurations, than which none is better in one metric for free.

        None is at least as good in all ``metrics`` and better in one: throughput and the highest
        latency percentile, where none are named. They come with the first metric's best first.

        Raises:
            SweepError: a metric is unknown, or was measured at no level.
        """
        __tracebackhide__ = True
        names = metrics or self._trade()
        try:
            goals = [find_metric(name) for name in names]
        except UsageError as error:
            raise SweepError(f"pareto(): {error}") from None
        levels = [level for sweep in self.candidates for level in sweep.levels]
        scores = {
            index: tuple(
                level.measurement.values[goal.name].value * (1 if goal.better == "higher" else -1)
                for goal in goals
            )
            for index, level in enumerate(levels)
            if all(goal.name in level.measurement.values for goal in goals)
        }
        if not scores:
            known = dict.fromkeys(n for level in levels for n in level.measurement.values)
            hint = nearest(names[0], known)
            raise SweepError(f"pareto(): no level has all of {', '.join(names)} measured{hint}")
        front = [
            index
            for index, mine in scores.items()
            if not any(_dominates(other, mine) for other in scores.values())
        ]
        return tuple(levels[i] for i in sorted(front, key=lambda i: scores[i], reverse=True))

    def search_table(self, most: int | None = None) -> str:
        """The configurations as a text table, the best first; ``most`` of them at most."""
        named = [*self.search.objectives, *(budget.metric.name for budget in self.budgets)]
        metrics = [find_metric(name) for name in dict.fromkeys(named)]
        sweeps = {sweep.variant.name: sweep for sweep in self.candidates}
        rows = [["", "configuration", "at", *(metric.short for metric in metrics), ""]]
        for candidate in self.search.candidates[:most]:
            sweep = sweeps.get(candidate.variant)
            values: Mapping[str, Estimate] = {}
            if sweep is not None and candidate.load is not None:
                values = next(m.values for m in sweep.measurements if m.load == candidate.load)
            cells = [figure(m, values[m.name]) if m.name in values else "-" for m in metrics]
            standing = {"best": "best", "behind": ""}.get(candidate.standing, candidate.why)
            changes = readable_id(sweep.variant.overrides) if sweep is not None else ""
            where = str(candidate.load or "-")
            rows.append([candidate.variant, changes, where, *cells, standing])
        return columns(rows, right=range(3, 3 + len(metrics)))

    def _trade(self) -> tuple[str, ...]:
        tails = [name for name in self.levels[0].measurement.values if percentile_of(name)]
        return ("throughput", *(tails[-1:] or ["avg_latency_ms"]))


def _more(ratio: float) -> str:
    return f"{100 * (ratio - 1):,.1f}"


def _less(ratio: float) -> str:
    return f"{100 * (1 - 1 / ratio):,.1f}"


def _dominates(one: Sequence[float], other: Sequence[float]) -> bool:
    return one != other and all(mine >= its for mine, its in zip(one, other, strict=True))
