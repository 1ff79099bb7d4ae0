"""Segments of load made by hand: a closed loop played through, latency by latency."""

import heapq
from collections.abc import Sequence

import numpy as np

from pytest_triton_perf.domain.segments import Segment, Window


def closed_loop(
    latencies_s: Sequence[float],
    clients: int = 1,
    *,
    failed: Sequence[int] = (),
    started: float = 0.0,
    batch_size: int = 1,
) -> Segment:
    """Clients that each take the next latency as soon as they have their answer.

    ``failed`` are requests, by order of sending, that end after their latency with no answer.
    """
    free = [0.0] * clients
    rows = []
    for number, latency in enumerate(latencies_s):
        sent = heapq.heappop(free)
        heapq.heappush(free, sent + latency)
        rows.append((sent + latency, sent, number in failed))
    rows.sort()
    ended, sent_s, lost = np.array(rows).T
    return Segment(
        started=started,
        ended=started + float(ended[-1]),
        in_flight=clients,
        batch_size=batch_size,
        sent_s=sent_s,
        answered_s=np.where(lost == 1, np.inf, ended),
    )


def lognormal(seed: int, count: int, median_s: float = 0.001) -> np.ndarray:
    return median_s * np.exp(0.5 * np.random.default_rng(seed).standard_normal(count))


def windows(*averages_ms: float, requests: int = 100, **percentiles_ms: float) -> Segment:
    """Windows of a second each; ``p99=12.0`` gives all of them that percentile."""
    percentiles = {int(name[1:]): value for name, value in percentiles_ms.items()} or None
    return Segment(
        started=0.0,
        ended=float(len(averages_ms)),
        windows=tuple(
            Window(
                requests=requests, seconds=1.0, avg_latency_ms=average, percentiles_ms=percentiles
            )
            for average in averages_ms
        ),
    )
