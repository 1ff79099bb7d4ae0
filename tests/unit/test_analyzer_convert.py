"""What a config file of Model Analyzer means: the arguments of markers."""

import pytest

from pytest_triton_perf.analyzer.convert import Config, convert
from pytest_triton_perf.analyzer.parse import parse
from pytest_triton_perf.errors import UsageError

MODEL_A = "profile_models: [a]\n"


def config(text: str) -> Config:
    return convert(parse(text.encode(), "f.yaml"))


def only(text: str):
    (test,) = config(text).tests
    assert test.problems == ()
    return test


def problems(text: str) -> list[str]:
    tests = config(text).tests
    assert len({test.problems for test in tests}) == 1
    return list(tests[0].problems)


def model(section: str, rest: str = "concurrency: 1\n") -> str:
    lines = "".join(f"    {line}\n" for line in section.splitlines())
    return f"profile_models:\n  a:\n{lines}{rest}"


# -- models


@pytest.mark.parametrize(
    "models",
    [
        "profile_models: a,b",
        "profile_models: a, b",
        "profile_models: [a, b]",
        "profile_models:\n- a\n- b: {parameters: {batch_sizes: 1}}",
        "profile_models:\n  a:\n  b: {cpu_only: false}",
    ],
)
def test_models_are_named_in_each_way_of_model_analyzer(models):
    found = config(f"{models}\nconcurrency: 1")
    assert [(test.name, test.sweep["model"]) for test in found.tests] == [("a", "a"), ("b", "b")]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("concurrency: 1", "f.yaml: it names no models; profile_models: [add_sub] measures *"),
        ("profile_model: [a]", "f.yaml:1: unknown key 'profile_model' (did you mean 'profile_*"),
        ("profile_models:", "f.yaml: it names no models; *"),
        ("profile_models: []", "f.yaml:1: profile_models: it names no model"),
        ("profile_models: {}", "f.yaml:1: profile_models: it names no model"),
        ("profile_models: 'a,,b'", "f.yaml:1: profile_models: expected a list, or names *"),
        ("profile_models: [[a]]", "f.yaml:1: profile_models: expected a plain value, *"),
        ("profile_models:\n- a\n- b\n- a", "f.yaml:4: model 'a' stands in line 2 already"),
        ("- a", "f.yaml:1: a config is a mapping of keys to values, not ['a']"),
        ("hello", "f.yaml:1: a config is a mapping of keys to values, not 'hello'"),
    ],
)
def test_a_file_that_names_no_models_is_an_error(text, message):
    with pytest.raises(UsageError) as error:
        config(text)
    assert str(error.value).startswith(message.rstrip("*"))


# -- loads


@pytest.mark.parametrize(
    ("given", "values"),
    [
        ("4", [4]),
        ("1,2, 4", [1, 2, 4]),
        ("'8'", [8]),
        ("[1, '2', 4]", [1, 2, 4]),
        ("{start: 2, stop: 6, step: 2}", [2, 4, 6]),
        ("{start: 2, stop: 4}", [2, 3, 4]),
        ("{start: 2, stop: 64, step: 8}", [2, 10, 18, 26, 34, 42, 50, 58]),
        ("1:8:2", [1, 3, 5, 7]),
        ("1:3", [1, 2, 3]),
        ("1:3,8,16:32:16", [1, 2, 3, 8, 16, 32]),
        ("[1, {start: 4, stop: 8, step: 4}]", [1, 4, 8]),
    ],
)
def test_numbers_are_read_in_each_way_to_write_them(given, values):
    test = only(f"{MODEL_A}concurrency: {given}\nbatch_sizes: {given}\n")
    assert test.sweep["concurrency"] == values
    assert test.sweep["batch_size"] == values


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("0", "expected a whole number of at least 1, a list, or a range, not 0"),
        ("1.5", "expected a whole number of at least 1, a list, or a range, not 1.5"),
        ("-1", "expected a whole number of at least 1, a list, or a range, not -1"),
        ("yes", "expected a whole number of at least 1, a list, or a range, not yes"),
        ("'1,x'", "expected a whole number of at least 1, a list, or a range, not '1,x'"),
        ("[]", "the list is empty"),
        ("[[1]]", "expected a whole number of at least 1, a list, or a range, not [1]"),
        ("[1, 2, 1]", "1 appears twice"),
        ("8:1", "the range starts at 8, over its stop 1"),
        ("1:2:3:4", "expected start:stop:step, not '1:2:3:4'"),
        ("{start: 1, stp: 2}", "a range has no 'stp' (did you mean 'stop'?)"),
        ("{start: 1}", "a range needs 'stop': {start: 1, stop: 8, step: 1}"),
        ("{start: 1, stop: 8, step: 0}", "step: expected a whole number of at least 1, a list, *"),
        ("1:1000000000", "more than 1,000 values"),
        ("{start: 1, stop: 1000000000}", "more than 1,000 values"),
    ],
)
def test_numbers_that_cannot_be_are_told_with_their_line(given, message):
    (problem,) = problems(f"{MODEL_A}concurrency: {given}\n")
    assert problem.startswith(f"f.yaml:2: concurrency: {message.rstrip('*')}")


