"""What can go wrong, one class per reaction of the reader.

Every message says what happened, where, and what to do. The plugin shows these errors
without a traceback: they are written for the person whose test it is.
"""

INSTALL_EMBEDDED = "pip install 'pytest-triton-perf[embedded]'"
"""The command that brings a real tritonserver and a real perf_analyzer."""


class TritonPerfError(Exception):
    """Root of all errors that the plugin raises on purpose."""


class UsageError(TritonPerfError):
    """A marker, an option or a model repository must be corrected; known before measuring."""


class MissingPartError(TritonPerfError):
    """Something has to be installed (a server, perf_analyzer, a shared library)."""


class ServerError(TritonPerfError):
    """Triton did not start, died, or refused a model; the message carries its own words."""


class LoadError(TritonPerfError):
    """perf_analyzer did not measure a level that was asked for; the message carries its words."""


class InconclusiveWarning(UserWarning):
    """A budget that could not be decided, where ``--triton-perf-inconclusive=warn``."""


class UnusedKeysWarning(UserWarning):
    """Keys of a config file of Model Analyzer that have no meaning here."""


class SweepError(TritonPerfError):
    """A test asked its sweep for a level or a metric that it does not hold."""
