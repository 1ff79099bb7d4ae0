"""The CPUs of this process: how they are shared out, and processes that start on some of them."""

import contextlib
import os
from collections.abc import Collection, Iterator
from pathlib import Path

from pytest_triton_perf.domain.cpus import CpuSplit, parse_cpu_list, split_cpus

_CPUS = Path("/sys/devices/system/cpu")


def split_our_cpus() -> CpuSplit:
    """The split of the CPUs that this process may use, by the cores that Linux knows."""
    allowed = os.sched_getaffinity(0)
    siblings = (_CPUS / f"cpu{cpu}" / "topology" / "thread_siblings_list" for cpu in allowed)
    cores = [parse_cpu_list(file.read_text()) for file in siblings if file.exists()]
    return split_cpus(allowed, cores)


@contextlib.contextmanager
def started_on(cpus: Collection[int]) -> Iterator[None]:
    """A process that this thread starts meanwhile runs on these CPUs, with all of its threads.

    It inherits them from us. Set from outside, they would come too late for its first threads; and
    our own other threads stay where they are. Without any CPUs nothing is changed.
    """
    if not cpus:
        yield
        return
    ours = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cpus)
    try:
        yield
    finally:
        os.sched_setaffinity(0, ours)
