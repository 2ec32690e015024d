"""What every catalog must do, as tests that one of your own can run too.

Subclass it in a test module; pytest collects the tests with the subclass::

    class TestMyCatalog(CatalogSuite):
        def make_catalog(self, tmp_path, clock, **binding):
            return MyCatalog(tmp_path / "catalog", clock=clock, **binding)
"""

from __future__ import annotations

from ltm.testing.entry_suite import EntrySuite
from ltm.testing.find_suite import FindSuite
from ltm.testing.history_suite import HistorySuite
from ltm.testing.lease_suite import LeaseSuite
from ltm.testing.lifetime_suite import LifetimeSuite
from ltm.testing.location_suite import LocationSuite
from ltm.testing.plain_suite import PlainSuite
from ltm.testing.ranking_suite import RankingSuite


class CatalogSuite(
    EntrySuite,
    PlainSuite,
    FindSuite,
    RankingSuite,
    LeaseSuite,
    LifetimeSuite,
    LocationSuite,
    HistorySuite,
):
    """The conformance suite of :class:`~ltm.catalog.base.Catalog`."""
