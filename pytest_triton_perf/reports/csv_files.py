"""The CSVs: Model Analyzer's columns first, so that its readers read ours, and then our own."""

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pytest_triton_perf.domain.metrics import (
    GPU_METRICS,
    METRICS,
    PROCESS_METRICS,
    SERVER_TIMES,
    find_metric,
    percentile_name,
    percentile_of,
)
from pytest_triton_perf.domain.results import Run
from pytest_triton_perf.domain.sweeps import Level
from pytest_triton_perf.reports.content import satisfies
from pytest_triton_perf.reports.tables import instance_group, max_batch_size

_INFERENCE = [
    "Model",
    "Batch",
    "Concurrency",
    "Model Config Path",
    "Instance Group",
    "Max Batch Size",
    "Satisfies Constraints",
    "Throughput (infer/sec)",
    "p99 Latency (ms)",
]
_GPU = [
    "Model",
    "GPU UUID",
    "Batch",
    "Concurrency",
    "Model Config Path",
    "Instance Group",
    "Satisfies Constraints",
    "GPU Memory Usage (MB)",
    "GPU Utilization (%)",
    "GPU Power Usage (W)",
]
_SERVER = ["Model", "GPU UUID", "GPU Memory Usage (MB)", "GPU Utilization (%)"]
_SERVER += ["GPU Power Usage (W)", "CPU Memory Usage (MB)"]

_READINGS = {
    "memory_mb": "GPU Memory Usage (MB)",
    "utilization_pct": "GPU Utilization (%)",
    "power_w": "GPU Power Usage (W)",
    "memory_delta_mb": "GPU Memory Delta (MB)",
    "process_memory_mb": "GPU Process Memory (MB)",
    "memory_source": "GPU Memory Source",
    "energy_j": "GPU Energy (J)",
    "temperature_c": "GPU Temperature (C)",
    "sm_clock_mhz": "SM Clock (MHz)",
    "throttle_reasons": "Throttle Reasons",
    "other_processes": "Other Processes",
}
"""What is read of one GPU -> its column."""


def write_csvs(run: Run, folder: Path) -> None:
    """The three CSVs of a run; a cell is empty where nothing was measured."""
    levels = [level for sweep in run.sweeps for level in sweep.levels]
    folder.mkdir(parents=True, exist_ok=True)
    _write(folder / "metrics-model-inference.csv", _INFERENCE, _inference(run, levels))
    _write(folder / "metrics-model-gpu.csv", _GPU, _gpu(run, levels))
    _write(folder / "metrics-server-only.csv", _SERVER, _server(run))


def _write(path: Path, columns: Sequence[str], rows: Iterator[Mapping[str, Any]]) -> None:
    cells = list(rows)
    header = dict.fromkeys([*columns, *(name for row in cells for name in row)])
    with path.open("w", encoding="utf-8", errors="backslashreplace", newline="") as file:
        table = csv.DictWriter(file, header, lineterminator="\n")
        table.writeheader()
        table.writerows(cells)


def _common(run: Run, level: Level) -> dict[str, Any]:
    satisfied = satisfies(run, level)
    return {
        "Model": level.sweep.model,
        "Batch": level.batch_size,
        "Concurrency": level.concurrency,
        "Model Config Path": level.sweep.variant.name,
        "Instance Group": instance_group(level),
        # Empty where no budget applies: there is nothing to satisfy.
        "Satisfies Constraints": None if satisfied is None else "Yes" if satisfied else "No",
    }


def _inference(run: Run, levels: Sequence[Level]) -> Iterator[dict[str, Any]]:
    measured = {name for level in levels for name in level.measurement.values}
    percentiles = sorted(filter(None, map(percentile_of, measured)))
    client = ["throughput", "avg_latency_ms", *map(percentile_name, percentiles)]
    others = [*SERVER_TIMES, *PROCESS_METRICS, *GPU_METRICS]
    for level in levels:
        measurement = level.measurement
        row = _common(run, level)
        row["Max Batch Size"] = max_batch_size(level.sweep.variant)
        row["Request Rate"] = level.request_rate
        row["Requests"] = measurement.requests
        row["Measured For (s)"] = measurement.wall_s
        for name in (*client, *others):
            row[find_metric(name).column] = measurement.value(name)
        for name in client:
            estimate = measurement.values.get(name)
            low, high = (estimate and estimate.ci) or (None, None)
            row[f"{find_metric(name).column} CI Low"] = low
            row[f"{find_metric(name).column} CI High"] = high
        row["Image"] = level.sweep.image
        row["Overrides"] = json.dumps(dict(level.sweep.variant.overrides), ensure_ascii=False)
        row["Test"] = level.sweep.test
        row["Not Measured"] = "; ".join(f"{k}: {why}" for k, why in measurement.missing.items())
        row["Notes"] = "; ".join(measurement.notes)
        row["Faults"] = "; ".join(measurement.faults)
        yield row


def _gpu(run: Run, levels: Sequence[Level]) -> Iterator[dict[str, Any]]:
    for level in levels:
        for uuid, reading in level.measurement.gpus.items():
            yield {
                **_common(run, level),
                "GPU UUID": uuid,
                **{column: reading.get(name) for name, column in _READINGS.items()},
                "Request Rate": level.request_rate,
                "Image": level.sweep.image,
                "Test": level.sweep.test,
            }


def _server(run: Run) -> Iterator[dict[str, Any]]:
    for server in run.server_only:
        for uuid, reading in (server["gpus"] or {None: {}}).items():
            yield {
                "Model": "triton-server",
                "GPU UUID": uuid,
                **{_READINGS[name]: reading.get(name) for name in list(_READINGS)[:3]},
                METRICS["cpu_memory_mb"].column: server["cpu_memory_mb"],
                "Image": server["image"],
            }
