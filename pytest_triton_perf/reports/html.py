"""``index.html``: the whole run on one page that needs nothing but itself.

The verdicts and all tables are set here and read without scripts; the plots are drawn, and the
tables sorted and filtered, by the scripts in ``templates/index``.
"""

import base64
import hashlib
from importlib.resources import files
from pathlib import Path
from typing import Any

from pytest_triton_perf.domain.results import Run
from pytest_triton_perf.reports import gate
from pytest_triton_perf.reports.content import (
    by_badness,
    environment_rows,
    facts,
    gpu_memory_sentence,
    levels_of,
    summary_sentence,
    tally,
)
from pytest_triton_perf.reports.page import measurement_table, page_data
from pytest_triton_perf.reports.remarks import legend, remarks
from pytest_triton_perf.reports.tables import best_table, image_table, verdict_table
from pytest_triton_perf.reports.templating import render

_MARKS = {
    **{"failed": "bad", "not measured": "unsure", "inconclusive": "unsure", "passed": "good"},
    **{"regressed": "bad", "not comparable": "bad", "gone": "bad"},
    **{"unchanged": "good", "improved": "good", "suspect": "unsure"},
}
"""First cell of a row of verdicts or of the gate -> its class in the style sheet."""
_FEW = 12
"""Of so many verdicts, those that passed stand open too."""
_SCRIPTS = tuple(
    f"{name}.js"
    for name in ("elements", "chart", "against", "breakdown", "changes", "tables", "page")
)


def write_html(run: Run, path: Path) -> None:
    """Write the page."""
    script = "\n".join(map(_part, _SCRIPTS))
    verdicts = by_badness(run)
    folded = [v for v in verdicts if v.status == "passed"] if len(verdicts) > _FEW else []
    text = render(
        "index.html.j2",
        css=_part("index.css"),
        script=script,
        # Names come from anywhere: the browser runs this script, and no other.
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        data=page_data(run),
        tally=tally(run),
        verdicts=verdict_table(run, [v for v in verdicts if v not in folded]),
        passed=verdict_table(run, folded),
        marks=_MARKS,
        legend=legend(run),
        comparisons=gate.sections(run),
        notes=run.notes,
        panels=run.panels,
        models=[_model(run, model) for model in run.models],
        measurements=measurement_table(run),
        environment=[*environment_rows(run), ("duration", f"{run.wall_s:.1f} s")],
    )
    path.write_text(text, encoding="utf-8")


def _part(name: str) -> str:
    folder = files("pytest_triton_perf.reports") / "templates" / "index"
    return (folder / name).read_text(encoding="utf-8")


def _model(run: Run, model: str) -> dict[str, Any]:
    return {
        "name": model,
        "sentence": summary_sentence(run, model),
        "gpu_memory": gpu_memory_sentence(run, model),
        "facts": facts(run, model),
        "best": best_table(run, model),
        "images": image_table(run, model),
        "notes": remarks(run, levels_of(run, model)),
    }
