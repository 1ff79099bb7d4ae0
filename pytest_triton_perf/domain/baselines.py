"""Stored baselines: what is kept of a session, and what earlier sessions say of a later one."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from pytest_triton_perf.domain.comparisons import (
    Comparison,
    Watched,
    change_pct,
    interval_pct,
)
from pytest_triton_perf.domain.levels import Interval, Load
from pytest_triton_perf.domain.metrics import find_metric
from pytest_triton_perf.domain.names import listed
from pytest_triton_perf.domain.results import Run

METHOD = 1
"""Of the figures: a session that was measured by another one says nothing here."""

_MOST_NAMED = 3
_SAVE = "--triton-perf-save"


@dataclass(frozen=True, kw_only=True)
class Figure:
    """What one session says of one gate: a metric of a test at a load.

    ``conditions`` must be equal for two figures to be compared; ``value`` is ``None`` where it
    was not measured, or where the machine was ``disturbed`` meanwhile, and ``why`` says so.
    """

    test: str
    model: str
    variant: str
    image: str | None
    metric: str
    at: Mapping[str, float]
    value: float | None
    ci: Interval | None = None
    why: str = ""
    disturbed: bool = False
    conditions: Mapping[str, str] = field(default_factory=dict)

    @property
    def key(self) -> tuple[object, ...]:
        """What it has in common with the same gate's figures of other sessions."""
        return (self.test, self.metric, *sorted(self.at.items()))

    @property
    def worse(self) -> float | None:
        """The logarithm of the value, higher where it is worse; ``None`` where it has none."""
        if self.value is None or not self.value > 0:
            return None
        log = math.log(self.value)
        return log if find_metric(self.metric).better == "lower" else -log


@dataclass(frozen=True, kw_only=True)
class Session:
    """What is kept of one session.

    ``started`` is in ISO 8601, UTC. ``commit`` and ``branch`` are those of the rootdir, ``None``
    where that is in no git repository. ``machine`` has what must be equal for two sessions to be
    compared, by its name in words, and ``soft`` what is only told where it differs.
    """

    id: str
    started: str
    commit: str | None
    branch: str | None
    machine: Mapping[str, str]
    soft: Mapping[str, str]
    figures: Sequence[Figure]

    def __str__(self) -> str:
        """``1f0c2d3e4a5b, 2026-11-26``."""
        return ", ".join(filter(None, [(self.commit or "")[:12], self.started[:10]]))


def session_of(
    run: Run, *, id: str, started: str, commit: str | None = None, branch: str | None = None
) -> Session:
    """What a baseline keeps of a run."""
    return Session(
        id=id,
        started=started,
        commit=commit,
        branch=branch,
        machine=machine_of(run.environment),
        soft=_soft(run.environment),
        figures=[_figure(run, watched) for watched in run.watched],
    )


def machine_of(environment: Mapping[str, Any]) -> dict[str, str]:
    """The hard fingerprint of a session: what changes every figure when it changes."""
    gpus = [gpu["name"] for gpu in environment.get("gpus", ())]
    generator = environment.get("load_generator", {})
    return {
        "statistics": str(METHOD),
        "CPU": f"{environment.get('cpu_count')} x {environment.get('cpu')}",
        "GPUs": ", ".join(gpus) or "none",
        "GPU driver": environment.get("driver") or "none",
        "kernel": _kernel(environment.get("system", "unknown")),
        "perf_analyzer": str(generator.get("version") or generator.get("images") or "unknown"),
        "CPUs of server and perf_analyzer": _isolation(environment.get("cpu_isolation", {})),
    }


def _soft(environment: Mapping[str, Any]) -> dict[str, str]:
    """The soft fingerprint: what may change a little when it changes."""
    gpus = [gpu["uuid"] for gpu in environment.get("gpus", ())]
    return {
        "the plugin": str(environment.get("plugin_version", "unknown")),
        "the operating system": str(environment.get("system", "unknown")),
        "Python": str(environment.get("python", "unknown")),
        "the machine's memory in MB": str(environment.get("memory_mb", "unknown")),
        "the GPUs' UUIDs": ", ".join(gpus) or "none",
    }


