"""Baseline files: the sessions of a suite, the newest last, in one JSON file."""

import contextlib
import json
import uuid
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from pytest_triton_perf.domain import results
from pytest_triton_perf.domain.baselines import (
    Session,
    compare,
    from_json,
    not_run,
    other_circumstances,
    session_of,
    to_json,
)
from pytest_triton_perf.domain.names import listed
from pytest_triton_perf.domain.results import Run
from pytest_triton_perf.errors import UsageError
from pytest_triton_perf.git import commit_and_branch

SCHEMA = 1
_KIND = "triton-perf baseline"

FIRST, LAST = 20, 180
"""Of more sessions, the first and the last ones are kept: a slow drift is seen by the first."""


class Baselines:
    """What a session does with ``--triton-perf-compare`` and ``--triton-perf-save``.

    The files are read before anything is measured. ``home`` is where git is asked.

    Raises:
        UsageError: a file cannot be read or is no baseline; of ``compare``, that it is not there,
            unless this session is to begin it.
    """

    def __init__(self, *, compare: Path | None, save: Path | None, home: Path) -> None:
        self._file, self._save, self._home = compare, save, home
        self._id = uuid.uuid4().hex
        self._started = datetime.now(timezone.utc).isoformat(timespec="seconds")
        self._history: list[Session] = []
        for path in dict.fromkeys(filter(None, (save, compare))):
            if path.exists() or path != save:
                found = read(path)
                self._history = found if path == compare else self._history

    def judged(self, run: Run) -> Run:
        """The run with what the file's sessions say of it."""
        if self._file is None:
            return run
        session = self._session(run)
        alike = sum(each.machine == session.machine for each in self._history)
        notes = list(run.notes)
        if others := not_run(self._history, session):
            more = f" and {len(others) - 3} more" if len(others) > 3 else ""
            notes.append(f"of the baseline, this session did not run {listed(others[:3])}{more}")
        if differing := other_circumstances(self._history, session):
            notes.append(f"since the last session of the baseline, {differing}")
        return replace(
            run,
            comparisons=[*run.comparisons, *compare(self._history, session)],
            environment={
                **run.environment,
                "baseline": {"file": str(self._file), "sessions": alike},
            },
            notes=notes,
        )

    def keep(self, run: Run) -> list[str]:
        """Add the run to the file of ``--triton-perf-save``, if any; returns what went wrong."""
        if self._save is None:
            return []
        if not run.watched:
            return [
                f"--triton-perf-save: nothing was added to {self._save}: a baseline keeps tests "
                "that sweep a model, and this session measured none (a search is none)"
            ]
        try:
            add(self._save, self._session(run))
        except UsageError as error:
            return [f"--triton-perf-save: {error}"]
        return []

    def _session(self, run: Run) -> Session:
        commit, branch = commit_and_branch(self._home)
        return session_of(run, id=self._id, started=self._started, commit=commit, branch=branch)


def sessions_at(path: Path) -> list[Session]:
    """The sessions of a baseline file, or the one of a ``results.json`` or its folder.

    Raises:
        UsageError: it is neither.
    """
    path = path / "results.json" if path.is_dir() else path
    data = _parsed(path)
    if is_baseline(data):
        if sessions := sessions_in(data, path):
            return sessions
        raise UsageError(f"{path} has no session")
    if not isinstance(data, dict) or "measurements" not in data:
        raise UsageError(f"{path} is neither a results.json nor a baseline")
    run = results.from_json(data, str(path))
    if not run.watched:
        raise UsageError(
            f"{path} has nothing to compare: its session measured no level, searched for the best "
            "configuration, or is of an earlier version"
        )
    return [session_of(run, id=str(path), started="")]


def read(path: Path) -> list[Session]:
    """The sessions of a file.

    Raises:
        UsageError: it cannot be read, is no baseline, or was written by a later version.
    """
    return sessions_in(_parsed(path), path)


def _parsed(path: Path) -> Any:
    try:
        return json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise UsageError(
            f"{path} is not there: a session with --triton-perf-save={path} begins it"
        ) from None
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise UsageError(
            f"{path} is no JSON, or was cut off ({error}): take it from the last good run, or "
            "delete it and begin anew with --triton-perf-save"
        ) from None


def is_baseline(data: Any) -> bool:
    """Whether parsed JSON is a baseline file, of any version."""
    return isinstance(data, dict) and data.get("kind") == _KIND


def sessions_in(data: Any, path: Path) -> list[Session]:
    """The sessions of a file's parsed JSON.

    Raises:
        UsageError: it is no baseline, or was written by a later version.
    """
    if not is_baseline(data):
        raise UsageError(f"{path} is no baseline: --triton-perf-save=FILE writes one")
    if data.get("schema") != SCHEMA:
        raise UsageError(
            f"{path} has schema {data.get('schema')!r}, and this version reads schema {SCHEMA}: "
            "update pytest-triton-perf, or begin another file"
        )
    try:
        return [from_json(session) for session in data["sessions"]]
    except (AttributeError, KeyError, TypeError, ValueError, UsageError) as error:
        raise UsageError(
            f"{path} is damaged ({type(error).__name__}: {error}): take it from the last good run, "
            "or delete it and begin anew with --triton-perf-save"
        ) from None


def add(path: Path, session: Session) -> None:
    """Add a session to a file, which need not exist; a crash leaves the file that was there.

    Raises:
        UsageError: there is a file that is no baseline, or it cannot be written.
    """
    sessions = [*(read(path) if path.exists() else []), session]
    if len(sessions) > FIRST + LAST:
        sessions = [*sessions[:FIRST], *sessions[-LAST:]]
    draft = path.with_name(f"{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        draft.write_text(_text(sessions), encoding="utf-8", errors="backslashreplace")
        draft.replace(path)
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror}") from None
    finally:
        with contextlib.suppress(OSError):
            draft.unlink()


def _text(sessions: Sequence[Session]) -> str:
    data = {"schema": SCHEMA, "kind": _KIND, "sessions": [to_json(s) for s in sessions]}
    return json.dumps(data, indent=1, ensure_ascii=False) + "\n"
