"""What is told at collection: all of it at once, exit code 4, nothing started."""

import json
import shutil
import zlib
from pathlib import Path

import pytest
from metrics_server import A, metrics_text, serving

from pytest_triton_perf.errors import UsageError
from pytest_triton_perf.probes.nvml import why_no_gpu

QUICKSTART = Path(__file__).parents[2] / "examples" / "quickstart"


@pytest.fixture
def collect(pytester):
    shutil.copytree(QUICKSTART / "model_repository", pytester.path / "model_repository")

    def collect(source, *args):
        pytester.makepyfile(test_it=source)
        return pytester.runpytest("--triton-perf", "-p", "no:cacheprovider", *args)

    return collect


def sweep(keys, budget=""):
    mark = f"@pytest.mark.perf_budget({budget})" if budget else ""
    return f"import pytest\n\n@pytest.mark.perf_sweep({keys})\n{mark}\ndef test_it(): pass\n"


def dynamic(repository: Path) -> None:
    config = repository / "add_sub" / "config.pbtxt"
    config.write_text(config.read_text().replace("16", "-1"))


@pytest.mark.parametrize(
    ("keys", "budget", "message"),
    [
        (
            "model='add_subb', concurrency=1",
            "",
            "model 'add_subb' is not in *model_repository (did you mean 'add_sub'?)*",
        ),
        (
            "model='add_sub', concurency=1",
            "",
            "perf_sweep: unknown key 'concurency' (did you mean 'concurrency'?)",
        ),
        (
            "model='add_sub', concurrency=[0]",
            "",
            "perf_sweep: concurrency: expected a whole number of at least 1, *, not 0",
        ),
        (
            "model='add_sub', concurrency=1",
            "p99_latncy_ms=5",
            "perf_budget: unknown budget 'p99_latncy_ms' (did you mean 'p99_latency_ms'?)",
        ),
        (
            "model='add_sub', concurrency=1",
            "p99_latency_ms=0",
            "perf_budget: p99_latency_ms: the limit must be a positive number, not 0",
        ),
        (
            "model='add_sub', concurrency=1",
            "max_gpu_memory_mb=5",
            "max_gpu_memory_mb cannot be measured: --triton-gpus=none",
        ),
        (
            "model='add_sub', concurrency=1",
            "max_energy_per_inference_j=5",
            "max_energy_per_inference_j cannot be measured: --triton-gpus=none",
        ),
        (
            "model='add_sub', concurrency=1, variants={'max_bach_size': [8]}",
            "",
            "model 'add_sub': max_bach_size: * has no field * (did you mean 'max_batch_size'?)*",
        ),
        (
            "model='add_sub', concurrency=1, variants={'max_batch_size': ['many']}",
            "",
            "model 'add_sub': max_batch_size: 'many' cannot be used*",
        ),
        (
            "model='add_sub', concurrency=1, variants='serach'",
            "",
            "perf_sweep: variants: expected a mapping *, or 'search', not 'serach'",
        ),
        (
            "model='add_sub', request_rate='auto'",
            "",
            "perf_sweep: request_rate: 'auto' needs variants='search'; list the rates",
        ),
    ],
)
def test_a_mistake_is_one_usage_error_with_its_place(collect, monkeypatch, keys, budget, message):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    result = collect(sweep(keys, budget), "--triton-gpus=none")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"*test_it.py:3: test_it: {message}"])
    assert "Traceback" not in result.stderr.str()


def test_every_mistake_of_every_selected_test_is_told_at_once(collect):
    result = collect(
        """
        import pytest

        @pytest.mark.perf_sweep(model="add_sub", concurrency=0, batch_size=-1)
        @pytest.mark.perf_budget(p99_latncy_ms=1, at={"concurrency": 1})
        def test_first(): pass

        @pytest.mark.perf_sweep(model="gone", concurrency=1, variants={"a": [1], "b": [2]})
        def test_second(): pass

        @pytest.mark.perf_sweep(model="deselected", concurrency=1)
        def test_other(): pass

        @pytest.mark.perf_budget(p99_latency_ms=1)
        def test_third(): pass
        """,
        "-k",
        "not other",
    )
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    lines = [line for line in result.errlines if "test_it.py" in line]
    assert len(lines) == 4
    assert "test_first: perf_sweep: batch_size: " in lines[0]
    assert "test_first: perf_budget: unknown budget 'p99_latncy_ms'" in lines[1]
    assert "model 'gone'" in lines[2]
    assert "perf_budget needs a perf_sweep marker" in lines[3]


