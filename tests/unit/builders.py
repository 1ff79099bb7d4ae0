"""Small sweeps made by hand, for tests of the pure core."""

from pytest_triton_perf.domain.levels import Estimate, Load, Measurement
from pytest_triton_perf.domain.sweeps import Sweep
from pytest_triton_perf.domain.variants import Variant

LOADS = tuple(Load(concurrency=c) for c in (1, 2, 4, 8))


def measurement(load: Load, missing: dict[str, str] | None = None, **values: float) -> Measurement:
    return Measurement(
        load=load,
        requests=1000,
        wall_s=1.0,
        values={name: Estimate(value=value) for name, value in values.items()},
        missing=missing or {},
    )


def ramp() -> Sweep:
    """p99 of 3, 4, 6 and 10 ms at concurrency 1, 2, 4 and 8; no GPU."""
    rows = [
        measurement(
            load,
            {"gpu_memory_mb": "no GPU"},
            throughput=1000.0 * load.value,
            avg_latency_ms=1.0 + load.value / 4,
            p99_latency_ms=2.0 + load.value,
        )
        for load in LOADS
    ]
    variant = Variant(model="m", name="m_config_0", overrides={"max_batch_size": 8})
    return Sweep(test="test_it", variant=variant, measurements=rows[::-1])
