"""The backend proves itself on Firestore with local payloads."""

from __future__ import annotations

from ltm.testing.backend_suite import BackendSuite
from tests.services.backends import OnFirestore


class TestBackendOnFirestore(OnFirestore, BackendSuite):
    pass
