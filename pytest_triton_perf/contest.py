"""The configurations that a search compares: how they are measured, and what that gave."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from pytest_triton_perf.collection import PerfTest
from pytest_triton_perf.domain.budgets import Budget
from pytest_triton_perf.domain.levels import Load, Measurement
from pytest_triton_perf.domain.searched import Candidate, Standing
from pytest_triton_perf.domain.sweeps import Sweep
from pytest_triton_perf.errors import TritonPerfError
from pytest_triton_perf.measuring import Rules
from pytest_triton_perf.progress import Progress
from pytest_triton_perf.search.base import Found, Guess, Outcome, Spot
from pytest_triton_perf.search.scoring import score, slack
from pytest_triton_perf.search_plans import SearchPlan
from pytest_triton_perf.sweeping import SweepRun

Measure = Callable[[SweepRun, PerfTest, str], None]
"""Measures a sweep of a test; the text tells those of one configuration apart."""

_HOPELESS = 3
"""So many configurations that cannot be measured, and none that can, end the search."""


class Contest:
    """The configurations of one search, by their index in its plan.

    ``sweeps`` are those of what was measured, ``lost`` why others could not be, and ``levels`` is
    how many levels were measured, each time that they were. A level that was measured before
    is replaced in its sweep.
    """

    def __init__(
        self,
        test: PerfTest,
        plan: SearchPlan,
        *,
        measure: Measure,
        progress: Progress,
        sweep_run: Callable[..., SweepRun],
    ) -> None:
        self.loads = test.sweep.loads
        self.budgets = test.budgets
        self.sweeps: dict[int, Sweep] = {}
        self.lost: dict[int, str] = {}
        self.levels = 0
        self._test = test
        self._plan = plan
        self._measure = measure
        self._visits = 0
        self._progress = progress
        self._sweep_run = sweep_run

    def measure(
        self,
        candidate: int,
        loads: Sequence[Load],
        rules: Rules,
        *,
        budgets: Sequence[Budget] = (),
        then: Callable[[Measurement], Load | None] = lambda measurement: None,
    ) -> SweepRun:
        """Load a configuration and measure it; ``then`` may name further loads.

        Raises:
            MissingPartError, ServerError, LoadError: as ``SweepRun.measure``.
        """
        variant = self._plan.candidates[candidate]
        sweep = replace(self._test.sweep, loads=tuple(loads), auto=False)
        test = replace(self._test, variant=variant, sweep=sweep, budgets=tuple(budgets))
        run = self._sweep_run(test, rules=rules, then=then)
        self._visits += 1
        self._progress.total += len(loads)
        try:
            self._measure(run, test, f", visit {self._visits}")
        finally:
            self._progress.dropped(run.levels_left)
            self.levels += len(run.sweep.measurements)
            if run.sweep.measurements:
                self._keep(candidate, run.sweep)
        return run

    def _keep(self, candidate: int, sweep: Sweep) -> None:
        if (before := self.sweeps.get(candidate)) is not None:
            again = {measurement.load for measurement in sweep.measurements}
            kept = [m for m in before.measurements if m.load not in again]
            sweep = replace(sweep, measurements=[*kept, *sweep.measurements])
        self.sweeps[candidate] = sweep

    def outcome(self, measurement: Measurement, confidence: float) -> Outcome:
        """What the search is told of a level."""
        return Outcome(
            score=self.score(measurement, confidence),
            slacks=tuple(slack(measurement, budget, confidence) for budget in self.budgets),
        )

    def score(self, measurement: Measurement, confidence: float) -> Guess:
        """What the search maximises."""
        return score(measurement, self._plan.spec.objectives, confidence)

    def lose(self, candidate: int, error: TritonPerfError) -> None:
        """Note why a configuration cannot be measured.

        Raises:
            TritonPerfError: the same for all so far, and they are several.
        """
        self.lost[candidate] = " ".join(str(error).partition("\n")[0].split())
        if len(self.lost) >= _HOPELESS and not self.sweeps:
            raise self.hopeless(type(error))

    def hopeless(self, kind: type[TritonPerfError]) -> TritonPerfError:
        """The error that ends a search in which nothing could be measured."""
        reasons = "\n".join(f"    {self.name(index)}: {why}" for index, why in self.lost.items())
        return kind(f"the search found no configuration that can be measured:\n{reasons}")

    # -- for the result

    def name(self, candidate: int) -> str:
        """The name of a configuration."""
        return self._plan.candidates[candidate].name

    def standing(
        self, spot: Spot, found: Found, standing: Standing, broken: Mapping[int, str]
    ) -> Candidate:
        """How a configuration ended that was measured; ``broken`` is which budgets it broke."""
        why = broken.get(spot.candidate, "")
        if not why and standing != "best" and found.slack(spot) < 0:
            why = self._what_it_misses(spot)
        return Candidate(
            variant=self.name(spot.candidate),
            standing="outside" if why else standing,
            load=self.loads[spot.load],
            why=why,
        )

    def _what_it_misses(self, spot: Spot) -> str:
        misses: dict[str, None] = {}
        (level,) = self.sweeps[spot.candidate].levels_at(exactly(self.loads[spot.load]))
        for name in self._plan.spec.objectives:
            if name not in level.measurement.values:
                misses[f"{name}: not measured ({level.why_missing(name)})"] = None
        for budget in self.budgets:
            at = budget.at or exactly(self.loads[spot.load])
            for level in self.sweeps[spot.candidate].levels_at(at):
                if not budget.holds_on(level.measurement):
                    value = level.measurement.value(budget.metric.name)
                    missing = f"not measured ({level.why_missing(budget.metric.name)})"
                    what = missing if value is None else budget.metric.format(value)
                    misses[f"{budget}: {what}"] = None
        return "; ".join(misses)

    def not_measured(self, found: Found) -> list[Candidate]:
        """Those that failed, and those that were not tried because of them."""
        first = self.name(min(self.lost)) if self.lost else ""
        why = f"not tried: it needs more than {first}, which failed"
        reasons = self.lost | dict.fromkeys(sorted(found.lost - self.lost.keys()), why)
        return [
            Candidate(variant=self.name(candidate), standing="lost", why=why)
            for candidate, why in reasons.items()
        ]


def exactly(load: Load) -> dict[str, float]:
    """What names one load, as a budget's ``at`` does."""
    return {load.kind: load.value, "batch_size": load.batch_size}
