"""Parsing of recorded output of real perf_analyzers, in tests/data/perf_analyzer/<version>."""

from pathlib import Path

import pytest

from pytest_triton_perf.domain.levels import Load
from pytest_triton_perf.load.parsing import (
    ParsedReport,
    hint,
    last_words,
    parse_report,
    window_too_short,
)

DATA = Path(__file__).parent.parent / "data" / "perf_analyzer"
VERSIONS = sorted(folder.name for folder in DATA.iterdir())
USUAL = (50, 90, 95, 99)


class Recorded:
    def __init__(self, version: str, case: str) -> None:
        self.folder = DATA / version / case
        self.stdout = self.read("stdout.txt")
        self.stderr = self.read("stderr.txt")
        self.exit_code = int(self.read("exit_code.txt"))
        self.csv = self.read("report.csv") if (self.folder / "report.csv").exists() else ""
        self.words = last_words(self.stdout, self.stderr)

    def read(self, name: str) -> str:
        return (self.folder / name).read_text("utf-8")

    def parsed(self, load: Load, percentiles: tuple[int, ...] = USUAL) -> ParsedReport:
        report = parse_report(self.csv, self.stdout, load, percentiles)
        assert report is not None
        return report


@pytest.fixture(params=VERSIONS)
def version(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_both_generations_are_recorded() -> None:
    assert VERSIONS == ["2.51.0", "2.60.0"]


def test_concurrency() -> None:
    report = parse_report(
        "Concurrency,Inferences/Second,Client Send,Network+Server Send/Recv,Server Queue,"
        "Server Compute Input,Server Compute Infer,Server Compute Output,Client Recv,p50 latency,"
        "p90 latency,p95 latency,p99 latency,Avg latency,request/response,response wait\n"
        "2,4055.87,2,178,106,13,111,76,1,471,620,656,765,490,3,477\n",
        "Request concurrency: 2\n  Client: \n    Request count: 3661\n    Throughput: 4055.87\n"
        "  Server: \n    Inference count: 3662\n    Successful request count: 3662\n",
        Load(concurrency=2),
        (50, 99),
    )
    assert report == ParsedReport(
        values={
            "throughput": 4055.87,
            "avg_latency_ms": 0.490,
            "p50_latency_ms": 0.471,
            "p99_latency_ms": 0.765,
            "queue_ms": 0.106,
            "compute_input_ms": 0.013,
            "compute_infer_ms": 0.111,
            "compute_output_ms": 0.076,
        },
        missing={},
        requests=3661,
        notes=(),
    )


@pytest.mark.parametrize(
    ("case", "load"),
    [
        ("concurrency", Load(concurrency=4)),
        ("concurrency_http", Load(concurrency=2, batch_size=4)),
        ("request_rate", Load(request_rate=52.5)),
    ],
)
def test_recorded_levels_are_whole(version: str, case: str, load: Load) -> None:
    report = Recorded(version, case).parsed(load)
    assert report.missing == {}
    assert report.notes == ()
    assert report.requests is not None
    assert report.requests > 20
    assert set(report.values) == {
        *("throughput", "avg_latency_ms", "p50_latency_ms", "p90_latency_ms", "p95_latency_ms"),
        *("p99_latency_ms", "queue_ms", "compute_input_ms", "compute_infer_ms"),
        "compute_output_ms",
    }
    values = report.values
    assert values["p50_latency_ms"] <= values["p90_latency_ms"] <= values["p99_latency_ms"]
    # Little's law ties throughput, latency and concurrency: the units are right.
    if load.concurrency is not None:
        in_flight = values["throughput"] / load.batch_size * values["avg_latency_ms"] / 1000
        assert in_flight == pytest.approx(load.concurrency, rel=0.25)


def test_only_the_percentiles_asked_for(version: str) -> None:
    report = Recorded(version, "concurrency").parsed(Load(concurrency=4), (99,))
    assert [name for name in report.values if name.startswith("p")] == ["p99_latency_ms"]


def test_extra_percentile_and_the_average_that_perf_analyzer_then_hides(version: str) -> None:
    recorded = Recorded(version, "percentile")
    assert "Avg latency" not in recorded.csv + recorded.stdout
    values = recorded.parsed(Load(concurrency=4), (50, 75, 99)).values
    assert values["p50_latency_ms"] <= values["p75_latency_ms"] <= values["p99_latency_ms"]
    in_flight = values["throughput"] * values["avg_latency_ms"] / 1000
    assert in_flight == pytest.approx(4, rel=0.25)
    notes = recorded.parsed(Load(concurrency=4), (50, 75, 99)).notes
    assert "the average latency is the sum of perf_analyzer's parts" in notes[0]


@pytest.mark.parametrize("case", ["concurrency", "concurrency_http", "request_rate"])
def test_the_average_from_its_parts_is_the_printed_one(version: str, case: str) -> None:
    recorded = Recorded(version, case)
    load = {
        "concurrency": Load(concurrency=4),
        "concurrency_http": Load(concurrency=2, batch_size=4),
        "request_rate": Load(request_rate=52.5),
    }[case]
    printed = recorded.parsed(load).values["avg_latency_ms"]
    hidden = recorded.csv.replace("Avg latency", "another column")
    report = parse_report(hidden, recorded.stdout, load, USUAL)
    assert report is not None
    # Seven parts, each rounded down to a microsecond.
    assert printed - 0.007 <= report.values["avg_latency_ms"] <= printed


def test_no_average_is_made_up_where_the_parts_do_not_give_it(version: str) -> None:
    recorded = Recorded(version, "percentile")
    header, row = recorded.csv.splitlines()
    cells = row.split(",")
    cells[header.split(",").index("Network+Server Send/Recv")] = "0"
    csv = f"{header}\n{','.join(cells)}\n"
    report = parse_report(csv, recorded.stdout, Load(concurrency=4), (75,))
    assert report is not None
    assert "avg_latency_ms" not in report.values
    assert "prints no average latency beside a percentile" in report.missing["avg_latency_ms"]


def test_a_server_without_statistics_and_a_percentile_that_is_not_there() -> None:
    csv = "Concurrency,Inferences/Second,Client Send,Client Recv,p50 latency,Avg latency\n"
    report = parse_report(f"{csv}1,10,1,1,1500,2000\n", "", Load(concurrency=1), (50, 75))
    assert report is not None
    assert report.values == {"throughput": 10, "avg_latency_ms": 2.0, "p50_latency_ms": 1.5}
    assert report.missing["p75_latency_ms"] == "perf_analyzer did not report the 75th percentile"
    assert report.missing["queue_ms"] == "perf_analyzer got no statistics from the server"
    assert report.requests is None


def test_rows_are_found_by_level_not_by_position() -> None:
    csv = "Concurrency,Inferences/Second\n8,10\n1,20\n4,30\n"
    for concurrency, throughput in ((1, 20), (4, 30), (8, 10)):
        report = parse_report(csv, "", Load(concurrency=concurrency), ())
        assert report is not None
        assert report.values["throughput"] == throughput
    assert parse_report(csv, "", Load(request_rate=8), ()) is None
    rates = "Request Rate,Inferences/Second\n12345.7,10\n"
    assert parse_report(rates, "", Load(request_rate=12345.6789), ()) is not None


def test_an_unstable_level_is_left_out_of_the_csv_with_exit_code_0(version: str) -> None:
    recorded = Recorded(version, "unstable")
    assert recorded.exit_code == 0
    assert parse_report(recorded.csv, recorded.stdout, Load(concurrency=1), USUAL) is not None
    assert parse_report(recorded.csv, recorded.stdout, Load(concurrency=8), USUAL) is None
    assert window_too_short(recorded.words)


def test_a_window_without_requests(version: str) -> None:
    recorded = Recorded(version, "window_too_short")
    assert recorded.exit_code == 3
    assert window_too_short(recorded.words)
    assert not window_too_short(Recorded(version, "unknown_model").words)


def test_remarks(version: str) -> None:
    (late,) = Recorded(version, "rate_not_met").parsed(Load(request_rate=300)).notes
    assert "could not keep up with the request rate" in late
    assert "% of the requests were sent late" in late
    (decoupled,) = Recorded(version, "decoupled").parsed(Load(concurrency=2)).notes
    assert decoupled == "decoupled model: latencies are those of the first response"


def test_the_clients_own_limit_is_remarked() -> None:
    warning = "[WARNING] Perf Analyzer is not able to keep up with the desired load. The results"
    csv = "Concurrency,Inferences/Second\n1,10\n"
    report = parse_report(csv, warning, Load(concurrency=1), ())
    assert report is not None
    assert "these figures are the client's" in report.notes[0]


@pytest.mark.parametrize(
    ("case", "words", "advice"),
    [
        ("unknown_model", "Request for unknown model: 'nope'", "has not loaded this model"),
        ("dynamic_shape", "input INPUT0 contains dynamic shape", "shapes={'INPUT0': (…)}"),
        ("wrong_shape", "Expected [-1,-1], got [1,4,2]", "shapes= or input_data= does not fit"),
        ("batch_too_large", "batch-size must be <= 8", "above the model's max_batch_size of 8"),
        ("no_batching", "does not support batching", "use batch_size=1"),
        ("not_streaming", "Decoupled models must be run", "use streaming=True"),
        ("refused_grpc", "Connection refused", "no server answers at 127.0.0.1:1"),
        ("refused_http", "Couldn't connect to server", "no server answers at 127.0.0.1:1"),
        ("bad_json", "unable to find float data in json", "'data.json' with a decimal point"),
        ("no_input_file", "Failed to parse --input-data", "check input_data='data.json'"),
        ("bad_option", "--nonsense", "check perf_analyzer_args=('--nonsense',)"),
        ("cuda_without_gpu", "unable to allocate memory", "shared_memory='cuda' needs a GPU"),
        ("model_fails", "RuntimeError: boom in model", "the model failed on a request"),
    ],
)
def test_known_causes_are_translated(version: str, case: str, words: str, advice: str) -> None:
    recorded = Recorded(version, case)
    assert recorded.exit_code == 99
    assert words in recorded.words
    assert len(recorded.words.splitlines()) <= 8, "the help must not drown the words"
    given = hint(
        recorded.words, url="127.0.0.1:1", input_data="data.json", extra_args=("--nonsense",)
    )
    assert given is not None
    assert advice in given


def test_an_unknown_cause_gets_no_hint() -> None:
    assert hint("    what is this", url="", input_data="None", extra_args=()) is None
    assert last_words("", "\n") == "    (it said nothing)"
    assert last_words("a\nb\n", "") == "    a\n    b"
