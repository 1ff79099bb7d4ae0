"""The hooks of a session that measures: collect, judge, report.

The exit status and the files are decided in ``pytest_sessionfinish``; the terminal summary only
prints what was decided.
"""

import functools
import os
import signal
import time
import uuid
from collections.abc import Generator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import pytest

from pytest_triton_perf.against import Against, AgainstImage, AgainstRepository
from pytest_triton_perf.collection import PERF_TEST, PerfTest, image_given, prepare
from pytest_triton_perf.domain.budgets import Budget
from pytest_triton_perf.domain.comparisons import Comparison
from pytest_triton_perf.domain.explain import explain_verdict, title, verdict_text
from pytest_triton_perf.domain.metrics import METRICS
from pytest_triton_perf.domain.names import listed
from pytest_triton_perf.domain.results import Run, from_json, merge, to_json
from pytest_triton_perf.domain.sweeps import Sweep
from pytest_triton_perf.errors import InconclusiveWarning, TritonPerfError, UsageError
from pytest_triton_perf.fixtures import PERF_SESSION, compose
from pytest_triton_perf.probes.triton_metrics import ASK_S, EndpointError
from pytest_triton_perf.progress import Progress
from pytest_triton_perf.servers.remote import UNSEEN
from pytest_triton_perf.settings import Settings

if TYPE_CHECKING:
    from pytest_triton_perf.baselines import Baselines

_LOG_LINES = 10
"""Of the server's log, below a test that failed."""

_WORKER_RUN = "triton_perf_run"
_WORKER_PROBLEM = "triton_perf_problem"


