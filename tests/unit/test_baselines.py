"""Baselines: what is kept of a session, what is comparable, and what a file may hold."""

import json
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sample_run import sample_run
from test_reports_terminal import Screen

from pytest_triton_perf import baselines
from pytest_triton_perf.baselines import Baselines, add, read, sessions_at
from pytest_triton_perf.cli import main
from pytest_triton_perf.domain.baselines import Figure, Session, compare, from_json, to_json
from pytest_triton_perf.domain.comparisons import Comparison, Watched
from pytest_triton_perf.domain.results import Run
from pytest_triton_perf.domain.results import from_json as run_from_json
from pytest_triton_perf.domain.results import to_json as run_to_json
from pytest_triton_perf.errors import UsageError
from pytest_triton_perf.git import commit_and_branch
from pytest_triton_perf.reports.terminal import write_summary

ENVIRONMENT = {
    "cpu": "AMD EPYC",
    "cpu_count": 2,
    "cpu_isolation": {"none": "they share 0-1: fewer than 4 CPUs"},
    "gpus": [{"uuid": "GPU-1", "name": "NVIDIA A10G", "memory_total_mb": 24000.0}],
    "driver": "550.54.15",
    "system": "Linux-6.1.0-13-amd64-x86_64-with-glibc2.36",
    "load_generator": {"version": "2.60.0"},
}
FIGURE = Figure(
    test="test_it.py::test_it[default]",
    model="m",
    variant="m_config_default",
    image=None,
    metric="throughput",
    at={"concurrency": 8, "batch_size": 1},
    value=1000.0,
    ci=(980.0, None),
    conditions={"Triton": "2.51.0", "image": "none", "requests": "sha256:1"},
)


def session(value: float | None = 1000.0, **changed: Any) -> Session:
    figure = replace(FIGURE, value=value, **changed.pop("figure", {}))
    whole = Session(
        id="1",
        started="2026-11-26T12:00:00+00:00",
        commit="1f0c2d3e4a5b6c7d",
        branch="main",
        machine={"CPU": "2 x AMD EPYC", "GPUs": "NVIDIA A10G"},
        soft={"the plugin": "0.1.0"},
        figures=[figure],
    )
    return replace(whole, **changed)


HISTORY = [session(1000.0 + 8 * (-1) ** i) for i in range(12)]


def one(history: list[Session], now: Session) -> Comparison:
    (found,) = compare(history, now)
    assert found.source == "baseline"
    return found


def a_run(value_of: Callable[[float], float] = lambda value: value) -> Run:
    """The sample run, whose first test is watched at its third level."""
    run = sample_run()
    sweep = run.sweeps[0]
    level = sweep.measurements[2]
    estimate = level.values["throughput"]
    changed = replace(
        level,
        values={**level.values, "throughput": replace(estimate, value=value_of(estimate.value))},
    )
    levels = [changed if each is level else each for each in sweep.measurements]
    watched = Watched(
        test=sweep.test,
        name=sweep.test,
        model=sweep.model,
        variant=sweep.variant.name,
        image=None,
        metric="throughput",
        load=level.load,
        requests="sha256:1",
    )
    return replace(
        run,
        sweeps=[replace(sweep, measurements=levels), *run.sweeps[1:]],
        environment=ENVIRONMENT,
        watched=(watched,),
        server_only=[{"image": None, "version": "2.51.0", "cpu_memory_mb": 60.0, "gpus": {}}],
    )


# -- one figure against its history


def test_a_figure_in_line_with_its_history_is_unchanged() -> None:
    found = one(HISTORY, session(1003.0))
    assert (found.status, found.sessions, found.reason) == ("unchanged", 12, "")
    assert found.change_pct == pytest.approx(0.3, abs=0.1)
    assert found.ci_pct is not None
    assert found.mde_pct is not None
    assert not found.fails


