"""The input data that is made where the user gives none."""

import math
from typing import Any

import numpy as np
import pytest

from pytest_triton_perf.load.base import Traffic
from pytest_triton_perf.load.inputs import random_inputs, with_random_inputs


def config(*inputs: dict[str, Any], **keys: Any) -> dict[str, Any]:
    """A model config as ``to_dict`` gives it: 64-bit integers are text."""
    return {"name": "m", "max_batch_size": 8, "input": list(inputs), **keys}


def tensor(
    name: str = "X", data_type: str = "TYPE_FP32", *dims: int, **keys: Any
) -> dict[str, Any]:
    return {"name": name, "data_type": data_type, "dims": [str(dim) for dim in dims], **keys}


def made(data_type: str, *dims: int) -> bytes:
    contents = random_inputs(config(tensor("X", data_type, *dims)), {})
    assert contents is not None
    return contents["X"]


@pytest.mark.parametrize("kind", ["float16", "float32", "float64"])
def test_floats_are_uniform_from_0_to_below_1(kind: str) -> None:
    values = np.frombuffer(made(f"TYPE_FP{kind.removeprefix('float')}", 64, 64), kind)
    assert values.size == 64 * 64
    assert values.min() >= 0
    assert values.max() < 1
    assert values.astype(float).mean() == pytest.approx(0.5, abs=0.05)
    assert np.unique(values).size > 1000


def test_bf16_is_the_upper_half_of_a_float32() -> None:
    halves = np.frombuffer(made("TYPE_BF16", 4096), np.uint16)
    values = (halves.astype(np.uint32) << 16).view(np.float32)
    assert values.size == 4096
    assert values.min() >= 0
    assert 0.9 < values.max() < 1
    assert values.mean() == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize("bits", [8, 16, 32, 64])
@pytest.mark.parametrize("sign", ["", "u"])
def test_integers_are_0_or_1(sign: str, bits: int) -> None:
    kind = f"{sign}int{bits}"
    values = np.frombuffer(made(f"TYPE_{kind.upper()}", 100), kind)
    assert values.size == 100
    assert set(values.tolist()) == {0, 1}


def test_bools_are_both() -> None:
    assert set(made("TYPE_BOOL", 100)) == {0, 1}
    assert len(made("TYPE_BOOL", 100)) == 100


def test_texts_are_ascii_one_in_a_line() -> None:
    *texts, end = made("TYPE_STRING", 2, 3).decode("ascii").split("\n")
    assert end == ""
    assert len(set(texts)) == 6
    assert all(len(text) == 128 and text.isalpha() for text in texts)


@pytest.mark.parametrize("max_batch_size", [0, 8])
def test_an_input_has_its_dims_without_a_batch(max_batch_size: int) -> None:
    """Of a model that does not batch, the dims are the whole shape."""
    contents = random_inputs(
        config(tensor("X", "TYPE_FP32", 3, 5), max_batch_size=max_batch_size), {}
    )
    assert contents is not None
    assert len(contents["X"]) == 4 * 15


def test_shapes_give_dynamic_inputs_their_dims_and_no_others() -> None:
    """As perf_analyzer heeds ``--shape``."""
    model = config(tensor("A", "TYPE_INT8", -1, 3), tensor("B", "TYPE_INT8", 2))
    contents = random_inputs(model, {"A": (7, 3), "B": (9,)})
    assert contents is not None
    assert {name: len(data) for name, data in contents.items()} == {"A": 21, "B": 2}


def test_optional_inputs_are_there_as_in_perf_analyzers_own_data() -> None:
    contents = random_inputs(config(tensor(), tensor("O", "TYPE_INT8", 2, optional=True)), {})
    assert contents is not None
    assert list(contents) == ["X", "O"]


def test_every_run_has_the_same_data() -> None:
    model = config(tensor("A", "TYPE_FP32", 100), tensor("B", "TYPE_STRING", 2))
    assert random_inputs(model, {}) == random_inputs(model, {})
    contents = random_inputs(config(tensor("A", "TYPE_FP32", 2), tensor("B", "TYPE_FP32", 2)), {})
    assert contents is not None
    assert contents["A"] != contents["B"]


@pytest.mark.parametrize(
    "model",
    [
        {},
        config(),
        config(tensor(), tensor("Y", "TYPE_FP32", -1)),
        config(tensor("X", "TYPE_INT32", 2, is_shape_tensor=True)),
        config(tensor("X", "TYPE_FP4", 2)),
        config(tensor("serving/X", "TYPE_FP32", 2)),
    ],
    ids=["empty", "no-input", "dynamic", "shape-tensor", "unknown-type", "name-of-no-file"],
)
def test_what_is_left_to_perf_analyzer(model: dict[str, Any]) -> None:
    assert random_inputs(model, {}) is None
    traffic = Traffic(model="m")
    assert with_random_inputs(traffic, model) is traffic


@pytest.mark.parametrize("input_data", [None, "random"])
def test_the_data_is_in_a_folder_that_stays(input_data: str | None) -> None:
    model = config(tensor("A", "TYPE_FP32", 4), tensor("B", "TYPE_INT64", 2))
    traffic = with_random_inputs(Traffic(model="m", input_data=input_data), model)
    folder = traffic.input_data
    assert not isinstance(folder, str | None)
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == random_inputs(model, {})


def test_variants_with_the_same_inputs_are_the_same_traffic() -> None:
    """What was learnt of the size of its requests holds for the next variant."""
    one, two, other = (
        with_random_inputs(Traffic(model="m"), config(tensor("X", "TYPE_FP32", dim), **keys))
        for dim, keys in ((4, {}), (4, {"instance_group": [{"count": 2}]}), (5, {}))
    )
    assert one == two
    assert one != other


@pytest.mark.parametrize(
    "traffic",
    [
        Traffic(model="m", input_data="zero"),
        Traffic(model="m", input_data="data.json"),
        Traffic(model="m", extra_args=("--string-length=4",)),
        Traffic(model="m", extra_args=("--string-data", "text")),
    ],
)
def test_what_the_user_asks_for_is_sent(traffic: Traffic) -> None:
    assert with_random_inputs(traffic, config(tensor("X", "TYPE_STRING", 1))) is traffic


def test_large_tensors_are_cheap() -> None:
    """An image of 12 MB: the array and its bytes, and no text."""
    import tracemalloc

    tracemalloc.start()
    size = len(made("TYPE_FP32", 3, 1024, 1024))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert size == math.prod((4, 3, 1024, 1024))
    assert peak < 3 * size