def test_a_dynamic_shape_asks_for_shapes(collect, pytester):
    dynamic(pytester.path / "model_repository")
    result = collect(sweep("model='add_sub', concurrency=1"))
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(
        ["*input 'INPUT0' of model 'add_sub' has a dynamic shape*shapes={'INPUT0': (16,)}*"]
    )


def test_a_missing_model_file_is_named(collect, pytester):
    (pytester.path / "model_repository" / "add_sub" / "1" / "model.py").unlink()
    result = collect(sweep("model='add_sub', concurrency=1"))
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*model 'add_sub': *1/model.py is missing*"])


def test_a_missing_repository_names_the_places_and_the_option(collect, pytester):
    shutil.rmtree(pytester.path / "model_repository")
    result = collect(sweep("model='add_sub', concurrency=1"))
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(
        ["*there is no model repository: looked for *name it with --triton-model-repository"]
    )


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("--triton-server=/nowhere/tritonserver", "*/nowhere/tritonserver*"),
        ("--perf-analyzer=/nowhere/pa", "*perf_analyzer at /nowhere/pa does not run*"),
        ("--triton-perf-output=/proc/nothing", "*/proc/nothing*"),
        ("--triton-perf-report=csv,pfd", "*--triton-perf-report: 'pfd' is not valid (did you mean"),
        ("--triton-gpus=0", "*--triton-gpus: '0' is not valid; expected all, none, or GPU UUIDs*"),
        ("--triton-perf-max-seconds=-1", "*--triton-perf-max-seconds: expected a number above 0*"),
        ("--triton-launch=dokcer", "*--triton-launch: invalid choice: 'dokcer'*"),
    ],
)
def test_an_option_that_cannot_work_is_a_usage_error(collect, option, message):
    result = collect(sweep("model='add_sub', concurrency=1"), option)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([message + "*"])
    assert "Traceback" not in result.stderr.str()


def test_a_journal_of_another_version_is_a_usage_error(collect, pytester):
    data = json.dumps({"schema": 2}).encode()
    pytester.mkdir("triton-perf-results").joinpath("resume.journal").write_bytes(
        b"%08x %b\n" % (zlib.crc32(data), data)
    )
    result = collect(sweep("model='add_sub', concurrency=1"), "--triton-perf-resume")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*--triton-perf-resume: *resume.journal has schema 2, which *"])


def test_collect_only_checks_and_starts_nothing(collect, pytester):
    result = collect(sweep("model='add_sub', concurrency=1"), "--collect-only", "-q")
    result.stdout.fnmatch_lines(["test_it.py::test_it?default?"])
    assert result.ret == 0
    assert not (pytester.path / "triton-perf-results").exists()


def test_marked_classes_and_modules_need_no_fixture_argument(collect):
    result = collect(
        """
        import pytest

        pytestmark = pytest.mark.perf_sweep(model="add_sub", concurrency=1)

        def test_function(): pass

        class TestClass:
            @pytest.mark.perf_sweep(
                model="add_sub", concurrency=1, variants={"max_batch_size": [2, 4]}
            )
            def test_method(self): pass
        """,
        "--collect-only",
        "-q",
    )
    result.stdout.fnmatch_lines(
        [
            "test_it.py::test_function?default?",
            "test_it.py::TestClass::test_method?max_batch_size=2?",
            "test_it.py::TestClass::test_method?max_batch_size=4?",
        ]
    )


