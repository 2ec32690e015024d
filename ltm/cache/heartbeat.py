"""Keeping a lease in force while its owner computes."""

from __future__ import annotations

import logging
import threading
from datetime import timedelta
from types import TracebackType

from ltm.catalog.base import Catalog
from ltm.catalog.leases import Lease
from ltm.errors import LTMError

_log = logging.getLogger(__name__)

BEATS_PER_LEASE = 3


class Heartbeat:
    """Renews a lease in a thread of its own, for the length of a ``with`` block.

    A thread for each, since a memory that doesn't answer must keep no other's lease waiting.
    """

    def __init__(self, catalog: Catalog, lease: Lease, seconds: float) -> None:
        """Renew *lease* so that there are always some *seconds* left."""
        self._catalog = catalog
        self._lease = lease
        self._seconds = seconds
        self._is_over = threading.Event()

    def __enter__(self) -> None:
        threading.Thread(target=self._beat, name="ltm-heartbeat", daemon=True).start()

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._is_over.set()

    def _beat(self) -> None:
        while not self._is_over.wait(self._seconds / BEATS_PER_LEASE):
            now = self._catalog.clock()
            renewed = self._lease._replace(expires_at=now + timedelta(seconds=self._seconds))
            try:
                if not self._catalog.leases.renew(renewed, now):
                    _log.debug("the lease of %r is lost", self._lease.key)
                    return
            except LTMError as error:
                _log.debug("the lease of %r is not renewed: %s", self._lease.key, error)
