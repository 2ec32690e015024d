"""Shared by all tests."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, settings

pytest_plugins = ["tests.services.fixtures"]

# Lets the shipped suites explain their failures like test modules do.
pytest.register_assert_rewrite("ltm.testing")

# Nothing depends on seconds: machines are shared, and a first draw imports and compiles.
settings.register_profile("ltm", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("ltm")


@pytest.fixture
def run_python() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run a script with arguments in a Python of its own, at most a minute long."""

    def run(script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-W", "error", "-c", script, *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    return run