def test_options_have_ini_keys_and_the_command_line_wins(pytester):
    from pytest_triton_perf.settings import Settings

    pytester.makeini(
        """
        [pytest]
        triton_perf = true
        triton_perf_output = from-ini
        triton_perf_max_seconds = 7
        triton_server_arg =
            --log-verbose=1
            --exit-timeout-secs=3
        """
    )
    settings = Settings.from_config(pytester.parseconfig())
    assert settings.output == pytester.path / "from-ini"
    assert settings.max_seconds == 7
    assert settings.server_args == ("--log-verbose=1", "--exit-timeout-secs=3")
    with pytest.raises(UsageError, match=r"triton_launch: 'dokcer' is not valid .*expected auto, "):
        Settings.from_config(pytester.parseconfig("-o", "triton_launch=dokcer"))
    settings = Settings.from_config(
        pytester.parseconfig("--triton-perf-max-seconds=9", "--triton-perf-report=csv,md")
    )
    assert settings.max_seconds == 9
    assert settings.reports == ("csv", "md")


def test_with_xdist_a_mistake_is_the_same_usage_error(collect, pytester):
    pytester.makepyfile(test_it=sweep("model='add_sub', concurrency=0"))
    result = pytester.runpytest_subprocess("--triton-perf", "-n2", timeout=60)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: test_it.py:3: test_it: perf_sweep: concurrency: *"])
    assert "INTERNALERROR" not in result.stdout.str()


def test_the_plugin_works_without_xdist(collect):
    result = collect(sweep("model='add_sub', concurrency=1"), "--collect-only", "-p", "no:xdist")
    assert result.ret == 0


def test_an_unmarked_test_that_asks_for_a_sweep_is_told_how(collect):
    result = collect("def test_it(triton_sweep): pass")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*needs @pytest.mark.perf_sweep(model=*"])


def test_remote_mode_needs_no_repository_and_starts_nothing_at_collection(collect, pytester):
    shutil.rmtree(pytester.path / "model_repository")
    source = sweep("model='there', concurrency=1, variants={'max_batch_size': [2, 4]}")
    result = collect(source, "--triton-url=127.0.0.1:1", "--collect-only", "-q")
    result.stdout.fnmatch_lines(["test_it.py::test_it?max_batch_size=2?", "*size=4?"])
    assert result.ret == 0


@pytest.mark.parametrize(
    ("keys", "budget", "message"),
    [
        (
            "model='m', concurrency=1, server_args=['--log-verbose=1']",
            "",
            "perf_sweep: server_args: the Triton at grpc://h:8001 runs already; give it the *",
        ),
        (
            "model='m', concurrency=1, protocol='http'",
            "",
            "perf_sweep: protocol='http' needs its address: "
            "--triton-url=grpc://h:8001,http://host:8000",
        ),
        (
            "model='m', concurrency=1, variants={'max_bach_size': [8]}",
            "",
            "model 'm': max_bach_size: * has no field * (did you mean 'max_batch_size'?)*",
        ),
        (
            "model='m', concurrency=1",
            "max_cpu_memory_mb=5",
            "max_cpu_memory_mb cannot be measured: with --triton-launch=remote the server's *",
        ),
        (
            "model='m', concurrency=1",
            "max_gpu_memory_mb=5",
            "max_gpu_memory_mb cannot be measured: with --triton-launch=remote the server's *",
        ),
        (
            "model='m', concurrency=1",
            "max_cpu_utilization_pct=5",
            "max_cpu_utilization_pct cannot be measured: with --triton-launch=remote the *",
        ),
        (
            "model='m', concurrency=1",
            "max_power_w=5",
            "max_power_w cannot be measured: with --triton-launch=remote the server's *",
        ),
    ],
)
def test_what_a_remote_server_cannot_give_is_told_at_collection(collect, keys, budget, message):
    result = collect(sweep(keys, budget), "--triton-url=h:8001")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"*test_it.py:3: test_it: {message}"])


REMOTE = ("--triton-url=h:8001",)
A_GPU = metrics_text((A, 3000, 16000, 0.0, 50))


