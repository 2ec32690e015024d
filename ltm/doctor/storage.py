"""Whether the payload store of a configuration can be used."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

from ltm.backend.health import PROBE_DIRECTORY, check_store
from ltm.clock import Clock
from ltm.config import Settings
from ltm.errors import LTMError, PayloadError
from ltm.finding import Finding, ok, problem, skipped
from ltm.payload.base import DEFAULT_TIMEOUT, PayloadStore, mask_credentials
from ltm.payload.diagnosis import compare_store_clock, describe_failure, describe_space
from ltm.payload.store import open_payload_store

CALL_SECONDS = 20.0
"""What a call on one object may take here, at most: nobody waits longer for a diagnosis."""


def diagnose_storage(settings: Settings, clock: Clock) -> Iterator[Finding]:
    """Yield what can be said of the storage, after a probe was written, read and deleted."""
    storage = settings.storage
    try:
        store = open_payload_store(
            storage.uri, storage_options=storage.options, timeout=call_seconds(settings)
        )
    except LTMError as error:
        yield problem("storage", str(error), "correct the storage URI", error.error_type)
        return
    with closing(store):
        failure = check_store(store)
        if failure is not None:
            yield describe_failure(store, failure)
        else:
            where = mask_credentials(store.root)
            yield ok("storage", f"{where}: a probe was written, read and deleted")
        space = describe_space(store)
        if space is not None:
            yield space
        if failure is None and _has_own_clock(store):
            yield _compare_clock(store, clock)


def call_seconds(settings: Settings) -> float:
    """Return what a call on one object may take by *settings*, and at most ``CALL_SECONDS``."""
    given = settings.storage.timeout
    return min(CALL_SECONDS, DEFAULT_TIMEOUT if given is None else given)


def _has_own_clock(store: PayloadStore) -> bool:
    is_here = store.directory is not None or store.root.startswith("memory:")
    return not is_here and not store.keeps_rows


def _compare_clock(store: PayloadStore, clock: Clock) -> Finding:
    try:
        found = compare_store_clock(store, PROBE_DIRECTORY, clock)
    except PayloadError as error:
        return skipped("clock", f"of the storage, can't be told: {error}")
    return found or skipped("clock", "of the storage, can't be told: the probe was not listed")
