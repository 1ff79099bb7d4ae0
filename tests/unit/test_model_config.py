"""Model configs: read from a repository, changed by path, checked without a server."""

import json

import pytest

from pytest_triton_perf.errors import UsageError
from pytest_triton_perf.servers.model_config import (
    apply_overrides,
    check_model,
    dynamic_inputs,
    not_served,
    read_config,
)

CONFIG = """
name: "m"
backend: "python"
max_batch_size: 8
input { name: "X" data_type: TYPE_FP32 dims: [ 16 ] }
input { name: "Y" data_type: TYPE_INT64 dims: [ -1, 2 ] }
output { name: "Z" data_type: TYPE_FP32 dims: [ 16 ] }
instance_group [ { count: 1 kind: KIND_CPU }, { count: 3 kind: KIND_CPU } ]
parameters { key: "device" value { string_value: "cpu" } }
"""


@pytest.fixture
def repository(tmp_path):
    (tmp_path / "m" / "1").mkdir(parents=True)
    (tmp_path / "m" / "1" / "model.py").touch()
    (tmp_path / "m" / "config.pbtxt").write_text(CONFIG)
    return tmp_path


@pytest.fixture
def config(repository):
    return read_config(repository / "m")


def changed(config, overrides):
    return apply_overrides("m", config, overrides)


def test_a_config_is_read_with_the_names_of_its_file(config):
    assert config["max_batch_size"] == 8
    assert config["input"][1] == {"name": "Y", "data_type": "TYPE_INT64", "dims": ["-1", "2"]}
    assert config["parameters"] == {"device": {"string_value": "cpu"}}


def test_a_model_without_a_config_file_has_none(repository):
    (repository / "m" / "config.pbtxt").unlink()
    assert read_config(repository / "m") is None


def test_a_broken_config_file_is_named_with_its_line(repository):
    (repository / "m" / "config.pbtxt").write_text('name: "m"\nmax_batch_sise: 8\n')
    with pytest.raises(UsageError, match=r'm/config.pbtxt:2:1 : .*"max_batch_sise".*; correct'):
        read_config(repository / "m")
    (repository / "m" / "config.pbtxt").write_bytes(b"\xff\xfe")
    with pytest.raises(UsageError, match=r"m/config.pbtxt: not a text file .*; correct"):
        read_config(repository / "m")


@pytest.mark.parametrize(
    ("overrides", "path", "expected"),
    [
        ({"max_batch_size": 64}, ("max_batch_size",), 64),
        ({"instance_group.count": 2}, ("instance_group", 0, "count"), 2),
        ({"instance_group.count": 2}, ("instance_group", 1, "count"), 2),
        ({"instance_group[1].count": 2}, ("instance_group", 0, "count"), 1),
        ({"instance_group[1].count": 2}, ("instance_group", 1, "count"), 2),
        ({"instance_group.0.kind": "KIND_GPU"}, ("instance_group", 0, "kind"), "KIND_GPU"),
        ({"instance_group.2.count": 5}, ("instance_group", 2), {"count": 5}),
        ({"instance_group.0": {"count": 5}}, ("instance_group", 0), {"count": 5}),
        ({"instance_group": [{"count": 4}]}, ("instance_group",), [{"count": 4}]),
        (
            {"dynamic_batching.max_queue_delay_microseconds": 100},
            ("dynamic_batching",),
            {"max_queue_delay_microseconds": "100"},
        ),
        ({"dynamic_batching": {}}, ("dynamic_batching",), {}),
        (
            {"dynamic_batching.preferred_batch_size": [4, 8]},
            ("dynamic_batching", "preferred_batch_size"),
            [4, 8],
        ),
        (
            {"parameters.mode.string_value": "fast"},
            ("parameters",),
            {"device": {"string_value": "cpu"}, "mode": {"string_value": "fast"}},
        ),
        ({"parameters.mode": {"string_value": "x"}}, ("parameters", "mode", "string_value"), "x"),
        ({"metric_tags.team": "a"}, ("metric_tags",), {"team": "a"}),
        (
            {"optimization.cuda.graph_spec.batch_size": 2},
            ("optimization", "cuda", "graph_spec"),
            [{"batch_size": 2}],
        ),
    ],
)
def test_a_path_leads_to_its_value(config, overrides, path, expected):
    value = changed(config, overrides)
    for step in path:
        value = value[step]
    assert value == expected


def test_overrides_leave_the_original_alone(config):
    before = json.dumps(config)
    changed(config, {"instance_group.count": 7, "parameters.device.string_value": "gpu"})
    assert json.dumps(config) == before


def test_none_removes(config):
    assert "instance_group" not in changed(config, {"instance_group": None})
    assert "parameters" not in changed(config, {"parameters.device": None})


def test_instances_can_be_counted_where_the_config_has_no_group():
    assert changed({}, {"instance_group.count": 2}) == {"instance_group": [{"count": 2}]}


