"""Config files of Model Analyzer, measured on the real server with the real perf_analyzer."""

import json
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]

CONFIG = """\
model_repository: models
checkpoint_directory: checkpoints
batch_sizes: 1
triton_server_flags: {log_verbose: 1}
perf_analyzer_flags: {percentile: 75}
profile_models:
  slow:
    parameters: {concurrency: '1,2'}
    constraints:
      perf_throughput: {min: 1}
      perf_latency_avg: {max: 5}
  add_sub:
    model_config_parameters: {max_batch_size: 4}
    parameters: {concurrency: {start: 1, stop: 2}}
    constraints:
      perf_throughput: {min: 1}
      perf_latency_p75: {max: 1000}
"""


def test_each_constraint_of_a_file_is_judged_and_the_broken_one_fails_its_model(project):
    project.model("slow", "time.sleep(0.02)")
    project.repository.rename(project.path / "models")
    (project.path / "analyzer.yaml").write_text(CONFIG)
    result = project.run("-v", "--triton-perf-config=analyzer.yaml", "--triton-perf-max-seconds=20")
    result.assert_outcomes(passed=1, failed=1, warnings=1)
    result.stdout.fnmatch_lines(
        [
            "*analyzer.yaml::slow FAILED*",
            "*analyzer.yaml::add_sub PASSED*",
            "budget avg_latency_ms <= 5 ms at every load: failed (slow_config_default)",
            "*UnusedKeysWarning: analyzer.yaml: not used here: checkpoint_directory *",
        ]
    )
    assert "Traceback" not in result.stdout.str()
    found = project.results()
    assert {(v["test"], v["budget"]): v["status"] for v in found["verdicts"]} == {
        ("analyzer.yaml::slow", "min_throughput"): "passed",
        ("analyzer.yaml::slow", "avg_latency_ms"): "failed",
        ("analyzer.yaml::add_sub", "min_throughput"): "passed",
        ("analyzer.yaml::add_sub", "p75_latency_ms"): "passed",
    }
    levels = {(m["test"], m["concurrency"]): m for m in found["measurements"]}
    assert sorted(levels) == [
        (f"analyzer.yaml::{m}", c) for m in ("add_sub", "slow") for c in (1, 2)
    ]
    assert levels["analyzer.yaml::add_sub", 1]["overrides"] == {"max_batch_size": 4}
    assert levels["analyzer.yaml::add_sub", 1]["latency_ms"]["p75"]["value"] > 0


def test_the_example_passes_and_reports_as_a_marked_test_does(tmp_path):
    item = "add_sub.triton-perf.yaml::add_sub[max_batch_size=4-instance_group.count=2]"
    command = [sys.executable, "-m", "pytest", "--triton-perf", f"examples/model_analyzer/{item}"]
    done = subprocess.run(
        [*command, f"--triton-perf-output={tmp_path}", "-p", "no:cacheprovider"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads((tmp_path / "results.json").read_text("utf-8"))
    assert [v["status"] for v in found["verdicts"]] == ["passed"] * 2
    assert (tmp_path / "reports/summaries/add_sub/result_summary.pdf").is_file()


SEARCHES = """\
profile_models: [slow]
run_config_search_max_concurrency: 2
run_config_search_max_model_batch_size: 2
run_config_search_max_instance_count: 2
constraints:
  perf_latency_p99: {max: 1000}
"""


def test_a_file_that_lists_nothing_to_measure_is_a_search(project):
    project.model("slow", "time.sleep(0.005)")
    (project.path / "slow.triton-perf.yaml").write_text(SEARCHES)
    project.run("slow.triton-perf.yaml").assert_outcomes(passed=1)
    found = project.results()
    (search,) = found["searches"]
    assert (search["test"], search["space"]) == ("slow.triton-perf.yaml::slow", 10)
    assert search["candidates"][0]["standing"] == "best"
    (verdict,) = found["verdicts"]
    assert (verdict["budget"], verdict["status"]) == ("p99_latency_ms", "passed")