def test_a_request_rate_may_have_a_fraction():
    test = only(f"{MODEL_A}request_rate: {{start: 0.5, stop: 2, step: 0.5}}\n")
    assert test.sweep["request_rate"] == [0.5, 1, 1.5, 2]
    assert "concurrency" not in test.sweep


def test_a_models_own_parameters_stand_before_those_of_the_file():
    found = config(
        "profile_models:\n  a: {parameters: {concurrency: 4}}\n  b:\n"
        "  c: {parameters: {request_rate: 9}}\nconcurrency: 1,2\nbatch_sizes: 3\n"
    )
    a, b, c = (test.sweep for test in found.tests)
    assert (a["concurrency"], b["concurrency"], c["request_rate"]) == ([4], [1, 2], [9])
    assert [sweep["batch_size"] for sweep in (a, b, c)] == [[3], [3], [3]]
    assert "concurrency" not in c


def test_the_file_may_have_parameters_too():
    test = only(f"{MODEL_A}parameters: {{concurrency: 2, batch_sizes: 4}}\n")
    assert (test.sweep["concurrency"], test.sweep["batch_size"]) == ([2], [4])
    assert problems(f"{MODEL_A}concurrency: 1\nparameters:\n  concurrency: 2\n")[0] == (
        "f.yaml:4: parameters: concurrency stands in line 2 already"
    )


def test_concurrency_and_request_rate_are_not_both_listed():
    (problem,) = problems(f"{MODEL_A}concurrency: 1\nrequest_rate: 5\n")
    assert problem == "f.yaml:3: give concurrency or request_rate, not both"


@pytest.mark.parametrize(
    ("keys", "loads"),
    [
        ("", {"concurrency": "auto"}),
        ("run_config_search_disable: true", {"concurrency": [1]}),
        ("run_config_search_max_concurrency: 8", {"concurrency": [1, 2, 4, 8]}),
        (
            "run_config_search_min_concurrency: 3\nrun_config_search_max_concurrency: 20",
            {"concurrency": [3, 6, 12]},
        ),
        ("run_config_search_max_request_rate: 64", {"request_rate": [16, 32, 64]}),
        (
            "request_rate_search_enable: true",
            {"request_rate": [16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192]},
        ),
    ],
)
def test_loads_that_are_not_listed_double_as_model_analyzers(keys, loads):
    test = only(model("model_config_parameters: {max_batch_size: 4}", keys))
    assert {k: test.sweep[k] for k in ("concurrency", "request_rate") if k in test.sweep} == loads
    assert test.search is None


# -- variants


def variants(parameters: str) -> list[tuple[str, dict]]:
    lines = "".join(f"  {line}\n" for line in parameters.splitlines())
    found = config(model(f"model_config_parameters:\n{lines}"))
    assert {test.problems for test in found.tests} == {()}
    return [(test.name, test.overrides) for test in found.tests if not test.is_reference]


