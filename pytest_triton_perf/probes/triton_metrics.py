"""GPUs through Triton's own metrics endpoint (Prometheus text, parsed by ``prometheus_client``).

What Triton does is read from its source (triton-inference-server/core, ``src/metrics.cc``): its
figures are those of whole devices by DCGM, refreshed every half of ``--metrics-interval-ms`` (so
each second, unless told otherwise), and 0 where DCGM could not read one.
"""

import http.client
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from pytest_triton_perf.domain.metrics import GPU_METRICS, METRICS, PROCESS_METRICS
from pytest_triton_perf.errors import UsageError
from pytest_triton_perf.probes.base import Reading
from pytest_triton_perf.probes.sampler import Sampler

ASK_S = 3.0
"""How long the endpoint may take to answer at collection."""

_READ_S = 2.0
_ENOUGH = 5
"""So many refreshes make a peak and a mean that need no remark."""
_MOST_BYTES = 32 * 2**20
_MB = 10**6

_FAMILIES = {
    "memory_mb": ("nv_gpu_memory_used_bytes", 1 / _MB),
    "memory_total_mb": ("nv_gpu_memory_total_bytes", 1 / _MB),
    "utilization_pct": ("nv_gpu_utilization", 100.0),
    "power_w": ("nv_gpu_power_usage", 1.0),
    "energy_j": ("nv_energy_consumption", 1.0),
}
"""What a reading holds of a GPU -> Triton's metric, and the factor to our unit."""

_SUPPLIES = {
    "gpu_memory_mb": "memory_mb",
    "gpu_utilization_pct": "utilization_pct",
    "power_w": "power_w",
    # The sampler makes do with the power where a GPU counts no energy.
    "energy_per_inference_j": "power_w",
}

_NOT_TOLD = {
    "gpu_memory_delta_mb": "what the idle server takes is not known: it ran before this session",
}
_CPU = "Triton's metrics endpoint knows the whole machine's CPU and memory, not the server's"
_REFRESHED = ("nv_gpu_", "nv_cpu_", "nv_energy_")
"""What Triton refreshes at each interval; the rest of the text follows the requests."""


class EndpointError(Exception):
    """The metrics endpoint gave no metrics; the message says where and why."""


@dataclass(frozen=True, kw_only=True)
class MetricsEndpoint:
    """Where a Triton serves its metrics, and the PEM files that TLS needs."""

    url: str
    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None

    @classmethod
    def at(cls, address: str, **files: Path | None) -> "MetricsEndpoint":
        """The endpoint at ``host:8002``, or at a URL; the path is ``/metrics`` unless given.

        Raises:
            UsageError: the address is neither.
        """
        url = address if "://" in address else f"http://{address}"
        try:
            parts = urlsplit(url)
            known = parts.hostname and (parts.port or "://" in address)
        except ValueError:
            known = False
        if not known or parts.scheme not in ("http", "https") or parts.query or parts.fragment:
            raise UsageError(
                f"--triton-metrics-url: {address!r}: expected host:port of Triton's metrics, as in "
                "triton.example:8002, or http://host:port/metrics"
            )
        path = parts.path if parts.path.strip("/") else "/metrics"
        return cls(url=f"{parts.scheme}://{parts.netloc}{path}", **files)

    @property
    def tls(self) -> bool:
        """Whether the connection is encrypted."""
        return self.url.startswith("https://")

    def __str__(self) -> str:
        return self.url

    def ask(self, seconds: float) -> "Answer":
        """What Triton says now.

        Raises:
            EndpointError: no metrics of a Triton came within ``seconds``.
        """
        try:
            return Answer.parse(self._text(seconds))
        except TimeoutError:
            why = f"it did not answer within {seconds:g} s"
        except http.client.HTTPException as error:
            why = f"what answers there does not speak HTTP ({type(error).__name__})"
        except (OSError, ValueError) as error:
            why = str(error) or type(error).__name__
        raise EndpointError(f"Triton's metrics endpoint {self}: {why}")

    def _text(self, seconds: float) -> str:
        deadline = time.monotonic() + seconds
        connection = self._connection(seconds)
        try:
            connection.connect()
            line = connection.sock
            line.settimeout(seconds)
            connection.request("GET", urlsplit(self.url).path)
            answer = connection.getresponse()
            body = bytearray()
            while chunk := answer.read1(2**16):
                body += chunk
                if len(body) > _MOST_BYTES:
                    raise ValueError(f"it sends more than {_MOST_BYTES / _MB:.0f} MB")
                if (left := deadline - time.monotonic()) <= 0:
                    raise TimeoutError
                line.settimeout(left)
        finally:
            connection.close()
        if answer.status != http.HTTPStatus.OK:
            raise ValueError(f"HTTP status {answer.status} ({answer.reason})")
        if answer.length or not body.endswith(b"\n"):
            raise ValueError("its answer was cut off")
        return body.decode(errors="replace")

    def _connection(self, seconds: float) -> http.client.HTTPConnection:
        where = urlsplit(self.url).netloc
        if not self.tls:
            return http.client.HTTPConnection(where, timeout=seconds)
        context = ssl.create_default_context(cafile=self.ca)
        if self.certificate is not None:
            context.load_cert_chain(self.certificate, self.key)
        return http.client.HTTPSConnection(where, timeout=seconds, context=context)


