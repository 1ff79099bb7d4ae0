"""Pictures of a run: which there are, and how they become files."""

from collections.abc import Callable, Collection, Sequence
from functools import partial
from typing import TYPE_CHECKING, Literal

from pytest_triton_perf.domain.metrics import METRICS
from pytest_triton_perf.domain.results import Run
from pytest_triton_perf.reports.against_latency import draw_alone, draw_beside
from pytest_triton_perf.reports.breakdown import draw_breakdown
from pytest_triton_perf.reports.canvas import style
from pytest_triton_perf.reports.content import budgets_of, configurations_of
from pytest_triton_perf.reports.fonts import Font, fonts_for
from pytest_triton_perf.reports.lines import memory_kind
from pytest_triton_perf.reports.names import safe_name
from pytest_triton_perf.reports.processes import spread
from pytest_triton_perf.reports.raster import png
from pytest_triton_perf.reports.timeline import draw_memory
from pytest_triton_perf.reports.vector import svg

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Format = Literal["png", "svg"]
_TAKEN_BY: dict[Format, str] = {"png": "plots", "svg": "pdf"}
_Job = tuple[Callable[[], "Figure"], Collection[Format]]


def draw(run: Run, kinds: Collection[str] = ("plots", "pdf")) -> dict[str, bytes]:
    """The pictures that these kinds of reports take, keyed by their path under ``plots/``.

    ``plots`` are PNG files: two per model, two per variant. ``pdf`` takes SVG: of a model both in
    one picture, of a variant the same two.
    """
    formats: list[Format] = [one for one, kind in _TAKEN_BY.items() if kind in kinds]
    jobs: dict[str, _Job] = {}
    for model in run.models:
        kind, folder = memory_kind(run, model), f"simple/{safe_name(model)}"
        throughput, memory = METRICS["throughput"], METRICS[f"{kind}_memory_mb"]
        for file, metric in (("throughput", throughput), (f"{kind}_mem", memory)):
            alone = partial(draw_alone, run, model, metric)
            jobs[f"{folder}/{file}_v_latency"] = (alone, {"png"})
        jobs[f"{folder}/v_latency"] = (
            partial(draw_beside, run, model, (throughput, memory)),
            {"svg"},
        )
        for name, levels in configurations_of(run, model).items():
            sweeps, folder = run.configurations[name], f"detailed/{safe_name(name)}"
            breakdown = partial(draw_breakdown, name, levels)
            timeline = partial(draw_memory, name, sweeps, memory, budgets_of(run, sweeps))
            jobs[f"{folder}/latency_breakdown"] = (breakdown, {"png", "svg"})
            jobs[f"{folder}/memory_timeline"] = (timeline, {"png", "svg"})
    asked = {
        path: (make, wanted)
        for path, (make, possible) in jobs.items()
        if (wanted := [one for one in formats if one in possible])
    }
    fonts = fonts_for(" ".join([*run.models, *run.configurations, *(s.test for s in run.sweeps)]))
    drawn = spread(partial(_drawn, fonts=fonts), list(asked.values()))
    return {
        f"{path}.{suffix}": picture
        for path, pictures in zip(asked, drawn, strict=True)
        for suffix, picture in pictures.items()
    }


def _drawn(job: _Job, fonts: Sequence[Font]) -> dict[Format, bytes]:
    """One figure in each format: to make it takes as long as to write it."""
    make, formats = job
    with style(fonts):
        figure = make()
        return {one: png(figure) if one == "png" else svg(figure) for one in formats}
