"""``index.html``: the whole run on one page that needs nothing but itself."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pytest_triton_perf.domain.results import Run
from pytest_triton_perf.reports.content import (
    by_badness,
    environment_rows,
    facts,
    gpu_memory_sentence,
    levels_of,
    missing_notes,
    summary_sentence,
    tally,
    variants_of,
)
from pytest_triton_perf.reports.names import safe_name
from pytest_triton_perf.reports.plots import memory_kind
from pytest_triton_perf.reports.tables import best_table, level_table, verdict_table
from pytest_triton_perf.reports.templating import render

_MARKS = {"failed": "bad", "not measured": "unsure", "inconclusive": "unsure", "passed": "good"}
"""First cell of a verdict's row -> its class in the style sheet."""


def write_html(run: Run, pictures: Mapping[str, bytes], path: Path) -> None:
    """Write the page, with the pictures inside it."""
    text = render(
        "index.html.j2",
        tally=tally(run),
        verdicts=verdict_table(by_badness(run)),
        marks=_MARKS,
        models=[_model(run, model, pictures) for model in run.models],
        environment=[*environment_rows(run), ("duration", f"{run.wall_s:.1f} s")],
    )
    path.write_text(text, encoding="utf-8")


def _model(run: Run, model: str, pictures: Mapping[str, bytes]) -> dict[str, Any]:
    folder, kind = f"simple/{safe_name(model)}", memory_kind(run, model)
    levels = levels_of(run, model)
    return {
        "name": model,
        "sentence": summary_sentence(run, model),
        "gpu_memory": gpu_memory_sentence(run, model),
        "facts": facts(run, model),
        "best": best_table(run, model),
        "levels": level_table(run, levels),
        "notes": missing_notes(levels),
        "plots": [
            ("Throughput against latency", pictures.get(f"{folder}/throughput_v_latency.png")),
            ("Memory against latency", pictures.get(f"{folder}/{kind}_mem_v_latency.png")),
        ],
        "breakdowns": [
            (v.name, pictures.get(f"detailed/{safe_name(v.name)}/latency_breakdown.png"))
            for v in variants_of(run, model)
        ],
        "timelines": [
            (v.name, pictures.get(f"detailed/{safe_name(v.name)}/memory_timeline.png"))
            for v in variants_of(run, model)
        ],
    }
