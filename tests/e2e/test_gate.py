"""The paired gate on the real server: base and head differ by what is known, a sleep."""

import fnmatch
import shutil
import subprocess

import pytest

BRIEF = "--triton-perf-max-seconds=30"
"""Segments stay short then, also where a busy machine is slow to load models."""

SLEEPS = "time.sleep(0.006)"
SLOWER = "time.sleep(0.0072)"
COMMENT = "time.sleep(0.006)  # six milliseconds"

TEST = """
import pytest

@pytest.mark.perf_sweep(model={model!r}, concurrency=[1, 2])
{gate}
def test_it(): pass
"""


def one_test(model: str = "sleeps", gate: str = "") -> str:
    return TEST.format(model=model, gate=f"@pytest.mark.perf_gate({gate})" if gate else "")


def git(project, *args: str) -> str:
    name = ["-c", "user.name=a", "-c", "user.email=a@example.com", "-c", "commit.gpgsign=false"]
    command = ["git", *name, *args]
    done = subprocess.run(command, cwd=project.path, capture_output=True, text=True, check=True)
    return done.stdout


def commit_all(project) -> None:
    git(project, "init", "-q", "-b", "main")
    git(project, "add", "model_repository", "test_it.py")
    git(project, "commit", "-q", "-m", "the base")


def change(project, model: str, old: str, new: str) -> None:
    file = project.repository / model / "1" / "model.py"
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))


def comparison(project, **wanted) -> dict:
    wanted.setdefault("gated", True)
    found = [
        c
        for c in project.results()["comparisons"]
        if all(c[key] == value for key, value in wanted.items())
    ]
    assert len(found) == 1, project.results()["comparisons"]
    return found[0]


@pytest.fixture
def base(project):
    """A project whose branch main has a model that sleeps for 6 ms."""
    project.model("sleeps", SLEEPS)
    project.tests(one_test())
    commit_all(project)
    return project


def test_a_slower_head_fails_the_session_in_which_every_test_passed(base):
    change(base, "sleeps", SLEEPS, SLOWER)
    result = base.run(
        "--triton-perf-against=main", BRIEF, "--junitxml=junit.xml", reports="json,md"
    )
    result.assert_outcomes(passed=1)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert ' value="regressed: -' in (base.path / "junit.xml").read_text()
    found = comparison(base, metric="throughput", status="regressed")
    # The sleep is a part of what a request takes: 20 % more of it is some 15 % more of that.
    assert -35 < found["change_pct"] < -3
    low, high = found["ci_pct"]
    assert low <= found["change_pct"] <= high < 3
    assert found["at"] == {"concurrency": 2, "batch_size": 1}
    assert 8 <= found["quads"] <= 32
    assert found["mde_pct"] > 0
    assert comparison(base, metric="avg_latency_ms", gated=False)["change_pct"] > 3
    results = base.results()
    assert results["session"]["exit"] == 1
    assert results["environment"]["gate"]["seed"] >= 0
    result.stdout.re_match_lines(
        [
            r"gate against main \([0-9a-f]{12}\): 1 regressed",
            r"gate +metric +change \[95% interval\] +limit +would see +quads +test",
            r"regressed +throughput +-\d+\.\d% \[-.*%, .*%\] +-4\.8% +\d+\.\d% +\d+ +"
            r"test_it\.py::test_it\[default\] at concurrency 2",
        ]
    )
    summary = (base.output / "summary.md").read_text()
    assert "gate against main" in summary
    assert "| **regressed** | throughput |" in summary


def test_a_head_with_another_comment_passes(base):
    base.tests(one_test(gate="max_slowdown_pct=20"))  # so that a busy machine takes no longer
    change(base, "sleeps", SLEEPS, COMMENT)
    result = base.run("--triton-perf-against=main", BRIEF)
    result.assert_outcomes(passed=1)
    assert result.ret == pytest.ExitCode.OK
    result.stdout.no_fnmatch_line("*did not finish*")
    found = comparison(base, metric="throughput", status="unchanged")
    low, high = found["ci_pct"]
    assert -17 < low <= found["change_pct"] <= high
    assert git(base, "status", "--short", "model_repository/sleeps/1/model.py").startswith(" M")
    assert len(git(base, "worktree", "list").splitlines()) == 1


def test_a_session_that_ends_early_says_that_nothing_was_compared(base):
    base.tests(one_test().replace("): pass", "): assert False"))
    result = base.run("-x", "--triton-perf-against=main", BRIEF, reports="json")
    result.assert_outcomes(failed=1)
    assert base.results()["comparisons"] == []
    told = "the gate against main (*) did not finish: the session ended early*"
    result.stdout.fnmatch_lines([told])
    (note,) = base.results()["session"]["notes"]
    assert fnmatch.fnmatch(note, told)