@pytest.mark.skipif(not why_no_gpu(), reason="NEEDS a machine without a GPU")
def test_a_gpu_budget_where_there_is_no_gpu_is_told_at_collection(collect):
    result = collect(sweep("model='add_sub', concurrency=1", "max_power_w=5"))
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    told = "max_power_w cannot be measured here: *; run it where there is a GPU, or *"
    result.stderr.fnmatch_lines([f"*test_it.py:3: test_it: {told}"])


def test_a_gpu_budget_on_a_remote_server_names_the_option_that_helps(collect):
    result = collect(sweep("model='m', concurrency=1", "max_power_w=5"), *REMOTE)
    result.stderr.fnmatch_lines(["*; for GPU metrics, --triton-metrics-url=host:8002 names *"])


@pytest.mark.parametrize("name", ["max_gpu_memory_mb", "max_gpu_utilization_pct", "max_power_w"])
def test_what_a_remote_servers_metrics_supply_can_have_a_budget(collect, name):
    with serving(lambda: A_GPU) as address:
        result = collect(
            sweep("model='m', concurrency=1", f"{name}=5"),
            *REMOTE,
            f"--triton-metrics-url={address}",
            "--collect-only",
        )
    assert result.ret == 0


@pytest.mark.parametrize(
    ("budget", "answer", "message"),
    [
        ("max_cpu_memory_mb=5", A_GPU, "Triton's metrics endpoint knows the whole machine's CPU *"),
        ("max_power_w=5", metrics_text(), "Triton's metrics name no GPU: it sees none, *"),
        (
            "max_gpu_memory_mb=5",
            metrics_text((A, 0, 0, 0.0, 0)),
            f"Triton could not read nv_gpu_memory_used_bytes of GPU {A}: see its log",
        ),
        (
            "max_power_w=5",
            "garbage\n",
            "Triton's metrics endpoint http://127.0.0.1:*/metrics: what it sends are no metrics *",
        ),
    ],
)
def test_what_they_do_not_supply_is_told_at_collection(collect, budget, answer, message):
    with serving(lambda: answer) as address:
        result = collect(
            sweep("model='m', concurrency=1", budget), *REMOTE, f"--triton-metrics-url={address}"
        )
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    name = budget.partition("=")[0]
    result.stderr.fnmatch_lines([f"*test_it.py:3: test_it: {name} cannot be measured: {message}"])


def test_an_endpoint_that_cannot_be_reached_is_told_once_and_at_once(collect):
    source = sweep("model='m', concurrency=1", "max_gpu_memory_mb=5, max_power_w=5")
    result = collect(source, *REMOTE, "--triton-metrics-url=127.0.0.1:1")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    why = "Triton's metrics endpoint http://127.0.0.1:1/metrics: ?Errno 111? Connection refused"
    result.stderr.fnmatch_lines(
        [f"*{name} cannot be measured: {why}" for name in ("max_gpu_memory_mb", "max_power_w")]
    )


