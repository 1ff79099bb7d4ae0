"""Does add_sub keep its promises? Run from the repository root:

    pytest --triton-perf examples/quickstart

The plugin starts a Triton with the model_repository beside this file, puts load on it with
perf_analyzer, and leaves plots, tables and a PDF in triton-perf-results/.
"""

import pytest


@pytest.mark.perf_sweep(
    model="add_sub",
    concurrency=[1, 2],  # requests in flight; each is one measured load level
    variants={  # one test per combination; any path of config.pbtxt can be varied
        "max_batch_size": [4, 8],
        "instance_group.count": [1, 2],
    },
)
# A budget is a limit that a test fails on: this one at one load, ...
@pytest.mark.perf_budget(p99_latency_ms=100, at={"concurrency": 2})
# ... these at every load that was measured.
@pytest.mark.perf_budget(min_throughput=50, max_cpu_memory_mb=4000)
def test_add_sub_keeps_its_budgets(triton_sweep):
    # What was measured is here as numbers, for whatever a budget cannot say.
    assert triton_sweep.at(concurrency=1).avg_latency_ms < 50

    # The load level with the most throughput among those whose p99 latency is acceptable:
    best = triton_sweep.best("throughput", p99_latency_ms=100)
    assert best.throughput > 50
