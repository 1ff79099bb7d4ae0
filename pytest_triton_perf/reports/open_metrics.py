"""``metrics.txt``: the figures that GitLab shows beside those of the target branch.

The OpenMetrics text format (prometheus.io/docs/specs/om), as GitLab's metrics reports read it.
"""

from collections.abc import Iterator
from pathlib import Path

from pytest_triton_perf.domain.results import Run

_NAMES = {"throughput": "throughput_infer_per_second"}
"""Metrics whose own names do not end with their unit."""


def write_open_metrics(run: Run, path: Path) -> None:
    """Write a line per figure; what was not measured has none."""
    # The format asks that the lines of one metric stand together.
    samples = sorted(_samples(run), key=lambda sample: sample[0])
    lines = [f"{name}{{{labels}}} {value!r}\n" for name, labels, value in samples]
    text = "".join([*dict.fromkeys(lines), "# EOF\n"])
    path.write_text(text, encoding="utf-8", errors="backslashreplace")


def _samples(run: Run) -> Iterator[tuple[str, str, float]]:
    for sweep in run.sweeps:
        for measurement in sweep.measurements:
            labels = {
                "model": sweep.model,
                "configuration": run.configuration(sweep),
                "load": str(measurement.load),
                "test": sweep.test,
            }
            text = ",".join(f'{key}="{_escaped(value)}"' for key, value in labels.items())
            for metric, estimate in measurement.values.items():
                yield f"triton_perf_{_NAMES.get(metric, metric)}", text, float(estimate.value)


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\r", " ")
