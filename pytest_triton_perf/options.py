"""Options, ini keys and marker names: what pytest is told in every run.

Reading and checking them is in ``settings``, which a run without ``--triton-perf`` never imports.
"""

from typing import Any, NamedTuple

import pytest

MARKERS = (
    "perf_sweep(model, concurrency, request_rate, batch_size, variants, ...): measure a model on "
    "Triton at several load levels, one test per variant of its config (needs --triton-perf)",
    "perf_budget(**limits, at): a limit that the test's sweep must keep, such as "
    "p99_latency_ms=25 or min_throughput=800",
    "perf_search(objective, mode, parameters, ...): what a test with perf_sweep(variants='search') "
    "looks for, in which configurations of the model, and how",
    "perf_gate(max_slowdown_pct, metric, mode, at): what --triton-perf-against allows the test's "
    "model to be slower than in the base",
)

REPORTS = ("csv", "plots", "html", "pdf", "md", "metrics", "json")

CONFIG_SUFFIX = ".triton-perf.yaml"

DEFAULT_IMAGE = "nvcr.io/nvidia/tritonserver:24.10-py3"


class Option(NamedTuple):
    """One option and its ini key of the same name, with underscores."""

    flag: str
    help: str
    default: str | None = None
    shown_default: str | None = None
    metavar: str | None = None
    choices: tuple[str, ...] | None = None
    repeatable: bool = False
    switch: bool = False

    @property
    def name(self) -> str:
        """The ini key, which is also the name that pytest stores the option under."""
        return self.flag.lstrip("-").replace("-", "_")


