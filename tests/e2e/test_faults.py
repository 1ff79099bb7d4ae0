"""Interruptions and deaths: what was measured is kept, and nothing is left running.

The project fixture checks after every test that no process of its run is left.
"""

import signal
import time

import pytest
from support import wait_for

TWO_MODELS = """
import pytest

@pytest.mark.perf_sweep(model="add_sub", concurrency=[1])
@pytest.mark.perf_budget(min_throughput=1)
def test_first():
    pass

@pytest.mark.perf_sweep(model="troubled", concurrency=[1, 2])
@pytest.mark.perf_budget(min_throughput=1, at={"concurrency": 2})
def test_troubled():
    pass

@pytest.mark.perf_sweep(model="add_sub", concurrency=[2], variants=[{}, {"max_batch_size": 4}])
@pytest.mark.perf_budget(min_throughput=1)
def test_last():
    pass
"""


def measured(project):
    return [(m["variant"], m["concurrency"]) for m in project.results()["measurements"]]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_session_keeps_what_it_measured(project, number):
    project.model("troubled", "time.sleep(0.1)")
    project.tests(TWO_MODELS)
    run = project.start("--triton-perf-max-seconds=60", "-k", "first or troubled")
    wait_for(lambda: "troubled_config_default at concurrency 1: " in project.out())
    wait_for(lambda: project.processes("perf_analyzer"))
    run.send_signal(number)
    assert run.wait(30) == (2 if number == signal.SIGINT else 143), project.out()
    assert measured(project) == [("add_sub_config_default", 1), ("troubled_config_default", 1)]
    assert project.statuses()["test_first[default]"] == "passed"


def test_a_killed_pytest_takes_server_and_load_with_it(project):
    project.model("troubled", "time.sleep(0.1)")
    project.tests(TWO_MODELS)
    run = project.start("-k", "troubled")
    # perf_analyzer alone would not do: it is asked for its version before there is a server.
    wait_for(lambda: project.processes("tritonserver") and project.processes("perf_analyzer"))
    run.kill()
    run.wait()
    project.assert_nothing_left(within=20)


def test_a_killed_server_is_an_error_with_its_words_and_the_next_test_gets_another(project):
    project.model("troubled", "os.kill(os.getppid(), 9)")
    project.tests(TWO_MODELS)
    result = project.run()
    result.assert_outcomes(passed=3, errors=1)
    result.stdout.fnmatch_lines(
        [
            "*ERROR at setup of test_troubled*",
            "troubled_config_default at concurrency 1: tritonserver was killed by SIGKILL; *",
            "*successfully loaded 'troubled'*",
        ]
    )
    result.stdout.no_fnmatch_line("*Traceback*")
    assert project.statuses() == {
        "test_first[default]": "passed",
        "test_last[default]": "passed",
        "test_last[max_batch_size=4]": "passed",
        "test_troubled[default]": "not_measured",
    }


def test_a_killed_model_shows_tritons_words_and_the_next_test_goes_on(project):
    project.model("troubled", "os.kill(os.getpid(), 9)")
    project.tests(TWO_MODELS)
    result = project.run()
    result.assert_outcomes(passed=3, errors=1)
    result.stdout.fnmatch_lines(
        [
            "*ERROR at setup of test_troubled*",
            "troubled_config_default at concurrency 1: perf_analyzer did not measure 'troubled' *",
            "*Hint: the process of the python model died: was it killed for want of memory?",
            "*Stub process 'troubled_*' is not healthy*",
        ]
    )


def test_a_model_that_hangs_ends_within_the_time_given(project):
    project.model("troubled", "time.sleep(600)")
    project.tests(TWO_MODELS)
    started = time.monotonic()
    result = project.run("--triton-perf-max-seconds=6", "-k", "first or troubled")
    assert time.monotonic() - started < 60
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(["*troubled_config_default at concurrency 1: *"])
    assert measured(project) == [("add_sub_config_default", 1)]


def test_a_model_that_fails_shows_its_own_words(project):
    project.model("troubled", "raise ValueError('the weights are upside down')")
    project.tests(TWO_MODELS)
    result = project.run("-k", "troubled")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*the weights are upside down*", "*- tritonserver log -*"])
    (log,) = (project.output / "logs").iterdir()
    assert "successfully loaded 'troubled'" in log.read_text()
    result.stdout.no_fnmatch_line("*Traceback*pytest_triton_perf*")


def test_a_config_that_triton_refuses_shows_its_reason(project):
    project.tests(
        """
        import pytest

        @pytest.mark.perf_sweep(
            model="add_sub", concurrency=1,
            variants=[{"dynamic_batching.preferred_batch_size": [64]}, {}],
        )
        def test_it():
            pass
        """
    )
    result = project.run()
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.no_fnmatch_line("*During handling*")
    result.stdout.fnmatch_lines(
        [
            "Triton refused add_sub_config_0 (dynamic_batching.preferred_batch_size=?64?): *",
            "*preferred size must be <= max batch size*",
        ]
    )


def test_stop_at_the_first_failure_keeps_results(project):
    project.model("troubled", "pass")
    project.tests(
        TWO_MODELS.replace('min_throughput=1, at={"concurrency": 2}', "min_throughput=1e9")
    )
    result = project.run("-x")
    assert result.ret == 1
    assert "troubled_config_default" in {variant for variant, _ in measured(project)}
    assert project.statuses()["test_troubled[default]"] == "failed"


def test_a_timeout_of_pytest_timeout_leaves_nothing_running(project):
    project.model("troubled", "time.sleep(600)")
    project.tests(TWO_MODELS)
    result = project.run("--timeout=8", "--timeout-method=thread", "-k", "troubled")
    assert result.ret != 0
    project.assert_nothing_left(within=20)


def test_a_port_in_use_is_named(project):
    import socket

    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        project.tests(TWO_MODELS)
        result = project.run(f"--triton-server-arg=--http-port={port}", "-k", "first")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines([f"port {port} of 127.0.0.1, wanted by the server argument*"])


def test_reports_that_cannot_be_written_do_not_hide_the_verdicts(project):
    project.tests(TWO_MODELS)
    # A folder where a report's file should go: only that report cannot be written.
    (project.output / "summary.md").mkdir(parents=True)
    result = project.run("-k", "first", reports="json,md")
    result.stdout.fnmatch_lines(["passed *throughput >= 1 infer/s*", "*summary.md*"])
    assert measured(project) == [("add_sub_config_default", 1)]
