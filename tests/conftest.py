"""Shared by all tests."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings

pytest_plugins = ["tests.services.fixtures"]

# Lets the shipped suites explain their failures like test modules do.
pytest.register_assert_rewrite("ltm.testing")

# Nothing depends on seconds: machines are shared, and a first draw imports and compiles.
settings.register_profile("ltm", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("ltm")
