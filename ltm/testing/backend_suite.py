"""What every LTM backend must do, as tests that a combination of your own can run too.

Subclass it in a test module; pytest collects the tests with the subclass::

    class TestMyBackend(BackendSuite):
        def make_backend(self, tmp_path, clock, **options):
            return create_ltm_backend(catalog=..., storage_uri=..., clock=clock, **options)
"""

from __future__ import annotations

from ltm.testing.backend_history_suite import BackendHistorySuite
from ltm.testing.backend_many_suite import BackendManySuite
from ltm.testing.backend_value_suite import BackendValueSuite


class BackendSuite(BackendValueSuite, BackendManySuite, BackendHistorySuite):
    """The conformance suite of an LTM backend over a catalog and a payload store."""
