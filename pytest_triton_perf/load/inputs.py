"""Random input data where the user gives none: finite, and the same in every run.

perf_analyzer's own is random bytes. One float in 256 (of 32 bits) is NaN or infinity then, with
which it cannot write the export of single requests.
"""

import atexit
import functools
import hashlib
import math
import shutil
import string
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_triton_perf.load.base import Traffic

if TYPE_CHECKING:
    import numpy as np

_SEED = 0
_TEXT_LENGTH = 128
"""perf_analyzer's own, unless told by ``--string-length``."""

_WHOLE = ("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")


def with_random_inputs(traffic: Traffic, config: Mapping[str, Any]) -> Traffic:
    """The traffic with data of ``random_inputs`` in a temporary folder, where it has no other.

    ``config`` is the model's as Triton serves it. Equal inputs have equal paths until this process
    ends, so that traffic of two variants is the same where their inputs are. It is returned as it
    is where perf_analyzer has to make the data, or to say what is missing.
    """
    if traffic.input_data not in (None, "random"):
        return traffic
    if any(arg.startswith("--string-") for arg in traffic.extra_args):
        return traffic  # perf_analyzer heeds them for data of its own only
    inputs = random_inputs(config, traffic.shapes or {})
    if inputs is None:
        return traffic
    digest = hashlib.sha256()
    for name, data in inputs.items():
        digest.update(f"{name}/{len(data)}/".encode())
        digest.update(data)
    folder = _session_folder() / digest.hexdigest()[:16]
    folder.mkdir(exist_ok=True)
    for name, data in inputs.items():
        (folder / name).write_bytes(data)
    return replace(traffic, input_data=folder)


def random_inputs(
    config: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]]
) -> dict[str, bytes] | None:
    """The contents of a folder for ``--input-data``: a file per input, of one inference. Pure.

    Floats are uniform in [0, 1). Integers are 0 or 1, which are valid as token ids, as masks and
    as indices alike. A file has its tensor's bytes in C order; for texts, which have 128 letters,
    it has one in each line. Optional inputs are there too: perf_analyzer's own random data has
    them. ``shapes`` gives dynamic inputs their dimensions, without the batch.

    A folder, because with a JSON file each of perf_analyzer's sequences is as long as the file has
    steps, unless the user says how long; and raw bytes need no decoding.

    Returns:
        Name of the input to its file's content, or ``None`` where there is no such folder: no
        inputs are known, a dynamic one has no shape, one is a shape tensor or of an unknown type,
        or has a name that no file can have.
    """
    import numpy as np

    generator = np.random.default_rng(_SEED)
    contents = {}
    for tensor in config.get("input", []):
        name, dims = tensor["name"], [int(dim) for dim in tensor.get("dims", [])]
        if min(dims, default=0) < 0:
            dims = list(shapes.get(name, dims))
        if min(dims, default=0) < 0 or tensor.get("is_shape_tensor") or "/" in name:
            return None
        data = _random_bytes(generator, tensor.get("data_type", ""), math.prod(dims))
        if data is None:
            return None
        contents[name] = data
    return contents or None


def _random_bytes(generator: "np.random.Generator", data_type: str, count: int) -> bytes | None:
    """The file's content for ``count`` elements of a type of Triton's model config."""
    import numpy as np

    kind = data_type.removeprefix("TYPE_").lower()
    values: np.ndarray[Any, Any]
    if kind in _WHOLE:
        values = generator.integers(0, 2, count, dtype=np.uint8).astype(kind)
    elif kind == "fp64":
        values = generator.random(count)
    elif kind == "fp32":
        values = generator.random(count, dtype=np.float32)
    elif kind == "fp16":  # Multiples of 2**-11, which it can hold: none is rounded up to 1.
        values = (generator.integers(0, 2**11, count) / 2**11).astype(np.float16)
    elif kind == "bf16":  # The upper half of a float32, cut off for the same reason.
        values = (generator.random(count, dtype=np.float32).view(np.uint32) >> 16).astype(np.uint16)
    elif kind == "string":
        letters = np.frombuffer(string.ascii_letters.encode(), np.uint8)
        texts = letters[generator.integers(0, letters.size, (count, _TEXT_LENGTH))]
        values = np.pad(texts, ((0, 0), (0, 1)), constant_values=ord("\n"))
    else:
        return None
    return values.tobytes()


@functools.cache
def _session_folder() -> Path:
    folder = tempfile.mkdtemp(prefix="triton-perf-inputs-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)
