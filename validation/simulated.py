"""How good the intervals and decisions are, on simulated load whose truth is known.

Prints the tables of docs/measurement.md (``tox -e validate``; some minutes of one core, or
less with ``--quick``). Seeds are fixed: the same versions print the same figures.
"""

import argparse
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.signal import lfilter
from scipy.special import ndtri

from pytest_triton_perf.domain.budgets import Budget
from pytest_triton_perf.domain.deciding import LOOKS, Decision, decide
from pytest_triton_perf.domain.estimates import estimate
from pytest_triton_perf.domain.segments import Numbers, Segment, Window

RATE = 1000
"""Inferences per second of every simulated server, on average."""

SIGMA = 0.5
"""Standard deviation of the logarithm of latency."""

Rng = np.random.Generator


def independent(rng: Rng, count: int) -> Numbers:
    """Lognormal service times with median 1, independent of each other."""
    times: Numbers = np.exp(SIGMA * rng.standard_normal(count))
    return times


def autoregressive(phi: float) -> Callable[[Rng, int], Numbers]:
    """Lognormal service times whose logarithm is AR(1)."""

    def draw(rng: Rng, count: int) -> Numbers:
        noise = rng.standard_normal(count)
        noise[1:] *= math.sqrt(1 - phi**2)
        times: Numbers = np.exp(SIGMA * lfilter([1.0], [1.0, -phi], noise))
        return times

    return draw


def bursty(rng: Rng, count: int) -> Numbers:
    """Of all requests 2 % come in bursts of 25 or so, 4 times slower or (Pareto 2.5) more."""
    cycles = count // 1250 + 20
    lengths = np.empty(2 * cycles, dtype=int)
    lengths[::2] = rng.geometric(1 / 1225, cycles)
    lengths[1::2] = rng.geometric(1 / 25, cycles)
    slow = np.resize(np.repeat(np.arange(2 * cycles) % 2 == 1, lengths), count)
    slow = np.roll(slow, rng.integers(count))
    factor: Numbers = np.where(slow, 4 + 4 * rng.pareto(2.5, count), 1.0)
    return factor * independent(rng, count)


@lru_cache
def _long_run() -> Numbers:
    return np.sort(bursty(np.random.default_rng(0), 20_000_000))


@lru_cache
def _mean(draw: Callable[[Rng, int], Numbers]) -> float:
    return float(_long_run().mean()) if draw is bursty else math.exp(SIGMA**2 / 2)


