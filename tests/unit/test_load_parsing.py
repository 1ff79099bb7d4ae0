"""Parsing of recorded output of real perf_analyzers, in tests/data/perf_analyzer/<version>."""

from pathlib import Path

import pytest

from pytest_triton_perf.domain.levels import Load
from pytest_triton_perf.domain.metrics import SERVER_TIMES
from pytest_triton_perf.load.parsing import (
    ParsedReport,
    hint,
    last_words,
    parse_report,
    window_too_short,
)

DATA = Path(__file__).parent.parent / "data" / "perf_analyzer"
VERSIONS = sorted(folder.name for folder in DATA.iterdir())


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

    def parsed(self, load: Load) -> ParsedReport:
        report = parse_report(self.csv, self.stdout, load)
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
    )
    assert report == ParsedReport(
        throughput=4055.87,
        requests=3661,
        avg_latency_ms=0.490,
        percentiles_ms={50: 0.471, 90: 0.620, 95: 0.656, 99: 0.765},
        server_ms={
            "queue_ms": 0.106,
            "compute_input_ms": 0.013,
            "compute_infer_ms": 0.111,
            "compute_output_ms": 0.076,
        },
        missing={},
        keeps_up=True,
        decoupled=False,
        passes=(),
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
    assert report.keeps_up
    assert report.requests > 20
    assert list(report.server_ms) == list(SERVER_TIMES)
    percentiles = list(report.percentiles_ms.values())
    assert percentiles == sorted(percentiles)
    # Little's law ties throughput, latency and concurrency: the units are right.
    if load.concurrency is not None:
        in_flight = report.throughput / load.batch_size * report.avg_latency_ms / 1000
        assert in_flight == pytest.approx(load.concurrency, rel=0.25)


PLAIN = "p50 latency,p90 latency,p95 latency,p99 latency,Avg latency"
SAID = "  Client: \n    Request count: 10\n"


def test_what_each_window_gave() -> None:
    said = (
        "  Pass [1] throughput: 404.589 infer/sec. Avg latency: 4857 usec (std 767 usec). \n"
        "  Pass [2] cb::Error: No valid requests recorded within time interval. Please use a "
        "larger time window.\n"
        "  Pass [3] throughput: 26.8 infer/sec. Avg latency: 60724 usec (std 232005 usec). \n"
    )
    csv = f"Concurrency,Inferences/Second,{PLAIN}\n2,9,1,1,1,1,1\n"
    report = parse_report(csv, said + SAID, Load(concurrency=2))
    assert report is not None
    assert report.passes == ((404.589, 4.857), (0.0, 0.0), (26.8, 60.724))


def test_a_server_without_statistics() -> None:
    csv = f"Concurrency,Inferences/Second,Client Send,Client Recv,{PLAIN}\n1,10,1,1,1,2,3,4,2000\n"
    report = parse_report(csv, SAID, Load(concurrency=1))
    assert report is not None
    assert report.avg_latency_ms == 2.0
    assert report.server_ms == {}
    why = "perf_analyzer got no statistics from the server"
    assert report.missing == dict.fromkeys(SERVER_TIMES, why)


@pytest.mark.parametrize("said", ["", "  Client: \n    Request count: 0\n"])
def test_figures_of_no_known_request_are_no_report(said: str) -> None:
    csv = f"Concurrency,Inferences/Second,{PLAIN}\n1,10,1,2,3,4,2\n"
    assert parse_report(csv, said, Load(concurrency=1)) is None


def test_rows_are_found_by_level_not_by_position() -> None:
    rest = "1,2,3,4,2"
    csv = f"Concurrency,Inferences/Second,{PLAIN}\n8,10,{rest}\n1,20,{rest}\n4,30,{rest}\n"
    for concurrency, throughput in ((1, 20), (4, 30), (8, 10)):
        report = parse_report(csv, SAID, Load(concurrency=concurrency))
        assert report is not None
        assert report.throughput == throughput
    assert parse_report(csv, SAID, Load(request_rate=8)) is None
    rates = f"Request Rate,Inferences/Second,{PLAIN}\n12345.7,10,{rest}\n"
    assert parse_report(rates, SAID, Load(request_rate=12345.6789)) is not None


def test_an_unstable_level_is_left_out_of_the_csv_with_exit_code_0(version: str) -> None:
    recorded = Recorded(version, "unstable")
    assert recorded.exit_code == 0
    assert parse_report(recorded.csv, recorded.stdout, Load(concurrency=1)) is not None
    assert parse_report(recorded.csv, recorded.stdout, Load(concurrency=8)) is None
    assert window_too_short(recorded.words)


def test_a_window_without_requests(version: str) -> None:
    recorded = Recorded(version, "window_too_short")
    assert recorded.exit_code == 3
    assert window_too_short(recorded.words)
    assert not window_too_short(Recorded(version, "unknown_model").words)


def test_a_rate_that_the_client_does_not_reach(version: str) -> None:
    report = Recorded(version, "rate_not_met").parsed(Load(request_rate=300))
    (late,) = report.notes
    assert "could not keep up with the request rate" in late
    assert "% of the requests were sent late" in late
    assert report.keeps_up, "a saturated server is no excuse"


def test_a_decoupled_model_is_told_from_others(version: str) -> None:
    assert Recorded(version, "decoupled").parsed(Load(concurrency=2)).decoupled
    assert not Recorded(version, "concurrency").parsed(Load(concurrency=4)).decoupled


def test_the_clients_own_limit() -> None:
    warning = "[WARNING] Perf Analyzer is not able to keep up with the desired load. The results"
    csv = f"Concurrency,Inferences/Second,{PLAIN}\n1,10,1,2,3,4,2\n"
    report = parse_report(csv, SAID + warning, Load(concurrency=1))
    assert report is not None
    assert "these figures are the client's" in report.notes[0]
    assert not report.keeps_up


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
