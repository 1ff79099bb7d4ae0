"""One contract for every launch mode: the same sweep, the same results, the same errors."""

import contextlib

import pytest
from docker_images import IMAGE

from pytest_triton_perf.servers.base import ServerSpec
from pytest_triton_perf.servers.embedded import find_server
from pytest_triton_perf.servers.local import LocalLauncher


@pytest.fixture(params=["local", "docker", "remote"])
def mode(request, project):
    """The options of one launch mode, for a project whose repository has a troubled model."""
    project.model("troubled", "raise ValueError('the weights are upside down')")
    with contextlib.ExitStack() as stack:
        if request.param == "docker":
            request.getfixturevalue("built_image")
            yield ["--triton-launch=docker", f"--triton-image={IMAGE}"]
        elif request.param == "remote":
            launcher = LocalLauncher(find_server(), gpus="none")
            server = launcher.start(ServerSpec(repository=project.repository))
            stack.callback(server.stop)
            yield [f"--triton-url={server.grpc_url},http://{server.http_url}"]
        else:
            yield ["--triton-launch=local"]


def test_the_same_sweep_gives_the_same_results(project, mode):
    project.tests(
        """
        import pytest

        @pytest.mark.perf_sweep(
            model="add_sub", concurrency=[1, 2], batch_size=[1, 2],
            variants=[{}, {"instance_group.count": 2}],
        )
        @pytest.mark.perf_budget(p99_latency_ms=1000, at={"concurrency": 2})
        def test_grpc(triton_sweep, triton_server, model_variant):
            assert len(triton_sweep.levels) == 4
            served = triton_server.client.get_model_config("add_sub").config
            wanted = model_variant.overrides.get("instance_group.count", 1)
            assert served.instance_group[0].count == wanted

        @pytest.mark.perf_sweep(model="add_sub", request_rate=50, protocol="http")
        @pytest.mark.perf_budget(min_throughput=30)
        def test_http(triton_sweep):
            assert triton_sweep.at(request_rate=50).p99_latency_ms < 1000
        """
    )
    project.run(*mode).assert_outcomes(passed=3)
    data = project.results()
    assert [(m["variant"], m["concurrency"], m["batch_size"]) for m in data["measurements"]] == [
        ("add_sub_config_default", 1, 1),
        ("add_sub_config_default", 2, 1),
        ("add_sub_config_default", 1, 2),
        ("add_sub_config_default", 2, 2),
        ("add_sub_config_default", None, 1),
        ("add_sub_config_0", 1, 1),
        ("add_sub_config_0", 2, 1),
        ("add_sub_config_0", 1, 2),
        ("add_sub_config_0", 2, 2),
    ]
    for measurement in data["measurements"]:
        assert measurement["throughput"]["value"] > 0
        assert set(measurement["latency_ms"]) == {"avg", "p50", "p90", "p95", "p99"}
        assert None not in measurement["server_ms"].values()
        assert (measurement["cpu_memory_mb"] is None) == ("cpu_memory_mb" in measurement["missing"])
    assert [v["status"] for v in data["verdicts"]] == ["passed"] * 3
    assert data["environment"]["triton"]["version"] == "2.51.0"
    assert data["environment"]["load_generator"]["name"] == "perf_analyzer"


def test_the_same_mistakes_give_the_same_errors(project, mode):
    project.tests(
        """
        import pytest

        @pytest.mark.perf_sweep(
            model="add_sub", concurrency=1,
            variants=[{"dynamic_batching.preferred_batch_size": [64]}],
        )
        def test_refused(): pass

        @pytest.mark.perf_sweep(model="troubled", concurrency=1)
        def test_troubled(): pass

        @pytest.mark.perf_sweep(model="add_sub", concurrency=1)
        @pytest.mark.perf_budget(p99_latency_ms=0.001)
        def test_broken(): pass

        @pytest.mark.perf_sweep(model="add_sub", concurrency=1)
        def test_no_such_level(triton_sweep):
            triton_sweep.at(concurrency=3)
        """
    )
    result = project.run(*mode)
    result.assert_outcomes(errors=2, failed=2)
    result.stdout.no_fnmatch_line("*Traceback*pytest_triton_perf*")
    text = result.stdout.str()
    for words in (
        "Triton refused add_sub_config_0 (dynamic_batching.preferred_batch_size=[64]): ",
        "troubled_config_default at concurrency 1: perf_analyzer did not measure 'troubled' at",
        "the weights are upside down",
        "budget p99_latency_ms <= 0.001 ms at every load: failed (add_sub_config_default)",
        "there is no level at(concurrency=3); measured: concurrency 1",
    ):
        assert words in text, words


def test_the_same_usage_errors_before_anything_starts(project, mode):
    project.tests(
        """
        import pytest

        @pytest.mark.perf_sweep(model="add_sub", concurrency=0)
        @pytest.mark.perf_budget(p99_latncy_ms=1)
        def test_it(): pass

        @pytest.mark.perf_sweep(
            model="add_sub", concurrency=1, variants={"max_bach_size": [1]}
        )
        def test_variant(): pass
        """
    )
    result = project.run(*mode)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(
        [
            "ERROR: test_it.py:3: test_it: perf_sweep: concurrency: expected a whole number*",
            "*test_variant: *max_bach_size: * (did you mean 'max_batch_size'?)*",
        ]
    )
    assert not project.output.exists()


def test_a_gpu_that_is_not_there_is_told_before_a_server_starts(project):
    project.tests(
        """
        import pytest

        @pytest.mark.perf_sweep(model="add_sub", concurrency=[1])
        def test_it(triton_sweep):
            pass
        """
    )
    result = project.run("--triton-gpus=GPU-0f1e2d3c-0000-0000-0000-000000000000")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: --triton-gpus: no GPU GPU-0f1e2d3c-* here: *"])
    assert not (project.output / "logs").exists()
