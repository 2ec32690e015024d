"""Shared by the tests of payload stores."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import pytest

# Lets the suite explain its failures like a test module does.
pytest.register_assert_rewrite("ltm.testing.payload_suite")


@pytest.fixture
def run_python() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run a script with arguments in a Python of its own, at most a minute long."""

    def run(script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-W", "error", "-c", script, *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    return run