def test_one_out_of_line_is_suspect_names_what_settles_it_and_fails_nothing() -> None:
    found = one(HISTORY, session(900.0))
    assert found.status == "suspect"
    assert found.change_pct == pytest.approx(-10, abs=0.5)
    assert found.reason == (
        "only the paired gate can tell it from the machine: --triton-perf-against=1f0c2d3e4a5b"
    )
    assert not found.fails
    assert one(HISTORY, session(1100.0)).status == "improved"
    nameless = [replace(each, commit=None) for each in HISTORY]
    assert one(nameless, session(900.0)).reason.endswith("--triton-perf-against=REF")


def test_a_short_history_decides_nothing() -> None:
    found = one(HISTORY[:3], session(500.0))
    assert found.status == "inconclusive"
    assert found.reason == "3 of the 10 sessions that tell how much they differ"
    assert found.change_pct == pytest.approx(-50, abs=1)


def test_a_step_and_a_drift_are_told() -> None:
    stepped = [*HISTORY, *(session(900.0 + i, commit=f"{i}fff") for i in range(3))]
    found = one(stepped, session(903.0))
    assert found.status == "unchanged"
    assert found.reason == (
        "compared with what is usual since 0fff, 2026-11-26, where it changed for good"
    )
    drifting = [*HISTORY, *(session(1000.0 * 0.997**i) for i in range(12))]
    found = one(drifting, session(1000.0 * 0.997**12))
    assert found.status == "suspect"
    assert "% since 1f0c2d3e4a5b, 2026-11-26, a little each session; only the" in found.reason


def test_sessions_of_another_machine_are_not_compared_with() -> None:
    other = {"CPU": "2 x AMD EPYC", "GPUs": "NVIDIA H100"}
    found = one([replace(each, machine=other) for each in HISTORY], session())
    assert found.status == "not_comparable"
    assert found.reason == (
        "of another machine: GPUs was NVIDIA H100, is NVIDIA A10G; begin a baseline on this one: "
        "--triton-perf-save"
    )
    assert found.fails
    mixed = [*HISTORY, *(replace(session(10.0), machine=other) for _ in range(5))]
    assert (one(mixed, session()).status, one(mixed, session()).sessions) == ("unchanged", 12)


def test_figures_of_other_requests_or_another_triton_are_not_compared_with() -> None:
    conditions = {**FIGURE.conditions, "Triton": "2.60.0"}
    found = one(HISTORY, session(figure={"conditions": conditions}))
    assert (found.status, found.fails) == ("not_comparable", True)
    assert found.reason == (
        "of another kind: Triton was 2.51.0, is 2.60.0; if that is meant, save a session of this "
        "kind: --triton-perf-save"
    )


def test_what_differs_in_many_ways_names_three() -> None:
    machine = {"CPU": "a", "GPUs": "b", "kernel": "c", "statistics": "2"}
    reason = one(HISTORY, replace(session(), machine=machine)).reason
    assert "; kernel was unknown, is c; and 1 more; begin a baseline" in reason


def test_a_new_figure_is_new_and_one_without_a_value_is_no_pass() -> None:
    assert one([], session()).status == "no_baseline"
    found = one(HISTORY, session(figure={"test": "test_it.py::test_new"}))
    assert (found.status, found.reason) == ("no_baseline", "the baseline has no such figure")
    found = one(HISTORY, session(None, figure={"why": "it was not measured"}))
    assert (found.status, found.reason) == ("not_comparable", "it was not measured")
    assert found.fails
    assert one(HISTORY, session(0.0)).reason == "it is 0"
    hot = one(HISTORY, session(None, figure={"why": "the GPU was hot", "disturbed": True}))
    assert (hot.status, hot.reason, hot.fails) == ("inconclusive", "the GPU was hot", False)
    nothing = [session(None, figure={"why": "x"})]
    assert one(nothing, session()).reason == "no earlier session could measure it"
    other = replace(session(), machine={"CPU": "a"})
    elsewhere = replace(HISTORY[0], figures=[replace(FIGURE, test="test_it.py::test_b")])
    found = one([elsewhere, other], session())
    assert found.reason == "no session on a machine like this one has it"


