"""How good the intervals and decisions are on a real Triton, beside long runs of the same load.

Prints the tables of docs/measurement.md (``tox -e validate-real``; 12 minutes a service, or less
than one with ``--quick``). The model sleeps, so that queueing tells about what to expect; what
Triton and the machine add to that is measured by long runs between the short ones.
"""

import argparse
import math
import os
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from pytest_triton_perf.domain.budgets import Budget
from pytest_triton_perf.domain.estimates import estimate
from pytest_triton_perf.domain.levels import Estimate
from pytest_triton_perf.domain.metrics import find_metric
from pytest_triton_perf.domain.segments import Segment
from pytest_triton_perf.load.base import LoadReport
from pytest_triton_perf.measuring import Measuring, Rules
from validation.recording import RUNS, SERVICES, Block, Service, record, restore, save
from validation.simulated import Verdict, share, table_cost

METRICS = ("p50_latency_ms", "p99_latency_ms", "throughput")

RULES = Rules(max_seconds=30)
"""Nine looks, at 0.4 to 34 s of load."""


def figures(segments: Sequence[Segment]) -> Mapping[str, Estimate]:
    """The figures of some segments, with their 95 % intervals."""
    return estimate(segments, (50, 99)).values


@dataclass(frozen=True, kw_only=True)
class Spread:
    """What short runs of a service say of one metric, beside other load on the same server.

    ``near`` is how many intervals held the value of all other load of their block, ``far`` how
    many that of the long runs of all blocks: what drifts between blocks counts against these.
    ``bounded`` is how many had two bounds, ``half_width`` the median of how far these reach.
    ``within`` is 1.96 standard deviations of the runs' figures within a block, ``between`` that
    of the blocks beyond it; all are relative.
    """

    near: float
    far: float
    bounded: float
    half_width: float
    within: float
    between: float


def spread(blocks: Sequence[Block], metric: str, *, in_turns: bool) -> Spread:
    """How short runs in these blocks spread, and whether their intervals know it."""
    truth = reference(blocks)[metric].value
    near, far, halves, logs = [], [], [], []
    for block in blocks:
        for run in block.runs(in_turns=in_turns):
            found = figures(run)[metric]
            own = set(map(id, run))
            others = [*block.long, *(s for s in block.short if id(s) not in own)]
            near.append(_holds(found, figures(others)[metric].value))
            far.append(_holds(found, truth))
            low, high = found.ci or (None, None)
            halves.append(math.nan if not low or high is None else math.log(high / low) / 2)
            logs.append(math.log(found.value))
    bounded = np.isfinite(halves)
    by_block = np.array(logs).reshape(len(blocks), RUNS)
    within = by_block.var(axis=1, ddof=1).mean()
    between = by_block.mean(axis=1).var(ddof=1) - within / RUNS if len(blocks) > 1 else math.nan
    return Spread(
        near=float(np.mean(near)),
        far=float(np.mean(far)),
        bounded=float(bounded.mean()),
        half_width=float(np.median(np.array(halves)[bounded])) if bounded.any() else math.nan,
        within=1.96 * math.sqrt(within),
        between=1.96 * math.sqrt(max(0.0, between)) if len(blocks) > 1 else math.nan,
    )


def reference(blocks: Sequence[Block]) -> Mapping[str, Estimate]:
    """The figures of the long runs of all blocks."""
    return figures([segment for block in blocks for segment in block.long])


def _holds(found: Estimate, truth: float) -> bool:
    low, high = found.ci or (None, None)
    return (low is None or low <= truth) and (high is None or truth <= high)


@dataclass(frozen=True)
class Replay:
    """Levels that are made of recorded segments: each of theirs is a whole one, drawn at random.

    Their truth is known for certain, since it is that of all these segments.
    """

    service: Service
    segments: Sequence[Segment]

    @cached_property
    def truth(self) -> Mapping[str, Estimate]:
        """The figures of all segments together."""
        return figures(self.segments)

    def verdicts(self, metric: str, factor: float, levels: int) -> list[Verdict]:
        """Verdicts on a limit that is ``factor`` times the truth, as a sweep comes to them."""
        rng = np.random.default_rng(
            [round(1000 * factor), *f"{self.service.name} {metric}".encode()]
        )
        keyword = "min_throughput" if metric == "throughput" else metric
        budget = Budget.from_keyword(keyword, factor * self.truth[metric].value)
        return [self._verdict(budget, rng) for _ in range(levels)]

    def _verdict(self, budget: Budget, rng: np.random.Generator) -> Verdict:
        def make(*_: object) -> LoadReport:
            segment = self.segments[rng.integers(len(self.segments))]
            return LoadReport(segment=segment, server_ms={}, missing={})

        measuring = Measuring(
            loads=[self.service.load],
            auto=False,
            budgets=[budget],
            rules=RULES,
            make=make,
            done=lambda _: None,
        )
        measuring.run()
        (level,) = measuring.levels
        return Verdict(
            status=level.decisions[budget].status,
            seconds=level.loaded_s,
            segments=len(level.reports),
        )


def replay(service: str, blocks: Sequence[Block]) -> Replay:
    """The short segments of these blocks."""
    return Replay(SERVICES[service], [segment for block in blocks for segment in block.short])


