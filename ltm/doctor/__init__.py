"""Telling what is wrong with a configuration, in plain words.

One thing after the other is looked at, and a fault in one hides no other: a driver that is missing
is no reason not to try the bucket. What a database has to say for itself is said by its catalog, so
a third party's catalog takes part by :meth:`~ltm.catalog.primitives.CatalogPrimitives.diagnose`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any

from ltm.clock import Clock, utc_now
from ltm.config import Settings, load_settings, mask_url
from ltm.doctor.catalog import diagnose_catalog
from ltm.doctor.extensions import diagnose_extensions
from ltm.doctor.packages import diagnose_packages
from ltm.doctor.storage import diagnose_storage
from ltm.doctor.trial import diagnose_use
from ltm.errors import LTMError, MissingDependencyError
from ltm.finding import Finding, FindingState, ok, problem

__all__ = ["Finding", "FindingState", "diagnose", "explain_settings"]


def diagnose(
    settings: Settings | Mapping[str, Any] | str | os.PathLike[str],
    *,
    environ: Mapping[str, str] | None = None,
    clock: Clock = utc_now,
) -> list[Finding]:
    """Return what is to be said of *settings*, in the order in which it was looked at.

    It reads and probes, and makes nothing that lasts: no schema, no file of a catalog. Where a
    schema is at its newest revision the memory is used at the end, as by ``health_check``, which
    makes the logical table as any first use does. Nothing waits longer than a connection or a call
    may take by the settings, and on a remote storage 20 seconds for each call.

    Args:
        settings: Parsed settings, a mapping as in YAML, or the path of a YAML file.
        environ: Variables for ``${VAR}``; by default those of the process.
        clock: What the clocks of servers are compared with.
    """
    try:
        parsed = (
            settings if isinstance(settings, Settings) else load_settings(settings, environ=environ)
        )
    except LTMError as error:
        return [explain_settings(error)]
    return list(_examine(parsed, clock))


def explain_settings(error: LTMError) -> Finding:
    """Return the finding for settings that could not be read, whose *error* names the place."""
    if isinstance(error, MissingDependencyError):
        command = f"pip install 'ltm[{error.extra}]'"
        return problem("settings", str(error), command, error.error_type)
    remedy = "correct the settings there; docs/settings.md lists them all"
    return problem("settings", str(error), remedy, error.error_type)


def _examine(settings: Settings, clock: Clock) -> Iterator[Finding]:
    kind, uri = settings.catalog.type, mask_url(settings.storage.uri)
    yield ok("settings", f"catalog {kind}, storage {uri}, table {settings.table}")
    yield from diagnose_packages(settings)
    yield from diagnose_extensions(settings)
    storage = list(diagnose_storage(settings, clock))
    yield from storage
    catalog = list(diagnose_catalog(settings, clock))
    yield from catalog
    yield from diagnose_use(
        settings,
        clock,
        # A schema that is still to be made or upgraded is not for a doctor to touch.
        catalog_is_well=all(
            each.state != "problem" and (each.check != "schema" or each.state == "ok")
            for each in catalog
        ),
        storage_is_well=all(each.state != "problem" for each in storage),
    )
