"""The main job, on the real server with the real perf_analyzer."""

import csv
import json
import xml.etree.ElementTree as ET

from pytest_triton_perf.affinity import split_our_cpus

FILES = [
    "results/metrics-model-inference.csv",
    "results/metrics-model-gpu.csv",
    "results/metrics-server-only.csv",
    "plots/simple/add_sub/throughput_v_latency.png",
    "plots/simple/add_sub/cpu_mem_v_latency.png",
    "plots/detailed/add_sub_config_default/latency_breakdown.png",
    "plots/detailed/add_sub_config_0/latency_breakdown.png",
    "reports/summaries/add_sub/result_summary.pdf",
    "reports/detailed/add_sub_config_default/detailed_report.pdf",
    "reports/detailed/add_sub_config_0/detailed_report.pdf",
    "index.html",
    "summary.md",
    "results.json",
]


def test_a_sweep_leaves_verdicts_and_every_file(project):
    before = {
        path: (path.stat().st_mtime_ns, path.is_file() and path.read_bytes())
        for path in project.repository.rglob("*")
    }
    project.tests(
        """
        import pytest

        @pytest.mark.perf_sweep(
            model="add_sub",
            concurrency=[1, 2],
            variants={"instance_group.count": [1, 2], "max_batch_size": [8]},
        )
        @pytest.mark.perf_budget(p99_latency_ms=1000, at={"concurrency": 2})
        @pytest.mark.perf_budget(min_throughput=1, max_cpu_memory_mb=4000)
        def test_add_sub(triton_sweep, model_variant, triton_server):
            assert [level.concurrency for level in triton_sweep.levels] == [1, 2]
            level = triton_sweep.at(concurrency=2)
            assert 0 < level.p50_latency_ms <= level.p99_latency_ms < 1000
            assert level.queue_ms is not None
            assert level.requests > 100
            assert level.gpu_memory_mb is None
            assert "NVIDIA" in level.why_missing("gpu_memory_mb")
            assert triton_sweep.best("throughput", p99_latency_ms=1000).throughput > 1
            served = triton_server.client.get_model_config("add_sub").config
            assert served.instance_group[0].count == model_variant.overrides["instance_group.count"]
            assert "add_sub" in triton_server.logs()
        """
    )
    result = project.run("-v", "--junitxml=junit.xml", reports="all")
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(
        [
            "*test_add_sub?instance_group.count=1-max_batch_size=8? PASSED*",
            "*test_add_sub?instance_group.count=2-max_batch_size=8? PASSED*",
            "*= triton-perf =*",
            "passed *p99_latency_ms <= 1000 ms * ms * concurrency 2 *add_sub_config_default",
            "In 4 measurements across 2 configurations, *",
            "results: triton-perf-results",
        ]
    )
    for file in FILES:
        assert (project.output / file).stat().st_size > 0, file
    assert before == {
        path: (path.stat().st_mtime_ns, path.is_file() and path.read_bytes())
        for path in project.repository.rglob("*")
    }

    data = json.loads((project.output / "results.json").read_text())
    assert [(m["variant"], m["concurrency"]) for m in data["measurements"]] == [
        ("add_sub_config_default", 1),
        ("add_sub_config_default", 2),
        ("add_sub_config_0", 1),
        ("add_sub_config_0", 2),
    ]
    assert data["environment"]["triton"]["version"]
    assert data["environment"]["cpu_isolation"] == split_our_cpus().describe()
    (idle,) = data["server_only"]
    assert 10 < idle["cpu_memory_mb"] < data["measurements"][0]["cpu_memory_mb"]
    assert {verdict["status"] for verdict in data["verdicts"]} == {"passed"}
    with (project.output / FILES[0]).open() as file:
        rows = list(csv.DictReader(file))
    assert [row["Instance Group"] for row in rows] == ["1:CPU", "1:CPU", "2:CPU", "2:CPU"]
    assert float(rows[0]["Throughput (infer/sec)"]) > 1

    cases = ET.parse(project.path / "junit.xml").findall(".//testcase")
    properties = {p.get("name"): p.get("value") for p in cases[0].iter("property")}
    value = properties["triton_perf p99_latency_ms <= 1000 ms at concurrency 2"]
    assert value.startswith("passed: ")


