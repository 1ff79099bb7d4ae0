"""A finished run as plain data, and ``results.json``: its shape on disk."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

from pytest_triton_perf.domain import comparisons
from pytest_triton_perf.domain.budgets import Budget
from pytest_triton_perf.domain.comparisons import Comparison, Watched
from pytest_triton_perf.domain.levels import Estimate, Load, Measurement
from pytest_triton_perf.domain.metrics import (
    GPU_METRICS,
    PROCESS_METRICS,
    SERVER_TIMES,
    percentile_name,
    percentile_of,
)
from pytest_triton_perf.domain.names import with_image
from pytest_triton_perf.domain.searched import SearchResult
from pytest_triton_perf.domain.sweeps import Sweep
from pytest_triton_perf.domain.timelines import Curve, MemoryTimeline, Phase
from pytest_triton_perf.domain.variants import Variant
from pytest_triton_perf.domain.verdicts import Verdict
from pytest_triton_perf.errors import UsageError

SCHEMA = 1


@dataclass(frozen=True, kw_only=True)
class Panel:
    """A section of ``index.html`` that a plug-in adds: a title, and HTML without scripts."""

    title: str
    html: str


@dataclass(frozen=True, kw_only=True)
class Run:
    """Everything that one session measured and decided.

    ``environment`` describes the machine and the tools. ``server_only`` is, of each image (one
    that is ``None`` outside a container), Triton's version and what the idle server took before
    any model was loaded: ``{"image": …, "version": …, "cpu_memory_mb": …, "gpus": {uuid: {…}}}``.
    ``watched`` is what a baseline keeps, and ``panels`` are what plug-ins add to ``index.html``.
    ``confidence`` is that of all intervals, and ``notes`` are remarks on the session.
    """

    environment: Mapping[str, Any]
    sweeps: Sequence[Sweep]
    verdicts: Sequence[Verdict]
    searches: Sequence[SearchResult] = ()
    comparisons: Sequence[Comparison] = ()
    watched: Sequence[Watched] = ()
    panels: Sequence[Panel] = ()
    server_only: Sequence[Mapping[str, Any]] = ()
    wall_s: float = 0.0
    exit: int = 0
    confidence: float = 0.95
    notes: Sequence[str] = ()

    @property
    def models(self) -> list[str]:
        """Model names, in order of first measurement."""
        return list(dict.fromkeys(sweep.model for sweep in self.sweeps))

    @cached_property
    def images(self) -> list[str]:
        """The images that were measured on, in order; none outside a container."""
        found = [*(s.image for s in self.sweeps), *(v.image for v in self.verdicts)]
        return list(dict.fromkeys(image for image in found if image is not None))

    @cached_property
    def configurations(self) -> dict[str, list[Sweep]]:
        """The sweeps of each variant on each image, by :meth:`configuration`, in order."""
        found: dict[str, list[Sweep]] = {}
        for sweep in self.sweeps:
            found.setdefault(self.configuration(sweep), []).append(sweep)
        return found

    def configuration(self, measured: Sweep | Verdict) -> str:
        """The name of what reports and files compare.

        The variant's, and its image's too where the run has several.
        """
        variant = measured.variant if isinstance(measured, Verdict) else measured.variant.name
        return with_image(variant, measured.image, self.images)

    def verdicts_of(self, sweep: Sweep) -> list[Verdict]:
        """The verdicts on the budgets of the test that made the sweep."""
        return [verdict for verdict in self.verdicts if verdict.test == sweep.test]


def merge(runs: Sequence[Run]) -> Run:
    """Several parts of one session (those of xdist's workers) as one run, in their order."""
    environment = next((run.environment for run in runs if run.sweeps), runs[0].environment)
    servers = {server["image"]: server for run in runs for server in run.server_only}
    if versions := dict.fromkeys(server["version"] for server in servers.values()):
        environment = {**environment, "triton": {"version": ", ".join(versions)}}
    return Run(
        environment=environment,
        server_only=list(servers.values()),
        sweeps=[sweep for run in runs for sweep in run.sweeps],
        verdicts=[verdict for run in runs for verdict in run.verdicts],
        searches=[search for run in runs for search in run.searches],
        # Each worker sees which models are gone.
        comparisons=list(dict.fromkeys(c for run in runs for c in run.comparisons)),
        watched=[watched for run in runs for watched in run.watched],
        wall_s=max(run.wall_s for run in runs),
        exit=max(run.exit for run in runs),
        confidence=runs[0].confidence,
        notes=tuple(dict.fromkeys(note for run in runs for note in run.notes)),
    )


def to_json(run: Run) -> dict[str, Any]:
    """The run in the shape of ``results.json`` (see docs/results.md)."""
    return {
        "schema": SCHEMA,
        "environment": dict(run.environment),
        "session": {
            "wall_s": round(run.wall_s, 3),
            "exit": run.exit,
            "confidence": run.confidence,
            "notes": list(run.notes),
        },
        "server_only": [dict(server) for server in run.server_only],
        "variants": {
            name: _variant_to_json(sweeps[-1]) for name, sweeps in run.configurations.items()
        },
        "measurements": [
            _measurement_to_json(sweep, m) for sweep in run.sweeps for m in sweep.measurements
        ],
        "memory_timelines": [
            {
                "test": sweep.test,
                "variant": sweep.variant.name,
                **timeline_to_json(sweep.memory),
            }
            for sweep in run.sweeps
            if sweep.memory
        ],
        "verdicts": [_verdict_to_json(verdict) for verdict in run.verdicts],
        "searches": [search.to_json() for search in run.searches],
        "comparisons": [comparisons.to_json(comparison) for comparison in run.comparisons],
        "panels": [asdict(panel) for panel in run.panels],
        "watched": [comparisons.watched_to_json(watched) for watched in run.watched],
    }


def from_json(data: Mapping[str, Any], source: str = "results.json") -> Run:
    """The run that :func:`to_json` wrote; errors call it ``source``.

    Raises:
        UsageError: the data has another schema or is incomplete.
    """
    if not isinstance(data, Mapping):
        raise UsageError(f"{source} is no run: it holds no object")
    if data.get("schema") != SCHEMA:
        raise UsageError(
            f"{source} has schema {data.get('schema')!r}, and this version reads schema {SCHEMA}: "
            "use the version of pytest-triton-perf that wrote it"
        )
    try:
        variants = {(v["variant"], v["image"]): v for v in data["variants"].values()}
        sweeps: dict[tuple[str, str, str | None], list[Measurement]] = {}
        for row in data["measurements"]:
            key = (row["test"], row["variant"], row["image"])
            sweeps.setdefault(key, []).append(_measurement_from_json(row))
        memory = {
            (row["test"], row["variant"]): timeline_from_json(row)
            for row in data["memory_timelines"]
        }
        return Run(
            environment=data["environment"],
            server_only=data["server_only"],
            wall_s=data["session"]["wall_s"],
            exit=data["session"]["exit"],
            # A record of a session that had no choice does not name it.
            confidence=data["session"].get("confidence", 0.95),
            notes=tuple(data["session"].get("notes", [])),
            sweeps=[
                Sweep(
                    test=test,
                    variant=_variant_from_json(variants[variant, image]),
                    image=image,
                    measurements=measurements,
                    memory=memory.get((test, variant)),
                )
                for (test, variant, image), measurements in sweeps.items()
            ],
            verdicts=[_verdict_from_json(row) for row in data["verdicts"]],
            searches=tuple(SearchResult.from_json(row) for row in data.get("searches", ())),
            comparisons=tuple(comparisons.from_json(row) for row in data["comparisons"]),
            panels=tuple(Panel(**row) for row in data.get("panels", ())),
            watched=tuple(map(comparisons.watched_from_json, data.get("watched", ()))),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise UsageError(f"{source} is incomplete: {error!r}") from error


def _variant_to_json(sweep: Sweep) -> dict[str, Any]:
    variant = sweep.variant
    return {
        "variant": variant.name,
        "image": sweep.image,
        "model": variant.model,
        "overrides": dict(variant.overrides),
        "config": dict(variant.config),
    }


def _variant_from_json(row: Mapping[str, Any]) -> Variant:
    return Variant(
        name=row["variant"], model=row["model"], overrides=row["overrides"], config=row["config"]
    )


def _estimate_to_json(measurement: Measurement, metric: str) -> dict[str, Any] | None:
    estimate = measurement.values.get(metric)
    if estimate is None:
        return None
    data = {"value": estimate.value, "ci": None if estimate.ci is None else list(estimate.ci)}
    return data if estimate.needs is None else {**data, "needs": estimate.needs}


def _estimate_from_json(data: Mapping[str, Any]) -> Estimate:
    ci = data["ci"]
    ci = None if ci is None else (ci[0], ci[1])
    return Estimate(value=data["value"], ci=ci, needs=data.get("needs"))


_PROBED = (*PROCESS_METRICS, *GPU_METRICS)


def _measurement_to_json(sweep: Sweep, measurement: Measurement) -> dict[str, Any]:
    load = measurement.load
    percentiles = sorted(filter(None, map(percentile_of, measurement.values)))
    return {
        "test": sweep.test,
        "model": sweep.model,
        "variant": sweep.variant.name,
        "image": sweep.image,
        "overrides": dict(sweep.variant.overrides),
        "batch_size": load.batch_size,
        "concurrency": load.concurrency,
        "request_rate": load.request_rate,
        "requests": measurement.requests,
        "wall_s": round(measurement.wall_s, 3),
        "throughput": _estimate_to_json(measurement, "throughput"),
        "latency_ms": {
            "avg": _estimate_to_json(measurement, "avg_latency_ms"),
            **{f"p{p}": _estimate_to_json(measurement, percentile_name(p)) for p in percentiles},
        },
        "server_ms": {name.removesuffix("_ms"): measurement.value(name) for name in SERVER_TIMES},
        "gpu": {uuid: dict(reading) for uuid, reading in measurement.gpus.items()},
        **{name: measurement.value(name) for name in _PROBED},
        "missing": dict(measurement.missing),
        "notes": list(measurement.notes),
        "faults": list(measurement.faults),
        "reused": measurement.reused,
    }


def _measurement_from_json(row: Mapping[str, Any]) -> Measurement:
    latency = row["latency_ms"]
    found = {
        "throughput": row["throughput"],
        "avg_latency_ms": latency["avg"],
        **{f"{p}_latency_ms": value for p, value in latency.items() if p != "avg"},
    }
    values = {name: _estimate_from_json(e) for name, e in found.items() if e is not None}
    plain = {f"{part}_ms": value for part, value in row["server_ms"].items()}
    plain |= {name: row[name] for name in _PROBED}
    values |= {name: Estimate(value=v) for name, v in plain.items() if v is not None}
    return Measurement(
        load=Load(
            concurrency=row["concurrency"],
            request_rate=row["request_rate"],
            batch_size=row["batch_size"],
        ),
        requests=row["requests"],
        wall_s=row["wall_s"],
        values=values,
        missing=row["missing"],
        gpus=row["gpu"],
        notes=tuple(row["notes"]),
        faults=tuple(row["faults"]),
        reused=row.get("reused", False),
    )


def timeline_to_json(memory: MemoryTimeline) -> dict[str, Any]:
    """A memory timeline as plain data."""
    return {
        "phases": [asdict(phase) for phase in memory.phases],
        "curves": {name: asdict(curve) for name, curve in memory.curves.items()},
        "gpus": {uuid: asdict(curve) for uuid, curve in memory.gpus.items()},
    }


def timeline_from_json(row: Mapping[str, Any]) -> MemoryTimeline:
    """The timeline that :func:`timeline_to_json` wrote; other keys of ``row`` are ignored.

    Raises:
        KeyError, TypeError: the data is incomplete.
    """
    return MemoryTimeline(
        phases=tuple(Phase(**phase) for phase in row["phases"]),
        curves={name: Curve(**curve) for name, curve in row["curves"].items()},
        gpus={uuid: Curve(**curve) for uuid, curve in row["gpus"].items()},
    )


def _verdict_to_json(verdict: Verdict) -> dict[str, Any]:
    load = verdict.load
    return {
        "test": verdict.test,
        "variant": verdict.variant,
        "image": verdict.image,
        "budget": verdict.budget.name,
        "limit": verdict.budget.limit,
        "at": dict(verdict.budget.at),
        "observed": verdict.observed,
        "ci": None if verdict.ci is None else list(verdict.ci),
        "needs": verdict.needs,
        "status": verdict.status,
        "reason": verdict.reason,
        "load": None if load is None else {load.kind: load.value, "batch_size": load.batch_size},
    }


def _verdict_from_json(row: Mapping[str, Any]) -> Verdict:
    ci = row["ci"]
    return Verdict(
        test=row["test"],
        variant=row["variant"],
        image=row["image"],
        budget=Budget.from_keyword(row["budget"], row["limit"], row["at"]),
        status=row["status"],
        observed=row["observed"],
        ci=None if ci is None else (ci[0], ci[1]),
        needs=row.get("needs"),
        load=None if row["load"] is None else Load(**row["load"]),
        reason=row["reason"],
    )
