"""The server's process tree and its memory."""

from typing import TYPE_CHECKING

from pytest_triton_perf.probes.base import Reading, SourceLost

if TYPE_CHECKING:
    import psutil

_MB = 10**6


class ProcessTree:
    """The process ``pid`` and its descendants, as they are at each call.

    The Python backend runs each model instance in a stub process, which comes and goes with
    its model: a list that was taken once is soon wrong.
    """

    def __init__(self, pid: int) -> None:
        import psutil

        self._pid = pid
        self._root: psutil.Process | None
        try:
            self._root = psutil.Process(pid)
        except psutil.NoSuchProcess:
            self._root = None

    def root(self) -> "psutil.Process":
        """The root of the tree.

        Raises:
            SourceLost: it has ended (a zombie has ended too), or its pid went to another.
        """
        import psutil

        try:
            if (
                self._root is not None
                and self._root.is_running()
                and self._root.status() != psutil.STATUS_ZOMBIE
            ):
                return self._root
        except psutil.NoSuchProcess:
            pass
        raise SourceLost(f"the server's process (pid {self._pid}) is gone: see the server's log")

    def processes(self) -> "list[psutil.Process]":
        """The root and all its descendants.

        Raises:
            SourceLost: as ``root``.
        """
        import psutil

        root = self.root()
        try:
            return [root, *root.children(recursive=True)]
        except psutil.NoSuchProcess:
            return [self.root()]

    def holds(self, pid: int) -> bool:
        """Whether the process ``pid`` is in the tree.

        Walks up from ``pid``, which is far cheaper than listing the tree.
        """
        import psutil

        try:
            return pid == self._pid or any(
                parent.pid == self._pid for parent in psutil.Process(pid).parents()
            )
        except psutil.Error:
            return False


class ProcessProbe:
    """Memory of the server's whole process tree, in MB.

    A page that n processes share counts 1/n in each (PSS), so that the sum over the tree is
    what the tree takes. Where the kernel does not give PSS the resident size is taken, and a
    note says so.
    """

    metrics: tuple[str, ...] = ("cpu_memory_mb",)

    def __init__(self, pid: int) -> None:
        self._tree = ProcessTree(pid)

    def read(self) -> Reading:
        """The memory of the tree now.

        Raises:
            SourceLost: the server's process has ended.
        """
        import psutil

        total = 0
        notes: tuple[str, ...] = ()
        for process in self._tree.processes():
            try:
                size, proportional = _memory(process)
            except psutil.NoSuchProcess:
                continue
            total += size
            if not proportional:
                notes = (
                    "CPU memory is the sum of resident sizes (RSS): the kernel does not give "
                    "the proportional ones here, so memory that processes share is counted "
                    "once for each of them",
                )
        # A root that ended while it was read would leave a sum without it.
        self._tree.root()
        return Reading(cpu_memory_mb=total / _MB, notes=notes)

    def close(self) -> None:
        """Nothing to give back."""


def _memory(process: "psutil.Process") -> tuple[int, bool]:
    """Bytes of one process, and whether they are its proportional share (PSS) or all (RSS)."""
    import psutil

    try:
        full = process.memory_full_info()
    except psutil.AccessDenied:
        return process.memory_info().rss, False
    # Kernels without smaps report a PSS of 0 for a process that has memory.
    return (full.pss, True) if full.pss or not full.rss else (full.rss, False)