@dataclass(frozen=True, kw_only=True)
class Process:
    """A server in a closed loop: how its service times come, and how many it answers at once.

    Each segment is a stretch of its own, slower or faster as a whole by a lognormal factor
    with ``drift`` as the standard deviation of its logarithm.
    """

    name: str
    draw: Callable[[Rng, int], Numbers]
    batch: int = 1
    drift: float = 0.0

    @property
    def _scale(self) -> float:
        """Seconds of a service time of 1, so that the mean rate is ``RATE``."""
        return self.batch / RATE / _mean(self.draw)

    def segment(self, rng: Rng, seconds: float, number: int) -> Segment:
        """Load for so many seconds; requests in flight at its end are answered still."""
        scale = self._scale * math.exp(self.drift * rng.standard_normal())
        took = scale * self.draw(rng, 100 + round(3 * seconds / scale))
        answered = np.cumsum(took)
        answered = answered[: np.searchsorted(answered, seconds) + 1]
        sent = np.concatenate([[0.0], answered[:-1]])
        started = 1000.0 * number
        return Segment(
            started=started,
            ended=started + float(answered[-1]),
            in_flight=self.batch,
            sent_s=np.repeat(sent, self.batch),
            answered_s=np.repeat(answered, self.batch),
        )

    def windows(self, rng: Rng, seconds: float, number: int) -> Segment:
        """The same as three windows of equal length, as if requests were too dear to record."""
        load = self.segment(rng, seconds, number)
        edges = np.linspace(0, load.seconds, 4)[1:-1]
        parts = np.split(
            1000 * (load.answered_s - load.sent_s), load.answered_s.searchsorted(edges)
        )
        return Segment(
            started=load.started,
            ended=load.ended,
            in_flight=self.batch,
            windows=tuple(
                Window(
                    requests=part.size,
                    seconds=load.seconds / 3,
                    avg_latency_ms=float(part.mean()),
                    percentiles_ms={p: float(np.percentile(part, p)) for p in (50, 99)},
                )
                for part in parts
            ),
        )

    def truth(self, metric: str) -> float:
        """The value that the estimate of the metric should have: that of all requests of many
        segments of equal length, of which fast ones have more.
        """
        if metric == "throughput":
            return RATE * math.exp(self.drift**2 / 2)
        unit_ms = 1000 * self._scale
        if metric == "avg_latency_ms":
            return 1000 * self.batch / RATE * math.exp(-(self.drift**2) / 2)
        percentile = int(metric[1:3])
        if self.draw is bursty:
            return unit_ms * float(_long_run()[_long_run().size * percentile // 100])
        spread = math.hypot(SIGMA, self.drift)
        return unit_ms * math.exp(spread * float(ndtri(percentile / 100)) - self.drift**2)


INDEPENDENT = Process(name="independent", draw=independent)
AR5 = Process(name="AR(1) 0.5", draw=autoregressive(0.5))
AR9 = Process(name="AR(1) 0.9", draw=autoregressive(0.9))
BATCHES = Process(name="batches of 8", draw=independent, batch=8)
DRIFTING = Process(name="segments differ by 10 %", draw=independent, drift=0.1)
BURSTY = Process(name="bursty", draw=bursty)

SIZES = ((500, 1), (1000, 1), (1000, 4), (5000, 1), (5000, 2), (5000, 6), (20_000, 20))

Size = tuple[int, int]
"""Requests (about), and the segments that they are in."""

COVERED = ("p50_latency_ms", "p99_latency_ms", "avg_latency_ms", "throughput")


@dataclass(frozen=True, kw_only=True)
class Coverage:
    """How often an interval held the truth (an unbounded end does), and how often it was bounded.

    ``share_bounded`` is how often those with two bounds held it, ``width`` the median of their
    widths relative to the truth; both are ``nan`` where there are none.
    """

    share: float
    bounded: float
    share_bounded: float
    width: float


def coverage(
    make: Callable[[Rng, float, int], Segment], process: Process, size: Size, runs: int
) -> dict[str, Coverage]:
    """Coverage of the 95 % intervals over independent runs, by metric.

    ``make`` is a method of ``process``.
    """
    requests, segments = size
    rng = np.random.default_rng([requests, segments, *process.name.encode()])
    held: dict[str, list[bool]] = {metric: [] for metric in COVERED}
    widths: dict[str, list[float]] = {metric: [] for metric in COVERED}
    for _ in range(runs):
        sample = [make(rng, requests / segments / RATE, i) for i in range(segments)]
        values = estimate(sample, (50, 99)).values
        for metric in COVERED:
            truth = process.truth(metric)
            low, high = values[metric].ci or (None, None)
            held[metric].append((low is None or low <= truth) and (high is None or truth <= high))
            width = math.nan if low is None or high is None else (high - low) / truth
            widths[metric].append(width)
    return {
        metric: _coverage(np.array(held[metric]), np.array(widths[metric])) for metric in COVERED
    }


def _coverage(held: NDArray[np.bool_], widths: Numbers) -> Coverage:
    bounded = np.isfinite(widths)
    some = bool(bounded.any())
    return Coverage(
        share=float(held.mean()),
        bounded=float(bounded.mean()),
        share_bounded=float(held[bounded].mean()) if some else math.nan,
        width=float(np.median(widths[bounded])) if some else math.nan,
    )


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """How a budget was decided, and the seconds and segments of load that it took."""

    status: str
    seconds: float
    segments: int


def verdict(process: Process, budget: Budget, rng: Rng, *, segment_s: float) -> Verdict:
    """One budget, looked at after 0.75, 1.5, 3, 6, 12 and 24 s of load in segments."""
    segments: list[Segment] = []
    decision: Decision | None = None
    for look in range(1, LOOKS + 1):
        wanted = 0.75 * 2 ** (look - 1)
        while sum(segment.seconds for segment in segments) < wanted:
            segments.append(process.segment(rng, segment_s, len(segments)))
        decision = decide(budget, segments, look=look, previous=decision)
        if decision.status != "undecided":
            break
    return Verdict(
        status=decision.status if decision else "undecided",
        seconds=sum(segment.seconds for segment in segments),
        segments=len(segments),
    )


def verdicts(
    process: Process, metric: str, factor: float, runs: int, *, segment_s: float = 0.75
) -> list[Verdict]:
    """Verdicts on a limit that is ``factor`` times the truth, over independent levels."""
    rng = np.random.default_rng([round(1000 * factor), *metric.encode(), *process.name.encode()])
    keyword = "min_throughput" if metric == "throughput" else metric
    budget = Budget.from_keyword(keyword, factor * process.truth(metric))
    return [verdict(process, budget, rng, segment_s=segment_s) for _ in range(runs)]


def share(found: Sequence[Verdict], status: str) -> float:
    """The share of verdicts with that status."""
    return sum(one.status == status for one in found) / len(found)


def _coverage_table(runs: int) -> None:
    print(
        f"\nHow many 95 % intervals held the truth, of {runs}. In brackets their median width, or, "
        "where not all\nhad two bounds: how many had, how many of these held it, and the width.\n"
    )
    print("| process | requests | segments | p50 | p99 | average | throughput |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for process in (INDEPENDENT, AR5, AR9, BATCHES, DRIFTING, BURSTY):
        for size in SIZES:
            if size[1] == 1 and process.drift:
                continue  # one segment knows nothing of how segments differ
            _coverage_row(process.name, size, coverage(process.segment, process, size, runs))
    for process in (INDEPENDENT, AR9, BATCHES):
        for size in ((5000, 4), (20_000, 6)):
            found = coverage(process.windows, process, size, runs)
            _coverage_row(f"{process.name}, in windows", size, found)


def _coverage_row(name: str, size: Size, found: Mapping[str, Coverage]) -> None:
    cells = [_cell(found[metric]) for metric in COVERED]
    print(f"| {name} | {size[0]:,} | {size[1]} | {' | '.join(cells)} |", flush=True)


def _cell(found: Coverage) -> str:
    if not found.bounded:
        return f"{found.share:.1%} (none)"
    if found.bounded == 1:
        return f"{found.share:.1%} ({found.width:.0%})"
    return f"{found.share:.1%} ({found.bounded:.0%}: {found.share_bounded:.1%}, {found.width:.0%})"


def _limit_table(runs: int) -> None:
    print(f"\nVerdicts at the exact limit ({runs} a row; 0.75 s segments, up to 24 s of load)\n")
    print("| process | budget | passed | failed | undecided |")
    print("| --- | --- | --- | --- | --- |")
    for process in (INDEPENDENT, AR5, AR9, BATCHES, BURSTY):
        for metric in COVERED[1:]:
            found = verdicts(process, metric, 1.0, runs)
            cells = [f"{share(found, s):.1%}" for s in ("passed", "failed", "undecided")]
            print(f"| {process.name} | {metric} | {' | '.join(cells)} |", flush=True)


def _clear_table(runs: int) -> None:
    print(
        f"\nVerdicts 1.5 times away from the limit ({runs} a row): right, wrong, and the seconds "
        "and segments of load\nthat they took in the median, with the 90th percentile.\n"
    )
    print("| process | budget | limit / truth | segments of 0.5 s | segments of 1.5 s |")
    print("| --- | --- | --- | --- | --- |")
    for process in (INDEPENDENT, AR5, AR9, BATCHES):
        for metric in COVERED[1:]:
            for factor in (1 / 1.5, 1.5):
                kept = (factor < 1) == (metric == "throughput")
                cells = [
                    table_cost(
                        verdicts(process, metric, factor, runs, segment_s=segment_s), kept=kept
                    )
                    for segment_s in (0.5, 1.5)
                ]
                print(
                    f"| {process.name} | {metric} | {factor:.2f} | {' | '.join(cells)} |",
                    flush=True,
                )


def table_cost(found: Sequence[Verdict], *, kept: bool) -> str:
    """The shares of right and wrong ones, and what they took: one cell of a table."""
    right, wrong = ("passed", "failed") if kept else ("failed", "passed")
    seconds = np.percentile([one.seconds for one in found], [50, 90])
    segments = np.median([one.segments for one in found])
    return (
        f"{share(found, right):.1%}, {share(found, wrong):.1%}, {seconds[0]:.1f} s in "
        f"{segments:.0f} ({seconds[1]:.1f} s)"
    )


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a tenth of the runs")
    scale = 10 if parser.parse_args().quick else 1
    started = time.process_time()
    _coverage_table(500 // scale)
    _limit_table(400 // scale)
    _clear_table(200 // scale)
    print(f"\n{time.process_time() - started:.0f} s of one core")


if __name__ == "__main__":
    main()