@pytest.mark.parametrize(
    ("keys", "own"),
    [("", {}), ("cpu_only: true\n", {"instance_group.kind": "KIND_CPU"})],
)
def test_variants_are_compared_with_the_models_own_configuration(keys, own):
    found = config(
        model(
            f"{keys}model_config_parameters: {{max_batch_size: [4, 6]}}",
            "constraints: {perf_throughput: {min: 1}}",
        )
    )
    *listed, default = found.tests
    assert (default.name, default.overrides, default.budgets) == ("a[default]", own, {})
    assert [(test.is_reference, test.budgets) for test in listed] == [
        (False, {"min_throughput": 1})
    ] * 2
    assert default.sweep == listed[0].sweep


def test_lists_are_all_combinations_the_last_varying_fastest():
    assert variants(
        "max_batch_size: [6, 8]\ndynamic_batching: {max_queue_delay_microseconds: [200, 300]}"
    ) == [
        (
            f"a[max_batch_size={size}-dynamic_batching.max_queue_delay_microseconds={delay}]",
            {
                "max_batch_size": size,
                "dynamic_batching.max_queue_delay_microseconds": delay,
            },
        )
        for size in (6, 8)
        for delay in (200, 300)
    ]


@pytest.mark.parametrize(
    ("parameters", "overrides"),
    [
        ("max_batch_size: 2", {"max_batch_size": 2}),
        ("max_batch_size: [2]", {"max_batch_size": 2}),
        # A list for a field that is one is its value, and several values are a list of lists.
        (
            "dynamic_batching: {preferred_batch_size: [4, 8]}",
            {"dynamic_batching.preferred_batch_size": [4, 8]},
        ),
        (
            "instance_group:\n- {kind: KIND_GPU, count: 1}\n- {kind: KIND_CPU, count: 1}",
            {
                "instance_group": [
                    {"kind": "KIND_GPU", "count": 1},
                    {"kind": "KIND_CPU", "count": 1},
                ]
            },
        ),
        ("dynamic_batching: {}", {"dynamic_batching": {}}),
        ("dynamic_batching:", {}),  # Model Analyzer leaves it as it is, too.
        (
            "parameters: {threads: {string_value: 8}}",
            {"parameters.threads.string_value": "8"},
        ),
        (
            "optimization: {execution_accelerators: {gpu_execution_accelerator: "
            "[{name: tensorrt, parameters: {precision_mode: FP16}}]}}",
            {
                "optimization.execution_accelerators.gpu_execution_accelerator": [
                    {"name": "tensorrt", "parameters": {"precision_mode": "FP16"}}
                ]
            },
        ),
    ],
)
def test_single_values_are_one_variant_of_the_models_name(parameters, overrides):
    assert variants(parameters) == [("a", overrides)]


@pytest.mark.parametrize(
    ("parameters", "labels"),
    [
        (
            "instance_group: [{kind: KIND_GPU, count: [1, 2]}]",
            ["instance_group.count=1", "instance_group.count=2"],
        ),
        (
            "instance_group: [{kind: KIND_GPU, count: [1, 2]}, {kind: KIND_CPU, count: 1}]",
            ["instance_group.0.count=1", "instance_group.0.count=2"],
        ),
        (
            "instance_group: [[{kind: KIND_GPU, count: 1}], [{kind: KIND_CPU, count: 1}]]",
            [
                "instance_group=[{kind:KIND_GPU,count:1}]",
                "instance_group=[{kind:KIND_CPU,count:1}]",
            ],
        ),
        (
            "dynamic_batching: {preferred_batch_size: [[4], [4, 8]]}",
            [
                "dynamic_batching.preferred_batch_size=[4]",
                "dynamic_batching.preferred_batch_size=[4,8]",
            ],
        ),
        (
            "dynamic_batching: [{}, {max_queue_delay_microseconds: 100}]",
            ["dynamic_batching={}", "dynamic_batching={max_queue_delay_microseconds:100}"],
        ),
        (
            "parameters: {threads: {string_value: ['1', '2']}}",
            ["parameters.threads.string_value=1", "parameters.threads.string_value=2"],
        ),
    ],
)
def test_the_name_of_a_variant_says_what_was_chosen(parameters, labels):
    assert [name for name, _ in variants(parameters)] == [f"a[{label}]" for label in labels]


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ("max_bach_size: 1", "max_bach_size: ModelConfig has no such field (did you mean 'max_b*"),
        ("instance_group: [{cont: 1}]", "instance_group.cont: ModelInstanceGroup has no such fi*"),
        ("instance_group: {count: 1}", "instance_group: it is a list; expected one, not {'coun*"),
        ("instance_group: []", "instance_group: it is a list; expected one, not []"),
        ("instance_group: [[], 1]", "instance_group: expected a list in the list, not 1"),
        ("max_batch_size: [1, 2, 1]", "max_batch_size: 1 appears twice"),
        ("max_batch_size: []", "max_batch_size: expected 1 to 1,000 values, not 0"),
        ("max_batch_size: {a: 1}", "max_batch_size: expected a plain value, not {'a': 1}"),
        ("dynamic_batching: 1", "dynamic_batching: expected a mapping, not 1"),
        ("parameters: {a.b: {string_value: x}}", "parameters: a key with '.', '[' or ']' cannot *"),
    ],
)
def test_a_config_that_no_model_has_is_told_with_its_line(parameters, message):
    (problem,) = problems(model(f"cpu_only: false\nmodel_config_parameters:\n  {parameters}"))
    assert problem.startswith(f"f.yaml:5: {message.rstrip('*')}")


