"""The payload stores of ltm against the suite that all payload stores run."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ltm.payload.base import PayloadStore
from ltm.payload.local import LocalPayloadStore
from ltm.payload.store import open_payload_store
from ltm.testing.payload_faults import FailingPayloadStore
from ltm.testing.payload_suite import PayloadStoreSuite


class TestLocalPath(PayloadStoreSuite):
    def make_store(self, tmp_path: Path) -> PayloadStore:
        return LocalPayloadStore(tmp_path / "payloads")


@pytest.mark.usefixtures("named_files_only")
class TestLocalPathWithoutUnnamedFiles(PayloadStoreSuite):
    def make_store(self, tmp_path: Path) -> PayloadStore:
        return LocalPayloadStore(tmp_path / "payloads")


class TestFileUrl(PayloadStoreSuite):
    def make_store(self, tmp_path: Path) -> PayloadStore:
        return open_payload_store(f"file://{tmp_path}/payloads/")


class TestMemory(PayloadStoreSuite):
    def make_store(self, tmp_path: Path) -> PayloadStore:
        # All memory:// stores of a process share one store, so each test has a root of its own.
        return open_payload_store(f"memory://{os.urandom(8).hex()}/payloads")


class TestFaultsThatDoNotFail(PayloadStoreSuite):
    def make_store(self, tmp_path: Path) -> PayloadStore:
        return FailingPayloadStore(LocalPayloadStore(tmp_path))
