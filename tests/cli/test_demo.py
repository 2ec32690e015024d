"""The demo does what it says, and notices when something does not."""

from __future__ import annotations

from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ltm import IntegrityError, create_ltm_backend, demo


def test_the_demo_keeps_every_claim_and_its_memory(ltm):
    result = ltm("--json", "demo", "--keep", "kept")
    assert result.status == 0, result.err
    steps = result.document["steps"]
    assert list(steps) == [
        "remember",
        "ask",
        "deduplicate",
        "expire",
        "compare_and_swap",
        "restart",
        "disk",
    ]
    kept = ("--catalog", "kept/catalog.db", "--storage", "kept/payloads")
    assert len(ltm(*kept, "--json", "ls").documents) == steps["restart"]["entries"]
    again = ltm("demo", "--keep", "kept")
    assert again.status == 2
    assert "is not empty" in again.err


def test_the_demo_leaves_nothing_behind_when_it_is_stopped(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with closing(demo.present()) as steps:
        assert next(steps).name == "remember"
        assert list(tmp_path.iterdir())
    assert not list(tmp_path.iterdir())


def test_a_claim_that_is_false_stops_the_demo(tmp_path):
    config = {"type": "sqlite", "path": "kept/catalog.db"}
    with closing(demo.present("kept")) as steps:
        assert [next(steps).name for _ in range(3)] == ["remember", "ask", "deduplicate"]
        # Somebody else's expired entry: cleanup will remove one more than the demo says.
        with create_ltm_backend(catalog_config=config, raise_errors=True) as other:
            other.store("x", 1, expires_at=datetime(2020, 1, 1, tzinfo=UTC))
        with pytest.raises(demo.DemoError, match="cleanup removes the draft and nothing else"):
            next(steps)


def test_the_demo_notices_a_damaged_payload(tmp_path):
    with closing(demo.present("kept")) as steps:
        next(steps)
        for path in Path("kept/payloads").rglob("*.json"):
            path.write_bytes(path.read_bytes().replace(b"the", b"teh", 1))
        with pytest.raises(IntegrityError):
            next(steps)
