"""Config files as pytest collects them: ids, selections, and one usage error for all mistakes."""

import json
import shutil
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

QUICKSTART = Path(__file__).parents[2] / "examples" / "quickstart"

CONFIG = """profile_models:
  add_sub:
    model_config_parameters: {max_batch_size: [4, 6]}
  other:
concurrency: 1,2
constraints:
  perf_latency_p99: {max: 100}
"""
MODEL = "profile_models: [add_sub]\n"
IDS = [
    "it.triton-perf.yaml::add_sub[max_batch_size=4]",
    "it.triton-perf.yaml::add_sub[max_batch_size=6]",
    "it.triton-perf.yaml::add_sub[default]",
    "it.triton-perf.yaml::other",
]


@pytest.fixture
def folder(pytester):
    models = pytester.path / "model_repository"
    shutil.copytree(QUICKSTART / "model_repository", models)
    shutil.copytree(models / "add_sub", models / "other")
    config = models / "other" / "config.pbtxt"
    config.write_text(config.read_text().replace('name: "add_sub"', 'name: "other"'))
    return pytester.path


@pytest.fixture
def write(folder):
    def write(text, name="it.triton-perf.yaml"):
        (folder / name).write_text(text)

    return write


def ids(result: pytest.RunResult) -> list[str]:
    return [line for line in result.outlines if "::" in line]


def collected(pytester, *args) -> list[str]:
    result = pytester.runpytest("--collect-only", "-q", "-p", "no:cacheprovider", *args)
    assert result.ret == 0, result.stdout.str()
    return ids(result)


@pytest.mark.parametrize("enabled", [(), ("--triton-perf",)])
def test_each_model_is_an_item_and_variants_are_items(pytester, write, enabled):
    write(CONFIG)
    assert collected(pytester, *enabled) == IDS


def test_other_yaml_is_none_of_ours(pytester, write):
    write(CONFIG, "analyzer.yaml")
    write("a: [", "broken.yml")
    result = pytester.runpytest("--collect-only", "-q", "--triton-perf")
    assert result.ret == pytest.ExitCode.NO_TESTS_COLLECTED


def test_without_the_flag_items_are_skipped_and_mistakes_not_told(pytester, write):
    write(CONFIG.replace("concurrency", "concurency"))
    result = pytester.runpytest("-rs")
    result.assert_outcomes(skipped=4)
    result.stdout.fnmatch_lines(["SKIPPED * needs --triton-perf"])
    assert "warning" not in result.stdout.str()


@pytest.mark.parametrize(
    ("args", "wanted"),
    [
        (("-k", "other"), IDS[3:]),
        (("-k", "add_sub"), IDS[:3]),
        ((IDS[1],), IDS[1:2]),
        (("it.triton-perf.yaml::add_sub",), IDS[:3]),
        (("-m", "perf_budget"), [*IDS[:2], IDS[3]]),
        (("-m", "not perf_sweep"), []),
    ],
)
def test_items_are_selected_as_tests_are(pytester, write, args, wanted):
    write(CONFIG)
    result = pytester.runpytest("--collect-only", "-q", "--triton-perf", *args)
    assert ids(result) == wanted


def test_a_models_own_configuration_is_no_test_twice(pytester, write):
    write(CONFIG.replace("[4, 6]", "[4, 8]"))
    result = pytester.runpytest("--collect-only", "-q", "--triton-perf")
    assert ids(result) == [
        "it.triton-perf.yaml::add_sub[max_batch_size=4]",
        "it.triton-perf.yaml::add_sub[max_batch_size=8]",
        "it.triton-perf.yaml::other",
    ]
    result.stdout.fnmatch_lines(["3/4 tests collected (1 deselected)*"])


def test_a_mistake_is_a_usage_error_with_its_line(pytester, write):
    write(CONFIG.replace("p99", "p999").replace("concurrency", "concurency"))
    result = pytester.runpytest("--triton-perf", "--triton-gpus=none")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    told = [line for line in result.errlines if "it.triton-perf.yaml" in line]
    assert told == [
        "ERROR: it.triton-perf.yaml:5: unknown key 'concurency' (did you mean 'concurrency'?)",
        "it.triton-perf.yaml:7: constraints: unknown metric 'perf_latency_p999' "
        "(did you mean 'perf_latency_p99'?)",
    ]
    assert "Traceback" not in result.stderr.str()