@pytest.mark.timeout(30)
def test_too_many_variants_are_an_error_before_they_are_made():
    hundred = [*range(1, 101)]
    fields = ("max_queue_delay_microseconds", "default_priority_level", "priority_levels")
    swept = ", ".join(f"{name}: {hundred}" for name in fields)
    (problem,) = problems(model(f"model_config_parameters:\n  dynamic_batching: {{{swept}}}"))
    assert problem == "f.yaml:2: model_config_parameters: more than 1,000 variants"


def test_cpu_only_is_a_kind_of_instance_group_where_the_file_has_none():
    assert only(model("cpu_only: true")).overrides == {"instance_group.kind": "KIND_CPU"}
    own = only(model("cpu_only: true\nmodel_config_parameters: {instance_group: [{count: 2}]}"))
    assert own.overrides == {"instance_group": [{"count": 2}]}
    assert only(model("cpu_only: false")).overrides == {}


# -- limits


def test_constraints_are_budgets_and_may_have_fractions():
    text = """constraints:
  perf_throughput: {min: 5.5}
  perf_latency_avg: {max: 3}
  perf_latency_p90: {max: 4}
  perf_latency_p97: {max: 5}
  gpu_used_memory: {max: 200}
  gpu_utilization: {max: 90}
  gpu_power_usage: {max: 300}
  cpu_used_ram: {max: 1000}
"""
    test = only(f"{MODEL_A}concurrency: 1\n{text}")
    assert test.budgets == {
        "min_throughput": 5.5,
        "avg_latency_ms": 3,
        "p90_latency_ms": 4,
        "p97_latency_ms": 5,
        "max_gpu_memory_mb": 200,
        "max_gpu_utilization_pct": 90,
        "max_power_w": 300,
        "max_cpu_memory_mb": 1000,
    }
    assert test.sweep["percentiles"] == [50, 90, 95, 97, 99]


def test_a_models_constraints_stand_instead_of_the_files():
    found = config(
        "profile_models:\n  a: {constraints: {perf_latency_p99: {max: 1}}}\n  b:\n"
        "concurrency: 1\nconstraints: {perf_throughput: {min: 2}}\n"
    )
    assert [t.budgets for t in found.tests] == [{"p99_latency_ms": 1}, {"min_throughput": 2}]


def test_the_shorthands_are_constraints_of_every_model():
    found = config(
        "profile_models:\n  a: {constraints: {perf_latency_p99: {max: 1}}}\n  b:\n"
        "concurrency: 1\nlatency_budget: 7.5\nmin_throughput: 100\n"
    )
    assert [t.budgets for t in found.tests] == [{"p99_latency_ms": 7.5, "min_throughput": 100}] * 2


