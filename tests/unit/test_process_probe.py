import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pytest_triton_perf.probes.base import SourceLost
from pytest_triton_perf.probes.process import DearCall, ProcessProbe, ProcessTree
from pytest_triton_perf.probes.sampler import Sampler

ALLOCATE = "import sys, time; block = bytearray(b'x' * {mb} * 10**6)"
READY_AND_WAIT = "; print('ready', flush=True); sys.stdin.read()"

TICK_S = 1 / os.sysconf("SC_CLK_TCK")


@contextmanager
def process(code: str) -> Iterator[subprocess.Popen[str]]:
    """A Python process that has printed ``ready``; it ends when its stdin does."""
    child = subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdin is not None
    assert child.stdout is not None
    try:
        assert child.stdout.readline() == "ready\n"
        yield child
    finally:
        child.stdin.close()
        try:
            child.wait(10)
        finally:
            child.kill()
            child.wait()
            child.stdout.close()


def with_children(parent_mb: int, *children_mb: int) -> str:
    """A process that allocates, with children that allocate and end when told by name."""
    return f"""
import subprocess, sys
block = bytearray(b'x' * {parent_mb} * 10**6)
children = []
for mb in {children_mb}:
    code = {ALLOCATE + READY_AND_WAIT!r}.format(mb=mb)
    child = subprocess.Popen([sys.executable, "-c", code], stdin=-1, stdout=-1, text=True)
    assert child.stdout.readline() == "ready\\n"
    children.append(child)
print("ready", flush=True)
for line in sys.stdin:
    child = children.pop()
    child.communicate()
    print("ended", flush=True)
for child in children:
    child.communicate()
"""


def pss_mb(pid: int) -> float:
    """The kernel's own figure, read without the code under test."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii")
    found = re.search(r"^Pss:\s+(\d+) kB", text, re.MULTILINE)
    assert found
    return int(found[1]) * 1024 / 1e6


def children_of(pid: int) -> list[int]:
    return [
        int(child)
        for task in Path(f"/proc/{pid}/task").iterdir()
        for child in (task / "children").read_text(encoding="ascii").split()
    ]


def cpu_s(pid: int) -> float:
    """Seconds of CPU time of a process and the children that it has waited for."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")


def memory(probe: ProcessProbe) -> float:
    value = probe.read(fresh=True).cpu_memory_mb
    assert value is not None
    return value


def test_memory_of_the_whole_tree_agrees_with_proc() -> None:
    with process(with_children(40, 30, 60)) as root:
        probe = ProcessProbe(root.pid)
        assert probe.read().notes == ()
        measured = memory(probe)
        expected = sum(pss_mb(pid) for pid in (root.pid, *children_of(root.pid)))
    assert measured == pytest.approx(expected, rel=0.05)
    assert measured >= 130


def test_memory_that_processes_share_counts_once() -> None:
    code = (
        "import os, sys; block = bytearray(b'x' * 100 * 10**6); r, w = os.pipe()\n"
        "if os.fork():\n"
        "    os.close(r); print('ready', flush=True); sys.stdin.read(); os.close(w); os.wait()\n"
        "else:\n"
        "    os.close(w); os.read(r, 1); os._exit(0)\n"
    )
    with process(code) as root:
        probe = ProcessProbe(root.pid)
        assert len(children_of(root.pid)) == 1
        assert 100 <= memory(probe) < 150


def test_the_tree_is_listed_anew_at_a_fresh_reading() -> None:
    with process(with_children(1, 50)) as root:
        probe = ProcessProbe(root.pid)
        assert root.stdin is not None
        assert root.stdout is not None
        before = memory(probe)
        root.stdin.write("end one\n")
        root.stdin.flush()
        assert root.stdout.readline() == "ended\n"
        assert before - memory(probe) >= 50


def test_growth_since_the_last_size_in_full_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    code = (
        "import sys; print('ready', flush=True); sys.stdin.readline(); "
        "block = bytearray(b'x' * 60 * 10**6); print('grown', flush=True); sys.stdin.read()"
    )
    with process(code) as root:
        probe = ProcessProbe(root.pid)
        before = memory(probe)
        monkeypatch.setattr(DearCall, "due", lambda call: False)
        assert root.stdin is not None
        assert root.stdout is not None
        root.stdin.write("\n")
        root.stdin.flush()
        assert root.stdout.readline() == "grown\n"
        grown = probe.read().cpu_memory_mb
        assert grown is not None
        assert grown == pytest.approx(pss_mb(root.pid), rel=0.05)
        assert grown - before >= 59


