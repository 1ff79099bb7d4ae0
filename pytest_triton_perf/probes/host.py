"""What the machine did to a measurement: CPU time that others took, and limits that were hit."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

_STEAL_SHARE = 0.10
_THROTTLED_SHARE = 0.05
_PROC = Path("/proc")
_CGROUPS = Path("/sys/fs/cgroup")


@dataclass(frozen=True, kw_only=True)
class HostState:
    """Counters of this machine at one moment, in seconds since some start.

    ``busy_s`` and ``stolen_s`` are CPU time over all cores: that of this machine, and what its
    hypervisor gave to others while this machine wanted it. ``throttled_s`` is how long the CPU
    limits of control groups held processes back, by group.
    """

    at: float
    busy_s: float
    stolen_s: float
    throttled_s: dict[str, float]


def look(pids: Iterable[int] = ()) -> HostState:
    """The counters now; ``pids`` are processes whose control groups count, beside our own."""
    import os
    import time

    import psutil

    cpu = psutil.cpu_times()
    groups = {group for pid in (os.getpid(), *pids) if (group := _cpu_group(pid)) is not None}
    return HostState(
        at=time.monotonic(),
        busy_s=cpu.user + cpu.system + getattr(cpu, "irq", 0.0) + getattr(cpu, "softirq", 0.0),
        stolen_s=getattr(cpu, "steal", 0.0),
        throttled_s={str(group): _throttled(group) for group in groups},
    )


def faults(stretches: Iterable[tuple[HostState, HostState]]) -> tuple[str, ...]:
    """What disturbed the stretches between two looks so much that a limit missed proves little.

    Stolen time counts as a share of what the machine wanted to compute, which is what it slows
    down; throttling as a share of the time that passed.
    """
    stolen = wanted = passed = 0.0
    throttled: dict[str, float] = {}
    for before, after in stretches:
        stolen += after.stolen_s - before.stolen_s
        wanted += after.busy_s - before.busy_s + after.stolen_s - before.stolen_s
        passed += after.at - before.at
        for group, seconds in after.throttled_s.items():
            held = seconds - before.throttled_s.get(group, seconds)
            throttled[group] = throttled.get(group, 0.0) + held
    found = []
    if wanted > 0 and stolen / wanted > _STEAL_SHARE:
        found.append(
            f"the hypervisor gave {stolen / wanted:.0%} of the CPU time to other machines (steal)"
        )
    for group, seconds in throttled.items():
        if passed > 0 and seconds / passed > _THROTTLED_SHARE:
            share = f"{seconds / passed:.0%}"
            found.append(f"a CPU limit held processes back for {share} of the time ({group})")
    return tuple(found)


def _cpu_group(pid: int) -> Path | None:
    """The folder with the CPU counters of a process's control group; ``None`` if it has none."""
    try:
        lines = (_PROC / str(pid) / "cgroup").read_text().splitlines()
    except OSError:
        return None
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        root = _CGROUPS / "cpu" if controllers else _CGROUPS
        # Within a container the path may be the host's, and its own group is at the top.
        for folder in (root / path.lstrip("/"), root):
            if (folder / "cpu.stat").is_file():
                return folder
    return None


def _throttled(group: Path) -> float:
    try:
        text = (group / "cpu.stat").read_text()
    except OSError:  # The group went with its processes.
        return 0.0
    counters = dict(line.split() for line in text.splitlines())
    if "throttled_usec" in counters:  # version 2
        return int(counters["throttled_usec"]) / 1e6
    return int(counters.get("throttled_time", 0)) / 1e9
