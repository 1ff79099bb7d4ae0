import os

import pytest

# The sessions of the tests are not to be shown on the page of the CI job that runs them.
os.environ.pop("GITHUB_STEP_SUMMARY", None)

pytest_plugins = ["pytester", "docker_engine"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # Not in pyproject.toml, where the quickstart would need pytest-timeout too.
    for item in items:
        item.add_marker(pytest.mark.timeout(300))
