"""The cache proves itself on PostgreSQL."""

from __future__ import annotations

from ltm.testing.cache_sharing_suite import CacheSharingSuite
from ltm.testing.cache_suite import CacheSuite
from tests.services.backends import OnPostgres, OnSupabase


class TestCacheOnPostgres(OnPostgres, CacheSuite, CacheSharingSuite):
    pass


class TestCacheOnSupabase(OnSupabase, CacheSuite, CacheSharingSuite):
    pass