# -- a run as a session


def test_a_run_gives_a_session_with_its_machine(tmp_path: Path) -> None:
    file = tmp_path / "perf.json"
    Baselines(compare=None, save=file, home=tmp_path).keep(a_run())
    (kept,) = read(file)
    assert kept.commit is None
    assert kept.machine == {
        "statistics": "1",
        "CPU": "2 x AMD EPYC",
        "GPUs": "NVIDIA A10G",
        "GPU driver": "550.54.15",
        "kernel": "Linux 6",
        "perf_analyzer": "2.60.0",
        "CPUs of server and perf_analyzer": "shared",
    }
    (figure,) = kept.figures
    assert figure.at == {"concurrency": 4, "batch_size": 1}
    assert figure.conditions == {"Triton": "2.51.0", "image": "none", "requests": "sha256:1"}
    assert figure.value is not None
    assert figure.ci is not None
    assert from_json(json.loads(json.dumps(to_json(kept)))) == kept


def test_a_disturbed_measurement_has_no_figure(tmp_path: Path) -> None:
    run = a_run()
    sweep = run.sweeps[0]
    levels = [replace(m, faults=("the GPU was hot",)) for m in sweep.measurements]
    run = replace(run, sweeps=[replace(sweep, measurements=levels), *run.sweeps[1:]])
    file = tmp_path / "perf.json"
    Baselines(compare=None, save=file, home=tmp_path).keep(run)
    assert read(file)[0].figures[0].value is None
    assert read(file)[0].figures[0].why == "the measurement was disturbed: the GPU was hot"
    assert read(file)[0].figures[0].disturbed


def test_the_watch_list_survives_results_json() -> None:
    run = a_run()
    assert run_from_json(json.loads(json.dumps(run_to_json(run)))).watched == run.watched


def test_a_session_is_compared_and_what_it_did_not_run_is_told(tmp_path: Path) -> None:
    file = tmp_path / "perf.json"
    for i in range(12):
        kept = Baselines(compare=None, save=file, home=tmp_path)
        assert kept.keep(a_run(lambda value, i=i: value * (1 + 0.01 * (-1) ** i))) == []
    judged = Baselines(compare=file, save=None, home=tmp_path).judged(a_run(lambda v: v * 0.8))
    assert [c.status for c in judged.comparisons] == ["suspect"]
    assert judged.environment["baseline"] == {"file": str(file), "sessions": 12}
    screen = Screen()
    write_summary(screen, judged, "out", [])
    text = "\n".join(screen.lines)
    assert f"baseline {file} (12 sessions): 1 suspect" in text
    assert "\nsuspect   throughput  -20" in text
    nothing = replace(a_run(), watched=())
    notes = Baselines(compare=file, save=None, home=tmp_path).judged(nothing).notes
    assert notes[-1].startswith("of the baseline, this session did not run ")


# -- files


