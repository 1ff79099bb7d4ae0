"""The command ``triton-perf``."""

import argparse
import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_triton_perf.errors import TritonPerfError, UsageError

if TYPE_CHECKING:
    from pytest_triton_perf.domain.results import Run


def main(argv: Sequence[str] | None = None) -> int:
    """Run a sub-command; returns the exit code: 0 well, 1 not well, 2 wrongly asked."""
    args = _parser().parse_args(argv)
    try:
        return int(args.run(args))
    except TritonPerfError as error:
        print(f"triton-perf: {error}", file=sys.stderr)
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="triton-perf", description="Helpers around pytest --triton-perf."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    doctor = commands.add_parser(
        "doctor", help="what is there to measure with, what is missing, and how to mend it"
    )
    doctor.set_defaults(run=_doctor)
    report = commands.add_parser("report", help="rebuild the reports of a run")
    report.add_argument("directory", type=Path, metavar="DIR", help="holds a results.json")
    report.set_defaults(run=_report)
    merge = commands.add_parser("merge", help="one report of the runs of several jobs")
    merge.add_argument(
        "directories", type=Path, nargs="+", metavar="DIR", help="each holds a results.json"
    )
    merge.add_argument(
        "-o", "--output", type=Path, required=True, metavar="DIR", help="where the report goes"
    )
    merge.set_defaults(run=_merge)
    compare = commands.add_parser(
        "compare", help="what changed from one stored run to another, as far as that can be told"
    )
    for name in ("base", "head"):
        compare.add_argument(
            name,
            type=Path,
            metavar="AB"[name == "head"],
            help="a baseline file, a results.json, or the folder of one",
        )
    compare.set_defaults(run=_compare)
    suggest = commands.add_parser(
        "suggest", help="perf_budget lines that a run keeps, with a margin"
    )
    suggest.add_argument("directory", type=Path, metavar="DIR", help="holds a results.json")
    suggest.add_argument(
        "--margin-pct",
        type=_percent,
        default=20.0,
        metavar="P",
        help="how far limits are from the far end of the measured interval (default: 20)",
    )
    suggest.set_defaults(run=_suggest)
    return parser


def _compare(args: argparse.Namespace) -> int:
    from pytest_triton_perf.baselines import sessions_at
    from pytest_triton_perf.domain.baselines import compare
    from pytest_triton_perf.reports.compared import as_text

    history, session = sessions_at(args.base), sessions_at(args.head)[-1]
    found = compare(history, session)
    print(as_text(history, session, found))
    nothing = all(comparison.change_pct is None for comparison in found)
    return int(nothing or any(comparison.fails for comparison in found))


def _doctor(args: argparse.Namespace) -> int:
    from pytest_triton_perf.doctor import as_text, can_measure, examine

    checks = examine()
    print(as_text(checks, colour=sys.stdout.isatty()))
    if can_measure(checks):
        return 0
    print("\npytest --triton-perf cannot measure on this machine.", file=sys.stderr)
    return 1


def _percent(text: str) -> float:
    value = float(text)
    if not 0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"expected a number of at least 0, not {text}")
    return value


def _suggest(args: argparse.Namespace) -> int:
    from pytest_triton_perf.suggestions import suggest

    print(suggest(_run_in(args.directory), args.margin_pct))
    return 0


def _run_in(directory: Path) -> "Run":
    """The run that left its results in a directory."""
    from pytest_triton_perf.domain.results import from_json

    source = directory / "results.json"
    try:
        data = json.loads(source.read_text("utf-8"))
    except OSError as error:
        raise UsageError(
            f"{source} cannot be read ({error.strerror}); DIR is what --triton-perf-output named"
        ) from None
    except ValueError as error:
        raise UsageError(
            f"{source} is not JSON, or was cut off ({error}): take it anew from where it was made"
        ) from None
    return from_json(data, str(source))


def _merge(args: argparse.Namespace) -> int:
    from pytest_triton_perf.domain.jobs import merge_jobs

    if args.output.resolve() in [directory.resolve() for directory in args.directories]:
        raise UsageError(f"{args.output} is one of those to be merged; name another with -o")
    for directory in args.directories:
        if args.directories.count(directory) > 1:
            raise UsageError(f"{directory} is named twice; each job has a folder of its own")
    run = merge_jobs({str(directory): _run_in(directory) for directory in args.directories})
    return _write(run, args.output, with_json=True)


def _report(args: argparse.Namespace) -> int:
    return _write(_run_in(args.directory), args.directory, with_json=False)


def _write(run: "Run", directory: Path, *, with_json: bool) -> int:
    from pytest_triton_perf.options import REPORTS
    from pytest_triton_perf.reports import write_reports

    kinds = set(REPORTS) if with_json else set(REPORTS) - {"json"}
    problems = write_reports(run, directory, kinds)
    for problem in problems:
        print(f"triton-perf: {problem}", file=sys.stderr)
    return 1 if problems else 0
