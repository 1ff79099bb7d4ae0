"""The seed case: ``pytest --triton-perf`` beside Model Analyzer's quick search.

Five configurations of the quickstart's add_sub under concurrency 1 and 2, on the same
tritonserver and perf_analyzer, one tool after the other, each from its start to its written
reports. Neither has a constraint to judge. Exits 1 where the plugin needs more than a tenth of
Model Analyzer's time.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path

from model_analyzer import install, profile, timed

LIMIT = 0.10
REPOSITORY = Path(__file__).parents[1] / "examples" / "quickstart" / "model_repository"

TEST = """\
import itertools
import pytest

@pytest.mark.perf_sweep(
    model="add_sub",
    concurrency=[1, 2],
    variants=[
        {},
        *(
            {"max_batch_size": size, "instance_group.count": count}
            for size, count in itertools.product([1, 2], [1, 2])
        ),
    ],
)
def test_seed_case(triton_sweep): pass
"""


def ours(folder: Path, *more: str) -> tuple[float, int, int]:
    """Seconds, configurations and measurements of the plugin, given ``more`` options."""
    (folder / "test_seed.py").write_text(TEST)
    (folder / "pytest.ini").write_text("[pytest]\n")
    command = [sys.executable, "-m", "pytest", "-q", "--triton-perf", "-p", "no:cacheprovider"]
    # Model Analyzer's quick search is told to use the CPU, so the plugin is too.
    options = [f"--triton-model-repository={REPOSITORY}", "--triton-gpus=none"]
    took = timed([*command, *options, *more], folder)
    results = json.loads((folder / "triton-perf-results" / "results.json").read_text("utf-8"))
    measured = results["measurements"]
    return took, len({m["variant"] for m in measured}), len(measured)


def model_analyzer(folder: Path) -> tuple[float, int, int]:
    """Seconds, configurations and measurements of Model Analyzer."""
    found = profile(
        folder,
        REPOSITORY,
        install(folder),
        run_config_search_mode="quick",
        run_config_search_max_concurrency=2,
        run_config_search_max_model_batch_size=2,
        run_config_search_max_instance_count=2,
    )
    return found.seconds, found.configurations, len(found.rows)


def main() -> int:
    """Run both tools and print their times and the ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=("plugin", "model-analyzer"), help="run one side")
    only = parser.parse_args().only
    sides = {"plugin": ours, "model-analyzer": model_analyzer}
    took = {}
    for name, side in sides.items():
        if only in (None, name):
            with tempfile.TemporaryDirectory(prefix=f"seed-{name}-") as folder:
                took[name], configurations, measurements = side(Path(folder))
            print(
                f"{name}: {took[name]:.1f} s for {measurements} measurements across "
                f"{configurations} configurations",
                flush=True,
            )
    if only:
        return 0
    ratio = took["plugin"] / took["model-analyzer"]
    print(f"the plugin needs {ratio:.2f} of Model Analyzer's time (limit {LIMIT})")
    return int(ratio > LIMIT)


if __name__ == "__main__":
    sys.exit(main())
