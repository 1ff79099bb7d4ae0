import os

import pytest

from pytest_triton_perf.probes import host
from pytest_triton_perf.probes.host import HostState


def state(at: float, busy: float = 0.0, stolen: float = 0.0, **throttled: float) -> HostState:
    return HostState(at=at, busy_s=busy, stolen_s=stolen, throttled_s=throttled)


def test_a_calm_machine_has_no_faults() -> None:
    assert host.faults([(state(0), state(10, busy=15, stolen=1, g=0.1))]) == ()


def test_stolen_time_counts_against_what_the_machine_wanted() -> None:
    # 1 s of 2 s that were wanted, on a machine of any size.
    assert host.faults([(state(0), state(10, busy=1, stolen=1))]) == (
        "the hypervisor gave 50% of the CPU time to other machines (steal)",
    )


def test_a_cpu_limit_is_told_with_its_group() -> None:
    assert host.faults([(state(0, g=5), state(10, busy=1, g=8))]) == (
        "a CPU limit held processes back for 30% of the time (g)",
    )


def test_stretches_add_up() -> None:
    calm, bad = (state(0), state(9, busy=9)), (state(20), state(21, busy=0.5, stolen=0.5))
    assert host.faults([bad]) != ()
    assert host.faults([calm, bad]) == ()


def test_a_group_that_was_not_there_before_has_no_past() -> None:
    assert host.faults([(state(0), state(1, g=100))]) == ()


def test_nothing_is_no_fault() -> None:
    assert host.faults([]) == ()
    assert host.faults([(state(3), state(3))]) == ()


def test_a_look_at_this_machine() -> None:
    before = host.look([os.getpid()])
    sum(range(3_000_000))
    after = host.look([os.getpid()])
    assert after.at > before.at
    assert after.busy_s >= before.busy_s > 0
    assert after.stolen_s >= before.stolen_s >= 0


@pytest.mark.parametrize(
    ("cgroup", "file", "text"),
    [
        ("0::/job\n", "job/cpu.stat", "usage_usec 9\nthrottled_usec 2500000\n"),
        (
            "4:cpu,cpuacct:/job\n0::/\n",
            "cpu/job/cpu.stat",
            "nr_periods 1\nthrottled_time 2500000000\n",
        ),
        # In a container the path may be the host's.
        ("0::/../../host/job\n", "cpu.stat", "throttled_usec 2500000\n"),
    ],
)
def test_both_versions_of_control_groups_are_read(
    tmp_path, monkeypatch: pytest.MonkeyPatch, cgroup: str, file: str, text: str
) -> None:
    process = tmp_path / "proc" / "7"
    process.mkdir(parents=True)
    (process / "cgroup").write_text(cgroup)
    stat = tmp_path / "groups" / file
    stat.parent.mkdir(parents=True)
    stat.write_text(text)
    monkeypatch.setattr(host, "_PROC", tmp_path / "proc")
    monkeypatch.setattr(host, "_CGROUPS", tmp_path / "groups")
    assert host.look([7]).throttled_s == {str(stat.parent): 2.5}
