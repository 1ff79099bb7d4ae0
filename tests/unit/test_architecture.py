"""The rules of the house, read from the source: which part may import which."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest_triton_perf

PACKAGE = Path(pytest_triton_perf.__file__).parent
REPOSITORY = PACKAGE.parent
ADAPTERS = ("servers", "load", "probes", "reports")
STATISTICS = tuple(
    f"domain/{name}.py"
    for name in ("segments", "pooling", "estimates", "deciding", "gating", "history")
)
"""What is imported only when something is judged, and so may import numpy at its top."""
SEARCHES = tuple(f"search/{name}.py" for name in ("quick", "race", "surface", "with_optuna"))
"""What is imported only by a search, some of it by one of that mode."""
HEAVY = {
    "optuna",
    *("docker", "pynvml", "pandas", "matplotlib", "pdfkit", "fpdf", "scipy", "psutil"),
    *("tritonclient", "jinja2", "google", "filelock", "numpy", "yaml", "prometheus_client"),
}


def imports(tree: ast.AST, *, nested: bool) -> Iterator[str]:
    """Modules that the code imports; ``nested`` adds those inside functions.

    What only a type checker imports is not imported.
    """
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.module is not None, "imports are absolute"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        elif nested or not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield from imports(node, nested=nested)


def sources(*parts: str, nested: bool = True) -> Iterator[tuple[str, str]]:
    """(file, imported name) for every import below the package, or below parts of it."""
    for part in parts or ("",):
        for file in sorted((PACKAGE / part).rglob("*.py")):
            for name in imports(ast.parse(file.read_text("utf-8")), nested=nested):
                yield f"{file.relative_to(PACKAGE)}", name


def test_heavy_packages_are_imported_inside_functions_only() -> None:
    found = [(f, n) for f, n in sources(nested=False) if n.split(".")[0] in HEAVY]
    assert {file for file, name in found} == {*STATISTICS, *SEARCHES}
    assert {name.split(".")[0] for file, name in found} <= {"numpy", "scipy", "optuna"}


def test_adapters_import_only_themselves_the_domain_and_errors() -> None:
    for part in ADAPTERS:
        # Where processes start, several of them need to say on which CPUs.
        allowed = (part, "domain", "errors", "affinity")
        for file, name in sources(part):
            first, *rest = name.split(".")
            assert first not in ("pytest", "_pytest"), f"{file} imports {name}"
            if first == "pytest_triton_perf":
                assert rest[0] in allowed, f"{file} imports {name}"


def test_the_domain_and_the_search_are_pure() -> None:
    for file, name in sources("domain", "search"):
        # Sweep.to_frame() hands out a pandas frame.
        third_party = {"numpy", "scipy"} if file in STATISTICS else {"pandas"}
        if file in SEARCHES:
            third_party = {"numpy", "scipy", "optuna"}
        first, *rest = name.split(".")
        if first == "pytest_triton_perf":
            assert rest[0] in (Path(file).parts[0], "domain", "errors"), f"{file} imports {name}"
        else:
            assert first in sys.stdlib_module_names | third_party, f"{file} imports {name}"


def test_ci_runs_the_readme_command() -> None:
    lines = (REPOSITORY / ".ci" / "run").read_text("utf-8").splitlines()
    (command,) = [line for line in lines if ".[embedded,test]" in line]
    assert command in (REPOSITORY / "README.md").read_text("utf-8").splitlines()


def test_of_config_files_only_their_items_know_pytest() -> None:
    for file, name in sources("analyzer"):
        if file != "analyzer/collect.py":
            assert name.split(".")[0] not in ("pytest", "_pytest"), f"{file} imports {name}"