def test_without_such_a_budget_the_endpoint_is_not_asked(collect):
    asked = []
    with serving(lambda: asked.append(1) or A_GPU) as address:
        source = sweep("model='m', concurrency=1", "p99_latency_ms=5")
        result = collect(source, *REMOTE, f"--triton-metrics-url={address}", "--collect-only")
    assert (result.ret, asked) == (0, [])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--triton-launch=remote"], "--triton-launch=remote needs --triton-url=host:port"),
        (["--triton-url=h"], "--triton-url: 'h': expected host:port of gRPC"),
        (["--triton-url=h:1x"], "--triton-url: 'h:1x': expected host:port of gRPC"),
        (["--triton-url=http://h:8000/v2"], "'http://h:8000/v2': expected host:port of gRPC"),
        (
            ["--triton-url=htp://h:1"],
            "unknown scheme 'htp' (did you mean 'http'?); expected grpc, ",
        ),
        (["--triton-url=h:1,grpcs://h:2"], "names two addresses for grpc; give one"),
        (["--triton-url=h:1", "--triton-server-arg=-x"], "the Triton at --triton-url runs already"),
        (
            ["--triton-url=h:1", "--triton-tls-ca=/x"],
            "--triton-tls-ca: nothing in --triton-url=h:1",
        ),
        (
            ["--triton-url=h:1", "--triton-metrics-url=h"],
            "--triton-metrics-url: 'h': expected host:port of Triton's metrics, as in",
        ),
        (
            ["--triton-url=h:1", "--triton-metrics-url=https://h", "--triton-tls-ca=/x"],
            "--triton-tls-ca: there is no file /x",
        ),
        (
            ["--triton-url=grpcs://h:1", "--triton-tls-ca=/x"],
            "--triton-tls-ca: there is no file /x",
        ),
        (
            ["--triton-url=https://h:1", f"--triton-tls-key={__file__}"],
            "--triton-tls-cert and --triton-tls-key: give both, or neither",
        ),
    ],
)
def test_a_remote_address_that_cannot_work_is_a_usage_error(pytester, options, message):
    from pytest_triton_perf.settings import Settings

    with pytest.raises(UsageError) as error:
        Settings.from_config(pytester.parseconfig(*options))
    assert message in str(error.value)


def test_a_url_means_remote_unless_local_is_asked_for(pytester):
    from pytest_triton_perf.settings import Settings

    url = "--triton-url=h:8001,https://h:8000/"
    remote = Settings.from_config(pytester.parseconfig(url, "--triton-metrics-url=h:2")).remote
    assert (remote.grpc.url, remote.http.url) == ("h:8001", "https://h:8000")
    assert (remote.grpc.tls, remote.http.tls, remote.metrics_url) == (False, True, "h:2")
    assert Settings.from_config(pytester.parseconfig(url, "--triton-launch=local")).remote is None


def test_workers_of_xdist_cannot_share_a_remote_server(collect, pytester):
    pytester.makepyfile(test_it=sweep("model='m', concurrency=1"))
    result = pytester.runpytest_subprocess(
        "--triton-perf", "--triton-url=h:8001", "-n2", timeout=60
    )
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: --triton-launch=remote: workers of pytest-xdist *-n0"])


def search(keys, sweep="concurrency='auto', variants='search'"):
    return (
        f"import pytest\n\n@pytest.mark.perf_sweep(model='add_sub', {sweep})\n"
        f"@pytest.mark.perf_search({keys})\ndef test_it(): pass\n"
    )


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ("max_instance_cuont=3", "unknown key 'max_instance_cuont' (did you mean 'max_instance_c*"),
        ("objective='troughput'", "objective: unknown metric 'troughput' (did you mean 'through*"),
        ("mode='fast'", "mode: expected 'quick', 'brute' or 'optuna', not 'fast'"),
        ("min_concurrency=9, max_concurrency=8", "min_concurrency=9 is over max_concurrency=8: *"),
        ("parameters={'max_batch_size': []}", "parameters?'max_batch_size'?: expected a list *"),
        (
            "objective={'power_w': 1}",
            "objective power_w cannot be measured: --triton-gpus=none",
        ),
        (
            "objective='p75_latency_ms'",
            "objective p75_latency_ms: the sweep measures p50, p90, p95 and p99; add 75 to *",
        ),
        (
            "parameters={'max_batch_size': list(range(1, 2500))}",
            "the space has 2,499 configurations, and at most 2,000 can be searched; *",
        ),
    ],
)
def test_what_is_wrong_with_a_search_is_told_at_collection(collect, keys, message):
    result = collect(search(keys), "--triton-gpus=none")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"*ERROR: test_it.py:3: test_it: perf_search: {message}"])


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ("{'max_bach_size': [8]}", "max_bach_size: * has no field * (did you mean 'max_batch_siz*"),
        ("{'max_batch_size': [8, 'many']}", "max_batch_size: 'many' cannot be used*"),
    ],
)
def test_parameters_of_a_search_are_paths_of_the_config(collect, parameters, message):
    result = collect(search(f"parameters={parameters}"))
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"*ERROR: test_it.py:3: test_it: model 'add_sub': {message}"])