def _kernel(system: str) -> str:
    """``Linux 6`` of ``Linux-6.1.0-13-amd64-x86_64``: the major version."""
    name, _, version = system.partition("-")
    return f"{name} {version.partition('.')[0]}"


def _isolation(cpus: Mapping[str, Any]) -> str:
    return "shared" if "none" in cpus else "apart"


def _figure(run: Run, watched: Watched) -> Figure:
    load = watched.load
    found = [
        measurement
        for sweep in run.sweeps
        if sweep.test == watched.test
        for measurement in sweep.measurements
        if measurement.load == load
    ]
    value = ci = None
    why, disturbed = "it was not measured", False
    if found:
        estimate = found[-1].values.get(watched.metric)
        if disturbed := bool(found[-1].faults):
            why = f"the measurement was disturbed: {listed(found[-1].faults)}"
        elif estimate is None:
            why = found[-1].why_missing(watched.metric)
        else:
            value, ci, why = estimate.value, estimate.ci, ""
    version = next((s["version"] for s in run.server_only if s["image"] == watched.image), None)
    return Figure(
        test=watched.name,
        model=watched.model,
        variant=watched.variant,
        image=watched.image,
        metric=watched.metric,
        at={load.kind: load.value, "batch_size": load.batch_size},
        value=value,
        ci=ci,
        why=why,
        disturbed=disturbed,
        conditions={
            "Triton": str(version or "unknown"),
            "image": watched.image_digest or "none",
            "requests": watched.requests,
        },
    )


def compare(history: Sequence[Session], session: Session) -> list[Comparison]:
    """What earlier sessions, the first one first, say of each figure of a session."""
    alike = [each for each in history if each.machine == session.machine]
    return [_comparison(history, alike, figure, session) for figure in session.figures]


def not_run(history: Sequence[Session], session: Session) -> list[str]:
    """Tests that the newest comparable session has and this one has not."""
    alike = [each for each in history if each.machine == session.machine]
    now = {figure.test for figure in session.figures}
    newest = alike[-1].figures if alike else ()
    return list(dict.fromkeys(figure.test for figure in newest if figure.test not in now))


def other_circumstances(history: Sequence[Session], session: Session) -> str:
    """How the soft fingerprint differs from that of the newest comparable session, in words."""
    alike = [each for each in history if each.machine == session.machine]
    return differences(alike[-1].soft, session.soft) if alike else ""


def _comparison(
    history: Sequence[Session], alike: Sequence[Session], figure: Figure, session: Session
) -> Comparison:
    def found(**what: Any) -> Comparison:
        return Comparison(
            source="baseline",
            test=figure.test,
            model=figure.model,
            variant=figure.variant,
            image=figure.image,
            metric=figure.metric,
            load=Load(**figure.at),  # type: ignore[arg-type]
            **what,
        )

    known = [(s, other) for s, other in _figures(alike) if other.key == figure.key]
    same = [(s, other) for s, other in known if other.conditions == figure.conditions]
    past = [(s, other.worse) for s, other in same if other.worse is not None]
    status, reason = "not_comparable", ""
    if not any(figure.key == other.key for _, other in _figures(history)):
        status, reason = "no_baseline", "the baseline has no such figure"
    elif not alike:
        differing = differences(history[-1].machine, session.machine)
        reason = f"of another machine: {differing}; begin a baseline on this one: {_SAVE}"
    elif not known:
        status, reason = "no_baseline", "no session on a machine like this one has it"
    elif not same:
        differing = differences(known[-1][1].conditions, figure.conditions)
        reason = (
            f"of another kind: {differing}; if that is meant, save a session of this kind: {_SAVE}"
        )
    elif figure.disturbed:
        status, reason = "inconclusive", figure.why
    elif figure.worse is None:
        reason = figure.why or "it is 0"
    elif not past:
        status, reason = "no_baseline", "no earlier session could measure it"
    return found(status=status, reason=reason) if reason else _judged(found, figure, past)


