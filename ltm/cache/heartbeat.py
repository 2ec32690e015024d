"""Keeping a lease in force while its owner computes."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

from ltm.catalog.base import Catalog
from ltm.catalog.leases import Lease
from ltm.errors import LTMError

_log = logging.getLogger(__name__)

BEATS_PER_LEASE = 3


@contextmanager
def renewing(catalog: Catalog, lease: Lease, seconds: float) -> Iterator[None]:
    """Renew *lease* during a block, so that there are always some *seconds* left.

    In a thread for each, since a memory that doesn't answer must keep no other's lease waiting.
    """
    is_over = threading.Event()

    def beat() -> None:
        while not is_over.wait(seconds / BEATS_PER_LEASE):
            now = catalog.clock()
            renewed = lease._replace(expires_at=now + timedelta(seconds=seconds))
            try:
                if not catalog.leases.renew(renewed, now):
                    _log.debug("the lease of %r is lost", lease.key)
                    return
            except LTMError as error:
                _log.debug("the lease of %r is not renewed: %s", lease.key, error)

    threading.Thread(target=beat, name="ltm-heartbeat", daemon=True).start()
    try:
        yield
    finally:
        is_over.set()
