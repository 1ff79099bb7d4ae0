"""``index.html``: the whole run on one page that needs nothing but itself."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pytest_triton_perf.domain.results import Run
from pytest_triton_perf.reports import gate
from pytest_triton_perf.reports.content import (
    by_badness,
    configurations_of,
    environment_rows,
    facts,
    gpu_memory_sentence,
    levels_of,
    summary_sentence,
    tally,
)
from pytest_triton_perf.reports.names import safe_name
from pytest_triton_perf.reports.plots import memory_kind
from pytest_triton_perf.reports.remarks import legend, remarks
from pytest_triton_perf.reports.tables import best_table, image_table, level_table, verdict_table
from pytest_triton_perf.reports.templating import render

_MARKS = {
    **{"failed": "bad", "not measured": "unsure", "inconclusive": "unsure", "passed": "good"},
    **{"regressed": "bad", "not comparable": "bad", "gone": "bad"},
    **{"unchanged": "good", "improved": "good"},
}
"""First cell of a row of verdicts or of the gate -> its class in the style sheet."""


def write_html(run: Run, pictures: Mapping[str, bytes], path: Path) -> None:
    """Write the page, with the pictures inside it."""
    text = render(
        "index.html.j2",
        tally=tally(run),
        verdicts=verdict_table(run, by_badness(run)),
        marks=_MARKS,
        legend=legend(run),
        gate=_gate(run) if run.comparisons else None,
        models=[_model(run, model, pictures) for model in run.models],
        environment=[*environment_rows(run), ("duration", f"{run.wall_s:.1f} s")],
    )
    path.write_text(text, encoding="utf-8")


def _gate(run: Run) -> dict[str, Any]:
    return {"headline": gate.headline(run), "table": gate.table(run), "told": gate.told(run)}


def _model(run: Run, model: str, pictures: Mapping[str, bytes]) -> dict[str, Any]:
    folder, kind = f"simple/{safe_name(model)}", memory_kind(run, model)
    levels = levels_of(run, model)
    return {
        "name": model,
        "sentence": summary_sentence(run, model),
        "gpu_memory": gpu_memory_sentence(run, model),
        "facts": facts(run, model),
        "best": best_table(run, model),
        "images": image_table(run, model),
        "levels": level_table(run, levels),
        "notes": remarks(run, levels),
        "plots": [
            ("Throughput against latency", pictures.get(f"{folder}/throughput_v_latency.png")),
            ("Memory against latency", pictures.get(f"{folder}/{kind}_mem_v_latency.png")),
        ],
        "breakdowns": [
            (name, pictures.get(f"detailed/{safe_name(name)}/latency_breakdown.png"))
            for name in configurations_of(run, model)
        ],
        "timelines": [
            (name, pictures.get(f"detailed/{safe_name(name)}/memory_timeline.png"))
            for name in configurations_of(run, model)
        ],
    }