def test_a_file_keeps_its_first_and_its_last_sessions(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(baselines, "FIRST", 2)
    monkeypatch.setattr(baselines, "LAST", 3)
    file = tmp_path / "folder" / "perf.json"
    for i in range(8):
        add(file, session(id=str(i)))
    assert [each.id for each in read(file)] == ["0", "1", "5", "6", "7"]
    assert list(file.parent.iterdir()) == [file]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "is no JSON, or was cut off"),
        ('{"schema": 1, "kind": "triton-perf base', "is no JSON, or was cut off"),
        ('{"schema": 1, "measurements": []}', "is no baseline: --triton-perf-save=FILE writes one"),
        ("[]", "is no baseline: --triton-perf-save=FILE writes one"),
        (
            '{"schema": 2, "kind": "triton-perf baseline", "sessions": []}',
            "has schema 2, and this version reads schema 1: update pytest-triton-perf",
        ),
        ('{"schema": 1, "kind": "triton-perf baseline"}', "is damaged (KeyError: 'sessions')"),
        ('{"schema": 1, "kind": "triton-perf baseline", "sessions": [1]}', "is damaged"),
    ],
)
def test_a_file_that_is_no_baseline_is_an_error_and_stays(tmp_path, text, why) -> None:
    file = tmp_path / "perf.json"
    file.write_text(text)
    for open_it in (
        lambda: Baselines(compare=file, save=None, home=tmp_path),
        lambda: Baselines(compare=None, save=file, home=tmp_path),
        lambda: add(file, session()),
    ):
        with pytest.raises(UsageError) as error:
            open_it()
        assert f"{file} {why}" in str(error.value)
    assert file.read_text() == text


@pytest.mark.parametrize(
    "damage",
    [
        {"value": "1000"},
        {"metric": "thruput"},
        {"at": {"concurency": 1}},
        {"at": {}},
        {"ci": [1]},
        {"more": 1},
    ],
)
def test_a_figure_that_is_none_is_damage(tmp_path, damage) -> None:
    file = tmp_path / "perf.json"
    add(file, session())
    data = json.loads(file.read_text())
    data["sessions"][0]["figures"][0] |= damage
    file.write_text(json.dumps(data))
    with pytest.raises(UsageError, match="is damaged"):
        read(file)


@pytest.mark.parametrize(
    "damage", [{"machine": None}, {"machine": {"CPU": 2}}, {"soft": []}, {"started": 1}]
)
def test_a_session_that_is_none_is_damage(tmp_path, damage) -> None:
    file = tmp_path / "perf.json"
    add(file, session())
    data = json.loads(file.read_text())
    data["sessions"][0] |= damage
    file.write_text(json.dumps(data))
    with pytest.raises(UsageError, match="is damaged"):
        read(file)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    file = tmp_path / "perf.json"
    with pytest.raises(UsageError, match=r"is not there: a session with --triton-perf-save="):
        Baselines(compare=file, save=None, home=tmp_path)
    begun = Baselines(compare=file, save=file, home=tmp_path)
    assert [c.status for c in begun.judged(a_run()).comparisons] == ["no_baseline"]


def test_a_session_without_a_sweep_is_not_added(tmp_path: Path) -> None:
    file = tmp_path / "perf.json"
    kept = Baselines(compare=None, save=file, home=tmp_path)
    (problem,) = kept.keep(replace(a_run(), watched=()))
    assert problem.startswith(f"--triton-perf-save: nothing was added to {file}: ")
    assert not file.exists()


def test_a_file_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    kept = Baselines(compare=None, save=tmp_path / "file" / "perf.json", home=tmp_path)
    (problem,) = kept.keep(a_run())
    assert problem.startswith("--triton-perf-save: ")
    assert "cannot be written" in problem


def test_a_session_knows_its_commit(tmp_path: Path) -> None:
    assert commit_and_branch(tmp_path) == (None, None)
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@example.com"]
    for args in (["init", "-q", "-b", "main"], ["commit", "-q", "--allow-empty", "-m", "x"]):
        subprocess.run([*git, *args], check=True)
    commit, branch = commit_and_branch(tmp_path)
    assert commit is not None
    assert (len(commit), branch) == (40, "main")
    subprocess.run([*git, "checkout", "-q", "--detach"], check=True)
    assert commit_and_branch(tmp_path) == (commit, None)


# -- triton-perf compare


def write(folder: Path, run: Run) -> Path:
    folder.mkdir()
    (folder / "results.json").write_text(json.dumps(run_to_json(run)))
    return folder


