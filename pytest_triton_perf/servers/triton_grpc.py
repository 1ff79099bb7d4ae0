"""tritonclient and protobuf, imported when they are first needed."""

import importlib
import warnings
from types import ModuleType


def import_quietly(module: str) -> ModuleType:
    """Import a part of ``tritonclient`` or of the protobuf library that it brings.

    On Python 3.12 the protobuf that tritonclient 2.51 needs emits deprecation warnings while it
    is imported. A suite with ``filterwarnings = error`` would turn them into a crash.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return importlib.import_module(module)