def test_cpu_time_of_the_whole_tree_agrees_with_proc() -> None:
    # An ended child's time is its parent's, so that in the end the root has it all.
    busy = "import time; until = time.process_time() + 0.4\nwhile time.process_time() < until: pass"
    code = f"""
import subprocess, sys
print("ready", flush=True)
sys.stdin.readline()
children = [subprocess.Popen([sys.executable, "-c", {busy!r}]) for _ in range(2)]
for child in children:
    child.wait()
print("done", flush=True)
sys.stdin.read()
"""
    with process(code) as root, Sampler([ProcessProbe(root.pid)]) as sampler:
        assert root.stdin is not None
        assert root.stdout is not None
        sampler.read_now()
        start, before = time.monotonic(), cpu_s(root.pid)
        root.stdin.write("\n")
        root.stdin.flush()
        time.sleep(0.2)
        sampler.read_now()  # finds the children
        assert root.stdout.readline() == "done\n"
        sampler.read_now()
        end = time.monotonic()
        percent = sampler.summary(start, end).cpu_utilization_pct
        expected = cpu_s(root.pid) - before
    assert expected > 0.8 - 4 * TICK_S  # what two children leave in /proc is whole ticks
    assert percent is not None
    assert percent / 100 * (end - start) == pytest.approx(expected, rel=0.05)


def test_cpu_time_that_vanishes_with_a_process_is_not_negative() -> None:
    # Nobody waits for the child's child: its time is gone when it ends.
    code = (
        "import os, signal, sys, time; signal.signal(signal.SIGCHLD, signal.SIG_IGN)\n"
        "if not os.fork():\n"
        "    until = time.process_time() + 0.2\n"
        "    while time.process_time() < until: pass\n"
        "    print('ready', flush=True); sys.stdin.readline(); os._exit(0)\n"
        "try: os.wait()\n"
        "except ChildProcessError: print('ended', flush=True)\n"
        "sys.stdin.read()"
    )
    with process(code) as root:
        probe = ProcessProbe(root.pid)
        assert probe.read(fresh=True).cpu_utilization_pct is None  # nothing to compare it with
        assert root.stdin is not None
        assert root.stdout is not None
        root.stdin.write("\n")
        root.stdin.flush()
        assert root.stdout.readline() == "ended\n"
        assert probe.read().cpu_utilization_pct is None
        time.sleep(0.05)
        used = probe.read().cpu_utilization_pct
    assert used is not None
    assert 0 <= used < 100


def test_a_child_that_ended_and_was_not_reaped_is_skipped() -> None:
    code = (
        "import os, sys; pid = os.fork() or os._exit(0)\n"
        "os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT); print('ready', flush=True)\n"
        "sys.stdin.read()"
    )
    with process(code) as root:
        assert len(children_of(root.pid)) == 1
        assert memory(ProcessProbe(root.pid)) == pytest.approx(pss_mb(root.pid), rel=0.05)


@pytest.mark.parametrize("reaped", [True, False])
def test_a_root_that_ended_is_lost(reaped: bool) -> None:
    with process(ALLOCATE.format(mb=1) + READY_AND_WAIT) as root:
        probe = ProcessProbe(root.pid)
        assert memory(probe) > 1
        root.kill()
        if reaped:
            root.wait()
        else:
            os.waitid(os.P_PID, root.pid, os.WEXITED | os.WNOWAIT)
        words = rf"^the server's process \(pid {root.pid}\) is gone: see the server's log$"
        with pytest.raises(SourceLost, match=words):
            probe.read()
    with pytest.raises(SourceLost, match=words):
        ProcessProbe(root.pid).read()


def test_a_process_without_proportional_sizes_is_read_by_its_resident_size() -> None:
    # The child forbids that others inspect it; root may nevertheless, so the reader gives
    # up being root.
    child = "import ctypes; ctypes.CDLL(None).prctl(4, 0); " + ALLOCATE.format(mb=50)
    reader = """
import json, os, sys, time, psutil
from pytest_triton_perf.probes.process import ProcessProbe
if os.getuid() == 0:
    os.setuid(65534)
reading = ProcessProbe(int(sys.argv[1])).read()
print(json.dumps([reading.cpu_memory_mb, list(reading.notes)]))
"""
    with process(child + READY_AND_WAIT) as root:
        done = subprocess.run(
            [sys.executable, "-c", reader, str(root.pid)],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        resident_pages = Path(f"/proc/{root.pid}/statm").read_text(encoding="ascii").split()[1]
    assert done.returncode == 0, done.stderr
    size, notes = json.loads(done.stdout)
    resident_mb = int(resident_pages) * os.sysconf("SC_PAGESIZE") / 1e6
    assert size == pytest.approx(resident_mb, rel=0.05)
    assert notes == [
        "CPU memory is the sum of resident sizes (RSS): the kernel does not give the "
        "proportional ones here, so memory that processes share is counted once for each of them"
    ]


def test_the_tree_holds_the_root_and_its_descendants_alone() -> None:
    with process(with_children(1, 1)) as root:
        tree = ProcessTree(root.pid)
        (child,) = children_of(root.pid)
        assert {p.pid for p in tree.processes()} == {root.pid, child}
        assert tree.holds(root.pid)
        assert tree.holds(child)
        assert tree.holds(os.getpid()) is False
    assert ProcessTree(root.pid).holds(child) is None