def test_one_server_serves_all_variants_and_models_in_a_good_order(project):
    project.model("other", "pass")
    project.tests(
        """
        import pytest

        seen = []

        def sweep(**keys):
            return pytest.mark.perf_sweep(concurrency=1, **keys)

        @sweep(model="add_sub", variants={"max_batch_size": [8, 16]})
        def test_first(triton_server, model_variant):
            seen.append((triton_server.pid, model_variant.name))

        @sweep(model="other")
        def test_between(triton_server, model_variant):
            seen.append((triton_server.pid, model_variant.name))

        def test_plain():
            pass

        @sweep(model="add_sub", variants={"max_batch_size": [16, 8]})
        def test_second(triton_server, model_variant):
            seen.append((triton_server.pid, model_variant.name))

        def test_what_was_seen():
            assert len({pid for pid, _ in seen}) == 1
            assert [name for _, name in seen] == [
                "add_sub_config_default", "add_sub_config_default",
                "add_sub_config_0", "add_sub_config_0", "other_config_default",
            ]
        """
    )
    project.run().assert_outcomes(passed=7)


def test_a_broken_budget_fails_its_test_and_explains_itself(project):
    project.tests(
        """
        import pytest

        @pytest.mark.perf_sweep(model="add_sub", concurrency=[1, 4])
        @pytest.mark.perf_budget(p99_latency_ms=0.001)
        @pytest.mark.perf_budget(min_throughput=1)
        def test_budget():
            pass
        """
    )
    result = project.run()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "budget p99_latency_ms <= 0.001 ms at every load: failed (add_sub_config_default)",
            "  measured * ms [[]*, *? at concurrency *: * over the limit",
            "  no measured load is within the limit",
            "*concurrency 1 * *!",
            "*concurrency 4 * *!",
        ]
    )
    result.stdout.no_fnmatch_line("*lifecycle.py*")
    assert result.ret == 1


def test_an_undecided_budget_warns_in_one_line_and_says_what_held_it_back(project):
    project.tests(
        """
        import pytest

        @pytest.mark.perf_sweep(model="add_sub", concurrency=[1])
        @pytest.mark.perf_budget(min_throughput=1)
        def test_budget():
            pass
        """
    )
    floor = "a pass takes * s of load in 2 segments, so far there are * s in *"
    result = project.run("--triton-perf-floor-seconds=60", "--triton-perf-max-seconds=8")
    result.assert_outcomes(passed=1, warnings=1)
    result.stdout.fnmatch_lines(
        [
            "*InconclusiveWarning: budget throughput >= 1 infer/s at every load: inconclusive: "
            f"* at concurrency 1, almost passed, but {floor}; raise --triton-perf-max-seconds",
            "inconclusive *throughput >= 1 infer/s * infer/s ?*?*concurrency 1*",
            f"  almost passed, but {floor}; raise --triton-perf-max-seconds",
            "[[]low, high]: 95% confidence interval; *",
        ]
    )


def test_a_failing_assert_explains_itself(project):
    project.tests(
        """
        import pytest

        @pytest.mark.perf_sweep(model="add_sub", concurrency=[1, 4])
        def test_assert(triton_sweep):
            assert triton_sweep.at(concurrency=4).p99_latency_ms < 0.001

        @pytest.mark.perf_sweep(model="add_sub", concurrency=[1])
        def test_best(triton_sweep):
            assert triton_sweep.best("throughput", p99_latency_ms=0.001)

        @pytest.mark.perf_sweep(model="add_sub", concurrency=[1])
        def test_unmeasured(triton_sweep):
            assert triton_sweep.levels[0].gpu_memory_mb < 100
        """
    )
    result = project.run()
    result.assert_outcomes(failed=3)
    result.stdout.fnmatch_lines(
        [
            "*p99_latency_ms is * ms [[]*, not below 0.001 ms",
            "*missed by * at concurrency 4 of add_sub_config_default",
            "*> concurrency 4*",
            "*SweepError: no load level of add_sub_config_default has p99_latency_ms <= 0.001 ms",
            "*triton-perf sweep*",
            "not measured: gpu_memory_mb, * (*NVIDIA*",
        ]
    )


def test_a_fixture_that_stands_before_the_sweep_is_set_up_before_it(project):
    project.tests(
        """
        import pytest

        @pytest.fixture
        def prepared(triton_server):
            pass

        @pytest.mark.perf_sweep(model="add_sub", concurrency=1)
        def test_it(prepared, triton_sweep):
            pass
        """
    )
    result = project.run("--setup-plan")
    result.stdout.fnmatch_lines(
        ["*SETUP*triton_server", "*SETUP*prepared *", "*SETUP*triton_sweep *"]
    )


