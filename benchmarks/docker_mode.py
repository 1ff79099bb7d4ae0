"""What docker mode costs over local mode: starting a server, one more level, the seed case.

Everything is measured in pairs whose order a coin decides, and medians are compared. The image is
the one of the tests, with the same tritonserver as the local one; an engine is started where none
answers. Exits 1 beyond a limit.
"""

import argparse
import contextlib
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from docker_engine import CACHE, running_engine
from docker_images import IMAGE, build_images
from seed_case import REPOSITORY, ours

from pytest_triton_perf.domain.levels import Load
from pytest_triton_perf.domain.variants import Variant
from pytest_triton_perf.load.base import Traffic
from pytest_triton_perf.load.binaries import find_perf_analyzer
from pytest_triton_perf.load.perf_analyzer import PerfAnalyzer
from pytest_triton_perf.load.runner import LocalRunner, ToolboxRunner
from pytest_triton_perf.servers.base import Launcher, RunningServer, ServerSpec
from pytest_triton_perf.servers.containers import ContainerPlan
from pytest_triton_perf.servers.docker import DockerLauncher
from pytest_triton_perf.servers.embedded import find_server
from pytest_triton_perf.servers.local import LocalLauncher

START_LIMIT_S, LEVEL_LIMIT_S, SEED_LIMIT = 1.0, 0.15, 1.3
SPEC = ServerSpec(repository=REPOSITORY, image=IMAGE)
MODEL = Variant(model="add_sub", name="add_sub_config_default")


def seconds(work: Callable[[], object]) -> float:
    """How long it takes."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def pairs(
    count: int, docker: Callable[[], float], local: Callable[[], float]
) -> list[tuple[float, float]]:
    """Seconds of both sides, pair by pair, after one pair that fills the caches."""
    found = []
    for pair in range(count + 1):
        times = {}
        for side in random.sample([docker, local], 2):
            times[side] = side()
        if pair:
            found.append((times[docker], times[local]))
    return found


def told(what: str, found: list[tuple[float, float]], cost: float, limit: float, unit: str) -> bool:
    """Print a comparison; whether it is beyond its limit."""
    docker, local = (statistics.median(side) for side in zip(*found, strict=True))
    print(
        f"{what}: docker {docker:.2f} s, local {local:.2f} s; median of {len(found)} paired "
        f"comparisons {cost:.2f}{unit} (limit {limit}{unit})",
        flush=True,
    )
    return cost > limit


def extra_s(found: list[tuple[float, float]]) -> float:
    """Median of what the docker side takes longer."""
    return statistics.median(docker - local for docker, local in found)


@contextlib.contextmanager
def serving(launcher: Launcher) -> Iterator[RunningServer]:
    """A server with the model loaded."""
    server = launcher.start(SPEC)
    try:
        server.load(MODEL)
        yield server
    finally:
        server.stop()


def start(count: int, docker: DockerLauncher) -> bool:
    """From nothing to a loaded model, in a container and in a process."""
    local = LocalLauncher(find_server(), gpus="none")

    def ready(launcher: Launcher) -> float:
        started = time.perf_counter()
        with serving(launcher):
            return time.perf_counter() - started

    found = pairs(count, lambda: ready(docker), lambda: ready(local))
    return told("start to model ready", found, extra_s(found), START_LIMIT_S, " s")


def level(count: int, docker: DockerLauncher) -> bool:
    """One more level on the same server, from the SDK container and from this machine."""
    traffic, load = Traffic(model="add_sub"), Load(concurrency=1)
    inside = PerfAnalyzer(ToolboxRunner(docker.toolbox, docker.describe_toolbox()))
    here = PerfAnalyzer(LocalRunner(find_perf_analyzer(None)))
    with serving(docker) as server:

        def measured(generator: PerfAnalyzer) -> float:
            return seconds(
                lambda: generator.run(
                    traffic, load, url=server.grpc_url, seconds=0.5, max_seconds=60
                )
            )

        found = pairs(count, lambda: measured(inside), lambda: measured(here))
    return told("one more level", found, extra_s(found), LEVEL_LIMIT_S, " s")


def seed(count: int, docker: DockerLauncher) -> bool:
    """The seed case, from the start of pytest to its written reports."""

    def session(*options: str) -> float:
        with tempfile.TemporaryDirectory(prefix="seed-") as folder:
            return ours(Path(folder), *options)[0]

    in_docker = ("--triton-launch=docker", f"--triton-image={IMAGE}")
    found = pairs(count, lambda: session(*in_docker), lambda: session("--triton-launch=local"))
    ratio = statistics.median(docker / local for docker, local in found)
    return told("seed case", found, ratio, SEED_LIMIT, " x")


def main() -> int:
    """Run the benchmarks and print what they found."""
    parts = {"start": (start, 11), "level": (level, 21), "seed": (seed, 3)}
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=parts, help="run one part")
    parser.add_argument("--pairs", type=int, help="pairs of each part")
    args = parser.parse_args()
    import docker

    CACHE.mkdir(parents=True, exist_ok=True)
    with running_engine(), contextlib.closing(docker.from_env(timeout=300)) as client:
        build_images(client, CACHE)
        plan = ContainerPlan(gpus="none", shm_size="1g")
        launcher = DockerLauncher({IMAGE: f"{IMAGE}-sdk"}, plan, tell=print)
        beyond = [
            part(args.pairs or count, launcher)
            for name, (part, count) in parts.items()
            if args.only in (None, name)
        ]
    return int(any(beyond))


if __name__ == "__main__":
    sys.exit(main())
