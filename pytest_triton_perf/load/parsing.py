"""Reading perf_analyzer's CSV, its stdout and its complaints. Pure."""

import csv
import io
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pytest_triton_perf.domain.levels import Load
from pytest_triton_perf.domain.metrics import SERVER_TIMES

PERCENTILES = (50, 90, 95, 99)
"""Those that perf_analyzer always reports."""

_LEVEL_COLUMN = {"concurrency": "Concurrency", "request_rate": "Request Rate"}
_SERVER_COLUMN = {
    "queue_ms": "Server Queue",
    "compute_input_ms": "Server Compute Input",
    "compute_infer_ms": "Server Compute Infer",
    "compute_output_ms": "Server Compute Output",
}


@dataclass(frozen=True, kw_only=True)
class ParsedReport:
    """One level as perf_analyzer reported it.

    ``throughput`` is in infer/s; ``percentiles_ms`` are those of :data:`PERCENTILES`. ``passes``
    are throughput and mean latency in ms of each window, in order and as far as perf_analyzer
    (with ``-v``) told them; both are 0 where nothing was answered. The other fields are those of
    ``LoadReport``.
    """

    throughput: float
    requests: int
    avg_latency_ms: float
    percentiles_ms: Mapping[int, float]
    server_ms: Mapping[str, float]
    missing: Mapping[str, str]
    keeps_up: bool
    decoupled: bool
    passes: tuple[tuple[float, float], ...]
    notes: tuple[str, ...]


def parse_report(csv_text: str, stdout: str, load: Load) -> ParsedReport | None:
    """The level in perf_analyzer's CSV, or ``None`` where CSV or ``stdout`` do not have it.

    The row is found by the level's value: perf_analyzer sorts rows by throughput and leaves
    out levels that it calls unstable. Columns are found by name. Times are whole microseconds
    there and milliseconds here.
    """
    row = _row(csv_text, load)
    requests = re.search(r"^ *Client: *\n(?:.*\n)*? *Request count: (\d+)", stdout, re.MULTILINE)
    if row is None or requests is None or int(requests[1]) == 0:
        return None
    server_ms = {
        name: value
        for name in SERVER_TIMES
        if (value := _ms(row, _SERVER_COLUMN[name])) is not None
    }
    return ParsedReport(
        throughput=float(row["Inferences/Second"]),
        requests=int(requests[1]),
        avg_latency_ms=float(row["Avg latency"]) / 1000,
        percentiles_ms={p: float(row[f"p{p} latency"]) / 1000 for p in PERCENTILES},
        server_ms=server_ms,
        missing={
            name: "perf_analyzer got no statistics from the server"
            for name in SERVER_TIMES
            if name not in server_ms
        },
        # Of requests that were sent late the server may be the cause, which excuses nothing.
        keeps_up=_CLIENT_BOUND not in stdout,
        decoupled="Detected decoupled model" in stdout,
        passes=tuple(
            (float(throughput or 0), float(latency_us or 0) / 1000)
            for throughput, latency_us in _PASS.findall(stdout)
        ),
        notes=tuple(_troubles(stdout)),
    )


_PASS = re.compile(
    r"^ *Pass \[\d+\] (?:throughput: ([\d.]+) infer/sec\. Avg latency: (\d+) usec)?", re.MULTILINE
)
_CLIENT_BOUND = "not able to keep up with the desired load"


def _row(csv_text: str, load: Load) -> dict[str, str] | None:
    column = _LEVEL_COLUMN[load.kind]
    for row in csv.DictReader(io.StringIO(csv_text)):
        # The CSV has six significant digits of a request rate.
        if row.get(column) and math.isclose(float(row[column]), load.value, rel_tol=1e-5):
            return row
    return None


def _ms(row: Mapping[str, str], column: str) -> float | None:
    cell = row.get(column)
    return float(cell) / 1000 if cell else None


