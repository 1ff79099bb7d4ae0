"""The short form of ``tox -e gate-trials``."""

import json
import subprocess
import sys
from pathlib import Path

from validation.gate_trials import next_seed, read

MODULE = [sys.executable, "-m", "validation.gate_trials"]


def run(*args: str) -> list[str]:
    """The rows that are printed below the head of the table."""
    done = subprocess.run(
        [*MODULE, *args],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )
    return done.stdout.splitlines()[2:]


def test_the_short_form_decides_right_and_its_rows_are_of_all_that_was_recorded(tmp_path):
    record = tmp_path / "trials.jsonl"
    both = ["equal", "slower10", "--record", str(record)]
    rows = run(*both, "--trials", "1")
    equal, slower = (json.loads(line) for line in record.read_text().splitlines())
    assert (equal["scenario"], equal["seed"]) == ("equal", 0)
    # A false alarm is a matter of 1 in 100 such tests; 10 % more is twice what must be found.
    assert equal["status"] in ("unchanged", "inconclusive", "improved")
    assert (slower["scenario"], slower["status"]) == ("slower10", "regressed")
    assert slower["change_pct"] < equal["change_pct"]
    assert [row.split(" | ")[:2] for row in rows] == [["| equal", "1"], ["| slower10", "1"]]
    # As if another session had gone on from there, and its second trial had been lost.
    record.write_text(record.read_text() + json.dumps({**equal, "seed": 2}) + "\n")
    again = run(*both, "--trials", "0")
    assert [row.split(" | ")[:2] for row in again] == [["| equal", "2"], ["| slower10", "1"]]
    assert next_seed([trial for trial in read(record) if trial.scenario == "equal"]) == 3
