"""perf_analyzer's argument list: built, checked, never split from a string. Pure."""

from collections.abc import Sequence
from pathlib import Path

from pytest_triton_perf.domain.levels import Load
from pytest_triton_perf.errors import UsageError
from pytest_triton_perf.load.base import Traffic, WireProtocol

REPORT = "report.csv"
"""perf_analyzer writes here, relative to its own working directory: for an ensemble it puts
the composing models' names in front of this name, which breaks with an absolute path."""

EXPORT = "export.json"
"""The requests one by one, beside the report; perf_analyzer refuses a file that exists."""

_DURATION = "the plugin decides how long it measures, within --triton-perf-max-seconds"
_INSTEAD = {
    "-m": "use model=",
    "-u": "use --triton-url",
    "-i": "use protocol=",
    "-b": "use batch_size=",
    "-f": "use --triton-perf-output",
    "-t": "use concurrency=",
    "-c": "use concurrency=",
    "-d": "use concurrency=",
    "-z": "use input_data='zero'",
    "-p": _DURATION,
    "-s": _DURATION,
    "-r": _DURATION,
    "-l": "use perf_budget",
    "--concurrency-range": "use concurrency=",
    "--periodic-concurrency-range": "use concurrency=",
    "--request-rate-range": "use request_rate=",
    "--request-intervals": "use request_rate=",
    "--fixed-schedule": "use request_rate=",
    "--input-data": "use input_data=",
    "--data-directory": "use input_data=",
    "--shape": "use shapes=",
    "--shared-memory": "use shared_memory=",
    "--streaming": "use streaming=True",
    "--percentile": "use percentiles=",
    "--latency-threshold": "use perf_budget",
    "--binary-search": "use concurrency= and perf_budget",
    "--measurement-interval": _DURATION,
    "--measurement-mode": _DURATION,
    "--measurement-request-count": _DURATION,
    "--request-count": _DURATION,
    "--warmup-request-count": "the plugin warms each model up by itself",
    "--stability-percentage": _DURATION,
    "--max-trials": _DURATION,
    "--verbose-csv": "the plugin sets it already",
    "--profile-export-file": "the plugin records requests itself, where their tensors are small",
    "--service-kind": "the plugin measures Triton only",
    "--enable-mpi": "the plugin runs one perf_analyzer at a time",
}
"""Arguments that fight the plugin's own, and what to use instead."""


def build_args(
    traffic: Traffic, load: Load, *, url: str, window_ms: float, most_windows: int, record: bool
) -> list[str]:
    """The arguments of one run of perf_analyzer: three windows of 1.2 x ``window_ms`` each.

    Three of them with a stability limit of 900 % are only "unstable" where one has hardly an
    answer: how much they differ is for statistics, not for a retry. Then perf_analyzer makes
    further ones, ``most_windows`` in all, until the last three are stable, and drops the level
    where they never are. Windows follow each other without a gap. ``record`` adds the export of
    single requests, which has those of all windows; without it, perf_analyzer tells what each
    window gave.

    Raises:
        UsageError: streaming over HTTP.
    """
    if traffic.streaming and traffic.protocol != "grpc":
        raise UsageError("streaming=True needs protocol='grpc': Triton streams over gRPC only")
    args = ["-m", traffic.model, "-u", url, "-i", traffic.protocol, "-b", str(load.batch_size)]
    if load.concurrency is not None:
        args += ["--concurrency-range", str(load.concurrency)]
    else:
        args += ["--request-rate-range", f"{load.request_rate}"]
    args += ["--measurement-interval", str(round(window_ms))]
    args += ["-r", str(most_windows), "-s", "900"]
    args += ["-f", REPORT, "--verbose-csv"]
    args += ["--profile-export-file", EXPORT] if record else ["-v"]
    if traffic.input_data in ("zero", "random"):
        args += ["--input-data", str(traffic.input_data)]
    elif traffic.input_data is not None:
        args += ["--input-data", str(Path(traffic.input_data).absolute())]
    for name, dims in (traffic.shapes or {}).items():
        args += ["--shape", f"{name}:{','.join(map(str, dims))}"]
    if traffic.shared_memory != "none":
        args += ["--shared-memory", traffic.shared_memory]
    if traffic.streaming:
        args += ["--async", "--streaming"]
    return [*args, *traffic.extra_args]


def tls_args(
    protocol: WireProtocol, *, ca: Path | None, certificate: Path | None, key: Path | None
) -> list[str]:
    """The arguments for an encrypted connection; the PEM files are those of tritonclient."""
    grpc = protocol == "grpc"
    files = {
        "--ssl-grpc-root-certifications-file" if grpc else "--ssl-https-ca-certificates-file": ca,
        "--ssl-grpc-certificate-chain-file"
        if grpc
        else "--ssl-https-client-certificate-file": certificate,
        "--ssl-grpc-private-key-file" if grpc else "--ssl-https-private-key-file": key,
    }
    given = [part for option, file in files.items() if file for part in (option, str(file))]
    return [*(["--ssl-grpc-use-ssl", "true"] if grpc else []), *given]


def check_extra_args(args: Sequence[str]) -> None:
    """Refuse a user's perf_analyzer arguments that fight the plugin's own.

    Raises:
        UsageError: names each such argument and what to use instead.
    """
    problems = [
        f"perf_analyzer_args: {arg!r} is the plugin's own; {instead}"
        for arg in args
        if (instead := _instead(arg)) is not None
    ]
    if problems:
        raise UsageError("\n".join(problems))


def _instead(arg: str) -> str | None:
    if arg.startswith("--"):
        # perf_analyzer takes any unambiguous beginning of a long option (getopt_long).
        name = arg.partition("=")[0]
        return next((text for own, text in _INSTEAD.items() if _abbreviates(name, own)), None)
    return _INSTEAD.get(arg[:2])  # also "-b8": a value may be glued to a short option


def _abbreviates(name: str, option: str) -> bool:
    return option == name or (len(name) > len("--") and option.startswith(name))
