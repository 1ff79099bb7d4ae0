"""GPUs through NVML, the library of the NVIDIA driver (``pynvml``, package nvidia-ml-py)."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pytest_triton_perf.domain.metrics import GPU_METRICS
from pytest_triton_perf.errors import UsageError
from pytest_triton_perf.probes.base import Reading, SourceLost
from pytest_triton_perf.probes.gpu_figures import MB, MEMORY, PROCESSES, STATE, Figure, memory_info
from pytest_triton_perf.probes.process import DearCall, ProcessTree

_INITIAL_PID_NAMESPACE = "pid:[4026531836]"
"""A constant of the kernel (``PROC_PID_INIT_INO``)."""

_STATE_SHARE = 0.001
"""The part of one CPU core for utilisation, power, temperature and clocks. An H200 takes 0.1 ms to
tell them: it is enough for every 0.1 s with one GPU."""

_STATE_LONGEST_S = 0.3
"""They are read so often with many GPUs too, or the shortest level would be without them."""

_LISTING_SHARE = 0.001
"""The part of one CPU core for listing the GPUs' processes."""

_LISTING_LONGEST_S = 0.2
"""They are listed so often however dear the last time was, on a machine that is busy too: a peak of
the server's own memory that falls between two lists is not seen, and nothing tells of it."""


@dataclass(frozen=True, kw_only=True)
class GpuInfo:
    """A GPU of this machine, or an instance of one that MIG divides. MB are 10**6 bytes."""

    uuid: str
    name: str
    memory_total_mb: float


