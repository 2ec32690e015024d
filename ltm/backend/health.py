"""Proving that a catalog and a payload store work, by using them."""

from __future__ import annotations

import secrets
from datetime import datetime

from ltm.backend.results import KeyFailure, PartHealth
from ltm.catalog.base import Catalog
from ltm.errors import IntegrityError, LTMError
from ltm.payload.base import PayloadStore

PROBE_DIRECTORY = "ltm-health"
"""Beside the directories of tables, so that a probe is nobody's payload."""


def check_catalog(catalog: Catalog, now: datetime) -> LTMError | None:
    """Write, read and delete a row; return why that failed, or None."""
    try:
        catalog.probe(now)
    except LTMError as error:
        return error
    return None


def check_store(store: PayloadStore) -> LTMError | None:
    """Write, read and delete an object; return why that failed, or None.

    An open circuit is tried before its pause is over: whoever asks wants to know how the store is,
    not how it was. Where it works again, the circuit is closed.
    """
    path = f"{PROBE_DIRECTORY}/{secrets.token_hex(8)}.json"
    content = path.encode()
    store.end_pause()
    try:
        store.write(path, content)
        try:
            if store.read(path) != content:
                raise IntegrityError(f"{store.uri(path)}: what is read is not what was written")
        finally:
            store.delete(path)
    except LTMError as error:
        return error
    return None


def describe_part(error: LTMError | None, circuit: str | None = None) -> PartHealth:
    """Return the state of one part of a backend, and of its circuit breaker if it has one."""
    part = PartHealth(healthy=True, error=None, error_type=None)
    if error is not None:
        part = PartHealth(healthy=False, error=str(error), error_type=error.error_type)
    if circuit is not None:
        part["circuit"] = circuit
    return part


def describe_failure(key: str, error: LTMError) -> KeyFailure:
    """Return why *key*, one of many, failed."""
    return KeyFailure(key=key, error=str(error), error_type=error.error_type)