OPTIONS = (
    Option(
        "--triton-launch",
        "how Triton comes to exist: auto takes the running one of --triton-url, else a container "
        "of --triton-image, else a tritonserver that was given, is on PATH or is the embedded one, "
        "else a container of the default image",
        "auto",
        choices=("auto", "local", "docker", "remote"),
    ),
    Option(
        "--triton-url",
        "a running Triton: host:port of gRPC, or with a scheme (grpc, grpcs, http, https) before "
        "it; one of each protocol, separated by a comma",
        metavar="URL",
        shown_default="none",
    ),
    Option(
        "--triton-metrics-url",
        "the metrics endpoint of the running Triton: the source of its GPU metrics",
        metavar="URL",
        shown_default="none",
    ),
    Option(
        "--triton-tls-ca",
        "PEM file of the CA that signed the running Triton's certificate",
        metavar="FILE",
        shown_default="the system's",
    ),
    Option(
        "--triton-tls-cert",
        "PEM file of our certificate, where the running Triton asks for one",
        metavar="FILE",
        shown_default="none",
    ),
    Option(
        "--triton-tls-key",
        "PEM file of that certificate's key",
        metavar="FILE",
        shown_default="none",
    ),
    Option(
        "--triton-model-repository",
        "the model repository",
        metavar="PATH",
        shown_default="model_repository beside the test file, then the one in the rootdir",
    ),
    Option(
        "--triton-server",
        "the tritonserver binary",
        metavar="PATH",
        shown_default="PATH, then the embedded one",
    ),
    Option(
        "--perf-analyzer",
        "the perf_analyzer binary",
        metavar="PATH",
        shown_default="PATH, then the embedded one",
    ),
    Option(
        "--triton-image",
        "docker: the server image, by tag or digest",
        metavar="IMAGE",
        shown_default=DEFAULT_IMAGE,
    ),
    Option(
        "--triton-sdk-image",
        "docker: the image that holds perf_analyzer, which --perf-analyzer replaces",
        metavar="IMAGE",
        shown_default="the server image's tag with -sdk",
    ),
    Option("--triton-shm-size", "docker: the server's shared memory", "1g", metavar="SIZE"),
    Option(
        "--triton-mount",
        "docker: HOST:CONTAINER, a path that the server may read, such as weights that a model "
        "links to; repeatable",
        metavar="PATHS",
        repeatable=True,
        shown_default="none",
    ),
    Option(
        "--triton-env",
        "docker: NAME=VALUE, an environment variable of the server; repeatable",
        metavar="VARIABLE",
        repeatable=True,
        shown_default="none",
    ),
    Option("--triton-gpus", "GPUs the server may use: all, none, or UUIDs", "all", metavar="LIST"),
    Option(
        "--triton-server-arg",
        "one extra tritonserver argument; repeatable",
        metavar="ARG",
        repeatable=True,
        shown_default="none",
    ),
    Option(
        "--triton-perf-config",
        "a profile config of Model Analyzer: each of its models is a test",
        metavar="FILE",
        repeatable=True,
        shown_default="files named *.triton-perf.yaml are collected in any case",
    ),
    Option("--triton-perf-output", "where results go", "triton-perf-results", metavar="DIR"),
    Option("--triton-perf-report", f"which of {', '.join(REPORTS)}", "all", metavar="LIST"),
    Option(
        "--triton-perf-write-config",
        "leave the config.pbtxt of the best configuration that a search found there, in a folder "
        "of the model's name",
        metavar="DIR",
        shown_default="none",
    ),
    Option("--triton-perf-max-seconds", "measuring time one sweep may use", "120", metavar="S"),
    Option(
        "--triton-perf-floor-seconds",
        "load that a level gets at least, in two stretches, before a budget passes on it",
        "2",
        metavar="S",
    ),
    Option("--triton-perf-confidence", "confidence of printed intervals", "0.95", metavar="P"),
    Option(
        "--triton-perf-against",
        "the paired gate: measure the models side by side with those of a git ref, or of another "
        "model repository, and fail where they became slower",
        metavar="REF|PATH",
        shown_default="none",
    ),
    Option(
        "--triton-perf-against-image",
        "the same between two Triton images: measure the models side by side with them on this one",
        metavar="IMAGE",
        shown_default="none",
    ),
    Option(
        "--triton-perf-compare",
        "compare with the sessions in this file: what is out of line with them is suspect, which "
        "the paired gate can settle",
        metavar="FILE",
        shown_default="none",
    ),
    Option(
        "--triton-perf-save",
        "add this session to this file, with which later ones are compared",
        metavar="FILE",
        shown_default="none",
    ),
    Option(
        "--triton-perf-max-slowdown-pct",
        "the slowdown that the paired gate must find where a test's perf_gate does not say it",
        "5",
        metavar="PCT",
    ),
    Option(
        "--triton-perf-inconclusive",
        "what an undecided budget does to its test",
        "warn",
        choices=("warn", "fail", "pass"),
    ),
    Option(
        "--triton-perf-resume",
        "go on with the session that was interrupted: what it measured is not measured again, "
        "unless its model, its config or anything else that it was measured from has changed",
        shown_default="off",
        switch=True,
    ),
)


def is_enabled(config: pytest.Config) -> bool:
    """Whether this session runs the sweeps."""
    return bool(config.getoption("triton_perf") or config.getini("triton_perf"))


def add_options(parser: pytest.Parser) -> None:
    """Declare every option and its ini key of the same name."""
    group = parser.getgroup("triton-perf", "performance budgets for models on Triton")
    enable = "run the perf sweeps"
    group.addoption("--triton-perf", action="store_true", default=None, help=enable)
    parser.addini("triton_perf", enable, type="bool", default=False)
    for option in OPTIONS:
        kind: Any = "string"
        how: dict[str, Any] = {"metavar": option.metavar, "choices": option.choices}
        if option.switch:
            kind, how = "bool", {"action": "store_true"}
        elif option.repeatable:
            kind, how = "linelist", {**how, "action": "append"}
        group.addoption(
            option.flag,
            dest=option.name,
            default=None,
            help=f"{option.help} (default: {option.default or option.shown_default})",
            **how,
        )
        parser.addini(option.name, option.help, type=kind, default=None)
