"""What reports cost: 400 levels of 80 configurations, in a process of their own.

Prints the wall time, the CPU time of all processes and the peak memory of the writing process
for each round, and their minima. Exits 1 where the least wall time or memory is above its limit.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

REPOSITORY = Path(__file__).parents[1]
SECONDS_LIMIT = 10.0
MEMORY_LIMIT_MB = 500.0
CONFIGURATIONS = 80


def write() -> None:
    """Write all reports of the run once, and print what that took as JSON."""
    import resource

    sys.path.insert(0, str(REPOSITORY / "tests" / "unit"))
    from sample_run import crowd_run

    from pytest_triton_perf.options import REPORTS
    from pytest_triton_perf.reports import write_reports

    run = crowd_run(CONFIGURATIONS)
    levels = sum(len(sweep.levels) for sweep in run.sweeps)
    with tempfile.TemporaryDirectory() as folder:
        began = time.monotonic()
        problems = write_reports(run, Path(folder) / "out", REPORTS)
        wall_s = time.monotonic() - began
    if problems:
        sys.exit("\n".join(problems))
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    print(
        json.dumps(
            {
                "levels": levels,
                "wall_s": wall_s,
                "cpu_s": sum(usage.ru_utime + usage.ru_stime for usage in usages),
                "memory_mb": usages[0].ru_maxrss * 1024 / 1e6,
            }
        )
    )


def main() -> int:
    """Rounds in processes of their own, and what they took at least."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--write", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.write:
        write()
        return 0
    rounds = []
    for _ in range(arguments.rounds):
        command = [sys.executable, __file__, "--write"]
        done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
        rounds.append(json.loads(done.stdout))
        print(
            "{levels} levels: {wall_s:.1f} s, {cpu_s:.1f} s of CPU, {memory_mb:.0f} MB".format(
                **rounds[-1]
            )
        )
    wall_s = min(one["wall_s"] for one in rounds)
    memory_mb = min(one["memory_mb"] for one in rounds)
    print(f"least: {wall_s:.1f} s (limit {SECONDS_LIMIT:g}), {memory_mb:.0f} MB", end=" ")
    print(f"(limit {MEMORY_LIMIT_MB:g})")
    return int(wall_s > SECONDS_LIMIT or memory_mb > MEMORY_LIMIT_MB)


if __name__ == "__main__":
    sys.exit(main())