def test_equal_configurations_are_equal_however_they_are_said(config):
    path = "dynamic_batching.max_queue_delay_microseconds"
    assert changed(config, {path: 100}) == changed(config, {path: "100"})
    assert changed(config, {path: 0}) == changed(config, {"dynamic_batching": {}})
    assert changed(config, {"max_batch_size": 8}) == config


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            {"max_batchsize": 8},
            r"model 'm': max_batchsize: ModelConfig has no field 'max_batchsize' "
            r"\(did you mean 'max_batch_size'\?\); its fields are name, platform",
        ),
        (
            {"instance_group.cuont": 1},
            r"model 'm': instance_group.cuont: ModelInstanceGroup has no field 'cuont' "
            r"\(did you mean 'count'\?\)",
        ),
        ({"dynamic_batching.delay": 1}, r"model 'm': dynamic_batching.delay: ModelDynamicBatching"),
        ({"max_batch_size.x": 1}, r"'max_batch_size' is a plain value, it has no field 'x'"),
        ({"metric_tags.team.x": "a"}, r"'team' is a plain value, it has no field 'x'"),
        ({"input.0.dims.x": 1}, r"a plain value has no field 'x'"),
        ({"instance_group.9.count": 1}, r"there is no element 9, only 2 \(the first is 0\)"),
        ({"max_batch_size": "many"}, r"max_batch_size: 'many' cannot be used: .*max_batch_size"),
        ({"max_batch_size": 2.5}, r"max_batch_size: 2.5 cannot be used"),
        ({"max_batch_size": True}, r"max_batch_size: True cannot be used"),
        ({"instance_group.kind": "KIND_TPU"}, r"instance_group.kind: 'KIND_TPU' cannot be used"),
        ({"instance_group": {"count": 1}}, r"instance_group: {'count': 1} cannot be used"),
        (
            {"dynamic_batching": {}, "sequence_batching": {}},
            r"sequence_batching: {} cannot be used: .*scheduling_choice",
        ),
    ],
)
def test_an_impossible_override_is_a_usage_error(config, overrides, message):
    with pytest.raises(UsageError, match=message):
        changed(config, overrides)


@pytest.mark.parametrize(
    ("overrides", "served", "difference"),
    [
        ({"max_batch_size": 8}, {"max_batch_size": 8}, ""),
        ({"max_batch_size": 8}, {"max_batch_size": 4}, "max_batch_size is 4 where 8 was asked for"),
        ({"max_batch_size": 0}, {"max_batch_size": 4}, "max_batch_size is 4 where 0 was asked for"),
        ({"dynamic_batching": {}}, {"dynamic_batching": {"preferred_batch_size": [8]}}, ""),
        ({"dynamic_batching": {}}, {}, "dynamic_batching is not set where {} was asked for"),
        ({"instance_group.count": 2}, {"instance_group": [{"name": "a", "count": 2}]}, ""),
        (
            {"instance_group.count": 2},
            {"instance_group": [{"count": 2}, {"count": 1}]},
            "instance_group.count is [2, 1] where 2 was asked for",
        ),
        (
            {"instance_group.1.count": 2},
            {"instance_group": [{}]},
            "instance_group.1.count is not set where 2 was asked for",
        ),
        ({"instance_group.kind": "KIND_AUTO"}, {"instance_group": [{"kind": "KIND_CPU"}]}, ""),
    ],
)
def test_what_triton_serves_is_compared_at_the_overridden_paths(overrides, served, difference):
    base = {"instance_group": [{}]} if "instance_group.1.count" in overrides else {}
    asked = apply_overrides("m", base, overrides)
    assert not_served(served, asked, overrides) == difference


def test_a_complete_model_passes(repository):
    assert check_model(repository, "m") == repository / "m"


def test_a_missing_repository_is_named(tmp_path):
    with pytest.raises(UsageError, match=r"nowhere does not exist; .*--triton-model-repository"):
        check_model(tmp_path / "nowhere", "m")
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match=r"file is not a directory"):
        check_model(tmp_path / "file", "m")
    with pytest.raises(UsageError, match=r"model 'm' is not in .*; it has no model at all"):
        check_model(tmp_path, "m")


def test_an_unknown_model_names_the_nearest(repository):
    (repository / "other" / "1").mkdir(parents=True)
    (repository / "notes").mkdir()
    with pytest.raises(UsageError, match=r"model 'othre' .* mean 'other'\?\); it has m and other"):
        check_model(repository, "othre")


def test_a_model_without_a_version_folder_is_told_where_to_put_it(repository):
    (repository / "m" / "1").rename(repository / "m" / "first")
    with pytest.raises(UsageError, match=r"model 'm': .* has no version folder; put .*m/1 "):
        check_model(repository, "m")


def test_a_missing_model_file_is_named(repository):
    (repository / "m" / "1" / "model.py").unlink()
    with pytest.raises(UsageError, match=r"model 'm': .*m/1/model.py is missing; .*python"):
        check_model(repository, "m")
    config = repository / "m" / "config.pbtxt"
    config.write_text(CONFIG + 'default_model_filename: "net.py"\n')
    with pytest.raises(UsageError, match=r"m/1/net.py is missing"):
        check_model(repository, "m")
    (repository / "m" / "1" / "net.py").touch()
    assert check_model(repository, "m")


def test_dynamic_inputs_are_those_with_an_open_dimension(config):
    assert dynamic_inputs(config) == ["Y"]
    assert dynamic_inputs({}) == []
