"""GPUs through NVML, the library of the NVIDIA driver (``pynvml``, package nvidia-ml-py)."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pytest_triton_perf.domain.metrics import GPU_METRICS
from pytest_triton_perf.errors import UsageError
from pytest_triton_perf.probes.base import Reading, SourceLost
from pytest_triton_perf.probes.process import ProcessTree

_MB = 10**6

_INITIAL_PID_NAMESPACE = "pid:[4026531836]"
"""A constant of the kernel (``PROC_PID_INIT_INO``)."""


@dataclass(frozen=True, kw_only=True)
class GpuInfo:
    """A GPU of this machine. MB are 10**6 bytes."""

    uuid: str
    name: str
    memory_total_mb: float


def find_gpus() -> list[GpuInfo]:
    """The GPUs that NVML finds; none where there is no driver (``why_no_gpu`` says why)."""
    import pynvml

    try:
        with _nvml():
            return [
                GpuInfo(
                    uuid=uuid,
                    name=pynvml.nvmlDeviceGetName(handle),
                    memory_total_mb=_memory_info(handle).total / _MB,
                )
                for uuid, handle in _devices().items()
            ]
    except pynvml.NVMLError:
        return []


def why_no_gpu() -> str:
    """Why ``find_gpus`` finds none, in words; empty where it finds some."""
    import pynvml

    try:
        with _nvml():
            return "" if _devices() else "the NVIDIA driver finds no GPU"
    except pynvml.NVMLError as error:
        return _words(error)


def driver_version() -> str | None:
    """The version of the NVIDIA driver; ``None`` where there is none."""
    import pynvml

    try:
        with _nvml():
            return str(pynvml.nvmlSystemGetDriverVersion())
    except pynvml.NVMLError:
        return None


class NvmlProbe:
    """Memory, utilisation and power of GPUs, by UUID.

    ``pid`` is the root of the server's process tree, ``None`` where it is not on this host.
    ``gpus`` are the UUIDs to watch, or ``"all"``. Without a GPU every reading says why all is
    missing. Utilisation is NVML's own mean over its last period (1/6 s to 1 s), so it lags.

    Raises:
        UsageError: a UUID that was asked for is not there.
    """

    metrics: tuple[str, ...] = GPU_METRICS

    def __init__(self, pid: int | None, gpus: Literal["all"] | Sequence[str] = "all") -> None:
        import pynvml

        self._tree = None if pid is None else ProcessTree(pid)
        self._handles: dict[str, Any] = {}
        self._open = False
        self._absent = ""
        if not gpus:
            self._absent = "no GPU is watched (--triton-gpus=none)"
            return
        try:
            pynvml.nvmlInit()
            self._open = True
            self._handles = _devices()
        except pynvml.NVMLError as error:
            self._absent = _words(error)
        else:
            self._absent = "" if self._handles else "the NVIDIA driver finds no GPU"
        if gpus != "all":
            self._select(gpus)

    def _select(self, gpus: Sequence[str]) -> None:
        unknown = [uuid for uuid in gpus if uuid not in self._handles]
        if unknown:
            self.close()
            found = self._absent or f"NVML finds {', '.join(self._handles)}"
            raise UsageError(f"--triton-gpus: no GPU {', '.join(unknown)} here: {found}")
        self._handles = {uuid: self._handles[uuid] for uuid in gpus}

    def read(self) -> Reading:
        """The state of every watched GPU now.

        Raises:
            SourceLost: a GPU fell off the bus, the driver was unloaded, the server ended.
        """
        if self._absent:
            return Reading(missing=dict.fromkeys(self.metrics, self._absent))
        if self._tree is not None:
            self._tree.root()
        gpus: dict[str, dict[str, float | None]] = {}
        missing: dict[str, str] = {}
        notes: list[str] = []
        for uuid, handle in self._handles.items():
            gpu = gpus[uuid] = {}
            for key, metric, question in (
                ("memory_mb", "gpu_memory_mb", _used_mb),
                ("utilization_pct", "gpu_utilization_pct", _utilization_pct),
                ("power_w", "power_w", _power_w),
            ):
                gpu[key], why = _ask(uuid, handle, question)
                if why:
                    missing[metric] = why
            gpu["process_memory_mb"], why = self._process_memory(uuid, handle)
            if why and gpu["memory_mb"] is not None:
                notes.append(
                    f"the memory of GPU {uuid} is that of the whole device, its other users "
                    f"included: {why}"
                )
        return Reading(gpus=gpus, missing=missing, notes=tuple(notes))

    def close(self) -> None:
        """End this use of NVML."""
        import pynvml

        if self._open:
            self._open = False
            with suppress(pynvml.NVMLError):
                pynvml.nvmlShutdown()

    def _process_memory(self, uuid: str, handle: Any) -> tuple[float | None, str]:
        """MB of the server's processes on one GPU, or ``None`` and why NVML cannot tell."""
        import pynvml

        tree = self._tree
        if tree is None:
            return None, "the server's processes are not on this host"
        listed, why = _ask(uuid, handle, pynvml.nvmlDeviceGetComputeRunningProcesses_v3)
        if listed is None:
            return None, why
        own = [process.usedGpuMemory for process in listed if tree.holds(process.pid)]
        # Drivers in containers list a process with no memory, or with a pid of the host.
        if not all(own):
            return None, "the driver does not say how much each process uses"
        if not own and not _in_initial_pid_namespace():
            return None, (
                "NVML lists processes by their pid on the host, and this is a container; "
                "--pid=host lets it tell them apart"
            )
        return sum(own) / _MB, ""


