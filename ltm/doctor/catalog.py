"""What the catalog of a configuration has to say for itself."""

from __future__ import annotations

from collections.abc import Iterator

from ltm.clock import Clock
from ltm.config import Settings
from ltm.errors import LTMError, MissingDependencyError
from ltm.factory import create_catalog_backend
from ltm.finding import Finding, problem, skipped


def diagnose_catalog(settings: Settings, clock: Clock) -> Iterator[Finding]:
    """Yield what the catalog finds, which is made for it and closed; *clock* tells it the time."""
    try:
        catalog = create_catalog_backend(settings.catalog.type, **settings.catalog.options())
    except MissingDependencyError as error:
        yield skipped("catalog", f"can't be looked at: {error}")
        return
    except LTMError as error:
        yield problem(
            "settings", f"catalog: {error}", "correct the settings of the catalog", error.error_type
        )
        return
    with catalog:
        catalog.clock = clock
        try:
            yield from catalog.diagnose()
        except LTMError as error:
            yield problem("catalog", str(error), "this is what the catalog says", error.error_type)
