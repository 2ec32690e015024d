"""Shared by all tests."""

from __future__ import annotations

import pytest

# Lets the shipped suites explain their failures like test modules do.
pytest.register_assert_rewrite("ltm.testing")
