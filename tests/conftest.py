"""Shared by all tests."""

from __future__ import annotations

import pytest

pytest_plugins = ["tests.services.fixtures"]

# Lets the shipped suites explain their failures like test modules do.
pytest.register_assert_rewrite("ltm.testing")
