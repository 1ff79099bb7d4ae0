import pytest

pytest_plugins = ["pytester", "docker_engine"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # Not in pyproject.toml, where the quickstart would need pytest-timeout too.
    for item in items:
        item.add_marker(pytest.mark.timeout(300))
