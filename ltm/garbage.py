"""Deleting payloads that nobody references any more."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from ltm.catalog.base import Catalog
from ltm.errors import LTMError
from ltm.payload.base import PayloadStore

_log = logging.getLogger(__name__)


def delete_scheduled(
    catalog: Catalog, store: PayloadStore, uris: Sequence[str]
) -> list[tuple[str, LTMError]]:
    """Delete those payloads among *uris* that are scheduled and that no row names any more.

    To be called after the commit that scheduled them. A payload leaves the schedule only when it is
    gone, so whatever fails here is done by a later garbage collection.

    Returns:
        The payloads that could not be deleted, with the reason.
    """
    if not uris:
        return []
    try:
        deletable = catalog.deletable_payloads(uris)
        errors = dict(zip(deletable, store.delete_many(deletable), strict=True))
        gone = [uri for uri, error in errors.items() if error is None]
        if gone:
            catalog.forget_deletions(gone)
    except LTMError as error:
        _log.debug("payloads stay scheduled for deletion: %s", error)
        return [(uri, error) for uri in uris]
    return [(uri, error) for uri, error in errors.items() if error is not None]


def drop_unreferenced(store: PayloadStore, uris: Sequence[str]) -> None:
    """Delete payloads that were written for a commit that is known not to have happened.

    Best effort: what stays behind is an unreferenced object, which garbage collection finds.
    """
    for uri, error in zip(uris, store.delete_many(uris), strict=True):
        if error is not None:
            _log.debug("unreferenced payload %s stays: %s", uri, error)
