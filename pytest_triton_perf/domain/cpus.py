"""Which CPUs the server gets and which the load generator, so that neither slows the other."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass

ENOUGH = 4
"""With fewer CPUs, the server would lose more by what it gives away than by sharing it."""

_SHARE = 1 / 4
_MOST = 4
"""What the load generator gets of all CPUs, and at most: it only sends what it made before."""

_WHOLE = 1 / 3
"""A core is split between the two where the whole of it were more than this share of all CPUs."""


@dataclass(frozen=True, kw_only=True)
class CpuSplit:
    """CPUs, by number, of the server and of the load generator; both empty where they share all.

    ``because`` says why they share, empty where they do not.
    """

    server: tuple[int, ...] = ()
    load: tuple[int, ...] = ()
    because: str = ""

    def describe(self) -> dict[str, str]:
        """What the environment section of the results says about it."""
        if self.because:
            return {"none": self.because}
        return {"server": cpu_list(self.server), "load_generator": cpu_list(self.load)}


def split_cpus(allowed: Collection[int], cores: Iterable[Collection[int]]) -> CpuSplit:
    """Split the CPUs that this process may use.

    ``cores`` are the CPUs (hardware threads) of each physical core. The load generator gets a
    quarter of the CPUs, one to four, and whole cores where these are not too large: two threads of
    a core slow each other down. It gets the last ones; the first is where most of a system's
    interrupts go, and that disturbs latencies less in the server than in what measures them.
    """
    if len(allowed) < ENOUGH:
        return CpuSplit(because=f"they share {cpu_list(allowed)}: fewer than {ENOUGH} CPUs")
    wanted = min(_MOST, max(1, round(_SHARE * len(allowed))))
    mine = {frozenset(core) & frozenset(allowed) for core in cores} - {frozenset()}
    mine |= {frozenset({cpu}) for cpu in set(allowed).difference(*mine)}
    load: set[int] = set()
    for core in sorted(mine, key=max, reverse=True):
        if len(load) < wanted and len(load | core) <= max(wanted, _WHOLE * len(allowed)):
            load |= core
    load = load or set(sorted(allowed)[-wanted:])
    return CpuSplit(server=tuple(sorted(set(allowed) - load)), load=tuple(sorted(load)))


def cpu_list(cpus: Iterable[int]) -> str:
    """The CPUs as Linux and Docker write them: ``0-5,8``."""
    ranges: list[list[int]] = []
    for cpu in sorted(cpus):
        if ranges and cpu == ranges[-1][-1] + 1:
            ranges[-1][1:] = [cpu]
        else:
            ranges.append([cpu])
    return ",".join("-".join(map(str, ends)) for ends in ranges)


def parse_cpu_list(text: str) -> set[int]:
    """The CPUs of a list as Linux writes it: ``0-5,8``."""
    cpus: set[int] = set()
    for part in text.strip().split(","):
        first, _, last = part.partition("-")
        cpus.update(range(int(first), int(last or first) + 1))
    return cpus
