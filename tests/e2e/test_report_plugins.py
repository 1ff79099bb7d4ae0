"""A user's own report and panel, from the conftest.py of a real session."""

CONFTEST = """
def pytest_triton_perf_report(results, directory):
    levels = [level["throughput"]["value"] for level in results["measurements"]]
    (directory / "fastest.txt").write_text(f"{max(levels):.0f}")

def pytest_triton_perf_panel(results):
    return "Fastest", "<p>see fastest.txt</p>"

def pytest_configure(config):
    config.pluginmanager.register(Broken(), "broken")

class Broken:
    def pytest_triton_perf_report(self):
        raise RuntimeError("no connection")
"""
TEST = """
import pytest

@pytest.mark.perf_sweep(model="add_sub", concurrency=1)
@pytest.mark.perf_budget(p99_latency_ms=0.001)
def test_it(): pass
"""


def test_plugins_add_reports_and_github_gets_its_annotations(project, monkeypatch):
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_WORKSPACE", str(project.path.parent))
    (project.path / "conftest.py").write_text(CONFTEST)
    project.tests(TEST)
    result = project.run(
        "--triton-perf-max-seconds=4", "--junitxml=junit.xml", reports="json,html,metrics"
    )
    result.assert_outcomes(failed=1)
    assert int((project.output / "fastest.txt").read_text()) > 1
    assert "<p>see fastest.txt</p>" in (project.output / "index.html").read_text()
    assert (
        "triton_perf_throughput_infer_per_second{" in (project.output / "metrics.txt").read_text()
    )
    result.stdout.fnmatch_lines(
        [
            "the report of broken was not written: RuntimeError: no connection (*conftest.py:*)",
            f"::error file={project.path.name}/test_it.py,line=4,"
            "title=budget p99_latency_ms <= 0.001*::failed: *",
        ]
    )
    assert (
        'name="triton_perf p99_latency_ms &lt;= 0.001 ms'
        in (project.path / "junit.xml").read_text()
    )
