"""The server's process tree: its memory and its CPU time."""

import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from pytest_triton_perf.domain.metrics import PROCESS_METRICS
from pytest_triton_perf.probes.base import Reading, SourceLost

if TYPE_CHECKING:
    import psutil

_MB = 10**6

_SHARE = 0.0003
"""The part of one CPU core that listing the processes may take, and reading their PSS too."""

_REMEMBERED_S = 10.0
"""How long it is remembered whether a process is in the tree, which never changes in its life."""

_RESIDENT_NOTE = (
    "CPU memory is the sum of resident sizes (RSS): the kernel does not give the proportional "
    "ones here, so memory that processes share is counted once for each of them"
)

_T = TypeVar("_T")


class DearCall:
    """Due again when the CPU time it took is no more than a ``share`` of the time since.

    After ``longest_s`` seconds it is due however dear it is.
    """

    def __init__(self, share: float, *, longest_s: float = math.inf) -> None:
        self._share = share
        self._longest_s = longest_s
        self._until = 0.0

    def due(self) -> bool:
        """Whether the last call is paid for."""
        return time.monotonic() >= self._until

    def call(self, dear: Callable[[], _T]) -> _T:
        """Call ``dear`` now."""
        at, cpu = time.monotonic(), time.thread_time()
        result = dear()
        self._until = at + min(self._longest_s, (time.thread_time() - cpu) / self._share)
        return result


@dataclass(frozen=True, kw_only=True)
class _Stat:
    """One look into ``/proc/PID/stat``: bytes resident, and seconds of CPU time.

    The time is the process's own and that of the children it has waited for. A process that has
    ended keeps its time until it is waited for (it is a zombie so long).
    """

    rss: int
    cpu_s: float
    ended: bool


class _StatFile:
    """``/proc/PID/stat`` of one process, kept open: a tenth of what opening it anew costs.

    It never speaks of another process that got the same pid.

    Raises:
        OSError: there is no such process, or it may not be looked at.
    """

    def __init__(self, pid: int) -> None:
        self._file = os.open(f"/proc/{pid}/stat", os.O_RDONLY)
        self._page, self._tick = os.sysconf("SC_PAGESIZE"), os.sysconf("SC_CLK_TCK")

    def read(self) -> _Stat | None:
        """What the process takes now; ``None`` where there is none any more."""
        try:
            # The second field is the program's name in brackets, with any characters.
            fields = os.pread(self._file, 4096, 0).rpartition(b") ")[2].split()
        except ProcessLookupError:
            return None
        ticks = sum(map(int, fields[11:15]))  # utime, stime, cutime, cstime of proc(5)
        return _Stat(
            rss=int(fields[21]) * self._page,
            cpu_s=ticks / self._tick,
            ended=fields[0] in (b"Z", b"X"),
        )

    def close(self) -> None:
        os.close(self._file)


class ProcessTree:
    """The process ``pid`` and its descendants.

    The Python backend runs each model instance in a stub process, which comes and goes with
    its model: a list that was taken once is soon wrong.
    """

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._listed = DearCall(_SHARE)
        self._processes: list[psutil.Process] = []
        self._known: dict[int, tuple[float, bool | None]] = {}
        try:
            self._root: _StatFile | None = _StatFile(pid)
        except OSError:
            self._root = None

    def check(self) -> None:
        """Find out whether the root lives.

        Raises:
            SourceLost: it has ended.
        """
        stat = None if self._root is None else self._root.read()
        if stat is None or stat.ended:
            raise SourceLost(
                f"the server's process (pid {self._pid}) is gone: see the server's log"
            )

    def processes(self, *, fresh: bool = False) -> "list[psutil.Process]":
        """The root and all its descendants; listed anew where ``fresh``, else now and then.

        Raises:
            SourceLost: the root has ended.
        """
        import psutil

        def listed() -> list[psutil.Process]:
            try:
                root = psutil.Process(self._pid)
                return [root, *root.children(recursive=True)]
            except psutil.NoSuchProcess:
                return []

        if fresh or self._listed.due():
            self._processes = self._listed.call(listed)
        if not self._processes:
            self.check()
        return self._processes

    def holds(self, pid: int) -> bool | None:
        """Whether the process ``pid`` is in the tree; ``None`` where there is no such process.

        Walks up from ``pid``, which is cheaper than listing the tree.
        """
        now = time.monotonic()
        when, answer = self._known.get(pid, (-_REMEMBERED_S, None))
        if now - when >= _REMEMBERED_S:
            answer = self._walk_up(pid)
            self._known[pid] = (now, answer)
        return answer

    def _walk_up(self, pid: int) -> bool | None:
        import psutil

        if pid == self._pid:
            return True
        try:
            return any(parent.pid == self._pid for parent in psutil.Process(pid).parents())
        except psutil.NoSuchProcess:
            return None
        except psutil.AccessDenied:
            return False

    def close(self) -> None:
        """Give back what the tree holds open."""
        if self._root is not None:
            self._root.close()
            self._root = None


