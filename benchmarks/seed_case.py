"""The seed case: ``pytest --triton-perf`` beside Model Analyzer's quick search.

Five configurations of the quickstart's add_sub under concurrency 1 and 2, on the same
tritonserver and perf_analyzer, one tool after the other, each from its start to its written
reports. Model Analyzer is installed in an environment of its own, which is not timed. Exits 1
where the plugin needs more than a quarter of Model Analyzer's time.
"""

import argparse
import csv
import json
import os
import shlex
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from pytest_triton_perf.load.perf_analyzer import find_perf_analyzer
from pytest_triton_perf.servers.embedded import find_server

LIMIT = 0.25
REPOSITORY = Path(__file__).parents[1] / "examples" / "quickstart" / "model_repository"
MODEL_ANALYZER = "triton-model-analyzer==1.58.0"

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
@pytest.mark.perf_budget(p99_latency_ms=1000)
def test_seed_case(triton_sweep): pass
"""


def timed(command: Sequence[str | Path], cwd: Path) -> float:
    """Wall time of a command; its output is shown where it fails."""
    started = time.perf_counter()
    done = subprocess.run(
        command, cwd=cwd, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False
    )
    took = time.perf_counter() - started
    if done.returncode:
        print(done.stdout)
        sys.exit(f"{command[0]} failed with exit code {done.returncode}")
    return took


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
    environment = folder / "venv"
    timed([sys.executable, "-m", "venv", environment], folder)
    timed([environment / "bin" / "pip", "install", "-q", MODEL_ANALYZER], folder)
    # The repository is copied, because the server that runs it may write beside model.py.
    shutil.copytree(REPOSITORY, folder / "models")
    server, analyzer = find_server(), find_perf_analyzer(None)
    http, grpc, metrics = free_ports(3)
    config = {
        "model_repository": folder / "models",
        "output_model_repository_path": folder / "variants",
        "checkpoint_directory": folder,
        "export_path": folder,
        "triton_launch_mode": "local",
        "triton_server_path": launcher(
            folder / "tritonserver", server.path, server.env(folder), server.args(folder)
        ),
        "perf_analyzer_path": launcher(
            folder / "perf_analyzer", analyzer.path, {**os.environ, **analyzer.env}, []
        ),
        "triton_http_endpoint": f"localhost:{http}",
        "triton_grpc_endpoint": f"localhost:{grpc}",
        "triton_metrics_url": f"http://localhost:{metrics}/metrics",
        "run_config_search_mode": "quick",
        "run_config_search_max_concurrency": 2,
        "run_config_search_max_model_batch_size": 2,
        "run_config_search_max_instance_count": 2,
        "profile_models": {"add_sub": {"cpu_only": True}},
    }
    file = folder / "config.json"  # JSON is YAML
    file.write_text(json.dumps(config, default=str))
    took = timed([environment / "bin" / "model-analyzer", "profile", "-f", file], folder)
    with (folder / "results" / "metrics-model-inference.csv").open() as table:
        rows = list(csv.DictReader(table))
    return took, len({row["Model Config Path"] for row in rows}), len(rows)


def launcher(file: Path, binary: Path, env: Mapping[str, str], args: Sequence[str]) -> Path:
    """A script that runs the binary as this plugin would run it."""
    changed = {key: value for key, value in env.items() if os.environ.get(key) != value}
    exports = [f"export {key}={shlex.quote(value)}" for key, value in changed.items()]
    command = f'exec {shlex.join([str(binary), *args])} "$@"'
    file.write_text("\n".join(["#!/bin/sh", *exports, command, ""]))
    file.chmod(0o755)
    return file


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on now."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports


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
