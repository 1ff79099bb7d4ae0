"""What watching costs: the sampler at its own periods, with 8 simulated GPUs.

First the CPU time of the sampler's thread, in percent of one core, while it watches this process
with four children. Then the throughput of a real tritonserver that perf_analyzer saturates, with
the sampler watching it and without, in pairs whose order a coin decides. The GPUs are those of
``tests/nvml/fake_nvml.c``, read through the real ``pynvml``; a real driver may take longer to
answer. Exits 1 above a limit.
"""

import argparse
import contextlib
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

REPOSITORY = Path(__file__).parents[1]
SHARE_LIMIT = 1.0
THROUGHPUT_LIMIT = 1.0
GPUS = 8
CHILDREN = 4
SETTLE_S = 2.0
WINDOW_S = 5.0


def library(folder: Path) -> dict[str, str]:
    """Build the library; the environment in which it is found."""
    sys.path.insert(0, str(REPOSITORY / "tests"))
    from scripted_nvml import build_library

    return {
        "LD_LIBRARY_PATH": str(build_library(folder)),
        "FAKE_NVML": str(folder / "script"),
    }


def simulate_gpus(pid: int) -> None:
    """Write the script of GPUs that the process ``pid`` uses."""
    lines = ["driver 550.54.15"]
    for gpu in range(GPUS):
        figures = {"utilization": 80, "instant": 250000, "temperature": 60, "clock": 1410}
        lines += [
            f"device GPU-{gpu} 80000000000 NVIDIA Fake 80GB",
            f"memory {gpu} 0 3000000000",
            f"process {gpu} {pid} 1000000000",
            *(f"{name} {gpu} {value}" for name, value in {**figures, "throttle": 0}.items()),
        ]
    Path(os.environ["FAKE_NVML"]).write_text("\n".join(lines) + "\n")


@contextlib.contextmanager
def watching(pid: int) -> Iterator[int]:
    """The sampler as a session has it, on the process tree of ``pid``; its thread's id."""
    import threading

    from pytest_triton_perf.probes.nvml import NvmlProbe
    from pytest_triton_perf.probes.process import ProcessProbe
    from pytest_triton_perf.probes.sampler import Sampler

    simulate_gpus(pid)
    start = time.monotonic()
    with Sampler([NvmlProbe(pid), ProcessProbe(pid)]) as sampler:
        (thread,) = [t for t in threading.enumerate() if t.name == "triton-perf-sampler"]
        assert thread.native_id is not None
        yield thread.native_id
        seen = sampler.summary(start, time.monotonic())
    assert len(seen.gpus) == GPUS, seen.missing
    assert seen.cpu_memory_mb is not None, seen.missing
    for note in seen.notes:
        print(f"  note: {note}")


def cpu_s(thread: int) -> float:
    """Seconds that a thread of this process has run, to the nanosecond."""
    text = Path(f"/proc/self/task/{thread}/schedstat").read_text()
    return int(text.split()[0]) / 1e9


def share_of_a_core(windows: int) -> list[float]:
    """Percent of one core that the sampler's thread takes, by window."""
    waiting = [sys.executable, "-c", "import sys; sys.stdin.read()"]
    children = [subprocess.Popen(waiting, stdin=subprocess.PIPE) for _ in range(CHILDREN)]
    shares = []
    with watching(os.getpid()) as thread:
        time.sleep(SETTLE_S)
        for _ in range(windows):
            start, used = time.monotonic(), cpu_s(thread)
            time.sleep(WINDOW_S)
            shares.append(100 * (cpu_s(thread) - used) / (time.monotonic() - start))
    for child in children:
        child.communicate()
    return shares


def throughput_ratios(pairs: int) -> list[float]:
    """Throughput with the sampler over that without it, in infer/s, by pair."""
    from pytest_triton_perf.domain.estimates import estimate
    from pytest_triton_perf.domain.levels import Load
    from pytest_triton_perf.domain.variants import Variant
    from pytest_triton_perf.load.base import Traffic
    from pytest_triton_perf.load.binaries import find_perf_analyzer
    from pytest_triton_perf.load.perf_analyzer import PerfAnalyzer
    from pytest_triton_perf.load.runner import LocalRunner
    from pytest_triton_perf.servers.base import ServerSpec
    from pytest_triton_perf.servers.embedded import find_server
    from pytest_triton_perf.servers.local import LocalLauncher
    from pytest_triton_perf.servers.model_config import read_config

    models = REPOSITORY / "examples" / "quickstart" / "model_repository"
    load, traffic = Load(concurrency=4), Traffic(model="add_sub")
    generator = PerfAnalyzer(LocalRunner(find_perf_analyzer(None)))
    server = LocalLauncher(find_server(None), gpus="none").start(ServerSpec(repository=models))
    ratios = []
    try:
        config = read_config(models / "add_sub")
        server.load(Variant(model="add_sub", name="add_sub_config_default", config=config or {}))

        def throughput(watched: bool) -> float:
            assert server.pid is not None
            with watching(server.pid) if watched else contextlib.nullcontext():
                report = generator.run(
                    traffic, load, url=server.grpc_url, seconds=1, max_seconds=60
                )
            return estimate([report.segment], ()).values["throughput"].value

        throughput(False)
        for _ in range(pairs):
            arms = [True, False]
            random.shuffle(arms)
            found = {watched: throughput(watched) for watched in arms}
            ratios.append(found[True] / found[False])
    finally:
        server.stop()
    return ratios


def main() -> int:
    """Measure both and print their medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--windows", type=int, default=6, help=f"of {WINDOW_S:g} s")
    parser.add_argument("--pairs", type=int, default=60)
    args = parser.parse_args()
    if "FAKE_NVML" not in os.environ:
        # The dynamic linker reads its path once, when a process starts.
        with tempfile.TemporaryDirectory() as name:
            env = os.environ | library(Path(name))
            return subprocess.run([sys.executable, *sys.argv], env=env, check=False).returncode
    shares = share_of_a_core(args.windows)
    share = statistics.median(shares)
    print(
        f"sampler: {share:.2f} % of one core with {GPUS} simulated GPUs and {CHILDREN + 1} "
        f"processes (median of {args.windows} windows, {min(shares):.2f} to {max(shares):.2f}; "
        f"limit {SHARE_LIMIT})"
    )
    if not args.pairs:
        return int(share > SHARE_LIMIT)
    low, median, high = statistics.quantiles(throughput_ratios(args.pairs), n=4)
    lost = 100 * (1 - median)
    print(
        f"throughput with the sampler over that without: median of {args.pairs} paired ratios "
        f"{median:.4f} (quartiles {low:.4f} to {high:.4f}; limit {1 - THROUGHPUT_LIMIT / 100})"
    )
    return int(share > SHARE_LIMIT or lost > THROUGHPUT_LIMIT)


if __name__ == "__main__":
    sys.exit(main())