@dataclass(kw_only=True)
class _Member:
    """A process of the tree, with its size when that was last read in full.

    ``size`` is the proportional size (PSS) in bytes, or all that is resident where the kernel
    does not give it; ``rss`` is what was resident then.
    """

    process: "psutil.Process"
    stat: _StatFile
    size: int = 0
    rss: int = 0
    proportional: bool = True


class ProcessProbe:
    """Memory in MB and CPU time of the server's whole process tree.

    A page that n processes share counts 1/n in each (PSS), so that the sum over the tree is
    what the tree takes. The kernel computes PSS by walking through all pages, too dear to do at
    every sample: between two times a process counts with its PSS of the last time and what its
    resident size has grown since. Where the kernel does not give PSS the resident size is taken,
    and a note says so.
    """

    name = "/proc"
    period_s = 0.2
    share = 0.0025
    metrics: tuple[str, ...] = PROCESS_METRICS

    def __init__(self, pid: int) -> None:
        self._tree = ProcessTree(pid)
        self._members: dict[psutil.Process, _Member] = {}
        self._sized = DearCall(_SHARE)
        self._before: tuple[float, float] | None = None

    def read(self, *, fresh: bool = False) -> Reading:
        """The memory of the tree now, and its CPU use since the last reading.

        Raises:
            SourceLost: the server's process has ended.
        """
        self._update_members(self._tree.processes(fresh=fresh))
        if fresh or self._sized.due():
            self._sized.call(self._measure_sizes)
        memory, cpu_s, proportional = 0, 0.0, True
        now = time.monotonic()
        for member in self._members.values():
            stat = member.stat.read()
            if stat is None or stat.ended:
                self._tree.check()  # a sum without the root would be no figure
            if stat is None:
                continue
            cpu_s += stat.cpu_s
            if stat.ended:
                continue
            memory += max(0, member.size + stat.rss - member.rss)
            proportional = proportional and member.proportional
        return Reading(
            cpu_memory_mb=memory / _MB,
            cpu_utilization_pct=self._utilization(now, cpu_s),
            notes=() if proportional else (_RESIDENT_NOTE,),
        )

    def close(self) -> None:
        """Give back what is held open."""
        self._tree.close()
        self._update_members([])

    def _utilization(self, now: float, cpu_s: float) -> float | None:
        """Percent of one core since the last reading; ``None`` where that cannot be told."""
        before, self._before = self._before, (now, cpu_s)
        # Less than before: a process ended, and nobody of the tree waited for it.
        if before is None or now <= before[0] or cpu_s < before[1]:
            return None
        return 100 * (cpu_s - before[1]) / (now - before[0])

    def _update_members(self, processes: "list[psutil.Process]") -> None:
        for gone in self._members.keys() - processes:
            self._members.pop(gone).stat.close()
        for process in processes:
            if process not in self._members:
                try:
                    member = _Member(process=process, stat=_StatFile(process.pid))
                except OSError:  # it has ended
                    self._tree.check()
                    continue
                self._members[process] = member
                _measure_size(member)

    def _measure_sizes(self) -> None:
        for member in self._members.values():
            _measure_size(member)


def _measure_size(member: _Member) -> None:
    """Read the size of a process in full; one that has ended keeps what it had."""
    import psutil

    try:
        full = member.process.memory_full_info()
    except psutil.NoSuchProcess:
        return
    except psutil.AccessDenied:
        member.proportional = False
    else:
        # Kernels without smaps report a PSS of 0 for a process that has memory.
        member.proportional = bool(full.pss) or not full.rss
    stat = member.stat.read()
    if stat is not None:
        member.rss = stat.rss
        member.size = full.pss if member.proportional else stat.rss
