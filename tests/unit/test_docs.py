"""What the documentation says of the repository holds."""

import re
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]


def test_every_test_that_the_fault_table_names_exists() -> None:
    faults = (REPOSITORY / "docs" / "troubleshooting.md").read_text("utf-8")
    table = faults.partition("## Faults")[2].partition("\n## ")[0]
    cases = [row for row in table.splitlines() if row.startswith("| ")][2:]
    sources = (file.read_text("utf-8") for file in (REPOSITORY / "tests" / "e2e").glob("*.py"))
    there = set(re.findall(r"^def (test_\w+)", "\n".join(sources), re.MULTILINE))
    assert len(cases) > 20
    for case in cases:
        named = re.findall(r"`(test_\w+)`", case)
        assert named, f"no test shows this: {case}"
        assert set(named) <= there, case