@pytest.mark.parametrize(
    ("constraint", "message"),
    [
        ("perf_latncy_p99: {max: 1}", "unknown metric 'perf_latncy_p99' (did you mean 'perf_lat*"),
        ("perf_latency_p100: {max: 1}", "unknown metric 'perf_latency_p100' (did you mean *"),
        ("perf_throughput: {max: 1}", "perf_throughput: expected {min: …}, not {'max': 1}"),
        ("perf_latency_p99: {max: 1, min: 0}", "perf_latency_p99: expected {max: …}, not {'max*"),
        ("perf_latency_p99: 5", "perf_latency_p99: expected {max: …}, not 5"),
        ("perf_latency_p99: {max: fast}", "perf_latency_p99: expected a number, not 'fast'"),
        ("perf_latency_p99: {max: 0}", "perf_latency_p99: p99_latency_ms: the limit must be a p*"),
        ("perf_latency_p99: {max: .nan}", "perf_latency_p99: p99_latency_ms: the limit must be *"),
        ("time_to_first_token_p99: {max: 1}", "time_to_first_token_p99 cannot be used: it is ab*"),
        ("gpu_free_memory: {max: 1}", "gpu_free_memory cannot be used: take gpu_used_memory"),
    ],
)
def test_a_constraint_that_cannot_be_is_told_with_its_line(constraint, message):
    (problem,) = problems(f"{MODEL_A}concurrency: 1\nconstraints:\n  {constraint}\n")
    assert problem.startswith(f"f.yaml:4: constraints: {message.rstrip('*')}")


def test_one_limit_under_two_names_is_an_error():
    limits = "constraints:\n  perf_latency: {max: 1}\n  perf_latency_p99: {max: 2}\n"
    (problem,) = problems(f"{MODEL_A}concurrency: 1\n{limits}")
    assert problem == "f.yaml:5: perf_latency_p99 is what line 4 limits"


# -- flags


def test_flags_of_perf_analyzer_are_keys_of_the_sweep_or_arguments():
    text = """perf_analyzer_flags:
  percentile: 75
  input-data: zero
  shape: ['INPUT0:16,16', 'INPUT1:4']
  shared-memory: system
  streaming: true
  model-version: 2
  async: true
  sync: false
  max-threads: 4
  request-distribution: poisson
  measurement-interval: 10000
"""
    found = config(f"{MODEL_A}concurrency: 1\n{text}")
    (test,) = found.tests
    assert test.problems == ()
    assert {k: test.sweep[k] for k in ("input_data", "shapes", "shared_memory", "streaming")} == {
        "input_data": "zero",
        "shapes": {"INPUT0": (16, 16), "INPUT1": (4,)},
        "shared_memory": "system",
        "streaming": True,
    }
    assert test.sweep["percentiles"] == [50, 75, 90, 95, 99]
    assert test.sweep["perf_analyzer_args"] == [
        *("-x", "2", "--async", "--max-threads", "4", "--request-distribution", "poisson")
    ]
    assert found.unused == {
        "perf_analyzer_flags: measurement-interval": "the plugin decides how long it measures"
    }


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("measurement_interval: 1", "perf_analyzer has no such flag (did you mean 'measurement-i*"),
        ("concurrency-range: '1:4'", "it is not for here: use concurrency"),
        ("percentile: 99.9", "expected a whole number from 1 to 99"),
        ("percentile: 100", "expected a whole number from 1 to 99"),
        ("shape: INPUT0", "expected INPUT0:16,16, not 'INPUT0'"),
        ("shape: INPUT0:0", "expected INPUT0:16,16, not 'INPUT0:0'"),
        ("shared-memory: sytem", "expected none, system or cuda, not 'sytem' (did you mean 'sy*"),
        ("input-data: [a.json, b.json]", "one file or directory, or zero or random; put all *"),
        ("streaming: 1", "expected true or false, not 1"),
        ("max-threads: [4]", "expected a plain value, not [4]"),
    ],
)
def test_a_flag_of_perf_analyzer_that_cannot_be_is_told(flag, message):
    name = flag.partition(":")[0]
    (problem,) = problems(f"{MODEL_A}concurrency: 1\nperf_analyzer_flags:\n  {flag}\n")
    assert problem.startswith(f"f.yaml:4: perf_analyzer_flags: {name}: {message.rstrip('*')}")


