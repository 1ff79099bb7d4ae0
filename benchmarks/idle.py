"""What the installed plugin costs a session that does not use it.

Times whole ``pytest`` processes on one empty test, with the plugin and with it blocked
(``-p no:triton_perf``), in pairs whose order a coin decides. Exits 1 above the limit.
"""

import argparse
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

LIMIT = 1.05
BARE = ("-p", "no:triton_perf")


def seconds(folder: Path, *args: str) -> float:
    """Wall time of one pytest process."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *args]
    started = time.perf_counter()
    subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - started


def main() -> int:
    """Measure the pairs and print the median of their ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=60)
    pairs = parser.parse_args().pairs
    with_plugin, bare = [], []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "test_empty.py").write_text("def test_empty(): pass\n")
        (folder / "pytest.ini").write_text("[pytest]\n")
        for pair in range(pairs + 1):
            times = {}
            arms = [(), BARE]
            random.shuffle(arms)
            for arm in arms:
                times[arm] = seconds(folder, *arm)
            if pair:  # the first pair fills the caches
                with_plugin.append(times[()])
                bare.append(times[BARE])
    ratios = [a / b for a, b in zip(with_plugin, bare, strict=True)]
    low, median, high = statistics.quantiles(ratios, n=4)
    print(
        f"idle: bare {statistics.median(bare):.3f} s, with the plugin "
        f"{statistics.median(with_plugin):.3f} s; median of {pairs} paired ratios "
        f"{median:.3f} (quartiles {low:.3f} to {high:.3f}; limit {LIMIT})"
    )
    return int(median > LIMIT)


if __name__ == "__main__":
    sys.exit(main())
