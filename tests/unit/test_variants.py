import pytest

from pytest_triton_perf.domain.variants import VariantNames, expand, readable_id
from pytest_triton_perf.errors import UsageError


def test_a_mapping_is_the_cartesian_product_the_last_path_fastest():
    assert expand({"max_batch_size": [8, 64], "instance_group.count": [1, 2]}) == [
        {"max_batch_size": 8, "instance_group.count": 1},
        {"max_batch_size": 8, "instance_group.count": 2},
        {"max_batch_size": 64, "instance_group.count": 1},
        {"max_batch_size": 64, "instance_group.count": 2},
    ]


def test_a_list_is_taken_as_it_is():
    assert expand([{}, {"max_batch_size": 4}]) == [{}, {"max_batch_size": 4}]
    assert expand(None) == [{}]


@pytest.mark.parametrize(
    ("variants", "message"),
    [
        ({"max_batch_size": 8}, r"variants\['max_batch_size'\]: expected a list of values, not 8"),
        ({"max_batch_size": []}, r"expected a list of values, not \[\]"),
        ({"backend": "python"}, "expected a list of values, not 'python'"),
        ({3: [1]}, "a path is text, not 3"),
        ("search", "expected a mapping of config path"),
        ([], "expected a mapping of config path"),
        ([1], "expected a mapping of config path"),
    ],
)
def test_other_shapes_are_refused(variants, message):
    with pytest.raises(UsageError, match=message):
        expand(variants)


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        ({}, "default"),
        ({"max_batch_size": 8, "dynamic_batching": None}, "max_batch_size=8-dynamic_batching=null"),
        ({"backend": "python"}, "backend=python"),
        ({"dynamic_batching": {"preferred_batch_size": [4]}}, None),
    ],
)
def test_ids_are_readable(overrides, expected):
    expected = expected or 'dynamic_batching={"preferred_batch_size":[4]}'
    assert readable_id(overrides) == expected


def test_equal_configurations_share_a_name():
    names = VariantNames()
    assert names.name("m", {"a": 1}, is_default=False) == "m_config_0"
    assert names.name("m", {"a": 2}, is_default=False) == "m_config_1"
    assert names.name("m", {"a": 1}, is_default=False) == "m_config_0"
    assert names.name("m", {"a": 3}, is_default=True) == "m_config_default"
    assert names.name("n", {"a": 1}, is_default=False) == "n_config_0"