def test_flags_of_tritonserver_are_arguments_in_both_spellings():
    flags = "triton_server_flags: {strict_model_config: False, log-verbose: 1, rate-limit: off}"
    assert only(f"{MODEL_A}concurrency: 1\n{flags}\n").sweep["server_args"] == [
        "--strict-model-config=false",
        "--log-verbose=1",
        "--rate-limit=false",
    ]


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("log_verbos: 1", "tritonserver has no flag 'log_verbos' (did you mean 'log-verbose'?)"),
        ("model-control-mode: poll", "model-control-mode: the plugin says which models are serv*"),
        ("grpc_use_ssl: 1", "grpc_use_ssl: a Triton that the plugin starts is spoken to without*"),
        ("log-verbose: [1]", "log-verbose: expected a plain value, not [1]"),
    ],
)
def test_a_flag_of_tritonserver_that_cannot_be_is_told(flag, message):
    (problem,) = problems(f"{MODEL_A}concurrency: 1\ntriton_server_flags:\n  {flag}\n")
    assert problem.startswith(f"f.yaml:4: triton_server_flags: {message.rstrip('*')}")


def test_the_protocol_is_the_clients():
    assert only(f"{MODEL_A}concurrency: 1\nclient_protocol: http\n").sweep["protocol"] == "http"
    (problem,) = problems(f"{MODEL_A}concurrency: 1\nclient_protocol: htp\n")
    assert problem == (
        "f.yaml:3: client_protocol: expected grpc or http, not 'htp' (did you mean 'http'?)"
    )


# -- searches


def test_a_file_that_lists_nothing_is_a_search():
    test = only(
        f"{MODEL_A}run_config_search_mode: optuna\nrun_config_search_max_concurrency: 64\n"
        "run_config_search_min_model_batch_size: 2\nobjectives: {perf_latency_p75: 2, "
        "perf_throughput: 3}\n"
    )
    assert test.search == {
        "mode": "optuna",
        "objective": {"p75_latency_ms": 2, "throughput": 3},
        "max_concurrency": 64,
        "min_model_batch_size": 2,
    }
    assert (test.sweep["variants"], test.sweep["concurrency"]) == ("search", "auto")
    assert 75 in test.sweep["percentiles"]


@pytest.mark.parametrize(
    ("text", "is_search"),
    [
        (MODEL_A, True),
        (f"{MODEL_A}concurrency: 1", False),
        (f"{MODEL_A}request_rate: 1", False),
        (f"{MODEL_A}run_config_search_disable: true", False),
        (f"{MODEL_A}concurrency: 1\nrun_config_search_mode: brute", True),
        (model("model_config_parameters: {max_batch_size: 1}", ""), False),
        (model("model_config_parameters: {max_batch_size: 1}", "run_config_search_mode: q"), True),
    ],
)
def test_when_a_file_means_a_search(text, is_search):
    test = only(text.replace("mode: q", "mode: quick"))
    assert (test.search is not None) == is_search


def test_a_search_by_request_rate_chooses_the_rates():
    test = only(f"{MODEL_A}run_config_search_max_request_rate: 64\n")
    assert (test.sweep["request_rate"], test.search) == ("auto", {"max_request_rate": 64})
    assert "concurrency" not in test.sweep


def test_a_search_may_list_its_loads():
    test = only(f"{MODEL_A}run_config_search_mode: quick\nconcurrency: 1,4\n")
    assert (test.sweep["concurrency"], test.search) == ([1, 4], {"mode": "quick"})