def test_a_mistake_of_a_model_that_is_not_selected_is_not_told(pytester, write):
    write("profile_models: {add_sub: , gone: {paramters: {}}}\nconcurrency: 1\n")
    assert collected(pytester, "--triton-perf", "-k", "add_sub") == ["it.triton-perf.yaml::add_sub"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            CONFIG.replace("other", "othr"),
            "4: othr: model 'othr' is not in * (did you mean 'other'*",
        ),
        (
            MODEL + "concurrency: 1\nconstraints: {gpu_used_memory: {max: 5}}",
            "1: add_sub: max_gpu_memory_mb cannot be measured: --triton-gpus=none",
        ),
        (
            "profile_models:\n  add_sub:\n    model_config_parameters:\n      max_batch_size: many",
            "2: add_sub: model 'add_sub': max_batch_size: 'many' cannot be used: *",
        ),
        (
            MODEL + "concurrency: 1\nperf_analyzer_flags: {input-data: gone}",
            "1: add_sub: perf_sweep: input_data: there is no file or directory */gone",
        ),
        (
            f"{MODEL}concurrency: 1\nmodel_repository: elsewhere",
            "1: add_sub: model repository */elsewhere does not exist; *",
        ),
    ],
)
def test_what_markers_would_be_told_is_told_of_the_model(pytester, write, text, message):
    write(text)
    result = pytester.runpytest("--triton-perf", "--triton-gpus=none")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"*it.triton-perf.yaml:{message}"])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "it.triton-perf.yaml: it is empty; name the models under profile_models"),
        (b"profile_models:\n\ta\n", "it.triton-perf.yaml:2: a tab indents this line; *"),
        (b"profile_models: \xff\n", "it.triton-perf.yaml:1: this is not UTF-8; *"),
        (b"a: !!python/object/apply:os.system [ls]", "it.triton-perf.yaml:1: the tag !!python/*"),
        (b"concurrency: 1\n", "it.triton-perf.yaml: it names no models; *"),
        (b"[" * 10_000_000, "it.triton-perf.yaml: it has 10,000,000 bytes; *"),
    ],
    ids=["empty", "tab", "latin-1", "tag", "no models", "10 MB"],
)
@pytest.mark.timeout(60)
def test_a_file_that_cannot_be_read_is_a_collection_error(pytester, folder, content, message):
    (folder / "it.triton-perf.yaml").write_bytes(content)
    result = pytester.runpytest("--triton-perf")
    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.stdout.fnmatch_lines(["*ERROR collecting it.triton-perf.yaml*", message])
    assert "Traceback" not in result.stdout.str()


def test_what_is_not_used_is_one_warning_per_file(pytester, write):
    write(f"{CONFIG}export_path: x\ncheckpoint_directory: y\nplots: {{}}\n")
    result = pytester.runpytest("--collect-only", "--triton-perf", "-Wdefault")
    result.stdout.fnmatch_lines(
        [
            "*UnusedKeysWarning: it.triton-perf.yaml: not used here: export_path "
            "(use --triton-perf-output); checkpoint_directory (*); plots"
        ]
    )
    assert result.stdout.str().count("UnusedKeysWarning") == 1


# -- --triton-perf-config


@pytest.mark.parametrize("args", [(), (".",)])
def test_a_named_file_is_collected_with_the_tests(pytester, write, args):
    write(CONFIG, "analyzer.yaml")
    pytester.makepyfile("def test_own(): pass")
    found = collected(pytester, "--triton-perf", "--triton-perf-config=analyzer.yaml", *args)
    assert set(found) == {
        *(name.replace("it.triton-perf", "analyzer") for name in IDS),
        f"{next(pytester.path.glob('test_*.py')).name}::test_own",
    }


def test_a_named_file_may_lie_in_a_folder_that_pytest_passes_by(pytester, write):
    (pytester.path / ".ci").mkdir()
    pytester.makepyfile(test_own="def test_own(): pass")
    write(f"{CONFIG}model_repository: ../model_repository\n", ".ci/analyzer.yaml")
    found = collected(pytester, "--triton-perf", "--triton-perf-config=.ci/analyzer.yaml")
    ours = [name.replace("it.triton-perf", ".ci/analyzer") for name in IDS]
    assert found == ["test_own.py::test_own", *ours]
    asked = ".ci/analyzer.yaml::other"
    assert collected(pytester, "--triton-perf-config=.ci/analyzer.yaml", asked) == [asked]


def test_a_named_file_may_lie_outside_the_rootdir(pytester, write, tmp_path):
    outside = tmp_path / "elsewhere" / "config.yaml"
    outside.parent.mkdir()
    outside.write_text(f"{CONFIG}model_repository: {pytester.path / 'model_repository'}\n")
    found = collected(pytester, "--triton-perf", f"--triton-perf-config={outside}")
    assert [name.rpartition("::")[2] for name in found] == [
        name.rpartition("::")[2] for name in IDS
    ]


