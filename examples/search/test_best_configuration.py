"""Which configuration of a model should be shipped? Run from the repository root:

    pytest --triton-perf examples/search --triton-perf-write-config=best

The model sleeps for 4 ms a call and 0.1 ms an item, as a GPU may take: calls of many items and
several instances serve more. Its own configuration has one instance and no dynamic batching.
"""

import pytest


@pytest.mark.perf_sweep(model="sleeper", variants="search", concurrency="auto")
# The space: 15 configurations and the default, each at concurrency 1 to 32. The search measures
# a part of that.
@pytest.mark.perf_search(
    objective="throughput",
    max_instance_count=3,
    max_model_batch_size=16,
    max_concurrency=32,
)
# What the best configuration must keep, at the load that is chosen for it.
@pytest.mark.perf_budget(p99_latency_ms=100)
def test_what_to_ship(triton_sweep):
    print(triton_sweep.search_table())
    assert triton_sweep.best("throughput").throughput > 500
    assert triton_sweep.best_variant.overrides["max_batch_size"] > 1
