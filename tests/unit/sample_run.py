"""A finished run to write reports of: made up, but shaped like a real one."""

from typing import Any

from pytest_triton_perf.domain.budgets import Budget
from pytest_triton_perf.domain.levels import Estimate, GpuFigures, Load, Measurement
from pytest_triton_perf.domain.metrics import GPU_METRICS
from pytest_triton_perf.domain.results import Run
from pytest_triton_perf.domain.sweeps import Sweep
from pytest_triton_perf.domain.timelines import Curve, MemoryTimeline, Phase
from pytest_triton_perf.domain.variants import Variant, default_name
from pytest_triton_perf.domain.verdicts import judge

GPU = "GPU-6f4d2a31-0b7c-4c0e-9a53-1d2f3e4a5b6c"
NO_GPU = "no NVIDIA driver: libnvidia-ml.so.1 was not found"
CONCURRENCY = (1, 2, 4, 8, 16)

ENVIRONMENT = {
    "triton": {"version": "2.51.0", "launch": "local", "origin": "embedded"},
    "load": {"name": "perf_analyzer", "version": "2.51.0"},
    "machine": {"cpu": "Xeon Platinum 8488C", "cores": 2, "memory_mb": 8333.4},
    "gpus": [{"uuid": GPU, "name": "NVIDIA A10G", "memory_total_mb": 24146.6}],
}


def variant(model: str, number: int | None = None, **settings: Any) -> Variant:
    """A variant as the session makes it; ``settings`` are count, batch, delay and kind."""
    count, batch = settings.get("count", 1), settings.get("batch", 8)
    delay, kind = settings.get("delay"), settings.get("kind", "KIND_CPU")
    config: dict[str, Any] = {
        "name": model,
        "max_batch_size": batch,
        "instance_group": [{"count": count, "kind": kind}],
    }
    if delay is not None:
        config["dynamic_batching"] = {"max_queue_delay_microseconds": str(delay)}
    overrides = {"instance_group.count": count, "max_batch_size": batch}
    name = default_name(model) if number is None else f"{model}_config_{number}"
    return Variant(
        model=model, name=name, config=config, overrides={} if number is None else overrides
    )


def measurement(
    load: Load, peak: float, memory_mb: float, *, gpu_memory_mb: float | None = None
) -> Measurement:
    """One level of a server that saturates at ``peak`` infer/s."""
    clients = load.value if load.kind == "concurrency" else 4.0
    throughput = peak * clients / (clients + 1.5)
    average = 1000 * clients / throughput
    times = {
        "avg_latency_ms": average,
        "p50_latency_ms": average * 0.93,
        "p90_latency_ms": average * 1.31,
        "p95_latency_ms": average * 1.55,
        "p99_latency_ms": average * 2.21,
    }
    queue = average * (1 - 1 / clients) * 0.7
    values = {
        "throughput": Estimate(value=throughput, ci=(throughput * 0.97, throughput * 1.03)),
        **{name: Estimate(value=v, ci=(v * 0.95, v * 1.06)) for name, v in times.items()},
        "queue_ms": Estimate(value=queue),
        "compute_input_ms": Estimate(value=0.021),
        "compute_infer_ms": Estimate(value=(average - queue) * 0.6),
        "compute_output_ms": Estimate(value=0.017),
        "cpu_memory_mb": Estimate(value=memory_mb + clients * 0.4),
        "cpu_utilization_pct": Estimate(value=30.0 + 12 * clients),
    }
    missing: dict[str, str] = {}
    gpus: dict[str, GpuFigures] = {}
    if gpu_memory_mb is None:
        missing = dict.fromkeys(GPU_METRICS, NO_GPU)
    else:
        utilization = min(97.0, 20.0 + 6 * clients)
        gpus[GPU] = {
            "memory_mb": gpu_memory_mb,
            "memory_delta_mb": gpu_memory_mb - 431.5,
            "process_memory_mb": None,
            "memory_source": "device",
            "utilization_pct": utilization,
            "power_w": 61.5 + utilization,
            "energy_j": (61.5 + utilization) * 1.2,
            "temperature_c": 54.0,
            "sm_clock_mhz": 1710.0,
            "throttle_reasons": "power limit",
            "other_processes": 1,
        }
        values["gpu_memory_mb"] = Estimate(value=gpu_memory_mb)
        values["gpu_memory_delta_mb"] = Estimate(value=gpu_memory_mb - 431.5)
        values["gpu_utilization_pct"] = Estimate(value=utilization)
        values["power_w"] = Estimate(value=61.5 + utilization)
        energy_j = (61.5 + utilization) / throughput
        values["energy_per_inference_j"] = Estimate(value=energy_j)
    return Measurement(
        load=load,
        requests=round(throughput * 1.2),
        wall_s=1.2,
        values=values,
        missing=missing,
        gpus=gpus,
    )


