"""Work spread over processes: Python draws one picture at a time."""

import os
import pickle
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

_WORTH = 12
"""So many jobs are worth the start of a process."""
_MOST = 4

_HELPER = """\
import sys
sys.path[:] = sys.argv[1:]
import os, pickle
out = os.fdopen(os.dup(1), "wb")
os.dup2(2, 1)
work, jobs = pickle.load(sys.stdin.buffer)
pickle.dump([work(job) for job in jobs], out)
"""
"""What a helper runs; what is printed on the way does not get into its results."""

Job = TypeVar("Job")
Result = TypeVar("Result")


def spread(work: Callable[[Job], Result], jobs: Sequence[Job]) -> list[Result]:
    """``[work(job) for job in jobs]``, a part of it by helper processes where there are many.

    ``work``, the jobs and their results can be pickled. A fork of a process with threads is not
    safe, and multiprocessing's "spawn" would run the user's main module once more, so a helper
    is a Python process of its own.

    Raises:
        RuntimeError: a helper failed; the message has its last words.
    """
    shares = max(1, min(len(os.sched_getaffinity(0)), _MOST, len(jobs) // _WORTH))
    results: list[Result | None] = [None] * len(jobs)
    with ThreadPoolExecutor(max_workers=shares) as pool:
        theirs = [pool.submit(_by_helper, work, jobs[i::shares]) for i in range(1, shares)]
        results[::shares] = [work(job) for job in jobs[::shares]]
        for i, share in enumerate(theirs, 1):
            results[i::shares] = share.result()
    return results  # type: ignore[return-value]


def _by_helper(work: Callable[[Job], Result], jobs: Sequence[Job]) -> list[Result]:
    done = subprocess.run(
        [sys.executable, "-c", _HELPER, *sys.path],
        input=pickle.dumps((work, jobs)),
        capture_output=True,
        check=False,
    )
    if done.returncode != 0:
        words = done.stderr.decode(errors="replace").strip().splitlines()[-1:]
        raise RuntimeError(f"a helper process: {' '.join(words) or f'exit {done.returncode}'}")
    results: list[Result] = pickle.loads(done.stdout)
    return results
