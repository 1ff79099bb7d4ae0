"""Exports that are not what perf_analyzer recorded: no figure comes of them.

The perf_analyzer is the real one, in a wrapper that damages what it wrote.
"""

import sys

import pytest

from pytest_triton_perf.load.binaries import find_perf_analyzer

WRAPPER = """#!{python} -I
import os, re, subprocess, sys

def shifted(export, by_ns):
    '''As after a step of the wall clock in the middle of the requests.'''
    times = [int(t) for t in re.findall(rb'"timestamp":(\\d+)', export)]
    middle = sorted(times)[len(times) // 2]
    def shift(match):
        time = int(match[0])
        return b"%d" % (time + by_ns if middle < time else time)
    return re.sub(rb"\\b\\d{{19}}\\b", shift, export)

def damaged(export):
    {damage}

code = subprocess.run([{real!r}, *sys.argv[1:]]).returncode
if os.path.exists("export.json"):
    with open("export.json", "rb") as file:
        export = file.read()
    with open("export.json", "wb") as file:
        file.write(damaged(export))
sys.exit(code)
"""
ONE_REQUEST = (
    r"""return re.sub(rb'(,\{"timestamp":.*?"response_outputs":\[.*?\]\})+(?=\],"window)', b"", """
    "export)"
)
TEST = """
import pytest
@pytest.mark.perf_sweep(model="add_sub", concurrency=2)
@pytest.mark.perf_budget(p99_latency_ms=60_000)
def test_it(triton_sweep): pass
"""


def run(project, damage: str):
    """The outcome of a whole session, and the one level that it measured."""
    real = find_perf_analyzer(None).path
    wrapper = project.path / "perf_analyzer"
    wrapper.write_text(WRAPPER.format(python=sys.executable, real=str(real), damage=damage))
    wrapper.chmod(0o755)
    project.tests(TEST)
    result = project.run(f"--perf-analyzer={wrapper}", "--triton-perf-max-seconds=4")
    (level,) = project.results()["measurements"]
    (verdict,) = project.results()["verdicts"]
    return result, level, verdict


@pytest.mark.parametrize(
    ("damage", "why"),
    [
        ("return export[:-100]", "it is cut off: is the disk full?"),
        ("return export[:len(export) // 2]", "it is cut off: is the disk full?"),
        ("return b''", "it is empty, as perf_analyzer leaves it where a tensor has NaN "),
        ('return re.sub(rb\'"requests":.*\\],"w\', b\'"requests":[],"w\', export)', "no requests"),
        (ONE_REQUEST, "requests that perf_analyzer counted it has 1"),
    ],
    ids=["end cut off", "cut in the middle", "empty", "no request", "one request"],
)
def test_an_export_that_cannot_be_used_leaves_perf_analyzers_own_figures(project, damage, why):
    result, level, verdict = run(project, damage)
    result.assert_outcomes(passed=1, warnings=1)
    (note,) = [note for note in level["notes"] if "one by one" in note]
    assert note.startswith("requests were not recorded one by one: perf_analyzer's export cannot ")
    assert why in note
    assert level["throughput"]["value"] > 1
    assert level["latency_ms"]["p99"]["value"] > 0
    # Three windows bound no percentile; for p99 they may be too short as well.
    assert level["latency_ms"]["p50"]["ci"] == [None, None]
    assert verdict["status"] == "inconclusive"


@pytest.mark.parametrize(
    ("by_s", "why"),
    [
        (-2, "the clock was stepped back while the load ran"),
        (2, "the clock was stepped forward while the load ran"),
    ],
)
def test_a_segment_in_which_the_clock_was_set_gives_no_figure(project, by_s, why):
    result, level, verdict = run(project, f"return shifted(export, {by_s} * 10**9)")
    result.assert_outcomes(failed=1)
    assert level["throughput"] is None
    assert "p99" not in level["latency_ms"]
    assert verdict["status"] == "not_measured"
    assert why in verdict["reason"]


def test_requests_that_all_failed_are_no_pass(project):
    no_answers = "return re.sub(rb'(_timestamps\":)\\[[\\d,]*\\]', rb'\\1[]', export)"
    result, level, verdict = run(project, no_answers)
    result.assert_outcomes(failed=1)
    assert "p99" not in level["latency_ms"]
    assert verdict["status"] == "not_measured"
    assert "requests failed: p99 is beyond any latency" in verdict["reason"]
    assert level["throughput"]["value"] == 0
