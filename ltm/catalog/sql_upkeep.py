"""What the upkeep of a SQL catalog does now and then: to try it out, to see to payloads."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from datetime import datetime

from ltm.errors import CatalogUnavailableError
from ltm.locations import PARTS_END
from ltm.sql.execution import Row, Session
from ltm.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from ltm.catalog.database import Database
    from ltm.catalog.sql import SQLCatalog


def probe(catalog: SQLCatalog, now: datetime) -> None:
    """Write, read and delete a row of the schedule of deletions, which readers never see.

    Raises:
        CatalogUnavailableError: One of it did not work.
    """
    database, statements = catalog.database, catalog.database.statements
    uri = f"{catalog.table().storage_prefix}/probe-{secrets.token_hex(8)}"
    one = {"uris": database.dialect.bind_list([uri])}
    deletion = {"tenant_id": catalog.tenant, "scheduled_at": now}

    def use(session: Session) -> list[Row]:
        session.write_rows(statements.schedule_deletion, {"storage_uri": [uri]}, deletion)
        found = session.rows(statements.select_deletable, one)
        session.run(statements.forget_deletions, _extent(uri))
        return found

    if database.write(use) != [(uri,)]:
        raise CatalogUnavailableError(f"catalog {database.pool.where}: lost a row")


def forget_deletions(database: Database, uris: Sequence[str]) -> None:
    """Take payloads off the schedule; see ``CatalogPrimitives.forget_deletions``."""
    extents = [_extent(uri) for uri in sorted(uris)]
    statement = database.statements.forget_deletions
    database.write(lambda session: session.run_many(statement, extents))


def _extent(uri: str) -> dict[str, str]:
    """Return the parameters that stand for *uri* and for what is part of it."""
    return {"uri": uri, "uri_end": uri + PARTS_END}


def move_payloads(catalog: SQLCatalog, moves: Mapping[str, str], now: datetime) -> None:
    """Let rows name other payloads; see ``CatalogPrimitives.move_payloads``."""
    statements = catalog.database.statements

    def move(session: Session) -> None:
        places = [{"old_uri": old, "new_uri": new} for old, new in sorted(moves.items())]
        # In this order: whoever replaces an entry meanwhile has made a version of it by then.
        session.run_many(statements.move_entry_payload, places)
        session.run_many(statements.move_version_payload, places)
        deletion = {"tenant_id": catalog.tenant, "scheduled_at": now}
        session.write_rows(statements.schedule_deletion, {"storage_uri": [*moves]}, deletion)

    catalog.database.write(move)
