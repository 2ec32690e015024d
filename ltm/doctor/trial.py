"""Using a memory for a moment, as the last proof that it works."""

from __future__ import annotations

from collections.abc import Iterator

from msgspec import structs

from ltm.backend.base import LTMBackend
from ltm.backend.health import check_catalog, describe_part
from ltm.backend.results import PartHealth
from ltm.catalog.base import Catalog
from ltm.clock import Clock
from ltm.config import Settings
from ltm.doctor.storage import call_seconds
from ltm.errors import LTMError
from ltm.factory import create_ltm_from_settings
from ltm.finding import Finding, ok, problem, skipped

CHECK = "round_trip"

_REMEDIES = {
    "catalog": "see what the database says; a role needs SELECT, INSERT, UPDATE and DELETE on the "
    "tables of ltm",
    "storage": "see what the storage says",
}


def diagnose_use(
    settings: Settings, clock: Clock, *, catalog_is_well: bool, storage_is_well: bool
) -> Iterator[Finding]:
    """Yield whether a row, and an object, can be written, read and deleted by the library."""
    if not catalog_is_well:
        yield skipped(CHECK, "not tried, for what was found before")
        return
    storage = structs.replace(settings.storage, timeout=call_seconds(settings))
    try:
        with create_ltm_from_settings(
            structs.replace(settings, storage=storage, raise_errors=False, lazy=True)
        ) as memory:
            parts = _use(memory, clock, storage_is_well=storage_is_well)
    except LTMError as error:
        yield problem(CHECK, str(error), "correct the settings", error.error_type)
        return
    for name, part in parts.items():
        if part["healthy"]:
            yield ok(CHECK, f"{name}: written, read and deleted")
        else:
            error_type = part["error_type"] or "error"
            yield problem(CHECK, f"{name}: {part['error']}", _REMEDIES[name], error_type)


def _use(memory: LTMBackend, clock: Clock, *, storage_is_well: bool) -> dict[str, PartHealth]:
    if storage_is_well:
        answer = memory.health_check()
        return {"catalog": answer["catalog"], "storage": answer["storage"]}
    # The storage has failed already, and would take its time to fail again.
    catalog = getattr(memory, "catalog", None)
    if not isinstance(catalog, Catalog):
        return {}
    return {"catalog": describe_part(check_catalog(catalog, clock()))}