def _judged(found: Any, figure: Figure, past: Sequence[tuple[Session, float]]) -> Comparison:
    from pytest_triton_perf.domain.history import FEWEST, judge

    assert figure.worse is not None
    judgement = judge([worse for _, worse in past], figure.worse)
    metric = find_metric(figure.metric)
    mde = judgement.detectable
    reasons = []
    if judgement.outcome == "inconclusive":
        reasons.append(f"{len(past)} of the {FEWEST} sessions that tell how much they differ")
    if judgement.steps:
        first = past[judgement.first][0]
        reasons.append(f"compared with what is usual since {first}, where it changed for good")
    if judgement.crept is not None:
        crept = change_pct(metric, judgement.crept)
        first = past[judgement.first][0]
        reasons.append(f"it crept by {crept:+.1f}% since {first}, a little each session")
    if judgement.outcome == "suspect":
        reasons.append(_what_settles_it(past, judgement.first, judgement.last, judgement.crept))
    return found(  # type: ignore[no-any-return]
        status=judgement.outcome,
        change_pct=change_pct(metric, judgement.change),
        ci_pct=None if (ci := judgement.interval) is None else interval_pct(metric, ci),
        mde_pct=None if mde is None else abs(change_pct(metric, mde)),
        sessions=judgement.sessions,
        reason="; ".join(reasons),
    )


def _what_settles_it(
    past: Sequence[tuple[Session, float]], first: int, last: int, crept: float | None
) -> str:
    """The command that measures it side by side with the last good session, or the first."""
    good = past[last if crept is None else first][0]
    if good.commit is None:
        return "only the paired gate can tell it from the machine: --triton-perf-against=REF"
    return (
        "only the paired gate can tell it from the machine: "
        f"--triton-perf-against={good.commit[:12]}"
    )


def _figures(sessions: Sequence[Session]) -> Iterator[tuple[Session, Figure]]:
    return ((session, figure) for session in sessions for figure in session.figures)


def differences(before: Mapping[str, str], now: Mapping[str, str]) -> str:
    """``GPUs was NVIDIA A100, is NVIDIA H100; …``."""
    words = [
        f"{name} was {before.get(name, 'unknown')}, is {now.get(name, 'unknown')}"
        for name in dict.fromkeys([*before, *now])
        if before.get(name) != now.get(name)
    ]
    more = len(words) - _MOST_NAMED
    return "; ".join(words[:_MOST_NAMED] + ([f"and {more} more"] if more > 0 else []))


def to_json(session: Session) -> dict[str, Any]:
    """A session as plain data."""
    return {**asdict(session), "figures": [asdict(figure) for figure in session.figures]}


def from_json(data: Mapping[str, Any]) -> Session:
    """The session that :func:`to_json` wrote.

    Raises:
        KeyError, TypeError, ValueError: the data is none.
    """
    figures = []
    for row in data["figures"]:
        low, high = row["ci"] or (None, None)
        figure = Figure(**{**row, "ci": None if row["ci"] is None else (low, high)})
        find_metric(figure.metric), Load(**figure.at)  # type: ignore[arg-type]
        if not isinstance(figure.value, int | float | None):
            raise TypeError(f"value {figure.value!r}")
        figures.append(figure)
    session = Session(**{**data, "figures": figures})
    for text in (session.id, session.started, session.commit or "", session.branch or ""):
        _check_text(text)
    conditions = (figure.conditions for figure in figures)
    for mapping in (session.machine, session.soft, *conditions):
        for name, value in mapping.items():
            _check_text(name)
            _check_text(value)
    return session


def _check_text(text: object) -> None:
    if not isinstance(text, str):
        raise TypeError(f"expected text, not {text!r}")
