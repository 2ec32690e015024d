"""The cache proves itself on Firestore."""

from __future__ import annotations

from ltm.testing.cache_sharing_suite import CacheSharingSuite
from ltm.testing.cache_suite import CacheSuite
from tests.services.backends import OnFirestore


class TestCacheOnFirestore(OnFirestore, CacheSuite, CacheSharingSuite):
    pass
