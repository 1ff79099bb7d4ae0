"""Who gets which CPUs, on topologies as data, and that perf_analyzer's process gets them."""

import os
from pathlib import Path

import pytest

from pytest_triton_perf.affinity import split_our_cpus
from pytest_triton_perf.domain.cpus import CpuSplit, cpu_list, parse_cpu_list, split_cpus
from pytest_triton_perf.load.runner import LocalRunner, PerfAnalyzerBinary


def plain(count):
    return [{cpu} for cpu in range(count)]


def threads(cores, each=2):
    """Cores whose hardware threads are numbered as Linux does: 0 and 4, 1 and 5, …."""
    return [{core + cores * thread for thread in range(each)} for core in range(cores)]


@pytest.mark.parametrize(
    ("cores", "load"),
    [
        pytest.param(plain(4), {3}, id="a quarter"),
        pytest.param(plain(8), {6, 7}, id="the last ones"),
        pytest.param(plain(64), {60, 61, 62, 63}, id="four at most"),
        pytest.param(threads(4), {3, 7}, id="a whole core"),
        pytest.param(threads(16), {14, 15, 30, 31}, id="two whole cores"),
        pytest.param(threads(2), {3}, id="of two cores none is given away"),
        pytest.param(threads(4, each=8), {3, 7, 11, 15, 19, 23, 27, 31}, id="never half a core"),
    ],
)
def test_the_load_generator_gets_cpus_of_its_own(cores, load):
    allowed = set().union(*cores)
    split = split_cpus(allowed, cores)
    assert set(split.load) == load
    assert set(split.server) == allowed - load
    assert split.because == ""


def test_what_the_user_pinned_pytest_to_is_kept():
    split = split_cpus({0, 1, 2, 3, 8}, threads(8))
    assert split == CpuSplit(server=(0, 1, 2, 8), load=(3,)), "thread 8 is the other one of core 0"


def test_unknown_cores_are_taken_for_single_cpus():
    assert split_cpus({0, 1, 2, 3}, []).load == (3,)


def test_few_cpus_are_shared_and_the_results_say_so():
    split = split_cpus({0, 1, 2}, plain(3))
    assert (split.server, split.load) == ((), ())
    assert split.describe() == {"none": "they share 0-2: fewer than 4 CPUs"}


def test_the_results_say_which_cpus_each_had():
    assert split_cpus(range(8), plain(8)).describe() == {"server": "0-5", "load_generator": "6-7"}


@pytest.mark.parametrize("text", ["0", "0-1", "0,2", "0-3,8-11,15"])
def test_lists_of_cpus_are_written_as_linux_writes_them(text):
    assert cpu_list(parse_cpu_list(f"{text}\n")) == text


def test_our_cpus_are_those_that_we_may_use():
    split, ours = split_our_cpus(), os.sched_getaffinity(0)
    if len(ours) < 4:
        assert split.because == f"they share {cpu_list(ours)}: fewer than 4 CPUs"
    else:
        assert {*split.server, *split.load} == ours


@pytest.fixture
def says_its_cpus(tmp_path):
    path = tmp_path / "perf_analyzer"
    path.write_text("#!/bin/sh\ngrep Cpus_allowed_list /proc/self/status\n")
    path.chmod(0o755)
    return PerfAnalyzerBinary(path=Path(path), version="0", origin="test")


def test_perf_analyzer_runs_on_its_cpus(says_its_cpus):
    ours = os.sched_getaffinity(0)
    run = LocalRunner(says_its_cpus, cpus=[max(ours)]).run([], url="127.0.0.1:1", seconds=20)
    assert run.stdout.split() == ["Cpus_allowed_list:", str(max(ours))]
    assert os.sched_getaffinity(0) == ours


def test_perf_analyzer_shares_our_cpus_where_it_has_none_of_its_own(says_its_cpus):
    run = LocalRunner(says_its_cpus).run([], url="127.0.0.1:1", seconds=20)
    assert run.stdout.split() == ["Cpus_allowed_list:", cpu_list(os.sched_getaffinity(0))]
