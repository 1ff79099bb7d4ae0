import os

import pytest

from pytest_triton_perf.reports import processes
from pytest_triton_perf.reports.processes import spread


def where(job):
    print("what is said here is no result")
    return job, os.getpid()


def fail_elsewhere(parent):
    if os.getpid() != parent:
        raise ValueError("no fonts\nat all")


@pytest.fixture
def two_cores(monkeypatch):
    monkeypatch.setattr(processes.os, "sched_getaffinity", lambda pid: {0, 1})


@pytest.mark.usefixtures("two_cores")
def test_many_jobs_are_done_by_two_processes_in_order():
    jobs = list(range(2 * processes._WORTH))
    results = spread(where, jobs)
    assert [job for job, _ in results] == jobs
    assert len({pid for _, pid in results}) == 2


@pytest.mark.parametrize("count", [0, 1, 2 * processes._WORTH - 1])
def test_few_jobs_start_no_process(count):
    assert spread(where, list(range(count))) == [(job, os.getpid()) for job in range(count)]


@pytest.mark.usefixtures("two_cores")
def test_a_helper_that_fails_is_told_with_its_last_words():
    with pytest.raises(RuntimeError, match=r"^a helper process: at all$"):
        spread(fail_elsewhere, [os.getpid()] * 2 * processes._WORTH)
