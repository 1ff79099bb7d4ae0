"""The fixtures, and the composition root: the only place that chooses concrete parts.

pytest imports this module in every run, so it imports nothing but pytest at its top.
"""

import contextlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pytest_triton_perf.against import Against
    from pytest_triton_perf.collection import PerfTest
    from pytest_triton_perf.domain.cpus import CpuSplit
    from pytest_triton_perf.domain.sweeps import Sweep
    from pytest_triton_perf.domain.variants import Variant
    from pytest_triton_perf.load.runner import Runner
    from pytest_triton_perf.progress import Progress
    from pytest_triton_perf.servers.base import Launcher, RunningServer
    from pytest_triton_perf.session import PerfSession
    from pytest_triton_perf.settings import Settings

PERF_SESSION: "pytest.StashKey[PerfSession]" = pytest.StashKey()
"""Of a config: the session's measuring; absent without ``--triton-perf``."""


def compose(
    settings: "Settings",
    images: Sequence[str],
    progress: "Progress",
    *,
    session: str,
    against: "Against | None" = None,
) -> "PerfSession":
    """The session with its concrete parts; nothing is started yet.

    ``settings`` are decided ones, ``images`` those of all tests. ``session`` is the same in all
    processes of a session, and in no other one. ``against`` is the base of the paired gate, if
    there is one.

    Raises:
        UsageError, MissingPartError, ServerError: a part that is needed cannot be had.
    """
    import secrets
    import tempfile
    from os import getuid
    from pathlib import Path

    from filelock import FileLock

    from pytest_triton_perf.domain.metrics import PROCESS_METRICS
    from pytest_triton_perf.environment import describe
    from pytest_triton_perf.ingredients import Ingredients
    from pytest_triton_perf.journal import FILE, Journal
    from pytest_triton_perf.load.perf_analyzer import PerfAnalyzer
    from pytest_triton_perf.measuring import Rules
    from pytest_triton_perf.probes.base import Probe, Unseen
    from pytest_triton_perf.probes.cross_check import CrossCheck
    from pytest_triton_perf.probes.nvml import NvmlProbe
    from pytest_triton_perf.probes.process import ProcessProbe
    from pytest_triton_perf.probes.sampler import Sampler
    from pytest_triton_perf.probes.triton_metrics import MetricsEndpoint, TritonMetricsProbe
    from pytest_triton_perf.probes.watch import Watch
    from pytest_triton_perf.servers.remote import UNSEEN
    from pytest_triton_perf.session import PerfSession

    def watch(server: "RunningServer") -> Watch:
        if settings.metrics is not None:
            endpoint = TritonMetricsProbe(settings.metrics)
            return Watch(Sampler([endpoint]), reviewer=endpoint, ours=False)
        if settings.remote is not None:
            return Watch(Sampler([Unseen(UNSEEN)]), ours=False)
        gpus = () if settings.gpus == "none" else settings.gpus
        processes: Probe = (
            Unseen("the server's processes are not on this host", PROCESS_METRICS)
            if server.pid is None
            else ProcessProbe(server.pid)
        )
        cross_check = CrossCheck(MetricsEndpoint.at(server.metrics_url))
        return Watch(Sampler([NvmlProbe(server.pid, gpus), processes]), reviewer=cross_check)

    if settings.remote is None and settings.gpus not in ("all", "none"):
        NvmlProbe(None, settings.gpus).close()  # A wrong UUID is told before a server starts.
    journal = Journal(settings.output / FILE, session=session, resume=settings.resume)
    base_image = None if against is None else against.image
    launcher, runner, cpus = _launcher_and_runner(settings, images, base_image, progress)
    generator = PerfAnalyzer(runner)
    server = dict(launcher.describe())
    if settings.no_server:
        server["because"] = settings.no_server
    environment = describe(
        server=server, load_generator=generator.describe(), cpu_isolation=cpus.describe()
    )
    seed = secrets.randbits(32)
    if against is not None:
        environment["gate"] = {"against": str(against), "seed": seed}
    told = {
        "--triton-gpus": settings.gpus,
        "--triton-shm-size": settings.shm_size,
        "--triton-mount": settings.mounts,
    }
    secret = {"--triton-env": settings.container_env}
    return PerfSession(
        launcher=launcher,
        generator=generator,
        watch=watch,
        turn=FileLock(Path(tempfile.gettempdir()) / f"triton-perf-{getuid()}.lock"),
        rules=Rules(
            max_seconds=settings.max_seconds,
            floor_seconds=settings.floor_seconds,
            confidence=settings.confidence,
        ),
        journal=journal,
        ingredients=Ingredients(launcher, environment, told, secret=secret).of,
        environment=environment,
        images=images,
        progress=progress,
        seed=seed,
    )


