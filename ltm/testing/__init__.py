"""Conformance suites and test doubles for catalogs, payload stores and backends.

They are shipped so that a third party's catalog or store can prove itself: subclass a suite in a
test module, say how the thing under test is made, and let pytest collect it.
"""
