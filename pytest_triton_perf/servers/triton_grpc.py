"""tritonclient's gRPC half, imported when it is first needed."""

import importlib
import warnings
from types import ModuleType


def import_quietly(module: str) -> ModuleType:
    """Import ``tritonclient.grpc`` or one of its messages.

    On Python 3.12 the protobuf that tritonclient 2.51 needs emits deprecation warnings while it
    is imported. A suite with ``filterwarnings = error`` would turn them into a crash.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return importlib.import_module(module)