def test_optuna_has_to_be_installed_for_its_mode(collect, monkeypatch):
    monkeypatch.setattr("pytest_triton_perf.search_plans.find_spec", lambda name: None)
    result = collect(search("mode='optuna'"))
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(
        ["*perf_search: mode='optuna' needs optuna: pip install 'pytest-triton-perf?search?'"]
    )


def test_a_search_needs_its_sweep_to_ask_for_it(collect):
    result = collect(search("mode='brute'", sweep="concurrency=1"))
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*perf_search: needs perf_sweep(variants='search') beside it"])
    result = collect("import pytest\n\n@pytest.mark.perf_search()\ndef test_it(): pass\n")
    result.stderr.fnmatch_lines(["*test_it: perf_search needs a perf_sweep marker beside it"])


def test_a_search_is_one_test_whatever_its_space(collect):
    result = collect(search(""), "--collect-only", "-q")
    result.stdout.fnmatch_lines(["test_it.py::test_it?search?", "1 test collected *"])


GATED = "import pytest\n\n@pytest.mark.perf_gate({gate})\n{mark}\ndef test_it(): pass\n"
MARK = "@pytest.mark.perf_sweep(model='add_sub', concurrency=1)"


@pytest.mark.parametrize(
    ("gate", "mark", "args", "message"),
    [
        ("mode='x'", MARK, (), "test_it.py:3: test_it: perf_gate: mode: expected 'detect' or*"),
        ("", "", (), "test_it.py::test_it: perf_gate needs a perf_sweep marker beside it"),
        ("", MARK, ("--triton-perf-against=nowhere",), "*--triton-perf-against=nowhere: *no git*"),
        (
            "",
            MARK,
            ("--triton-perf-against=main", "--triton-url=localhost:8001"),
            "*--triton-perf-against: the Triton at grpc://localhost:8001 has its own models*",
        ),
        (
            "",
            MARK,
            ("--triton-perf-against-image=a:1", "--triton-url=localhost:8001"),
            "*--triton-perf-against-image: the Triton at grpc://localhost:8001 has its own*",
        ),
        (
            "",
            MARK,
            ("--triton-perf-against-image=a:1", "--triton-perf-against=main"),
            "*--triton-perf-against-image: --triton-perf-against is given too*",
        ),
        (
            "",
            MARK,
            ("--triton-perf-against-image=a:1", "--triton-launch=local"),
            "*--triton-perf-against-image: no image is used with --triton-launch=local*",
        ),
        ("", MARK, ("--triton-perf-max-slowdown-pct=0",), "*--triton-perf-max-slowdown-pct: exp*"),
    ],
)
def test_a_gate_that_cannot_be_is_told_at_collection(collect, gate, mark, args, message):
    result = collect(GATED.format(gate=gate, mark=mark), *args)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"*{message}"])


def test_a_base_that_is_not_there_is_told_once_for_all_tests(collect):
    source = GATED.format(gate="", mark=MARK) + f"\n{MARK}\ndef test_other(): pass\n"
    result = collect(source, "--triton-perf-against=nowhere")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert result.stderr.str().count("--triton-perf-against=nowhere: ") == 1


def test_one_image_alone_can_be_compared_with_another(collect):
    several = "\n@pytest.mark.parametrize('triton_image', ['a:1', 'a:2'], indirect=True)"
    source = GATED.format(gate="", mark=MARK + several)
    result = collect(source, "--triton-launch=docker", "--triton-perf-against-image=a:0")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(
        ["*--triton-perf-against-image: the tests run on a:1, a:2, and only one image can be *-k"]
    )


def test_collecting_only_looks_for_no_base(collect):
    result = collect(GATED.format(gate="", mark=MARK), "--collect-only", "--triton-perf-against=no")
    assert result.ret == pytest.ExitCode.OK
