"""Why a level was not recorded, for the person whose level it is. Pure."""

from pytest_triton_perf.domain.levels import Load
from pytest_triton_perf.errors import LoadError
from pytest_triton_perf.load import windows
from pytest_triton_perf.load.base import Traffic
from pytest_triton_perf.load.export import UnreadableExport
from pytest_triton_perf.load.parsing import hint
from pytest_triton_perf.load.runner import Run


def unreadable(traffic: Traffic, load: Load, problem: UnreadableExport) -> LoadError:
    """An export without a segment, where other exports of this traffic had one."""
    return LoadError(
        f"what perf_analyzer recorded of {traffic.model!r} at {load} cannot be used: {problem}\n"
        "  Hint: look at what this model answers at this load, and at the room in the folder for "
        "temporary files"
    )


def clock_set_twice(traffic: Traffic, load: Load, run: Run) -> LoadError:
    """Two runs in a row whose times are worth nothing."""
    return LoadError(
        f"{traffic.model!r} at {load} cannot be measured: this machine's clock, by which "
        "perf_analyzer times its requests, was set while it ran, twice "
        f"(by {run.clock_step_s:+.3f} s the second time)\n"
        "  Hint: stop what sets the clock while you measure (date, a VM's guest tools, a first "
        "synchronisation of NTP)"
    )


def not_measured(traffic: Traffic, load: Load, url: str, run: Run) -> LoadError:
    """No report of the level, in perf_analyzer's own words."""
    code = run.exit_code
    ending = f"exit code {code}" if code >= 0 else f"killed by signal {-code}"
    advice = hint(
        run.words, url=url, input_data=str(traffic.input_data), extra_args=traffic.extra_args
    )
    lines = [
        f"perf_analyzer did not measure {traffic.model!r} at {load} ({ending})",
        *([f"  Hint: {advice}"] if advice else []),
        "  perf_analyzer's last words:",
        run.words,
    ]
    return LoadError("\n".join(lines))


def hung(traffic: Traffic, load: Load, window_ms: float, waited_s: float, said: str) -> LoadError:
    """A run that had to be killed."""
    return LoadError(
        f"perf_analyzer hung on {traffic.model!r} at {load} and was killed: it was to measure for "
        f"{windows.run_seconds(window_ms):.1f} s and had not ended after {waited_s:.1f} s\n"
        "  Hint: the model did not answer in that time: see the server's log; if its requests "
        "really take so long, raise --triton-perf-max-seconds\n"
        f"  perf_analyzer's last words:\n{said}"
    )


def does_not_fit(
    traffic: Traffic, load: Load, max_seconds: float, empty_ms: float, latency_s: float
) -> LoadError:
    """Requests too slow for the time that is allowed."""
    seems = ""
    if latency_s:
        least_s = windows.run_seconds(empty_ms) / 3
        seems = f"a request seems to take between {least_s:.1f} and {latency_s:.1f} s, and "
    return LoadError(
        f"{traffic.model!r} at {load} cannot be measured within {round(max_seconds, 1):g} s: "
        f"{seems}perf_analyzer needs three measuring windows with answered requests in each\n"
        "  Hint: raise --triton-perf-max-seconds"
    )