def test_nothing_in_common_and_nothing_at_all_are_no_comparison(tmp_path: Path, capsys) -> None:
    run = a_run()
    (watched,) = run.watched
    other = replace(run, watched=[replace(watched, name="test_it.py::test_other")])
    base, head = write(tmp_path / "a", run), write(tmp_path / "b", other)
    assert main(["compare", str(base), str(head)]) == 1
    out = capsys.readouterr().out
    assert out.startswith("1 no baseline\n")
    assert f"{watched.name}: only in A" in out
    empty = tmp_path / "empty.json"
    empty.write_text('{"schema": 1, "kind": "triton-perf baseline", "sessions": []}')
    assert main(["compare", str(base), str(empty)]) == 2
    assert "has no session" in capsys.readouterr().err


def test_other_circumstances_are_told_and_compared_all_the_same(tmp_path: Path, capsys) -> None:
    other = replace(a_run(), environment={**ENVIRONMENT, "plugin_version": "9"})
    base, head = write(tmp_path / "a", a_run()), write(tmp_path / "b", other)
    assert main(["compare", str(base), str(head)]) == 0
    assert "Since the last of A, the plugin was unknown, is 9." in capsys.readouterr().out
    file = tmp_path / "perf.json"
    Baselines(compare=None, save=file, home=tmp_path).keep(a_run())
    notes = Baselines(compare=file, save=None, home=tmp_path).judged(other).notes
    assert notes[-1] == "since the last session of the baseline, the plugin was unknown, is 9"


def test_two_runs_are_compared_with_caution(tmp_path: Path, capsys) -> None:
    base = write(tmp_path / "a", a_run())
    head = write(tmp_path / "b", a_run(lambda value: value * 0.5))
    assert main(["compare", str(base), str(head / "results.json")]) == 0
    first, header, row, *told = capsys.readouterr().out.splitlines()
    assert first == "1 inconclusive"
    assert header.split()[:4] == ["metric", "A", "B", "change"]
    assert row.startswith("inconclusive  throughput")
    assert "  -50.0%  " in row
    assert told[0].endswith("1 of the 10 sessions that tell how much they differ")
    assert "Only the paired gate, --triton-perf-against, can tell" in told[1]


def test_a_run_is_compared_with_a_baseline(tmp_path: Path, capsys) -> None:
    file = tmp_path / "perf.json"
    for i in range(12):
        kept = Baselines(compare=None, save=file, home=tmp_path)
        kept.keep(a_run(lambda value, i=i: value * (1 + 0.01 * (-1) ** i)))
    head = write(tmp_path / "b", a_run(lambda value: value * 0.5))
    assert main(["compare", str(file), str(head)]) == 0
    assert capsys.readouterr().out.startswith("1 suspect\n")


def test_runs_of_two_machines_are_not_compared(tmp_path: Path, capsys) -> None:
    other = replace(a_run(), environment={**ENVIRONMENT, "driver": "570.1"})
    base, head = write(tmp_path / "a", a_run()), write(tmp_path / "b", other)
    assert main(["compare", str(base), str(head)]) == 1
    out = capsys.readouterr().out
    assert out.startswith("1 not comparable\n")
    assert "of another machine: GPU driver was 550.54.15, is 570.1" in out


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (None, "is not there"),
        ("{", "is no JSON, or was cut off"),
        ("{}", "is neither a results.json nor a baseline"),
        ('{"schema": 9, "measurements": []}', "results.json has schema 9"),
    ],
)
def test_what_cannot_be_compared_is_one_line(tmp_path: Path, capsys, text, why) -> None:
    base = write(tmp_path / "a", a_run())
    if text is None:
        (base / "results.json").unlink()
    else:
        (base / "results.json").write_text(text)
    assert main(["compare", str(base), str(base)]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert why in captured.err
    assert captured.err.count("\n") == 1


def test_a_run_that_watched_nothing_cannot_be_compared(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="has nothing to compare: its session measured no level"):
        sessions_at(write(tmp_path / "a", replace(a_run(), watched=())))