class Lifecycle:
    """From collection to the reports, for one pytest process (an xdist worker included)."""

    @classmethod
    def of(cls, config: pytest.Config) -> "Lifecycle":
        """The lifecycle for a config.

        Raises:
            pytest.UsageError: an option has an impossible value.
        """
        try:
            settings = Settings.from_config(config)
            return cls(config, settings, _baselines(config, settings))
        except UsageError as error:
            raise pytest.UsageError(str(error)) from None

    def __init__(
        self, config: pytest.Config, settings: Settings, baselines: "Baselines | None"
    ) -> None:
        self._config = config
        self._settings = settings
        self._baselines = baselines
        self._progress = Progress(config)
        self._started = time.monotonic()
        self._worker_output: dict[str, Any] | None = getattr(config, "workeroutput", None)
        self._worker_runs: list[Run] = []
        self._worker_problem = ""
        self._run: Run | None = None
        self._tests: list[PerfTest] = []
        self._against: Against | None = None
        self._compared = False
        self._problems: list[str] = []
        self._old_sigterm: Any = None

    # -- collection

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        try:
            if self._settings.remote is not None and self._worker_output is not None:
                raise UsageError(
                    "--triton-launch=remote: workers of pytest-xdist would change each other's "
                    "models on the one server; run with -n0"
                )
            named = any(image_given(item) is not None for item in items)
            settings = self._settings.decided(image_given=named)
            if not self._config.option.collectonly:
                self._against = _against(settings)
            prepare(items, settings, self._why_unmeasurable, self._against)
            tests = [item.stash[PERF_TEST] for item in items if PERF_TEST in item.stash]
            self._tests = tests
            if tests and not self._config.option.collectonly:
                from pytest_triton_perf.reports import check_output

                check_output(self._settings.output)
                self._progress.total = sum(len(test.sweep.loads) for test in tests)
                images = dict.fromkeys(image for test in tests if (image := test.server.image))
                worker = getattr(self._config, "workerinput", {})
                self._config.stash[PERF_SESSION] = compose(
                    settings,
                    list(images),
                    self._progress,
                    session=worker.get("testrunuid") or uuid.uuid4().hex,
                    against=self._against,
                )
        except TritonPerfError as error:
            if self._worker_output is None:
                raise pytest.UsageError(str(error)) from None
            # xdist would take the error for a crash; its controller raises it instead.
            self._worker_output[_WORKER_PROBLEM] = str(error)
            items.clear()

    def _why_unmeasurable(self, budget: Budget) -> str | None:
        if self._settings.remote is not None and budget.metric.source in ("gpu", "process"):
            why = self._not_seen_from_here.get(budget.metric.name)
            return f"{budget.name} cannot be measured: {why}" if why else None
        if budget.metric.source != "gpu":
            return None
        if self._settings.gpus == "none":
            return f"{budget.name} cannot be measured: --triton-gpus=none"
        from pytest_triton_perf.probes.nvml import why_no_gpu

        why = why_no_gpu()
        if not why:
            return None
        return (
            f"{budget.name} cannot be measured here: {why}; run it where there is a GPU, or leave "
            "the budget out on this machine"
        )

    @functools.cached_property
    def _not_seen_from_here(self) -> Mapping[str, str]:
        """Why metrics of a remote server's machine cannot be measured, by metric name."""
        if self._settings.metrics is None:
            hint = "; for GPU metrics, --triton-metrics-url=host:8002 names Triton's own"
            return {
                metric.name: f"{UNSEEN}{hint if metric.source == 'gpu' else ''}"
                for metric in METRICS.values()
            }
        try:
            return self._settings.metrics.ask(ASK_S).missing
        except EndpointError as error:
            return dict.fromkeys(METRICS, str(error))

    # -- running

    def pytest_sessionstart(self) -> None:
        # A cancelled CI job gets SIGTERM: end as on Ctrl-C, with clean-up and reports.
        if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
            self._old_sigterm = signal.signal(signal.SIGTERM, _exit_on_sigterm)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtestloop(self) -> Generator[None, object, object]:
        """Compare with the base after the tests, so that those on one model share the quads."""
        result = yield
        session = self._config.stash.get(PERF_SESSION, None)
        if session is not None and self._against is not None:
            session.compare(self._tests)
            self._compared = True
        # JUnit's file is written before the session's end reaches us.
        runs = self._worker_runs
        self._record(session.comparisons() if session else [c for r in runs for c in r.comparisons])
        return result

    def _record(self, comparisons: Sequence[Comparison]) -> None:
        """Give the JUnit file what the gates came to, as ``record_testsuite_property`` does."""
        from _pytest.junitxml import xml_key

        from pytest_triton_perf.reports.properties import of_comparisons

        if (xml := self._config.stash.get(xml_key, None)) is not None:
            for name, value in of_comparisons(comparisons):
                xml.add_global_property(name, value)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Generator[None, Any, Any]:
        result = yield
        if (test := item.stash.get(PERF_TEST, None)) is not None:
            session = item.config.stash[PERF_SESSION]
            broken = []
            verdicts = session.judge(test)
            if (search := session.search(test)) is not None and search.why_none:
                broken.append(search.why_none)
            for verdict, sweep in verdicts:
                if verdict.status == "passed":
                    continue
                undecided = verdict.status == "inconclusive"
                action = self._settings.inconclusive if undecided else "fail"
                if action == "fail":
                    broken.append(explain_verdict(verdict, sweep))
                elif action == "warn":
                    item.warn(InconclusiveWarning(f"{title(verdict)}: {verdict_text(verdict)}"))
            if broken:
                pytest.fail("\n\n".join(broken), pytrace=False)
        return result

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        report = yield
        test = item.stash.get(PERF_TEST, None)
        session = self._config.stash.get(PERF_SESSION, None)
        if test is not None and session is not None:
            self._progress.clear()
            if report.failed and call.when in ("setup", "call"):
                session.judge(test)
                _add_sweep(report, session.sweep(test))
                self._keep_log(report, session.server_log())
            if call.when == "teardown":
                from pytest_triton_perf.reports.properties import of_verdicts

                report.user_properties.extend(of_verdicts(session.verdicts(test)))
        return report

    def _keep_log(self, report: pytest.TestReport, log: str) -> None:
        """Show the end of the server's log below a failure, and keep all of it."""
        from pytest_triton_perf.reports.names import safe_name

        if not log:
            return
        file = self._settings.output / "logs" / f"{safe_name(report.nodeid)}.log"
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(log)
            where = f"(all of it: {self._relative(file)})"
        except OSError as error:
            where = f"(not kept: {error})"
        end = log.strip().splitlines()[-_LOG_LINES:]
        report.sections.append(("tritonserver log", "\n".join([*end, where])))

    def _relative(self, path: Path) -> str:
        return os.path.relpath(path, self._config.invocation_params.dir)

    # -- the end

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        output = getattr(node, "workeroutput", {})
        if (data := output.get(_WORKER_RUN)) is not None:
            self._worker_runs.append(from_json(data))
        self._worker_problem = output.get(_WORKER_PROBLEM, self._worker_problem)

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        """Write the reports while the server ends; an xdist worker hands its run over instead."""
        if self._old_sigterm is not None:
            signal.signal(signal.SIGTERM, self._old_sigterm)
        if self._worker_problem:
            raise pytest.UsageError(self._worker_problem)
        perf = self._config.stash.get(PERF_SESSION, None)
        if perf is None and not self._worker_runs:
            return
        wall_s = time.monotonic() - self._started
        try:
            runs = self._worker_runs
            if perf is not None:
                perf.begin_stop()
                measured = perf.run(wall_s=wall_s, exit_status=int(exitstatus))
                runs = [*runs, replace(measured, notes=[*measured.notes, *self._uncompared()])]
            run = merge(runs)
            if self._baselines is not None and self._worker_output is None:
                run = self._baselines.judged(run)
            if exitstatus == pytest.ExitCode.OK and any(c.fails for c in run.comparisons):
                exitstatus = session.exitstatus = pytest.ExitCode.TESTS_FAILED
            run = replace(run, wall_s=wall_s, exit=int(exitstatus))
            self._report(replace(run, confidence=self._settings.confidence))
        finally:
            self._progress.clear()
            if perf is not None:
                try:
                    perf.stop()
                except TritonPerfError as error:
                    self._problems.append(str(error))

    def _uncompared(self) -> list[str]:
        """That the gate did not finish, where there is one."""
        if self._against is None or self._compared:
            return []
        return [
            f"the gate against {self._against} did not finish: the session ended early, and gates "
            "are measured after the last test; run it to its end, without -x or --maxfail"
        ]

    def _report(self, run: Run) -> None:
        if self._worker_output is not None:
            self._worker_output[_WORKER_RUN] = to_json(run)
        elif run.sweeps or run.verdicts or run.comparisons:
            from pytest_triton_perf.report_hooks import with_panels, write_others
            from pytest_triton_perf.reports import write_reports

            self._progress.step("writing reports")
            output = self._settings.output
            run, self._problems = with_panels(self._config.hook, run)
            self._run = run
            try:
                self._problems += write_reports(run, output, self._settings.reports)
                self._problems += write_others(self._config.hook, run, output)
            except UsageError as error:  # The verdicts are still told.
                self._problems.append(str(error))
            if "md" in self._settings.reports:
                from pytest_triton_perf.reports.markdown import append_to_job_summary

                self._problems = [*self._problems, *append_to_job_summary(run)]
            if (folder := self._settings.write_config) is not None:
                from pytest_triton_perf.written_configs import write_configs

                self._problems = [*self._problems, *write_configs(run.searches, folder)]
            if self._baselines is not None:
                self._problems = [*self._problems, *self._baselines.keep(run)]

    def pytest_terminal_summary(self, terminalreporter: "pytest.TerminalReporter") -> None:
        if self._run is not None:
            from pytest_triton_perf.reports.terminal import write_summary

            output = self._relative(self._settings.output)
            write_summary(terminalreporter, self._run, output, self._problems)
            if os.environ.get("GITHUB_ACTIONS") == "true":
                from pytest_triton_perf.reports.annotations import annotations

                home = self._config.rootpath
                repository = Path(os.environ.get("GITHUB_WORKSPACE", home))
                for command in annotations(self._run, home, repository):
                    terminalreporter.write_line(command)
        else:
            for problem in self._problems:
                terminalreporter.write_line(problem, red=True)

    def pytest_unconfigure(self) -> None:
        if (session := self._config.stash.get(PERF_SESSION, None)) is not None:
            session.stop()
        if self._against is not None:
            self._against.close()