def test_parameters_of_a_search_are_its_space():
    text = "model_config_parameters:\n  max_batch_size: [1, 2]\n  instance_group: [{count: [1, 2]}]"
    assert only(model(text, "run_config_search_mode: brute")).search == {
        "mode": "brute",
        "parameters": {
            "max_batch_size": [1, 2],
            "instance_group": [[{"count": 1}], [{"count": 2}]],
        },
    }


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ("run_config_search_mode: brut", "run_config_search_mode: expected quick, brute or optu*"),
        ("run_config_search_max_concurrency: 0", "run_config_search_max_concurrency: expected a*"),
        ("run_config_search_max_concurrency: 1,2", "run_config_search_max_concurrency: expected*"),
        ("run_config_search_disable: 1", "run_config_search_disable: expected true or false, no*"),
        ("objectives: [perf_thrughput]", "objectives: unknown metric 'perf_thrughput' (did you *"),
        ("objectives: [gpu_utilization]", "objectives: gpu_utilization cannot be used: more of *"),
        ("objectives: {perf_throughput: 0}", "objectives: perf_throughput: a weight is a number*"),
        ("objectives: {perf_throughput: much}", "perf_throughput: expected a number, not 'much'"),
    ],
)
def test_a_search_that_cannot_be_is_told_with_its_line(keys, message):
    assert problems(f"{MODEL_A}{keys}\n")[0].startswith(f"f.yaml:2: {message.rstrip('*')}")


# -- the rest of the keys


def test_what_has_no_meaning_here_is_named_with_what_to_use_instead():
    found = config(
        "profile_models:\n  a: {weighting: 2, triton_server_environment: {A: 1}}\n"
        "concurrency: 1\ncheckpoint_directory: x\nexport_path: y\ntriton_launch_mode: docker\n"
        "num_configs_per_model: 3\nobjectives: [perf_throughput]\n"
        "run_config_search_max_instance_count: 2\n"
    )
    assert found.tests[0].problems == ()
    assert list(found.unused) == [
        "checkpoint_directory",
        "export_path",
        "triton_launch_mode",
        "num_configs_per_model",
        "weighting",
        "triton_server_environment",
        "objectives",
        "run_config_search_max_instance_count",
    ]
    assert found.unused["export_path"] == "use --triton-perf-output"
    assert found.unused["objectives"] == "nothing is searched for the best configuration"
    of_a_model = config(model("objectives: [perf_throughput]"))
    assert of_a_model.unused == {"objectives of a": found.unused["objectives"]}


def test_every_problem_of_the_file_and_of_a_model_is_told_at_once():
    found = config(
        "profile_models:\n"
        "  a:\n"
        "    constrants: {}\n"
        "    concurrency: 1\n"
        "    parameters: {concurency: 1}\n"
        "    client_protocol: http\n"
        "  b:\n"
        "batch_size: 1\n"
        "model_config_parameters: {}\n"
        "model_type: LLM\n"
        "run_config_profile_models_concurrently_enable: true\n"
        "concurrency: 1\n"
    )
    of_the_file = [
        "f.yaml:8: unknown key 'batch_size' (did you mean 'batch_sizes'?)",
        "f.yaml:9: model_config_parameters stands with a model: profile_models: {add_sub: "
        "{model_config_parameters: …}}",
        "f.yaml:10: model_type: only generic models can be measured; tokens are not timed",
        "f.yaml:11: run_config_profile_models_concurrently_enable: models are measured one after "
        "the other here; remove the key to do that",
    ]
    assert list(found.tests[0].problems) == [
        *of_the_file,
        "f.yaml:3: a: a model has no key 'constrants' (did you mean 'constraints'?)",
        "f.yaml:4: a: a model has no key 'concurrency'; put it into parameters",
        "f.yaml:6: a: a model has no key 'client_protocol'; it is the file's",
        "f.yaml:5: parameters: unknown key 'concurency' (did you mean 'concurrency'?)",
    ]
    assert list(found.tests[1].problems) == of_the_file
    assert [test.name for test in found.tests] == ["a", "b"]


@pytest.mark.parametrize(
    "key", ["parameters", "model_config_parameters", "constraints", "perf_analyzer_flags"]
)
def test_a_section_of_another_type_is_told_with_its_line(key):
    (problem,) = set(problems(model(f"{key}: [1]")))
    assert problem == f"f.yaml:3: {key}: expected a mapping, not [1]"


def test_the_model_repository_is_kept_as_it_was_typed():
    assert config(f"{MODEL_A}model_repository: ../models\n").repository == "../models"
    assert config(MODEL_A).repository is None
