"""``triton-perf merge``: the runs of several jobs in one report."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from sample_run import sample_run

from pytest_triton_perf.cli import main
from pytest_triton_perf.domain.jobs import merge_jobs
from pytest_triton_perf.domain.results import Run, to_json
from pytest_triton_perf.errors import UsageError

SERVER = {"image": None, "version": "2.51.0", "cpu_memory_mb": 60.0, "gpus": {}}


def job(model: str, *, test: str = "", **changed: object) -> Run:
    """The part of the sample run that is about a model; ``test`` names its tests anew."""
    run = sample_run()

    def named(old: str) -> str:
        return old.replace("::test_", f"::{test}_") if test else old

    return replace(
        run,
        sweeps=[replace(s, test=named(s.test)) for s in run.sweeps if s.model == model],
        verdicts=[
            replace(v, test=named(v.test)) for v in run.verdicts if v.variant.startswith(model)
        ],
        searches=(),
        comparisons=(),
        server_only=[SERVER],
        **changed,
    )


def test_a_model_in_each_job_is_one_run() -> None:
    one, two = job("add_sub", notes=("hot",)), job("resnet", exit=1)
    merged = merge_jobs({"a": one, "b": two})
    assert list(merged.sweeps) == [*one.sweeps, *two.sweeps]
    assert list(merged.verdicts) == [*one.verdicts, *two.verdicts]
    assert merged.models == ["add_sub", "resnet"]
    assert merged.exit == 1
    assert merged.notes == ["a: hot"]
    assert merged.wall_s == one.wall_s + two.wall_s
    assert merged.server_only == [SERVER]


def test_what_environments_do_not_share_is_kept_by_job() -> None:
    one, two = job("add_sub"), job("resnet")
    gpu = {"uuid": "GPU-2", "name": "NVIDIA H100", "memory_total_mb": 80000.0}
    two = replace(two, environment={**two.environment, "gpus": [gpu], "host": "b"})
    environment = merge_jobs({"a": one, "b": two}).environment
    assert [each["name"] for each in environment["gpus"]] == ["NVIDIA A10G", "NVIDIA H100"]
    assert environment["triton"] == {"version": "2.51.0"}
    assert environment["jobs"] == {"b": {"host": "b"}}
    assert environment["machine"] == one.environment["machine"]


def test_variants_of_one_name_that_are_others_get_another_number() -> None:
    one, two = job("add_sub"), job("add_sub", test="shard")
    changed = []
    for sweep in two.sweeps:
        variant = sweep.variant
        if variant.name.endswith("_config_0"):
            variant = replace(variant, overrides={**variant.overrides, "more": 1})
        changed.append(replace(sweep, variant=variant))
    merged = merge_jobs({"a": one, "b": replace(two, sweeps=changed)})
    names = {s.variant.name for s in one.sweeps}
    new = {s.variant.name for s in merged.sweeps} - names
    assert len(new) == 1
    moved = [s for s in merged.sweeps if s.variant.name in new]
    assert [s.variant.overrides["more"] for s in moved] == [1]
    assert {v.variant for v in merged.verdicts if v.test == moved[0].test} <= new
    # The others are the same configurations, and have the same names.
    kept = {(s.variant.name, json.dumps(s.variant.overrides)) for s in merged.sweeps}
    assert len(kept) == len(names) + 1


def test_a_test_of_two_jobs_is_refused() -> None:
    with pytest.raises(UsageError) as error:
        merge_jobs({"a": job("add_sub"), "b": job("add_sub")})
    assert "::test_add_sub" in str(error.value)
    assert "was run in a and in b: one report has each test once" in str(error.value)


def test_a_model_of_two_machines_is_refused() -> None:
    two = job("add_sub", test="shard")
    two = replace(two, environment={**two.environment, "driver": "570.1"})
    with pytest.raises(UsageError) as error:
        merge_jobs({"a": job("add_sub"), "b": two})
    assert str(error.value).startswith(
        "add_sub was measured in a and in b, which differ: GPU driver was none, is 570.1; figures"
    )
    newer = replace(job("add_sub", test="shard"), server_only=[{**SERVER, "version": "2.60.0"}])
    with pytest.raises(UsageError, match=r"Triton was 2\.51\.0, is 2\.60\.0"):
        merge_jobs({"a": job("add_sub"), "b": newer})


def test_a_model_that_is_not_the_same_is_refused() -> None:
    two = job("add_sub", test="shard")
    sweeps = [
        replace(s, variant=replace(s.variant, config={**s.variant.config, "x": 1}))
        for s in two.sweeps
    ]
    with pytest.raises(UsageError, match="the model add_sub of b is not the one of the jobs"):
        merge_jobs({"a": job("add_sub"), "b": replace(two, sweeps=sweeps)})


def write(folder: Path, run: Run) -> str:
    folder.mkdir()
    (folder / "results.json").write_text(json.dumps(to_json(run)))
    return str(folder)


def test_the_command_writes_a_report_that_can_be_made_again(tmp_path, capsys, monkeypatch) -> None:
    monkeypatch.setattr("pytest_triton_perf.options.REPORTS", ("csv", "md", "json"))
    one, two = write(tmp_path / "a", job("add_sub")), write(tmp_path / "b", job("resnet"))
    out = tmp_path / "all"
    assert main(["merge", one, two, "-o", str(out)]) == 0
    files = {file: file.read_bytes() for file in out.rglob("*") if file.is_file()}
    assert {file.name for file in files} >= {"results.json", "summary.md"}
    assert main(["report", str(out)]) == 0
    assert {file: file.read_bytes() for file in files} == files
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (None, "cannot be read"),
        ("", "is not JSON, or was cut off"),
        ('{"schema": 1, "measurem', "is not JSON, or was cut off"),
        ('{"schema": 2}', "results.json has schema 2, and this version reads schema 1"),
        ('{"schema": 1}', "results.json is incomplete"),
        ("[]", "results.json is no run: it holds no object"),
    ],
)
def test_what_cannot_be_merged_is_one_line(tmp_path, capsys, text, why) -> None:
    one = write(tmp_path / "a", job("add_sub"))
    if text is None:
        (tmp_path / "a" / "results.json").unlink()
    else:
        (tmp_path / "a" / "results.json").write_text(text)
    assert main(["merge", one, "-o", str(tmp_path / "all")]) == 2
    assert main(["report", one]) == 2
    first, second = capsys.readouterr().err.splitlines()
    assert first == second
    assert why in first
    assert not (tmp_path / "all").exists()


def test_the_output_is_none_of_the_inputs(tmp_path, capsys) -> None:
    one = write(tmp_path / "a", job("add_sub"))
    assert main(["merge", one, "-o", one]) == 2
    assert "is one of those to be merged; name another with -o" in capsys.readouterr().err
    assert main(["merge", one, one, "-o", str(tmp_path / "all")]) == 2
    assert f"{one} is named twice" in capsys.readouterr().err