@dataclass(frozen=True, kw_only=True)
class Answer:
    """One answer of the endpoint.

    ``gpus`` is keyed as :class:`Reading`'s; a figure that Triton could not read is ``None``.
    ``missing`` has the reason of each metric that it does not supply, by metric name.
    ``refreshed`` is the part of the text that Triton refreshes at each interval: two answers
    with the same one come from one reading of Triton's.
    """

    gpus: Mapping[str, Mapping[str, float | None]]
    missing: Mapping[str, str]
    refreshed: str

    @classmethod
    def parse(cls, text: str) -> "Answer":
        """What the Prometheus text says of the GPUs.

        Raises:
            ValueError: it is no text of a Triton.
        """
        from prometheus_client.parser import text_string_to_metric_families

        # A server with hundreds of models has thousands of lines, which take the parser long.
        lines = text.splitlines(keepends=True)
        refreshed = "".join(line for line in lines if line.startswith(_REFRESHED))
        if not any(line.startswith("nv_") for line in lines):
            raise ValueError(f"what it sends are no metrics of a Triton: {text[:60]!r}")
        found: dict[str, dict[str, float]] = {}
        for family in text_string_to_metric_families(refreshed):
            for sample in family.samples:
                if uuid := sample.labels.get("gpu_uuid"):
                    # The parser gives counters OpenMetrics' ending.
                    name = sample.name.removesuffix("_total")
                    found.setdefault(uuid, {})[name] = sample.value
        gpus = {uuid: _figures(values) for uuid, values in found.items()}
        return cls(gpus=gpus, missing=_not_supplied(gpus, found), refreshed=refreshed)


def _figures(values: Mapping[str, float]) -> dict[str, float | None]:
    """A GPU's figures in our units; ``None`` where Triton's 0 (or NaN) stands for no figure.

    A GPU has memory and draws power. Before DCGM was read first, and where it cannot be, all is
    0; an idle GPU's utilisation is 0 too, which is the probe's to tell apart.
    """
    gpu: dict[str, float | None] = {}
    for key, (name, factor) in _FAMILIES.items():
        value = values.get(name)
        gpu[key] = None if value is None or not value >= 0 else value * factor
    if not gpu["memory_total_mb"]:
        gpu["memory_total_mb"] = gpu["memory_mb"] = None
    gpu["power_w"] = gpu["power_w"] or None
    gpu["energy_j"] = gpu["energy_j"] or None
    return gpu


def _not_supplied(
    gpus: Mapping[str, Mapping[str, float | None]], found: Mapping[str, Mapping[str, float]]
) -> dict[str, str]:
    missing = {}
    for metric in METRICS.values():
        if metric.name in PROCESS_METRICS:
            missing[metric.name] = _CPU
        elif metric.name in GPU_METRICS:
            key = _SUPPLIES.get(metric.name)
            if not gpus:
                missing[metric.name] = (
                    "Triton's metrics name no GPU: it sees none, DCGM did not start there (see its "
                    "log), or it runs with --allow-gpu-metrics=false"
                )
            elif key is None:
                missing[metric.name] = _NOT_TOLD.get(
                    metric.name, f"Triton's metrics do not tell the {metric.label}"
                )
            elif lacking := [uuid for uuid, gpu in gpus.items() if gpu[key] is None]:
                name, _ = _FAMILIES[key]
                known = name in found[lacking[0]]
                missing[metric.name] = (
                    f"Triton could not read {name} of GPU {lacking[0]}: see its log"
                    if known
                    else f"Triton's metrics have no {name} of GPU {lacking[0]}"
                )
    return missing


class TritonMetricsProbe:
    """GPUs of a server whose machine cannot be looked into.

    Only what Triton refreshed since the reading before is a figure: a level's figures are then
    its own. An endpoint that does not answer once is asked again.
    """

    name = "Triton's metrics endpoint"
    period_s = 0.25
    share = 0.01
    metrics: tuple[str, ...] = (*GPU_METRICS, *PROCESS_METRICS)

    def __init__(self, endpoint: MetricsEndpoint) -> None:
        self._endpoint = endpoint
        self._last = ""
        self._busy: set[str] = set()
        """GPUs whose utilisation was above 0 before: their 0 is no failure of Triton's."""

    def read(self, *, fresh: bool = False) -> Reading:
        """What Triton refreshed since the last reading; nothing is remembered beyond that."""
        try:
            answer = self._endpoint.ask(_READ_S)
        except EndpointError as error:
            return Reading(missing=dict.fromkeys(self.metrics, str(error)))
        if answer.refreshed == self._last:
            why = f"Triton did not refresh its metrics ({self._endpoint}) in this interval"
            return Reading(missing={**dict.fromkeys(self.metrics, why), **answer.missing})
        self._last = answer.refreshed
        self._busy |= {uuid for uuid, gpu in answer.gpus.items() if gpu["utilization_pct"]}
        missing = dict(answer.missing)
        gpus = {uuid: {**gpu, "process_memory_mb": None} for uuid, gpu in answer.gpus.items()}
        for uuid, gpu in gpus.items():
            if uuid not in self._busy and gpu["utilization_pct"] is not None:
                gpu["utilization_pct"] = None
                missing["gpu_utilization_pct"] = (
                    f"Triton's metrics have had nothing but 0 for the utilization of GPU {uuid}, "
                    "which is also what they have where it cannot be read"
                )
        return Reading(gpus=gpus, missing=missing)

    def close(self) -> None:
        """Nothing to give back: each reading has a connection of its own."""

    def remarks(self, sampler: Sampler, start: float, end: float) -> list[str]:
        """How good the figures of the interval are."""
        samples = [reading for source in sampler.series(start, end) for _, reading in source]
        refreshed = sum(bool(reading.gpus) for reading in samples)
        if not refreshed:
            return []
        found = [
            "GPU memory, utilization and power are those of whole devices, their other users "
            f"included, by Triton's metrics ({self._endpoint})"
        ]
        if refreshed < _ENOUGH:
            times = "once" if refreshed == 1 else f"{refreshed} times"
            found.append(
                f"Triton refreshed its metrics only {times} while this was measured; it does so "
                "twice per --metrics-interval-ms, each second unless told otherwise"
            )
        return found
