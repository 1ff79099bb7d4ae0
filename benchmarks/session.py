"""400 levels in one session on the real server: 80 configurations of one model.

Prints the wall time, the part of it that was not under load, how long the reports took, and the
peak memory of the pytest process. Exits 1 where the memory is above its limit. Takes about four
minutes; ``--configurations`` makes it shorter.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path

from peer import Configuration, sweep

MEMORY_LIMIT_MB = 500.0
LOADS = (1, 2, 4, 8, 16)

CONFTEST = """\
import pathlib, resource

def pytest_unconfigure(config):
    used = resource.getrusage(resource.RUSAGE_SELF)
    pathlib.Path("memory_mb").write_text(str(used.ru_maxrss * 1024 / 1e6))
"""


def main() -> int:
    """Run the session, and say what it took."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--configurations", type=int, default=80)
    count = parser.parse_args().configurations
    grid = {
        f"delay_{delay}": Configuration(
            overrides={"dynamic_batching.max_queue_delay_microseconds": delay}, loads=LOADS
        )
        for delay in range(count)
    }
    with tempfile.TemporaryDirectory(prefix="session-") as name:
        folder = Path(name)
        (folder / "conftest.py").write_text(CONFTEST)
        took, loaded, figures = sweep(folder, grid)
        memory_mb = float((folder / "memory_mb").read_text())
        results = json.loads((folder / "triton-perf-results" / "results.json").read_text("utf-8"))
    reports = took - results["session"]["wall_s"]
    print(f"{len(figures)} levels of {count} configurations in {took:.1f} s")
    print(
        f"{1 - loaded / took:.0%} of it was not under load, {reports:.1f} s were the reports' and"
    )
    print(f"pytest's own start; pytest took {memory_mb:.0f} MB at most (limit {MEMORY_LIMIT_MB:g})")
    return int(memory_mb > MEMORY_LIMIT_MB)


if __name__ == "__main__":
    sys.exit(main())
