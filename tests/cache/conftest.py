"""Shared by the tests of the cache: settings of a memory on each kind of catalog."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.append(str(Path(__file__).parents[1] / "faults"))


@pytest.fixture(params=["sqlite", "postgres", "firestore"])
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, Any]:
    """Settings of one memory, for as many processes as open it."""
    catalog: dict[str, Any] = {"type": request.param}
    if request.param == "sqlite":
        catalog["path"] = f"{tmp_path}/catalog.db"
    elif request.param == "postgres":
        catalog["connection_string"] = request.getfixturevalue("postgres_url")
    else:
        catalog["project"] = request.getfixturevalue("firestore_project")
        catalog["index_directory"] = f"{tmp_path}/index"
    return {"catalog": catalog, "storage": f"{tmp_path}/payloads/"}
