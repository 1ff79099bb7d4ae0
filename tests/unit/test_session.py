"""What a session makes of one level's load report and readings."""

import pytest

from pytest_triton_perf.domain.levels import Load
from pytest_triton_perf.load.base import LoadReport
from pytest_triton_perf.probes.base import Reading
from pytest_triton_perf.session import _measurement


def report(**values: float) -> LoadReport:
    return LoadReport(values=values, missing={}, requests=100, started=10.0, ended=12.0)


SEEN = Reading(gpus={"GPU-a": {"energy_j": 300.0}, "GPU-b": {"energy_j": 100.0}})


def test_energy_is_related_to_the_inferences_of_the_level() -> None:
    measurement = _measurement(Load(concurrency=1), report(throughput=50.0), SEEN)
    assert measurement.value("energy_per_inference_j") == pytest.approx(4)


@pytest.mark.parametrize("values", [{}, {"throughput": 0.0}])
def test_energy_without_an_inference_is_missing_with_the_reason(values: dict[str, float]) -> None:
    measurement = _measurement(Load(concurrency=1), report(**values), SEEN)
    assert measurement.value("energy_per_inference_j") is None
    why = measurement.why_missing("energy_per_inference_j")
    assert why == "there is no throughput to relate energy to"