def _troubles(stdout: str) -> list[str]:
    """How the load was not the one that was asked for."""
    troubles = []
    delayed = re.search(r"desired request rate\. *([\d.]+)% of the requests were delayed", stdout)
    if delayed:
        troubles.append(
            f"perf_analyzer could not keep up with the request rate: {delayed[1]}% of the "
            "requests were sent late. The server is saturated, or perf_analyzer's 4 threads all "
            "wait for answers (perf_analyzer_args=('--async',) lifts that limit)"
        )
    if _CLIENT_BOUND in stdout:
        troubles.append(
            "perf_analyzer could not keep up with the load: these figures are the client's, "
            "not the server's"
        )
    return troubles


def window_too_short(words: str) -> bool:
    """Whether a run failed only because no request was answered within a window."""
    return "No valid requests recorded" in words or "Failed to obtain stable measurement" in words


def may_pass(words: str) -> bool:
    """Whether a run failed as now and then one does among the first of a model, just loaded.

    perf_analyzer does not find the model in the server's statistics then. It says the same of a
    version that is not there, for good.
    """
    return "failed to find the requested model version" in words


_HELP_LINE = re.compile(r"\s|Usage: |====|[IV]+\. ")


def last_words(stdout: str, stderr: str, lines: int = 8) -> str:
    """The end of what perf_analyzer said, indented; without its help of 370 lines.

    The help comes with every usage error: below it in 2.51, above it in 2.60.
    """
    text = stderr if stderr.strip() else stdout
    said = [line for line in text.splitlines() if line.strip()]
    if re.search(r"^Usage: ", text, re.MULTILINE):
        said = [line for line in said if not _HELP_LINE.match(line)]
    return "\n".join(f"    {line}" for line in said[-lines:]) or "    (it said nothing)"


_HINTS = (
    (
        r"input (?P<name>\S+) contains dynamic shape|shape fully defined",
        "the model has inputs of dynamic shape; give each its dimensions without the batch: "
        "shapes={{{name!r}: (…)}}",
    ),
    (
        r"unexpected shape for input|supplied shape .* incompatible",
        "shapes= or input_data= does not fit the dimensions in the model's config",
    ),
    (
        r"batch-size must be <= (?P<name>\d+)",
        "batch_size= is above the model's max_batch_size of {name}",
    ),
    (
        r"can not specify batch size > 1",
        "the model does not batch (max_batch_size is 0): use batch_size=1",
    ),
    (r"Decoupled models must be run", "the model is decoupled: use streaming=True"),
    (
        r"unknown model|requested model version|is not found",
        "the server has not loaded this model: check model= and the model repository",
    ),
    (
        r"[Ff]ailed to connect|Couldn't connect|Connection refused|Connection reset|Socket closed"
        r"|Transport closed|server returned nothing|empty response|rewinding of the data stream",
        "no server answers at {url}, or it died under the load: see the server's log",
    ),
    (
        r"on gpu|CUDA driver",
        "shared_memory='cuda' needs a GPU that perf_analyzer and the server share",
    ),
    (
        r"shared memory",
        "shared_memory= needs a /dev/shm that perf_analyzer and the server share",
    ),
    (
        r"unable to find float data",
        "write the data of a float input in {input_data!r} with a decimal point: 7.0, not 7",
    ),
    (
        r"Failed to init manager inputs|Failed to parse --input-data|--input-data",
        "check input_data={input_data!r}: zero, random, a JSON file with data for every input, or "
        "a folder with one file per input",
    ),
    (
        r"unrecognized option|[Ii]nvalid (long )?option|requires an argument|Failed to parse",
        "check perf_analyzer_args={extra_args!r}",
    ),
    (
        r"Stub process '.*' is not healthy",
        "the process of the python model died: was it killed for want of memory?",
    ),
    (
        r"Server returned nothing",  # what HTTP says of a connection that breaks off
        "no server answers at {url}, or it died under the load: see the server's log",
    ),
    (
        r"had error|Failed to retrieve results",
        "the model failed on a request: see the server's log",
    ),
)


def hint(words: str, *, url: str, input_data: str, extra_args: Sequence[str]) -> str | None:
    """What to do about the known causes, or ``None``."""
    for pattern, text in _HINTS:
        if match := re.search(pattern, words):
            name = match.groupdict().get("name") or "INPUT"
            return text.format(
                name=name, url=url, input_data=input_data, extra_args=tuple(extra_args)
            )
    return None