def sweep(chosen: Variant, peak: float, memory_mb: float, **kwargs: Any) -> Sweep:
    """One test's sweep; ``loads`` defaults to concurrency 1 to 16."""
    loads = kwargs.pop("loads", [Load(concurrency=c) for c in CONCURRENCY])
    test = kwargs.pop("test", f"tests/test_slo.py::test_{chosen.model}[{chosen.name}]")
    return Sweep(
        test=test,
        variant=chosen,
        measurements=[measurement(load, peak, memory_mb, **kwargs) for load in loads],
        memory=timeline(loads, memory_mb, kwargs.get("gpu_memory_mb")),
    )


def timeline(loads: list[Load], memory_mb: float, gpu_memory_mb: float | None) -> MemoryTimeline:
    """Loading for two seconds, then half a second of warm-up and of each level; 20 Hz."""
    names = ["load", "warm-up", *map(str, loads)]
    ends = [2.0 + 0.5 * i for i in range(len(names))]
    phases = [
        Phase(name=name, start_s=start, end_s=end)
        for name, start, end in zip(names, [0.0, *ends], ends, strict=False)
    ]

    def curve(peak_mb: float) -> Curve:
        times = [i / 20 for i in range(int(20 * ends[-1]))]
        return Curve.through([(at, peak_mb * min(1.0, 0.2 + at / 2.5)) for at in times])

    curves = {"cpu_memory_mb": curve(memory_mb)}
    if gpu_memory_mb is not None:
        curves["gpu_memory_mb"] = curve(gpu_memory_mb)
    gpus = {GPU: curves["gpu_memory_mb"]} if gpu_memory_mb is not None else {}
    return MemoryTimeline(phases=tuple(phases), curves=curves, gpus=gpus)


def run_of(sweeps: list[Sweep], budgets: list[Budget], **kwargs: Any) -> Run:
    """A run whose tests all have the same budgets."""
    verdicts = [
        judge(budget, one, tuple(level.load for level in one.levels))
        for one in sweeps
        for budget in budgets
    ]
    kwargs = {"environment": ENVIRONMENT, "wall_s": 28.4, "exit": 0} | kwargs
    return Run(sweeps=sweeps, verdicts=verdicts, **kwargs)


def add_sub_sweeps() -> list[Sweep]:
    """Five configurations of add_sub on the CPU."""
    return [
        sweep(variant("add_sub"), 6359, 181.2),
        sweep(variant("add_sub", 0, batch=64), 6402, 182.9),
        sweep(variant("add_sub", 1, count=2), 7122, 214.6),
        sweep(variant("add_sub", 2, count=2, batch=64, delay=100), 5890, 216.0),
        sweep(variant("add_sub", 3, count=1, batch=64, delay=100), 5211, 184.4),
    ]


def sample_run() -> Run:
    """Two models: add_sub on the CPU, resnet on a GPU; budgets passed, failed, not measured."""
    add_sub = run_of(
        add_sub_sweeps(),
        [
            Budget.from_keyword("p99_latency_ms", 5),
            Budget.from_keyword("min_throughput", 4000, {"concurrency": 8}),
        ],
    )
    resnet = run_of(
        [
            sweep(
                variant("resnet", number, count=count, kind="KIND_GPU", delay=50),
                peak,
                2210.0,
                gpu_memory_mb=memory,
                loads=[Load(concurrency=c, batch_size=b) for b in (1, 4) for c in (1, 2, 4, 8)],
            )
            for number, count, peak, memory in ((None, 1, 412, 2310.5), (0, 2, 505, 3120.0))
        ],
        [Budget.from_keyword("max_gpu_memory_mb", 3000)],
    )
    unmeasured = run_of(list(add_sub.sweeps[4:]), [Budget.from_keyword("max_power_w", 200)])
    return Run(
        environment=ENVIRONMENT,
        sweeps=[*add_sub.sweeps, *resnet.sweeps],
        verdicts=[*add_sub.verdicts, *resnet.verdicts, *unmeasured.verdicts],
        server_only={
            "cpu_memory_mb": 151.3,
            "gpus": {GPU: {"memory_mb": 431.5, "utilization_pct": 0.0, "power_w": 26.1}},
        },
        wall_s=28.4,
        exit=1,
    )


def crowd_run(count: int) -> Run:
    """Many configurations of one model."""
    sweeps = [sweep(variant("add_sub"), 6359, 181.2)]
    sweeps += [
        sweep(variant("add_sub", n, count=n % 4 + 1), 4200 + n * 61 % 2900, 180.0 + 12 * (n % 7))
        for n in range(count - 1)
    ]
    return run_of(sweeps, [Budget.from_keyword("p99_latency_ms", 8)])
