"""Shared by the tests of the doctor: looking at configurations, and reading what is found."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from findings import Findings

from ltm.clock import Clock, utc_now
from ltm.doctor import diagnose


@pytest.fixture
def examine(tmp_path: Path) -> Callable[..., Findings]:
    """Look at a catalog, with a storage of the test's own unless it names another."""

    def look(catalog: Mapping[str, Any], storage: Any = None, clock: Clock = utc_now) -> Findings:
        where = str(tmp_path / "payloads") if storage is None else storage
        return Findings(diagnose({"catalog": dict(catalog), "storage": where}, clock=clock))

    return look