def test_arms_of_folders_an_ensemble_a_new_model_and_one_that_is_gone(project, tmp_path):
    """The base is a path. Of the ensemble, only the model inside it differs."""
    project.model("sleeps", SLEEPS)
    ensemble = project.repository / "chain"
    (ensemble / "1").mkdir(parents=True)
    (ensemble / "config.pbtxt").write_text(
        'name: "chain"\nplatform: "ensemble"\nmax_batch_size: 8\n'
        "input { name: 'A' data_type: TYPE_FP32 dims: [ 1 ] }\n"
        "output { name: 'B' data_type: TYPE_FP32 dims: [ 1 ] }\n"
        "ensemble_scheduling { step { model_name: 'sleeps' model_version: -1\n"
        "input_map { key: 'X' value: 'A' } output_map { key: 'Y' value: 'B' } } }\n"
    )
    base = tmp_path / "models"
    shutil.copytree(project.repository, base)
    (base / "add_sub").rename(base / "gone")
    change(project, "sleeps", SLEEPS, "time.sleep(0.009)")
    source = one_test("chain") + one_test("add_sub").replace("test_it", "test_new")
    project.tests(source)
    result = project.run(f"--triton-perf-against={base}", BRIEF)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert comparison(project, model="chain", metric="throughput")["status"] == "regressed"
    assert comparison(project, model="add_sub")["status"] == "no_baseline"
    vanished = comparison(project, model="gone")
    assert (vanished["status"], vanished["test"]) == ("vanished", None)
    result.stdout.fnmatch_lines(
        ["gone * model gone", "*the base has the model 'gone', the head has not"]
    )


def test_an_arm_that_does_not_load_is_never_a_pass(base):
    change(base, "sleeps", SLEEPS, "raise ImportError('lost')\n    def initialize(self, args): 1/0")
    git(base, "commit", "-q", "-a", "-m", "broken")
    change(base, "sleeps", "raise ImportError('lost')\n    def initialize(self, args): 1/0", SLEEPS)
    result = base.run("--triton-perf-against=main")
    result.assert_outcomes(passed=1)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    found = comparison(base, status="not_comparable")
    assert found["reason"].startswith("the base: Triton refused sleeps_config_default: ")
    result.stdout.fnmatch_lines(["*not comparable *", "*the base: Triton refused*"])


def test_a_server_that_dies_once_as_triton_does_decides_nothing(base, tmp_path):
    base.tests(one_test(gate="max_slowdown_pct=20"))
    loads = tmp_path / "loads"
    dies = (
        "\n    def initialize(self, args):\n"
        f"        with open({str(loads)!r}, 'a') as file:\n"
        "            file.write('x')\n"
        f"        if os.path.getsize({str(loads)!r}) == 4:\n"
        "            os.kill(os.getppid(), 9)\n"
    )
    model = base.repository / "sleeps" / "1" / "model.py"
    model.write_text(model.read_text() + dies)
    result = base.run("--triton-perf-against=main", BRIEF, reports="json")
    assert result.ret == pytest.ExitCode.OK
    assert len(loads.read_text()) > 4
    assert comparison(base, status="unchanged")["quads"] >= 7
    (note,) = base.results()["session"]["notes"]
    assert "the head: tritonserver was killed by SIGKILL when it was to be measured" in note
    result.stdout.fnmatch_lines(["*the head: tritonserver was killed by SIGKILL*"])


def test_a_ref_that_does_not_exist_is_told_before_anything_starts(base):
    result = base.run("--triton-perf-against=mian")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*--triton-perf-against=mian: *no such ref in *"])


def test_too_little_time_is_inconclusive_which_only_prove_fails(base):
    base.tests(one_test(gate="mode='prove', max_slowdown_pct=3, at={'concurrency': 1}"))
    args = ("--triton-perf-against=main", "--triton-perf-max-seconds=4")
    result = base.run(*args)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    found = comparison(base, status="inconclusive")
    assert found["at"] == {"concurrency": 1, "batch_size": 1}
    assert found["reason"] == f"{found['quads']} quads do not tell; raise --triton-perf-max-seconds"
    base.tests(one_test(gate="max_slowdown_pct=3"))
    assert base.run(*args).ret == pytest.ExitCode.OK
    assert comparison(base, metric="throughput")["status"] == "inconclusive"


def test_a_worker_of_xdist_compares_and_the_controller_fails(base):
    change(base, "sleeps", SLEEPS, SLOWER)
    result = base.run("--triton-perf-against=main", BRIEF, "-n1", "--junitxml=junit.xml")
    result.assert_outcomes(passed=1)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert comparison(base, metric="throughput")["status"] == "regressed"
    result.stdout.fnmatch_lines(["gate against main (*): 1 regressed"])
    assert base.results()["session"]["exit"] == 1
    junit = (base.path / "junit.xml").read_text()
    gate = 'name="triton_perf gate throughput of test_it.py::test_it[default] at concurrency 2"'
    assert junit.count(f'<property {gate} value="regressed: -') == 1
