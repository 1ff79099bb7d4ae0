from pathlib import Path

import pytest

from pytest_triton_perf.domain.levels import Load
from pytest_triton_perf.errors import UsageError
from pytest_triton_perf.load.base import Traffic
from pytest_triton_perf.load.command import (
    build_args,
    check_extra_args,
    tls_args,
)


def args(traffic: Traffic, load: Load | None = None, *, record: bool = False) -> list[str]:
    return build_args(
        traffic,
        load or Load(concurrency=4),
        url="127.0.0.1:1",
        window_ms=250.4,
        most_windows=20,
        record=record,
    )


def value_of(option: str, arguments: list[str]) -> str:
    return arguments[arguments.index(option) + 1]


def test_the_plain_case() -> None:
    expected = "-m add_sub -u 127.0.0.1:1 -i grpc -b 1 --concurrency-range 4"
    expected += " --measurement-interval 250 -r 20 -s 900 -f report.csv --verbose-csv -v"
    assert args(Traffic(model="add_sub")) == expected.split()


def test_requests_are_recorded_beside_the_report() -> None:
    made = args(Traffic(model="m"), record=True)
    assert value_of("--profile-export-file", made) == "export.json"
    assert "--profile-export-file" not in args(Traffic(model="m"))


def test_request_rate_batch_and_protocol() -> None:
    made = args(Traffic(model="m", protocol="http"), Load(request_rate=52.5, batch_size=8))
    assert value_of("--request-rate-range", made) == "52.5"
    assert value_of("-b", made) == "8"
    assert value_of("-i", made) == "http"
    assert "--concurrency-range" not in made


@pytest.mark.parametrize("kind", ["zero", "random"])
def test_input_data_by_kind(kind: str) -> None:
    assert value_of("--input-data", args(Traffic(model="m", input_data=kind))) == kind


def test_input_data_from_a_file_is_absolute_because_perf_analyzer_runs_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    made = args(Traffic(model="m", input_data="my data.json"))
    assert value_of("--input-data", made) == str(tmp_path / "my data.json")


def test_shapes() -> None:
    made = args(Traffic(model="m", shapes={"A": (3, 224, 224), "B": (1,)}))
    assert made[-4:] == ["--shape", "A:3,224,224", "--shape", "B:1"]


def test_shared_memory_streaming_and_extra_arguments_stay_whole() -> None:
    made = args(
        Traffic(
            model="m", shared_memory="system", streaming=True, extra_args=("-H", "a: b=c d", "-v")
        )
    )
    assert value_of("--shared-memory", made) == "system"
    assert made[-5:] == ["--async", "--streaming", "-H", "a: b=c d", "-v"]


def test_streaming_needs_grpc() -> None:
    with pytest.raises(UsageError, match=r"streaming=True needs protocol='grpc'"):
        args(Traffic(model="m", protocol="http", streaming=True))


def test_percentiles_are_computed_from_requests_not_asked_for() -> None:
    assert "--percentile" not in args(Traffic(model="m", percentiles=(50, 75, 80)))


@pytest.mark.parametrize(
    ("arg", "instead"),
    [
        ("-f", "use --triton-perf-output"),
        ("-b8", "use batch_size="),
        ("-u", "use --triton-url"),
        ("-m", "use model="),
        ("--concurrency-range=1:8", "use concurrency="),
        ("--concurrency", "use concurrency="),
        ("--request-rate-range", "use request_rate="),
        ("--percentile=75", "use percentiles="),
        ("--measurement-interval", "--triton-perf-max-seconds"),
        ("--request-count=100", "--triton-perf-max-seconds"),
        ("--profile-export-file=x.json", "the plugin records requests itself"),
        ("--shape", "use shapes="),
    ],
)
def test_extra_arguments_that_fight_ours(arg: str, instead: str) -> None:
    with pytest.raises(UsageError) as caught:
        check_extra_args(["--async", arg])
    assert str(caught.value).startswith(f"perf_analyzer_args: {arg!r} is the plugin's own; ")
    assert instead in str(caught.value)


def test_all_extra_arguments_that_fight_ours_are_named_at_once() -> None:
    with pytest.raises(UsageError, match=r"(?s)'-f'.*\n.*'-m'"):
        check_extra_args(["-f", "x.csv", "-m", "other"])


def test_other_extra_arguments_are_welcome() -> None:
    own = ["-H", "Authorization: x", "--async", "--max-threads=32", "-x", "1", "--string-length=4"]
    check_extra_args([*own, "--output-shared-memory-size", "4096", "-v", "--", "-"])


def test_an_encrypted_connection_names_its_files_by_protocol() -> None:
    ca, certificate, key = Path("ca.pem"), Path("cert.pem"), Path("key.pem")
    grpc = "--ssl-grpc-use-ssl true --ssl-grpc-root-certifications-file ca.pem"
    grpc += " --ssl-grpc-certificate-chain-file cert.pem --ssl-grpc-private-key-file key.pem"
    assert tls_args("grpc", ca=ca, certificate=certificate, key=key) == grpc.split()
    https = "--ssl-https-ca-certificates-file ca.pem --ssl-https-client-certificate-file cert.pem"
    https += " --ssl-https-private-key-file key.pem"
    assert tls_args("http", ca=ca, certificate=certificate, key=key) == https.split()
    assert tls_args("http", ca=None, certificate=None, key=None) == []
