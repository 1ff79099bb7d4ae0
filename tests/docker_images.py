"""Real Triton images without a container registry: Debian, and what the wheels of PyPI hold.

The server image is Debian 12 with the tritonserver of ``nvidia-pytriton`` and the Python and numpy
of that Debian: numpy 1, which its python backend needs. The SDK image is Debian 13, the first
whose glibc runs a perf_analyzer from ``perf-analyzer``.
"""

import hashlib
import io
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import docker

NAME = "triton-perf-test/tritonserver"
IMAGE = f"{NAME}:24.10-py3"
OTHER_IMAGE = f"{NAME}:25.01-py3"
"""The same content under another name and image id, for tests of two images."""

_INPUTS = "triton-perf-test.inputs"
_WHEELS = ("nvidia-pytriton==0.7.0", "perf-analyzer==2.60.0")
_PLATFORMS = ("manylinux_2_35_x86_64", "manylinux_2_38_x86_64")
_TRITON = "/opt/tritonserver"
_SERVER_ENV = (
    f"ENV PATH={_TRITON}/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    f"ENV LD_LIBRARY_PATH={_TRITON}/lib",
)


def build_images(client: "docker.DockerClient", workdir: Path) -> None:
    """Build ``IMAGE``, ``OTHER_IMAGE`` and the SDK image of each, unless they are up to date.

    Takes one to two minutes and 3 GB of ``workdir``, whose file system must allow devices and
    programs; needs root and debootstrap. The images take 420 MB.

    Raises:
        RuntimeError: a command failed, with its last words; or one is not here.
    """
    inputs = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()[:16]
    if all(_label(client, tag) == inputs for tag in _tags()):
        return
    if os.geteuid() or not shutil.which("debootstrap"):
        raise RuntimeError("building a Triton image needs root and debootstrap")
    with tempfile.TemporaryDirectory(prefix="images-", dir=workdir) as name:
        folder = Path(name)
        server, sdk = folder / "server", folder / "sdk"
        pip = [sys.executable, "-m", "pip", "download", "-qq", "--no-deps", "--only-binary=:all:"]
        downloads = [
            _debian(server, "bookworm", "python3-numpy", "libpython3.11"),
            _debian(sdk, "trixie"),
            [*pip, f"--dest={folder}", *(f"--platform={p}" for p in _PLATFORMS), *_WHEELS],
        ]
        _run_all(downloads, folder)
        for wheel in folder.glob("*.whl"):
            shutil.unpack_archive(wheel, folder / "wheels", format="zip")
        _install_server(folder / "wheels", server)
        _install_perf_analyzer(folder / "wheels", sdk)
        label = f"LABEL {_INPUTS}={inputs}"
        _import(client, server, IMAGE, [label, *_SERVER_ENV])
        _import(client, sdk, f"{IMAGE}-sdk", [label])
    for suffix in ("", "-sdk"):
        recipe = f"FROM {IMAGE}{suffix}\nLABEL triton-perf-test.other=yes\n"
        client.images.build(fileobj=io.BytesIO(recipe.encode()), tag=OTHER_IMAGE + suffix, rm=True)
    client.images.prune({"label": _INPUTS})  # what these tags named before


def _tags() -> list[str]:
    return [IMAGE, f"{IMAGE}-sdk", OTHER_IMAGE, f"{OTHER_IMAGE}-sdk"]


def _label(client: "docker.DockerClient", tag: str) -> str | None:
    from docker.errors import ImageNotFound

    try:
        return client.images.get(tag).labels.get(_INPUTS)
    except ImageNotFound:
        return None


def _debian(folder: Path, suite: str, *packages: str) -> list[str]:
    include = [f"--include={','.join(packages)}"] if packages else []
    return ["debootstrap", "--variant=minbase", *include, suite, str(folder)]


def _run_all(commands: Sequence[Sequence[str]], folder: Path) -> None:
    """Run the commands side by side, each with its output in a file."""
    logs = [folder / f"log{i}" for i in range(len(commands))]
    running = []
    try:
        for command, log in zip(commands, logs, strict=True):
            with log.open("wb") as out:
                running.append(
                    subprocess.Popen(
                        command, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT
                    )
                )
        for command, log, process in zip(commands, logs, running, strict=True):
            if process.wait():
                words = "\n".join(log.read_text(errors="replace").splitlines()[-20:])
                raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}:\n{words}")
    finally:
        for process in running:
            process.terminate()
            process.wait()


def _install_server(wheels: Path, rootfs: Path) -> None:
    """Put the embedded Triton where NVIDIA's images have theirs, its parts put together."""
    parts, triton = wheels / "pytriton" / "tritonserver", rootfs / _TRITON.lstrip("/")
    _install(parts / "bin" / "tritonserver", triton / "bin")
    shutil.copytree(wheels / "nvidia_pytriton.libs", triton / "lib")
    shutil.copytree(parts / "backends", triton / "backends")
    _install(
        parts / "python_backend_stubs" / "3.11" / "triton_python_backend_stub",
        triton / "backends" / "python",
    )


def _install_perf_analyzer(wheels: Path, rootfs: Path) -> None:
    _install(wheels / "perf_analyzer" / "bin" / "perf_analyzer", rootfs / "usr/local/bin")
    # It opens CUDA's runtime, which NVIDIA's image has, for any kind of shared memory.
    (cudart,) = wheels.glob("nvidia_pytriton.libs/libcudart-*.so.*")
    shutil.copy(cudart, rootfs / "usr/lib/x86_64-linux-gnu/libcudart.so")


def _install(program: Path, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / program.name).write_bytes(program.read_bytes())
    (folder / program.name).chmod(0o755)


def _import(client: "docker.DockerClient", rootfs: Path, tag: str, changes: Sequence[str]) -> None:
    tar = rootfs.with_suffix(".tar")
    leave_out = ("var/cache/apt", "var/lib/apt/lists", "usr/share/doc", "usr/share/locale")
    excludes = [f"--exclude=./{folder}/*" for folder in leave_out]
    subprocess.run(["tar", "-C", rootfs, *excludes, "-cf", tar, "."], check=True)
    repository, _, version = tag.partition(":")
    client.api.import_image_from_file(str(tar), repository, version, list(changes))
    tar.unlink()
