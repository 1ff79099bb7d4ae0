"""Reading perf_analyzer's CSV, its stdout and its complaints. Pure."""

import csv
import io
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pytest_triton_perf.domain.levels import Load
from pytest_triton_perf.domain.metrics import SERVER_TIMES, percentile_name

_LEVEL_COLUMN = {"concurrency": "Concurrency", "request_rate": "Request Rate"}
_SERVER_COLUMN = {
    "queue_ms": "Server Queue",
    "compute_input_ms": "Server Compute Input",
    "compute_infer_ms": "Server Compute Infer",
    "compute_output_ms": "Server Compute Output",
}
_NETWORK_COLUMN = "Network+Server Send/Recv"
_LATENCY_PARTS = ("Client Send", _NETWORK_COLUMN, *_SERVER_COLUMN.values(), "Client Recv")
_CACHE_PARTS = ("Server Cache Hit", "Server Cache Miss")


@dataclass(frozen=True, kw_only=True)
class ParsedReport:
    """One level as perf_analyzer reported it; the fields are those of ``LoadReport``."""

    values: Mapping[str, float]
    missing: Mapping[str, str]
    requests: int | None
    notes: tuple[str, ...]


def parse_report(
    csv_text: str, stdout: str, load: Load, percentiles: Sequence[int]
) -> ParsedReport | None:
    """The level in perf_analyzer's CSV, or ``None`` where the CSV does not have it.

    The row is found by the level's value: perf_analyzer sorts rows by throughput and leaves
    out levels that it calls unstable. Columns are found by name. Times are whole microseconds
    there and milliseconds here.
    """
    row = _row(csv_text, load)
    if row is None:
        return None
    values = {"throughput": float(row["Inferences/Second"])}
    missing = {}
    notes = []
    average = _ms(row, "Avg latency")
    if average is None and (average := _sum_of_parts(row)) is not None:
        notes.append(
            "the average latency is the sum of perf_analyzer's parts, each rounded down to 1 us: "
            "it prints no average beside an extra percentile"
        )
    if average is None:
        missing["avg_latency_ms"] = (
            "perf_analyzer prints no average latency beside a percentile other than 50, 90, 95, 99"
        )
    else:
        values["avg_latency_ms"] = average
    for percentile in percentiles:
        name = percentile_name(percentile)
        if (value := _ms(row, f"p{percentile} latency")) is None:
            missing[name] = f"perf_analyzer did not report the {percentile}th percentile"
        else:
            values[name] = value
    for name in SERVER_TIMES:
        if (value := _ms(row, _SERVER_COLUMN[name])) is None:
            missing[name] = "perf_analyzer got no statistics from the server"
        else:
            values[name] = value
    requests = re.search(r"^ *Client: *\n(?:.*\n)*? *Request count: (\d+)", stdout, re.MULTILINE)
    return ParsedReport(
        values=values,
        missing=missing,
        requests=int(requests[1]) if requests else None,
        notes=(*notes, *_remarks(stdout)),
    )


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


def _sum_of_parts(row: Mapping[str, str]) -> float | None:
    """The average latency from its parts, which perf_analyzer derives from the average.

    ``None`` where a part is missing, or where perf_analyzer cut the network's part off at 0
    because the server's times did not fit into the client's.
    """
    parts = [_ms(row, column) for column in _LATENCY_PARTS]
    parts += [_ms(row, column) for column in _CACHE_PARTS if column in row]
    known = [part for part in parts if part is not None]
    if len(known) < len(parts) or not _ms(row, _NETWORK_COLUMN):
        return None
    return round(sum(known), 3)


def _remarks(stdout: str) -> list[str]:
    remarks = []
    delayed = re.search(r"desired request rate\. *([\d.]+)% of the requests were delayed", stdout)
    if delayed:
        remarks.append(
            f"perf_analyzer could not keep up with the request rate: {delayed[1]}% of the "
            "requests were sent late. The server is saturated, or perf_analyzer's 4 threads all "
            "wait for answers (perf_analyzer_args=('--async',) lifts that limit)"
        )
    if "not able to keep up with the desired load" in stdout:
        remarks.append(
            "perf_analyzer could not keep up with the load: these figures are the client's, "
            "not the server's"
        )
    if "using the first response for measuring latency" in stdout:
        remarks.append("decoupled model: latencies are those of the first response")
    return remarks


def window_too_short(words: str) -> bool:
    """Whether a run failed only because no request was answered within a window."""
    return "No valid requests recorded" in words or "Failed to obtain stable measurement" in words


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
        r"|Transport closed|server returned nothing|empty response",
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
