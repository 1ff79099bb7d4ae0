"""One test's search while it goes on: configurations are measured until one is the best."""

import math
import time
from collections.abc import Callable
from dataclasses import fields, replace
from statistics import NormalDist

from pytest_triton_perf.collection import PerfTest
from pytest_triton_perf.contest import Contest, Measure, exactly
from pytest_triton_perf.domain.levels import Estimate, Load, Measurement
from pytest_triton_perf.domain.searched import SearchedSweep, SearchResult
from pytest_triton_perf.domain.sweeps import Sweep
from pytest_triton_perf.domain.verdicts import Verdict
from pytest_triton_perf.errors import LoadError, ServerError, TritonPerfError
from pytest_triton_perf.measuring import Rules
from pytest_triton_perf.progress import Progress
from pytest_triton_perf.search.base import Found, Spot
from pytest_triton_perf.search.engine import Search
from pytest_triton_perf.search.space import grid_of
from pytest_triton_perf.search_plans import SearchPlan
from pytest_triton_perf.sweeping import SweepRun

_TRIED = 3
"""So many configurations may break a budget when they are judged before the search gives up."""

_SHOWN = 8
"""Candidates below a test that failed."""


class SearchRun:
    """The search of one test.

    ``sweeps`` are those of all configurations that were measured, as far as it got; ``sweep`` is
    that of the best one, which the budgets judge; ``result`` is how the search ended. A budget
    without ``at`` is about the load that is chosen for a configuration. ``sweep_run`` makes the
    run of a sweep, and ``measure`` measures it.
    """

    def __init__(
        self,
        test: PerfTest,
        plan: SearchPlan,
        *,
        rules: Rules,
        measure: Measure,
        progress: Progress,
        sweep_run: Callable[..., SweepRun],
    ) -> None:
        self._test = test
        self._plan = plan
        self._rules = rules
        self._progress = progress
        self._contest = Contest(test, plan, measure=measure, progress=progress, sweep_run=sweep_run)
        self._loads = test.sweep.loads
        self._final = sweep_run(test)
        self.result: SearchResult | None = None
        self.verdicts: list[Verdict] = []
        self.levels_left = len(self._loads)

    @property
    def sweeps(self) -> list[Sweep]:
        """What was measured, of each configuration."""
        return list(self._contest.sweeps.values())

    @property
    def sweep(self) -> Sweep:
        """The best configuration's sweep; the default's while the search is not over."""
        if self.result is None:
            return self._contest.sweeps.get(0, self._final.sweep)
        chosen = self.result.candidates[0].variant
        (sweep,) = (each for each in self.sweeps if each.variant.name == chosen)
        own = {field.name: getattr(sweep, field.name) for field in fields(Sweep)}
        return SearchedSweep(
            **own, search=self.result, candidates=self.sweeps, budgets=self._test.budgets
        )

    @property
    def why_none(self) -> str:
        """Why no configuration is the best, with the nearest ones; empty where one is."""
        if self.result is None or self.result.best is not None:
            return ""
        assert isinstance(self.sweep, SearchedSweep)
        return f"{self.result}; the nearest are\n{self.sweep.search_table(_SHOWN)}"

    def ended_early(self, error: TritonPerfError) -> None:
        """Note why there is no result."""
        self._final.ended_early(error)

    def judge(self) -> list[Verdict]:
        """The verdict on each budget, by the best configuration."""
        judged = zip(self._final.judge(), self._test.budgets, strict=True)
        self.verdicts = [replace(verdict, budget=budget) for verdict, budget in judged]
        return self.verdicts

    def measure(self) -> None:
        """Search. What was measured before an error is kept.

        Raises:
            MissingPartError, ServerError, LoadError: no server is to be had, or none of the first
                configurations could be measured.
        """
        self._progress.dropped(self.levels_left)
        self.levels_left = 0
        began = time.monotonic()
        spec = self._plan.spec
        grid = grid_of(self._plan.candidates, self._loads, self._test.budgets, spec)
        engine = Search(grid, mode=spec.mode, seed=spec.seed)
        note = ""
        spot = engine.ask()
        while spot is not None:
            spot = self._visit(engine, spot)
            late = time.monotonic() - began > self._rules.max_seconds
            if late and spec.mode != "brute" and engine.explores:
                note = "its time was up; --triton-perf-max-seconds gives it more"
                engine.finish()
                spot = engine.ask()
        self._conclude(engine.found, note, began)

    def _visit(self, engine: Search, first: Spot) -> Spot | None:
        """Measure a level, and others of the same configuration for as long as they are next.

        Returns what is next. A level that was measured in this visit is for another one: that a
        configuration is loaded again shows how much it differs from one time to the next.
        """
        candidate = first.candidate
        measured: set[Spot] = set()
        after: list[Spot | None] = []

        def then(measurement: Measurement) -> Load | None:
            spot = Spot(candidate, self._loads.index(measurement.load))
            measured.add(spot)
            engine.tell(spot, self._contest.outcome(measurement, self._rules.confidence))
            another = engine.ask()
            if another is not None and another.candidate == candidate and another not in measured:
                return self._loads[another.load]
            after.append(another)
            return None

        try:
            self._contest.measure(candidate, [self._loads[first.load]], self._rules, then=then)
        except (LoadError, ServerError) as error:
            self._contest.lose(candidate, error)
            engine.lost(candidate)
            return engine.ask()
        return after[0]

    def _conclude(self, found: Found, note: str, began: float) -> None:
        """Judge the best configuration by new load, and compare it with the default."""
        ranking = found.ranking()
        within = [spot for spot in ranking if found.slack(spot) >= 0]
        broken: dict[int, str] = {}
        chosen: Spot | None = None
        for spot in within[:_TRIED] or ranking[:1]:
            try:
                final = self._judged(spot)
            except (LoadError, ServerError) as error:
                self._contest.lose(spot.candidate, error)
                continue
            failed = [v for v in final.judge() if v.status in ("failed", "not_measured")]
            if chosen is None or not failed:
                chosen, self._final = spot, final
            if not failed:
                break
            broken[spot.candidate] = "; ".join(f"{v.budget}: {v.reason}" for v in failed)
        if chosen is None:
            raise self._contest.hopeless(LoadError)
        kept = within or all(verdict.status == "passed" for verdict in self._final.judge())
        is_best = bool(kept) and chosen.candidate not in broken
        gain = self._gain(chosen, found) if is_best else None
        contest = self._contest
        others = [s for s in ranking if s != chosen and s.candidate not in contest.lost]
        self.result = SearchResult(
            test=self._test.nodeid,
            model=self._test.sweep.model,
            mode=self._plan.spec.mode,
            objectives=self._plan.spec.objectives,
            candidates=[
                contest.standing(chosen, found, "best" if is_best else "behind", broken),
                *(contest.standing(spot, found, "behind", broken) for spot in others),
                *contest.not_measured(found),
            ],
            levels=contest.levels,
            space=len(found.grid.spots),
            configurations=len(self._plan.candidates),
            wall_s=round(time.monotonic() - began, 3),
            config=self._plan.candidates[chosen.candidate].config
            or self._final.sweep.variant.config,
            gain=gain,
            note=note,
        )

    def _judged(self, spot: Spot) -> SweepRun:
        """Measure a configuration for its budgets, at the loads that they are about."""
        chosen = self._loads[spot.load]
        budgets = [b if b.at else replace(b, at=exactly(chosen)) for b in self._test.budgets]
        limits = [budget.at for budget in self._test.budgets if budget.at]
        named = [load for load in self._loads if any(load.matches(at) for at in limits)]
        loads = list(dict.fromkeys([chosen, *named]))
        if self._plan.all_loads:
            known = {m.load for m in self._contest.sweeps[spot.candidate].measurements}
            if left := [load for load in self._loads if load not in {*known, *loads}]:
                self._contest.measure(spot.candidate, left, self._rules)
        # A budget takes the load that it needs.
        judged = any(chosen.matches(budget.at) for budget in budgets)
        rules = self._rules if judged else self._longer
        return self._contest.measure(spot.candidate, loads, rules, budgets=budgets)

    @property
    def _longer(self) -> Rules:
        """For load that settles something, where the search was content with glances.

        Of one visit, more load would tell no more of the others.
        """
        return replace(self._rules, first_seconds=self._rules.floor_seconds / 2)

    def _gain(self, chosen: Spot, found: Found) -> Estimate | None:
        """How many times better the best configuration is than the default, if that is another."""
        default = found.best_of(0)
        if not chosen.candidate or default is None or found.slack(default) < 0:
            return None
        try:
            run = self._contest.measure(0, [self._loads[default.load]], self._longer)
        except (LoadError, ServerError) as error:
            self._contest.lose(0, error)
            return None
        confidence = self._rules.confidence
        best, plain = (
            self._contest.score(
                sweep.levels_at(exactly(self._loads[spot.load]))[0].measurement, confidence
            )
            for spot, sweep in ((chosen, self._final.sweep), (default, run.sweep))
        )
        margin = NormalDist().inv_cdf((1 + confidence) / 2) * math.hypot(best.error, plain.error)
        gain = best.mean - plain.mean
        ratios = [math.exp(each) for each in (gain, gain - margin, gain + margin)]
        return Estimate(value=ratios[0], ci=(ratios[1], ratios[2]))
