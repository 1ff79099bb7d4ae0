"""``triton-perf doctor`` and ``triton-perf report``: what they say and how they exit."""

import json
import platform
import shutil
from pathlib import Path

import pytest

from pytest_triton_perf import doctor
from pytest_triton_perf.cli import main
from pytest_triton_perf.doctor import Check, as_text, can_measure, examine
from pytest_triton_perf.errors import MissingPartError


def row(part: str) -> Check:
    (check,) = [check for check in examine() if check.part == part]
    return check


def test_every_part_has_one_row() -> None:
    assert [check.part for check in examine()] == [
        "Python",
        "glibc",
        "tritonserver",
        "perf_analyzer",
        "Docker engine",
        "GPU",
        "PDF engine",
        "/dev/shm",
    ]


def test_rows_are_aligned_and_a_command_stands_below_its_row() -> None:
    checks = [
        Check(part="GPU", status="optional", found="none: no driver"),
        Check(part="Docker engine", status="missing", found="one\ntwo", mend="systemctl start it"),
    ]
    assert as_text(checks, colour=False).splitlines() == [
        "GPU            optional  none: no driver",
        "Docker engine  missing   one",
        "                         two",
        "                         mend: systemctl start it",
    ]


def test_colours_are_for_terminals(capsys: pytest.CaptureFixture[str]) -> None:
    check = Check(part="GPU", status="ok", found="1")
    assert "\033[32mok      \033[0m" in as_text([check], colour=True)
    main(["doctor"])
    assert "\033" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("ok", "can"),
    [
        (["tritonserver", "perf_analyzer"], True),
        (["tritonserver"], False),
        (["perf_analyzer"], False),
        (["Docker engine"], True),
    ],
)
def test_a_run_needs_both_tools_or_a_docker_engine(ok: list[str], can: bool) -> None:
    parts = ["tritonserver", "perf_analyzer", "Docker engine", "GPU"]
    checks = [Check(part=p, status="ok" if p in ok else "missing", found="") for p in parts]
    assert can_measure(checks) is can


@pytest.mark.parametrize("part", ["server", "perf_analyzer"])
def test_without_a_server_or_perf_analyzer_doctor_exits_1_and_says_the_command(
    part: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def missing(explicit: Path | None) -> None:
        raise MissingPartError("nothing here. Install it: pip install something")

    monkeypatch.setenv("DOCKER_HOST", "unix:///nonexistent/docker.sock")
    module = {"server": "servers.embedded", "perf_analyzer": "load.binaries"}[part]
    monkeypatch.setattr(f"pytest_triton_perf.{module}.find_{part}", missing)
    assert main(["doctor"]) == 1
    out, err = capsys.readouterr()
    assert "missing   nothing here. Install it: pip install something" in out
    assert "pytest --triton-perf cannot measure on this machine." in err


@pytest.mark.parametrize("host", ["unix://{folder}/no.sock", "tcp://127.0.0.1:1"])
def test_an_unreachable_docker_engine_is_optional(
    host: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_HOST", host.format(folder=tmp_path))
    check = row("Docker engine")
    assert check.status == "optional"
    assert check.found.startswith("no Docker engine answers at http")
    assert check.mend in ("apt-get install -y docker.io", "systemctl start docker")


def test_fpdf2_takes_over_without_wkhtmltopdf(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert row("PDF engine").found.startswith("fpdf2 ")


@pytest.mark.skipif(shutil.which("wkhtmltopdf") is None, reason="NEEDS wkhtmltopdf")
def test_wkhtmltopdf_is_the_pdf_engine_where_it_is_installed() -> None:
    assert row("PDF engine").found.startswith("wkhtmltopdf 0.")


def test_an_old_c_library_names_the_systems_that_are_new_enough(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(platform, "libc_ver", lambda: ("glibc", "2.31"))
    check = row("glibc")
    assert check.status == "missing"
    assert check.found == ("2.31: the embedded Triton needs 2.35, as in Debian 12 and Ubuntu 22.04")
    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
    assert row("glibc").found.startswith("this is no glibc system")


def test_little_shared_memory_has_a_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_SHARED_MEMORY_MB", 10**12)
    check = row("/dev/shm")
    assert check.status == "missing"
    assert "MB free: each instance of a Python model takes about 1 MB of it" in check.found
    assert check.mend == "mount -o remount,size=1G /dev/shm"


def test_a_report_of_nothing_is_told_without_traceback(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["report", str(tmp_path)]) == 2
    assert capsys.readouterr().err == (
        f"triton-perf: {tmp_path}/results.json cannot be read (No such file or directory); "
        "DIR is what --triton-perf-output named\n"
    )


def test_a_report_of_something_else_is_told_without_traceback(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results = tmp_path / "results.json"
    results.write_text("{")
    assert main(["report", str(tmp_path)]) == 2
    assert f"{results} is not JSON, or was cut off (" in capsys.readouterr().err
    results.write_text(json.dumps({"schema": 99}))
    assert main(["report", str(tmp_path)]) == 2
    assert (
        f"{results} has schema 99, and this version reads schema 1: use the"
        in capsys.readouterr().err
    )
