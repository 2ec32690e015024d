"""Shared by all tests."""

from __future__ import annotations

from collections import Counter

import pytest

pytest_plugins = ["tests.services.fixtures"]

# Lets the shipped suites explain their failures like test modules do.
pytest.register_assert_rewrite("ltm.testing")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the classes and modules that take longest, or one would be at work alone at last.

    Those are the ones with many tests, and those with a test that is given more time than others.
    """
    weights: Counter[str] = Counter()
    for item in items:
        marker = item.get_closest_marker("timeout")
        weights[scope_of(item)] += marker.args[0] if marker else 1
    items.sort(key=lambda item: -weights[scope_of(item)])


def scope_of(item: pytest.Item) -> str:
    """Return what is always run by one process: a class, or the functions of a module."""
    return item.nodeid.rpartition("::")[0]