def _launcher_and_runner(
    settings: "Settings", images: Sequence[str], base_image: str | None, progress: "Progress"
) -> "tuple[Launcher, Runner, CpuSplit]":
    """How Triton comes to exist, where perf_analyzer runs, and on which CPUs both do."""
    from pytest_triton_perf.affinity import split_our_cpus
    from pytest_triton_perf.domain.cpus import CpuSplit
    from pytest_triton_perf.load.binaries import find_perf_analyzer
    from pytest_triton_perf.load.runner import LocalRunner

    if settings.launch == "docker":
        return _in_containers(settings, images, base_image, progress)

    from pytest_triton_perf.servers.embedded import find_server
    from pytest_triton_perf.servers.local import LocalLauncher
    from pytest_triton_perf.servers.remote import RemoteLauncher

    analyzer = find_perf_analyzer(settings.perf_analyzer)
    if settings.remote is not None:
        cpus = CpuSplit(because="the server's are not ours to choose")
        return RemoteLauncher(settings.remote), LocalRunner(analyzer), cpus
    cpus = split_our_cpus()
    launcher = LocalLauncher(find_server(settings.server), gpus=settings.gpus, cpus=cpus.server)
    return launcher, LocalRunner(analyzer, cpus=cpus.load), cpus


def _in_containers(
    settings: "Settings", images: Sequence[str], base_image: str | None, progress: "Progress"
) -> "tuple[Launcher, Runner, CpuSplit]":
    from pytest_triton_perf.affinity import split_our_cpus
    from pytest_triton_perf.errors import MissingPartError, UsageError
    from pytest_triton_perf.load.binaries import find_perf_analyzer
    from pytest_triton_perf.load.runner import LocalRunner, ToolboxRunner
    from pytest_triton_perf.probes.nvml import why_no_gpu
    from pytest_triton_perf.servers.containers import ContainerPlan, sdk_image_of
    from pytest_triton_perf.servers.docker import DockerLauncher

    on_host = settings.perf_analyzer and find_perf_analyzer(settings.perf_analyzer)
    sdk_images = {
        image: None if on_host else settings.sdk_image or sdk_image_of(image) for image in images
    }
    if base_image is not None:
        # Its Triton is what differs: load comes from the head's perf_analyzer on both.
        head_image, *others = images
        if others:
            raise UsageError(
                f"--triton-perf-against-image: the tests run on {', '.join(images)}, and only one "
                "image can be compared; select its tests with -k"
            )
        sdk_images.setdefault(base_image, sdk_images[head_image])
    plan = ContainerPlan(
        gpus="none" if settings.gpus == "all" and why_no_gpu() else settings.gpus,
        shm_size=settings.shm_size,
        mounts=settings.mounts,
        env=settings.container_env,
        cpus=split_our_cpus(),
    )
    try:
        launcher = DockerLauncher(sdk_images, plan, tell=progress.step)
    except MissingPartError as error:
        if not settings.no_server:
            raise
        raise MissingPartError(
            f"{settings.no_server}\nA container was tried instead, but {error}"
        ) from None
    cpus = launcher.cpus
    if on_host:
        return launcher, LocalRunner(on_host, cpus=cpus.load), cpus
    return launcher, ToolboxRunner(launcher.toolbox, launcher.describe_toolbox()), cpus


@pytest.fixture
def model_variant(request: pytest.FixtureRequest) -> "Variant":
    """The variant that this test item is about: ``name``, ``overrides``, ``config``."""
    return _perf_test(request, "model_variant").variant


@pytest.fixture
def triton_image(request: pytest.FixtureRequest) -> str | None:
    """The image that the test's Triton runs from; ``None`` where it runs in no container.

    Parametrize it, or override it with a parametrized fixture, to run tests on several images.
    """
    return _perf_test(request, "triton_image").server.image


@pytest.fixture
def triton_server(request: pytest.FixtureRequest) -> "RunningServer":
    """The running server: ``http_url``, ``grpc_url``, ``metrics_url``, ``client``, ``logs()``.

    In a test with a ``perf_sweep`` marker it serves the test's variant.
    """
    test = _perf_test(request, "triton_server")
    with told_without_traceback():
        server = _session(request).server(test.server)
        server.load(test.variant)
    return server


@pytest.fixture
def triton_sweep(
    request: pytest.FixtureRequest, model_variant: "Variant", triton_image: str | None
) -> "Sweep":
    """The test's sweep: every load level of the marker, measured now.

    See :class:`pytest_triton_perf.domain.sweeps.Sweep`.
    """
    test = _perf_test(request, "triton_sweep")
    if triton_image != test.server.image:
        pytest.fail(
            f"the fixture triton_image gives {triton_image!r}, but Triton was to run from its "
            f"param, {test.server.image!r}: make whole names of images its params",
            pytrace=False,
        )
    with told_without_traceback():
        return _session(request).measure(test)


@contextlib.contextmanager
def told_without_traceback() -> Iterator[None]:
    """Fail the test with the message of our errors, which are written for its author."""
    from pytest_triton_perf.errors import TritonPerfError

    try:
        yield
    except TritonPerfError as error:
        raise pytest.fail.Exception(str(error), pytrace=False) from None


def _session(request: pytest.FixtureRequest) -> "PerfSession":
    return request.config.stash[PERF_SESSION]


def _perf_test(request: pytest.FixtureRequest, fixture: str) -> "PerfTest":
    from pytest_triton_perf.collection import PERF_TEST
    from pytest_triton_perf.options import is_enabled

    if not is_enabled(request.config):
        pytest.skip("needs --triton-perf")
    test: PerfTest | None = request.node.stash.get(PERF_TEST, None)
    if test is None:
        pytest.fail(
            f"{fixture} needs @pytest.mark.perf_sweep(model='…', concurrency=[…]) on the test",
            pytrace=False,
        )
    return test