@contextmanager
def _nvml() -> Iterator[None]:
    import pynvml

    pynvml.nvmlInit()
    try:
        yield
    finally:
        pynvml.nvmlShutdown()


def _devices() -> dict[str, Any]:
    """Handles by UUID."""
    import pynvml

    handles = [pynvml.nvmlDeviceGetHandleByIndex(i) for i in range(pynvml.nvmlDeviceGetCount())]
    return {pynvml.nvmlDeviceGetUUID(handle): handle for handle in handles}


def _memory_info(handle: Any) -> Any:
    """``used`` as nvidia-smi shows it; drivers before 510 count what they reserve as used."""
    import pynvml

    try:
        return pynvml.nvmlDeviceGetMemoryInfo(handle, version=pynvml.nvmlMemory_v2)
    except pynvml.NVMLError_FunctionNotFound:
        return pynvml.nvmlDeviceGetMemoryInfo(handle)


def _used_mb(handle: Any) -> float:
    return float(_memory_info(handle).used / _MB)


def _utilization_pct(handle: Any) -> float:
    import pynvml

    return float(pynvml.nvmlDeviceGetUtilizationRates(handle).gpu)


def _power_w(handle: Any) -> float:
    import pynvml

    return float(pynvml.nvmlDeviceGetPowerUsage(handle) / 1000)


def _ask(uuid: str, handle: Any, question: Callable[[Any], Any]) -> tuple[Any, str]:
    """NVML's answer, or ``None`` and why it gives none.

    Raises:
        SourceLost: it will not answer again.
    """
    import pynvml

    try:
        return question(handle), ""
    except pynvml.NVMLError as error:
        lost = (
            pynvml.NVML_ERROR_GPU_IS_LOST,
            pynvml.NVML_ERROR_RESET_REQUIRED,
            pynvml.NVML_ERROR_UNINITIALIZED,
            pynvml.NVML_ERROR_DRIVER_NOT_LOADED,
        )
        if error.value in lost:
            raise SourceLost(
                f"GPU {uuid} no longer answers (NVML: {error}); see the Xid lines of dmesg"
            ) from error
        return None, f"GPU {uuid}: NVML says {str(error)!r}"


def _words(error: Any) -> str:
    """Why NVML does not start."""
    import pynvml

    known = {
        pynvml.NVML_ERROR_LIBRARY_NOT_FOUND: "no NVIDIA driver: libnvidia-ml.so.1 was not found",
        pynvml.NVML_ERROR_DRIVER_NOT_LOADED: (
            "libnvidia-ml.so.1 is there, but the NVIDIA kernel driver is not loaded"
        ),
        pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH: (
            "libnvidia-ml.so.1 and the loaded NVIDIA driver differ in version: restart the machine"
        ),
    }
    return known.get(error.value, f"NVML does not start: {error}")


def _in_initial_pid_namespace() -> bool:
    return str(Path("/proc/self/ns/pid").readlink()) == _INITIAL_PID_NAMESPACE
