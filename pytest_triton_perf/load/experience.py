"""What runs of perf_analyzer teach about the next: its length, and whether it can record. Pure."""

from dataclasses import dataclass, field

from pytest_triton_perf.domain.levels import Load
from pytest_triton_perf.load import windows
from pytest_triton_perf.load.export import affordable
from pytest_triton_perf.load.parsing import ParsedReport


@dataclass(kw_only=True)
class ExportSize:
    """What is known of the exports of one kind of traffic, whichever variant is loaded.

    ``trouble`` says in words why they cannot be had at any rate.
    """

    bytes_per_inference: float | None = None
    trouble: str = ""


@dataclass(kw_only=True)
class Experience:
    """What the runs of one kind of traffic taught since the model was loaded.

    ``at_least_ms`` is the window to begin with, as long as no run had an answer in each of its.
    """

    at_least_ms: float = windows.SHORTEST_MS
    _lessons: dict[Load, windows.Lesson] = field(default_factory=dict)
    _recorded: dict[Load, bool] = field(default_factory=dict)

    @property
    def answers(self) -> bool:
        """Whether a run had an answer in each of its windows."""
        return bool(self._lessons)

    def learn(self, load: Load, report: ParsedReport, *, percentile: int = 99) -> None:
        """Remember how many requests a level answers, and how fast."""
        self._lessons[load] = windows.Lesson(
            load=load,
            rate=report.throughput / load.batch_size,
            latency_s=report.percentiles_ms[percentile] / 1000,
        )
        self.at_least_ms = windows.SHORTEST_MS

    def window(self, load: Load, seconds: float) -> float:
        """The window for ``seconds`` of load, in ms."""
        lessons = list(self._lessons.values())
        return windows.window_for(load, seconds, lessons, at_least_ms=self.at_least_ms)

    def is_recorded(self, load: Load, size: ExportSize) -> bool | None:
        """Whether the level's requests are recorded; ``None`` where a short run has to tell.

        Once decided it stays so: single requests and windows are no one sample.
        """
        if load not in self._recorded:
            decided = self._decide(load, size)
            if decided is None:
                return None
            self._recorded[load] = decided
        return self._recorded[load]

    def keep_recording(self, load: Load, recorded: bool) -> None:
        """Decide whether the level's requests are recorded, because they were or were not."""
        self._recorded[load] = recorded

    def _decide(self, load: Load, size: ExportSize) -> bool | None:
        if size.trouble:
            return False
        rates = windows.expected_rates(load, list(self._lessons.values()))
        if size.bytes_per_inference is None or rates is None:
            return None
        return affordable(size.bytes_per_inference * load.batch_size, rates)