def _truth_table(recorded: Mapping[str, Sequence[Block]]) -> None:
    print("\nWhat queueing makes of the service times, and what long runs gave\n")
    print("| service | clients | p50 | p99 | throughput |")
    print("| --- " * 5 + "|")
    for name, blocks in recorded.items():
        service, found = SERVICES[name], reference(blocks)
        cells = [
            f"{_shown(metric, service.arithmetic(metric))}, {_shown(metric, found[metric].value)}"
            for metric in METRICS
        ]
        print(f"| {name} | {service.clients} | {' | '.join(cells)} |")


def _shown(metric: str, value: float) -> str:
    return find_metric(metric).format(value)


def _spread_table(recorded: Mapping[str, Sequence[Block]]) -> None:
    print(
        "\nHow many 95 % intervals of short runs held the figure of all other load of their block, "
        "and in brackets\nthat of all long runs; how many had two bounds, and how far these reach "
        "to each side (median); how far 95 %\nof the runs lie from the mean of their block, and "
        "the blocks from theirs. Segments in a row, then in turns.\n"
    )
    print(
        "| service | runs | metric | held, in a row | bounds | spread | between blocks "
        "| held, in turns | bounds | spread |"
    )
    print("| --- " * 10 + "|")
    for name, blocks in recorded.items():
        for metric in METRICS:
            row, turns = (spread(blocks, metric, in_turns=way) for way in (False, True))
            cells = [
                name,
                f"{RUNS * len(blocks)}",
                metric,
                *_spread_cells(row),
                _side(row.between),
                *_spread_cells(turns),
            ]
            print(f"| {' | '.join(cells)} |", flush=True)


def _spread_cells(found: Spread) -> list[str]:
    held = f"{found.near:.1%} ({found.far:.1%})"
    return [held, f"{found.bounded:.0%}: {_side(found.half_width)}", _side(found.within)]


def _side(share: float) -> str:
    return f"±{share:.1%}" if math.isfinite(share) else "–"


def _limit_table(recorded: Mapping[str, Sequence[Block]], levels: int) -> None:
    print(f"\nVerdicts at the exact limit ({levels} replayed levels a row, up to 34 s of load)\n")
    print("| service | budget | passed | failed | undecided |")
    print("| --- | --- | --- | --- | --- |")
    for name, blocks in recorded.items():
        for metric in METRICS:
            found = replay(name, blocks).verdicts(metric, 1.0, levels)
            cells = [f"{share(found, s):.1%}" for s in ("passed", "failed", "undecided")]
            print(f"| {name} | {metric} | {' | '.join(cells)} |", flush=True)


def _clear_table(recorded: Mapping[str, Sequence[Block]], levels: int) -> None:
    print(
        f"\nVerdicts 1.5 times away from the limit ({levels} replayed levels a row): right, wrong,"
        " and the seconds and\nsegments of load that they took in the median, with the 90th "
        "percentile.\n"
    )
    print("| service | infer/s | budget | limit a third too low | limit half as much again |")
    print("| --- | --- | --- | --- | --- |")
    for name, blocks in recorded.items():
        source = replay(name, blocks)
        for metric in METRICS:
            cells = [
                table_cost(
                    source.verdicts(metric, factor, levels),
                    kept=(factor < 1) == (metric == "throughput"),
                )
                for factor in (1 / 1.5, 1.5)
            ]
            rate = source.truth["throughput"].value
            print(f"| {name} | {rate:,.0f} | {metric} | {' | '.join(cells)} |", flush=True)


def _recorded(args: argparse.Namespace) -> dict[str, list[Block]]:
    if not args.replay:
        return {
            name: record(SERVICES[name], -(-args.runs // RUNS), args.seconds)
            for name in args.services
        }
    found: dict[str, list[Block]] = {}
    for path in args.replay:
        for name, blocks in restore(path).items():
            found.setdefault(name, []).extend(blocks)
    return found


def main(argv: Sequence[str] | None = None) -> None:
    """Record, or read what was recorded, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--services", nargs="+", choices=SERVICES, default=list(SERVICES))
    parser.add_argument("--runs", type=int, default=200, help="short runs of each service")
    parser.add_argument("--seconds", type=float, default=math.inf, help="at most, each service")
    parser.add_argument("--levels", type=int, default=400, help="replayed levels in each row")
    parser.add_argument("--keep", type=Path, metavar="FILE", help="write down what was recorded")
    parser.add_argument("--replay", type=Path, nargs="+", metavar="FILE", help="instead of load")
    parser.add_argument("--quick", action="store_true", help="one block of one service")
    args = parser.parse_args(argv)
    if args.quick:
        args.services, args.runs, args.levels = ["lognormal"], RUNS, 40
    started = time.monotonic()
    recorded = _recorded(args)
    if args.keep:
        save(args.keep, recorded)
    _truth_table(recorded)
    _spread_table(recorded)
    if args.levels:
        _limit_table(recorded, args.levels)
        _clear_table(recorded, args.levels // 2)
    load, cores = os.getloadavg()[0], os.cpu_count()
    print(f"\n{time.monotonic() - started:.0f} s; load average {load:.1f} on {cores} cores")


if __name__ == "__main__":
    sys.exit(main())
