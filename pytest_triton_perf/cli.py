"""The command ``triton-perf``."""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from pytest_triton_perf.errors import TritonPerfError, UsageError


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
    return parser


def _doctor(args: argparse.Namespace) -> int:
    from pytest_triton_perf.doctor import as_text, can_measure, examine

    checks = examine()
    print(as_text(checks, colour=sys.stdout.isatty()))
    if can_measure(checks):
        return 0
    print("\npytest --triton-perf cannot measure on this machine.", file=sys.stderr)
    return 1


def _report(args: argparse.Namespace) -> int:
    from pytest_triton_perf.domain.results import from_json
    from pytest_triton_perf.options import REPORTS
    from pytest_triton_perf.reports import write_reports

    source = args.directory / "results.json"
    try:
        data = json.loads(source.read_text("utf-8"))
    except OSError as error:
        raise UsageError(
            f"{source} cannot be read ({error.strerror}); DIR is what --triton-perf-output named"
        ) from None
    except ValueError as error:
        raise UsageError(f"{source} is not JSON: {error}") from None
    problems = write_reports(from_json(data), args.directory, set(REPORTS) - {"json"})
    for problem in problems:
        print(f"triton-perf: {problem}", file=sys.stderr)
    return 1 if problems else 0
