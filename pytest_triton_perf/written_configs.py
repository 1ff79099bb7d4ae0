"""``--triton-perf-write-config``: the configurations that searches chose, as ``config.pbtxt``."""

from collections.abc import Iterable
from pathlib import Path

from pytest_triton_perf.domain.searched import SearchResult


def write_configs(searches: Iterable[SearchResult], folder: Path) -> list[str]:
    """Write the best configuration of each model to ``<folder>/<model>/config.pbtxt``.

    Returns what went wrong, in words. Where tests found different ones for a model, that of the
    first is written.
    """
    from pytest_triton_perf.servers.model_config import CONFIG_FILE, to_text

    written: dict[str, SearchResult] = {}
    problems = []
    for search in searches:
        if search.best is None:
            continue
        first = written.setdefault(search.model, search)
        if first.config != search.config:
            problems.append(
                f"{search.test} found another best configuration of {search.model} than "
                f"{first.test}; {folder / search.model} has the latter's"
            )
        if first is not search:
            continue
        file = folder / search.model / CONFIG_FILE
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(f"# {search}\n{to_text(search.config)}", encoding="utf-8")
        except OSError as error:
            problems.append(f"{file} cannot be written: {error.strerror or error}")
    if not written and not problems:
        problems.append(f"no test found a best configuration: {folder} was not written")
    return problems
