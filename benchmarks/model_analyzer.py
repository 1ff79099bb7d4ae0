"""Model Analyzer, run beside the plugin on the same tritonserver and perf_analyzer."""

import csv
import json
import os
import shlex
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pytest_triton_perf.load.binaries import find_perf_analyzer
from pytest_triton_perf.servers.embedded import find_server

MODEL_ANALYZER = "triton-model-analyzer==1.58.0"


@dataclass(frozen=True, kw_only=True)
class Profile:
    """What one run of Model Analyzer took, in seconds, and its table of measurements."""

    seconds: float
    rows: Sequence[Mapping[str, str]]

    @property
    def configurations(self) -> int:
        """How many configurations it measured."""
        return len({row["Model Config Path"] for row in self.rows})


def install(folder: Path) -> Path:
    """Model Analyzer in an environment of its own below ``folder``, whose path is returned."""
    environment = folder / "venv"
    timed([sys.executable, "-m", "venv", environment], folder)
    timed([environment / "bin" / "pip", "install", "-q", MODEL_ANALYZER], folder)
    return environment


def profile(folder: Path, repository: Path, environment: Path, **options: Any) -> Profile:
    """Run Model Analyzer's search over a model repository, from start to written reports.

    ``options`` are those of its ``profile`` command. Each model is told to use the CPU.
    """
    folder.mkdir(exist_ok=True)
    # The repository is copied, because the server that runs it may write beside model.py.
    shutil.copytree(repository, folder / "models")
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
        "profile_models": {model.name: {"cpu_only": True} for model in repository.iterdir()},
        **options,
    }
    file = folder / "config.json"  # JSON is YAML
    file.write_text(json.dumps(config, default=str))
    took = timed([environment / "bin" / "model-analyzer", "profile", "-f", file], folder)
    with (folder / "results" / "metrics-model-inference.csv").open() as table:
        return Profile(seconds=took, rows=list(csv.DictReader(table)))


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