def test_a_file_that_is_collected_anyway_and_named_is_collected_once(pytester, write):
    write(CONFIG)
    assert collected(pytester, "--triton-perf-config=it.triton-perf.yaml") == IDS
    assert collected(pytester, "--triton-perf-config=it.triton-perf.yaml", IDS[0]) == IDS[:1]


def test_the_ini_key_is_for_runs_that_name_no_tests(pytester, write):
    write(CONFIG, "analyzer.yaml")
    pytester.makeini("[pytest]\ntriton_perf_config = analyzer.yaml\n")
    pytester.makepyfile(test_own="def test_own(): pass")
    assert len(collected(pytester)) == 5
    assert collected(pytester, "test_own.py") == ["test_own.py::test_own"]


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("a.yaml", "b.yaml"), "--triton-perf-config is given 2 times; one file can hold many *"),
        (("gone.yaml",), "--triton-perf-config: there is no file */gone.yaml"),
        (("model_repository",), "--triton-perf-config: there is no file */model_repository"),
    ],
)
def test_a_file_that_cannot_be_named_is_a_usage_error(pytester, folder, args, message):
    result = pytester.runpytest(*(f"--triton-perf-config={arg}" for arg in args))
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: {message}"])


def test_the_repository_of_the_command_line_stands_before_the_files(pytester, write):
    write(f"{CONFIG}model_repository: elsewhere\n")
    shutil.copytree(pytester.path / "model_repository", pytester.path / "third")
    assert collected(pytester, "--triton-perf", "--triton-model-repository=third") == IDS
    (pytester.path / "model_repository").rename(pytester.path / "elsewhere")
    assert collected(pytester, "--triton-perf") == IDS


def test_last_failed_runs_only_the_model_that_failed(pytester, write):
    write(CONFIG)
    pytester.makepyfile(test_own="def test_own(): pass")
    cache = pytester.path / ".pytest_cache" / "v" / "cache" / "lastfailed"
    cache.parent.mkdir(parents=True)
    cache.write_text(json.dumps({IDS[1]: True}))
    result = pytester.runpytest("--collect-only", "-q", "--triton-perf", "--lf")
    assert ids(result) == [IDS[1]]


def test_workers_of_xdist_collect_a_named_file_once(pytester, write):
    write(CONFIG, "analyzer.yaml")
    result = pytester.runpytest_subprocess("-n1", "--triton-perf-config=analyzer.yaml")
    result.assert_outcomes(skipped=4)


def test_junit_has_the_item_with_its_file(pytester, write):
    write(CONFIG)
    pytester.runpytest("--junitxml=junit.xml")
    cases = ET.parse(pytester.path / "junit.xml").iter("testcase")
    assert [case.get("name") for case in cases] == [name.partition("::")[2] for name in IDS]


def test_a_search_is_a_marker_of_its_item(pytester, write):
    write(f"{MODEL}run_config_search_mode: quick\nrun_config_search_max_instance_count: 3\n")
    (item,) = pytester.inline_genitems()[0]
    assert item.get_closest_marker("perf_sweep").kwargs["variants"] == "search"
    search = item.get_closest_marker("perf_search")
    assert search.kwargs == {"mode": "quick", "max_instance_count": 3}


def test_what_an_item_measures_is_in_its_markers(pytester, write):
    write(f"{MODEL}concurrency: 1,2\nconstraints: {{perf_throughput: {{min: 5}}}}\n")
    (item,) = pytester.inline_genitems()[0]
    assert item.get_closest_marker("perf_sweep").kwargs == {
        "model": "add_sub",
        "batch_size": [1],
        "concurrency": [1, 2],
        "percentiles": [50, 90, 95, 99],
    }
    assert item.get_closest_marker("perf_budget").kwargs == {"min_throughput": 5}
    assert item.get_closest_marker("perf_search") is None


def test_last_failed_finds_a_named_file_again(pytester, write):
    write(CONFIG, "analyzer.yaml")
    cache = pytester.path / ".pytest_cache" / "v" / "cache" / "lastfailed"
    cache.parent.mkdir(parents=True)
    cache.write_text(json.dumps({"analyzer.yaml::other": True}))
    result = pytester.runpytest(
        "--collect-only", "-q", "--lf", "--triton-perf-config=analyzer.yaml"
    )
    assert ids(result) == ["analyzer.yaml::other"]