def _baselines(config: pytest.Config, settings: Settings) -> "Baselines | None":
    if settings.compare is None and settings.save is None:
        return None
    from pytest_triton_perf.baselines import Baselines

    return Baselines(compare=settings.compare, save=settings.save, home=config.rootpath)


def _against(settings: Settings) -> Against | None:
    if settings.against_image is not None:
        return AgainstImage(settings.against_image)
    if settings.against is not None:
        return AgainstRepository(settings.against, settings.against_home)
    return None


def _exit_on_sigterm(signum: int, frame: FrameType | None) -> None:
    raise pytest.exit.Exception("terminated by SIGTERM", returncode=128 + signum)


def _add_sweep(report: pytest.TestReport, sweep: Sweep | None) -> None:
    """Show what was measured, and what was not and why, below a failure that does not."""
    if sweep is None or not sweep.levels or sweep.table().splitlines()[0] in report.longreprtext:
        return
    gaps: dict[str, dict[str, None]] = {}
    for level in sweep:
        for name, why in level.measurement.missing.items():
            gaps.setdefault(why, {})[name] = None
    lines = [f"not measured: {listed(names)} ({why})" for why, names in gaps.items()]
    lines += dict.fromkeys(note for level in sweep for note in level.measurement.notes)
    report.sections.append(("triton-perf sweep", "\n".join([sweep.table(), *lines])))
