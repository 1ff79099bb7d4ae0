"""Two stored runs side by side, as ``triton-perf compare`` prints them."""

from collections.abc import Sequence

from pytest_triton_perf.domain.baselines import Figure, Session, not_run, other_circumstances
from pytest_triton_perf.domain.comparisons import Comparison, tally
from pytest_triton_perf.domain.levels import Estimate
from pytest_triton_perf.domain.metrics import estimate_text, find_metric
from pytest_triton_perf.domain.names import on_one_line
from pytest_triton_perf.domain.tables import columns
from pytest_triton_perf.reports import gate

_CAUTION = (
    "Sessions differ by more than their intervals know: another time, another neighbour. Only the "
    "paired gate, --triton-perf-against, can tell a change from the machine."
)


def as_text(history: Sequence[Session], session: Session, comparisons: Sequence[Comparison]) -> str:
    """The comparisons of a session with those before it, what fails first.

    ``comparisons`` are those of the session's figures, in their order. A is the last figure
    before it.
    """
    pairs = list(zip(session.figures, comparisons, strict=True))
    pairs.sort(key=lambda pair: (not pair[1].fails, pair[1].status != "suspect"))
    header = gate.HEADERS["baseline"]
    rows = [["", header[1], "A", "B", *header[2:]]]
    for figure, comparison in pairs:
        status, metric, *rest = gate.row(comparison)
        cells = [status, metric, _last(history, figure), _text(figure), *rest]
        rows.append(list(map(on_one_line, cells)))
    found = [comparison for _, comparison in pairs]
    told = [*gate.reasons(found), *(f"{test}: only in A" for test in not_run(history, session))]
    if differing := other_circumstances(history, session):
        told.append(f"Since the last of A, {differing}.")
    told = list(map(on_one_line, told))
    return "\n".join([tally(found), columns(rows, right=()), *told, _CAUTION])


def _last(history: Sequence[Session], figure: Figure) -> str:
    same = [f for session in history for f in session.figures if f.key == figure.key]
    return _text(same[-1]) if same else "-"


def _text(figure: Figure) -> str:
    if figure.value is None:
        return "-"
    return estimate_text(find_metric(figure.metric), Estimate(value=figure.value, ci=figure.ci))