def find_gpus() -> list[GpuInfo]:
    """The GPUs that NVML finds; none where there is no driver (``why_no_gpu`` says why).

    Of a GPU with MIG switched on, its instances: CUDA uses nothing else of it.
    """
    import pynvml

    try:
        with _nvml():
            return [
                GpuInfo(
                    uuid=uuid,
                    name=pynvml.nvmlDeviceGetName(handle),
                    memory_total_mb=memory_info(pynvml, handle).total / MB,
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
            return "" if _devices() else _why_no_device()
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


@dataclass(kw_only=True)
class _Draft:
    """A reading that is being made."""

    gpus: dict[str, dict[str, float | str | None]]
    missing: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


class NvmlProbe:
    """Memory, utilisation, power, temperature and clocks of GPUs, by UUID.

    ``pid`` is the root of the server's process tree, ``None`` where it is not on this host.
    ``gpus`` are the UUIDs of GPUs or MIG instances to watch, or ``"all"``. Without a GPU every
    reading says why all is missing.

    Memory is read at every reading, the rest as often as its cost allows: every 0.1 to 0.3 s. What
    was not read is left out of a reading.
    Utilisation is NVML's own mean over its last period (1/6 s to 1 s), so it lags. A MIG instance
    gives its memory and its processes alone.

    Raises:
        UsageError: a UUID that was asked for is not there.
    """

    name = "NVML"
    period_s = 0.05
    share = 0.0075
    metrics: tuple[str, ...] = GPU_METRICS

    def __init__(self, pid: int | None, gpus: Literal["all"] | Sequence[str] = "all") -> None:
        import pynvml

        # Looking the module up for each figure would cost a part of what asking NVML does.
        self._nvml: Any = pynvml
        self._tree = None if pid is None else ProcessTree(pid)
        self._sees_host_pids = _in_initial_pid_namespace()
        self._handles: dict[str, Any] = {}
        self._asked = DearCall(_STATE_SHARE, longest_s=_STATE_LONGEST_S)
        self._listed = DearCall(_LISTING_SHARE, longest_s=_LISTING_LONGEST_S)
        self._refused: dict[tuple[str, str], str] = {}
        self._open = False
        self._absent = ""
        if not gpus:
            self._absent = "no GPU is watched (--triton-gpus=none)"
            return
        try:
            pynvml.nvmlInit()
            self._open = True
            self._handles = _devices()
            self._absent = "" if self._handles else _why_no_device()
        except pynvml.NVMLError as error:
            self._absent = _words(error)
        if gpus != "all":
            self._select(gpus)

    def _select(self, gpus: Sequence[str]) -> None:
        unknown = [uuid for uuid in gpus if uuid not in self._handles]
        if unknown:
            self.close()
            found = self._absent or f"NVML finds {', '.join(self._handles)}"
            raise UsageError(f"--triton-gpus: no GPU {', '.join(unknown)} here: {found}")
        self._handles = {uuid: self._handles[uuid] for uuid in gpus}

    def read(self, *, fresh: bool = False) -> Reading:
        """The state of every watched GPU now.

        Raises:
            SourceLost: a GPU fell off the bus, the driver was unloaded, the server ended.
        """
        if self._absent:
            return Reading(missing=dict.fromkeys(self.metrics, self._absent))
        draft = _Draft(gpus={uuid: {} for uuid in self._handles})
        self._add(MEMORY, draft)
        if fresh or self._asked.due():
            self._asked.call(lambda: self._add_state(draft))
        if fresh or self._listed.due():
            self._listed.call(lambda: self._add_processes(draft))
        return Reading(gpus=draft.gpus, missing=draft.missing, notes=tuple(draft.notes))

    def close(self) -> None:
        """End this use of NVML."""
        import pynvml

        if self._tree is not None:
            self._tree.close()
        if self._open:
            self._open = False
            with suppress(pynvml.NVMLError):
                pynvml.nvmlShutdown()

    def _ask(self, uuid: str, handle: Any, figure: Figure) -> tuple[Any, str]:
        """NVML's answer, or ``None`` and why it gives none; a clear no is not asked for again.

        Raises:
            SourceLost: it will not answer again.
        """
        if (why := self._refused.get((uuid, figure.key))) is not None:
            return None, why
        nvml = self._nvml
        try:
            return figure.question(nvml, handle), ""
        except nvml.NVMLError as error:
            if error.value in _lost():
                raise SourceLost(
                    f"GPU {uuid} no longer answers (NVML: {error}); see the Xid lines of dmesg"
                ) from error
            why = f"GPU {uuid}: NVML says {str(error)!r}"
            if error.value == nvml.NVML_ERROR_FUNCTION_NOT_FOUND:
                why = f"GPU {uuid}: this NVIDIA driver is too old to tell"
            elif error.value == nvml.NVML_ERROR_NOT_SUPPORTED and uuid.startswith("MIG-"):
                why = f"GPU {uuid}: NVML does not tell it of a MIG instance"
            elif error.value != nvml.NVML_ERROR_NOT_SUPPORTED:
                return None, why
            self._refused[uuid, figure.key] = why
            return None, why

    def _add(self, figure: Figure, draft: _Draft) -> None:
        """Read one figure of every GPU."""
        for uuid, handle in self._handles.items():
            draft.gpus[uuid][figure.key], why = self._ask(uuid, handle, figure)
            if why and figure.metric is not None:
                draft.missing[figure.metric] = why

    def _add_state(self, draft: _Draft) -> None:
        for figure in STATE:
            self._add(figure, draft)
        if (why := draft.missing.get("power_w")) is not None:
            draft.missing["energy_per_inference_j"] = why
        for uuid, gpu in draft.gpus.items():
            if reasons := gpu["throttle_reasons"]:
                draft.notes.append(f"GPU {uuid} held its clocks down: {reasons}")

    def _add_processes(self, draft: _Draft) -> None:
        """Read what the server's processes take of every GPU, and who else is there.

        Raises:
            SourceLost: the server ended.
        """
        if self._tree is not None:
            self._tree.check()
        for uuid, handle in self._handles.items():
            gpu = draft.gpus[uuid]
            listed, why = None, "the server's processes are not on this host"
            if self._tree is not None:
                listed, why = self._ask(uuid, handle, PROCESSES)
            own, others, why = self._attributed(listed, why)
            gpu["other_processes"] = None if others is None else len(others)
            gpu["process_memory_mb"] = None if own is None else sum(own) / MB
            if others:
                draft.notes.append(
                    f"GPU {uuid} has other users (pid {', '.join(map(str, sorted(others)))}): its "
                    "utilisation, power and energy, and the memory of the device, are theirs too"
                )
            if own is None and gpu["memory_mb"] is not None:
                draft.notes.append(
                    f"the memory of GPU {uuid} and its growth over the idle server are those of "
                    f"the whole device, its other users included: {why}"
                )

    def _attributed(
        self, listed: "list[Any] | None", why: str
    ) -> "tuple[list[int] | None, list[int] | None, str]":
        """Bytes of the server's processes and the pids of others, of a list of NVML's.

        ``None`` for what the list does not tell, and why.
        """
        tree = self._tree
        if listed is None or tree is None:
            return None, None, why
        own = [process.usedGpuMemory for process in listed if tree.holds(process.pid)]
        if not own and not self._sees_host_pids:
            why = (
                "NVML lists processes by their pid on the host, and this is a container; "
                "--pid=host lets it tell them apart"
            )
            return None, None, why
        others = [process.pid for process in listed if tree.holds(process.pid) is False]
        # Drivers in containers list a process with no memory.
        if not all(own):
            return None, others, "the driver does not say how much each process uses"
        return own, others, ""


@contextmanager
def _nvml() -> Iterator[None]:
    import pynvml

    pynvml.nvmlInit()
    try:
        yield
    finally:
        pynvml.nvmlShutdown()


def _devices() -> dict[str, Any]:
    """Handles by UUID: of GPUs, and of the instances of those that MIG divides."""
    import pynvml

    handles = []
    for index in range(pynvml.nvmlDeviceGetCount()):
        gpu = pynvml.nvmlDeviceGetHandleByIndex(index)
        handles += _instances(gpu) if _mig_is_on(gpu) else [gpu]
    return {pynvml.nvmlDeviceGetUUID(handle): handle for handle in handles}


def _instances(gpu: Any) -> list[Any]:
    """The MIG instances of a GPU; their numbers may have gaps."""
    import pynvml

    found = []
    for index in range(pynvml.nvmlDeviceGetMaxMigDeviceCount(gpu)):
        with suppress(pynvml.NVMLError_NotFound):
            found.append(pynvml.nvmlDeviceGetMigDeviceHandleByIndex(gpu, index))
    return found


def _mig_is_on(gpu: Any) -> bool:
    import pynvml

    try:
        current, _ = pynvml.nvmlDeviceGetMigMode(gpu)
    except (pynvml.NVMLError_NotSupported, pynvml.NVMLError_FunctionNotFound):
        return False
    return bool(current == pynvml.NVML_DEVICE_MIG_ENABLE)


def _why_no_device() -> str:
    import pynvml

    if pynvml.nvmlDeviceGetCount():
        return "MIG is on, and no GPU has an instance: make one with nvidia-smi mig -cgi … -C"
    return "the NVIDIA driver finds no GPU"


def _lost() -> tuple[int, ...]:
    """NVML's errors after which it gives no other answer."""
    import pynvml

    return (
        pynvml.NVML_ERROR_GPU_IS_LOST,
        pynvml.NVML_ERROR_RESET_REQUIRED,
        pynvml.NVML_ERROR_UNINITIALIZED,
        pynvml.NVML_ERROR_DRIVER_NOT_LOADED,
    )


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
