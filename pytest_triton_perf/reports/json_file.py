"""``results.json``: the record of a run, from which everything else can be made again."""

import json
from pathlib import Path

from pytest_triton_perf.domain.results import Run, to_json


def write_json(run: Run, path: Path) -> None:
    """Write the run; a crash or a full disk on the way leaves the file that was there."""
    text = json.dumps(to_json(run), indent=1, ensure_ascii=False, default=str)
    draft = path.with_name(f"{path.name}.part")
    try:
        draft.write_text(f"{text}\n", encoding="utf-8", errors="backslashreplace")
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
