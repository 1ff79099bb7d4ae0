"""The runs of several jobs as one: a model in each, say, or a shard of the tests."""

import itertools
import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from pytest_triton_perf.domain.baselines import differences, machine_of
from pytest_triton_perf.domain.results import Run
from pytest_triton_perf.domain.variants import Variant
from pytest_triton_perf.errors import UsageError


def merge_jobs(runs: Mapping[str, Run]) -> Run:
    """One run of those of ``runs``, keyed by what a reader knows each job by, in their order.

    Every session counts its variants anew: of equal names, those that are other configurations
    get another number. What the jobs' environments do not share is in ``environment["jobs"]``.

    Raises:
        UsageError: two jobs ran the same test, or their figures of one model cannot stand beside
            each other, because their machines or the model differ.
    """
    _refuse_doubles(runs)
    _refuse_other_machines(runs)
    names = _Names()
    named = [names.apply(job, run) for job, run in runs.items()]
    servers = {(s["image"], s["version"]): s for run in reversed(named) for s in run.server_only}
    return Run(
        environment=_environment(runs),
        server_only=list(reversed(servers.values())),
        sweeps=[sweep for run in named for sweep in run.sweeps],
        verdicts=[verdict for run in named for verdict in run.verdicts],
        searches=[search for run in named for search in run.searches],
        comparisons=list(dict.fromkeys(c for run in named for c in run.comparisons)),
        watched=[watched for run in named for watched in run.watched],
        panels=[panel for run in named for panel in run.panels],
        wall_s=sum(run.wall_s for run in named),
        exit=max(run.exit for run in named),
        confidence=min(run.confidence for run in named),
        notes=[f"{job}: {note}" for job, run in runs.items() for note in run.notes],
    )


def _refuse_doubles(runs: Mapping[str, Run]) -> None:
    ran: dict[str, str] = {}
    for job, run in runs.items():
        tests = dict.fromkeys([*(s.test for s in run.sweeps), *(v.test for v in run.verdicts)])
        for test in tests:
            if (before := ran.setdefault(test, job)) != job:
                raise UsageError(
                    f"{test} was run in {before} and in {job}: one report has each test once; "
                    "leave out one of them"
                )


def _refuse_other_machines(runs: Mapping[str, Run]) -> None:
    machines: dict[str, tuple[str, Mapping[str, str]]] = {}
    for job, run in runs.items():
        versions = ", ".join(sorted({str(server["version"]) for server in run.server_only}))
        machine = {**machine_of(run.environment), "Triton": versions or "unknown"}
        for model in run.models:
            before, other = machines.setdefault(model, (job, machine))
            if other != machine:
                raise UsageError(
                    f"{model} was measured in {before} and in {job}, which differ: "
                    f"{differences(other, machine)}; figures of two machines cannot stand beside "
                    "each other: merge the jobs of each machine into a report of its own"
                )


def _environment(runs: Mapping[str, Run]) -> dict[str, Any]:
    environments = {job: dict(run.environment) for job, run in runs.items()}
    gpus = {g["uuid"]: g for each in environments.values() for g in each.pop("gpus", ())}
    versions = {each.pop("triton", {}).get("version"): None for each in environments.values()}
    first, *others = environments.values()
    shared = {
        key: value
        for key, value in first.items()
        if all(key in other and other[key] == value for other in others)
    }
    apart = {
        job: {key: value for key, value in each.items() if key not in shared}
        for job, each in environments.items()
    }
    return {
        **shared,
        "gpus": list(gpus.values()),
        "triton": {"version": ", ".join(filter(None, versions))},
        "jobs": {job: each for job, each in apart.items() if each},
    }


class _Names:
    """Gives each configuration one name over all jobs."""

    def __init__(self) -> None:
        self._identities: dict[str, str] = {}
        self._names: dict[str, str] = {}

    def apply(self, job: str, run: Run) -> Run:
        """The run with the names that its variants have among all."""
        new = {sweep.variant.name: self._name(job, sweep.variant) for sweep in run.sweeps}
        return replace(
            run,
            sweeps=[
                replace(s, variant=replace(s.variant, name=new[s.variant.name])) for s in run.sweeps
            ],
            verdicts=[replace(v, variant=new.get(v.variant, v.variant)) for v in run.verdicts],
            comparisons=[
                replace(c, variant=new.get(c.variant, c.variant)) for c in run.comparisons
            ],
            watched=[replace(w, variant=new.get(w.variant, w.variant)) for w in run.watched],
            searches=[
                replace(
                    search,
                    candidates=[
                        replace(c, variant=new.get(c.variant, c.variant)) for c in search.candidates
                    ],
                )
                for search in run.searches
            ],
        )

    def _name(self, job: str, variant: Variant) -> str:
        key = [variant.model, dict(variant.overrides), dict(variant.config)]
        identity = json.dumps(key, sort_keys=True)
        if identity in self._names:
            return self._names[identity]
        name = variant.name
        if self._identities.get(name, identity) != identity:
            if variant.is_default:
                raise UsageError(
                    f"the model {variant.model} of {job} is not the one of the jobs before it: "
                    "their configs differ; merge jobs of one commit"
                )
            numbered = (f"{variant.model}_config_{number}" for number in itertools.count())
            name = next(free for free in numbered if free not in self._identities)
        self._identities[name] = identity
        self._names[identity] = name
        return name