def test_request_rate_http_batch_and_shared_memory(project):
    project.tests(
        """
        import pytest

        @pytest.mark.perf_sweep(
            model="add_sub", request_rate=[50, 100], batch_size=[1, 4], protocol="http",
            shared_memory="system", input_data="zero", percentiles=(50, 80, 99),
        )
        @pytest.mark.perf_budget(p80_latency_ms=1000, at={"request_rate": 100, "batch_size": 4})
        def test_rates(triton_sweep):
            assert len(triton_sweep.levels) == 4
            slow = triton_sweep.at(request_rate=50, batch_size=1)
            assert 30 < slow.throughput < 70
            fast = triton_sweep.at(request_rate=100, batch_size=4)
            assert 250 < fast.throughput < 550
            assert fast.p50_latency_ms <= fast.p80_latency_ms
        """
    )
    project.run().assert_outcomes(passed=1)


def test_requests_of_many_floats_are_recorded_where_no_data_is_given(project):
    """Each of 4096 random floats that perf_analyzer makes itself is NaN or infinity now and then.

    The percentile is one of single requests: perf_analyzer's own report has none like it.
    """
    model = project.model(
        "many",
        "x = pb.get_input_tensor_by_name(request, 'X').as_numpy(); time.sleep(0.05); "
        "assert x.size == 4096 and x.min() >= 0 and x.max() < 1",
    )
    config = (model / "config.pbtxt").read_text()
    (model / "config.pbtxt").write_text(config.replace("dims: [ 1 ]", "dims: [ 4096 ]", 1))
    project.tests(
        """
        import pytest

        @pytest.mark.perf_sweep(model="many", concurrency=1, percentiles=(75,))
        def test_default(triton_sweep):
            assert triton_sweep.levels[0].p75_latency_ms > 50

        @pytest.mark.perf_sweep(
            model="many", concurrency=1, percentiles=(75,), input_data="random"
        )
        def test_random(triton_sweep):
            assert triton_sweep.levels[0].p75_latency_ms > 50
        """
    )
    project.run().assert_outcomes(passed=2)
    for measurement in project.results()["measurements"]:
        assert not [note for note in measurement["notes"] if "not recorded" in note]


def test_without_the_flag_tests_are_skipped_and_nothing_is_written(project, pytester):
    project.tests(
        """
        import pytest

        @pytest.mark.perf_sweep(model="add_sub", concurrency=1)
        def test_marked(triton_sweep):
            raise AssertionError

        def test_with_the_fixture_alone(triton_server):
            raise AssertionError
        """
    )
    result = pytester.runpytest_subprocess("-rs", timeout=60)
    result.assert_outcomes(skipped=2)
    result.stdout.fnmatch_lines(["*needs --triton-perf"])
    assert not project.output.exists()


def test_workers_take_turns_and_the_controller_writes_one_report(project):
    project.tests(
        """
        import pytest

        @pytest.mark.perf_sweep(
            model="add_sub", concurrency=1, variants={"max_batch_size": [4, 8, 16]}
        )
        @pytest.mark.perf_budget(min_throughput=1)
        def test_it():
            pass
        """
    )
    result = project.run("-n2", reports="json,md")
    result.assert_outcomes(passed=3)
    result.stdout.fnmatch_lines(["In 3 measurements across 3 configurations, *"])
    data = json.loads((project.output / "results.json").read_text())
    assert sorted(m["variant"] for m in data["measurements"]) == [
        "add_sub_config_0",
        "add_sub_config_1",
        "add_sub_config_default",
    ]
    assert len(data["verdicts"]) == 3


def test_ram_and_cpu_time_agree_with_proc(project):
    project.tests(
        """
        import os, re
        from pathlib import Path

        import psutil
        import pytest

        @pytest.mark.perf_sweep(
            model="add_sub", concurrency=2, variants={"instance_group.count": [2]}
        )
        @pytest.mark.perf_budget(max_cpu_utilization_pct=100 * os.cpu_count())
        def test_add_sub(triton_sweep, triton_server):
            def proportional_mb(pid):
                text = Path(f"/proc/{pid}/smaps_rollup").read_text()
                return int(re.search(r"(?m)^Pss: *([0-9]+) kB", text)[1]) * 1024 / 1e6

            root = psutil.Process(triton_server.pid)
            tree = [root, *root.children(recursive=True)]
            assert len([p for p in tree if "stub" in p.name()]) == 2
            expected = sum(proportional_mb(process.pid) for process in tree)
            level = triton_sweep.levels[0]
            assert level.cpu_memory_mb == pytest.approx(expected, rel=0.05)
            assert level.cpu_utilization_pct > 10
        """
    )
    result = project.run()
    result.assert_outcomes(passed=1)
