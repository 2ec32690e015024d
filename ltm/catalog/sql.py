"""The one SQL implementation of a catalog."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from itertools import starmap

from ltm.catalog.base import Catalog
from ltm.catalog.commit import NewWrite, Outcome, PlainWrite, Put, Removal, is_live
from ltm.catalog.database import VALUES_PER_STATEMENT, Database, in_chunks
from ltm.catalog.primitives import LogicalTable, mint_storage_prefix
from ltm.catalog.sql_plain import write_first, write_plain
from ltm.entry import AnyRow, EntryRow, ValueRow
from ltm.errors import CatalogUnavailableError
from ltm.sql.dialects import Gate
from ltm.sql.execution import Session, Statement
from ltm.typed import TYPE_CHECKING, AbstractContextManager, Any

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine

    from ltm.catalog.accounts import CatalogStatistics, IndexedEntry
    from ltm.catalog.sql_history import SQLHistory
    from ltm.catalog.sql_leases import SQLLeases
    from ltm.search.analysis import Document
    from ltm.search.filters import Filter
    from ltm.search.questions import Question
else:
    CatalogStatistics = Connection = Document = Engine = Filter = IndexedEntry = object
    Question = SQLHistory = SQLLeases = object


class SQLCatalog(Catalog):
    """A catalog in a SQL database; subclasses say how its connections are made."""

    def __init__(self, database: Database, *, owns_database: bool = True, **binding: Any) -> None:
        """Bind to a logical table of *database*; nothing is opened until first use.

        Args:
            database: Runs the statements.
            owns_database: Whether closing the catalog closes it.
            **binding: The keyword arguments of :class:`~ltm.catalog.base.Catalog`.
        """
        super().__init__(**binding)
        self.database = database
        self._owns_database = owns_database
        self.gate = Gate(self.table_name)
        self.scope = {"tenant_id": self.tenant, "table_name": self.table_name}
        self._table: LogicalTable | None = None
        self.news = 0
        """How many plain writes in a row were of keys that were not there."""

    def __repr__(self) -> str:
        where = self.database.pool.where
        return f"{type(self).__name__}({where!r}, table={self.table_name!r})"

    @property
    def engine(self) -> Engine:
        """A SQLAlchemy engine over the catalog's database, for the ORM models and migrations."""
        return self.database.pool.engine()

    def bind(self, table: str, *, inline_threshold: int, language: str) -> SQLCatalog:
        return self._on(
            self.database, table=table, inline_threshold=inline_threshold, language=language
        )

    def transaction(self) -> AbstractContextManager[SQLCatalog]:
        from contextlib import contextmanager

        return contextmanager(self._transaction)()

    def _transaction(self) -> Iterator[SQLCatalog]:
        self.table()
        with self.database.transaction(self.gate) as database:
            yield self._on(database)

    def using(self, connection: Connection) -> SQLCatalog:
        """Return this catalog on a caller's SQLAlchemy *connection*, in its transaction.

        The transaction is begun if it isn't; the caller commits or rolls back.
        """
        return self._on(self.database.join(connection, self.gate))

    @property
    def history(self) -> SQLHistory:
        from ltm.catalog.sql_history import SQLHistory

        return SQLHistory(self)

    @property
    def leases(self) -> SQLLeases:
        from ltm.catalog.sql_leases import SQLLeases

        return SQLLeases(self)

    def close(self) -> None:
        if self._owns_database:
            self.database.close()

    def table(self) -> LogicalTable:
        if self._table is None:
            self._table = self._find_table() or self._make_table()
        return self._table

    # Reads

    def read(self, key: str, now: datetime) -> EntryRow | None:
        found = self.database.look_up(self.database.statements.select_entry, (self.entry_id(key),))
        row = None if found is None else EntryRow._make(found)
        return row if row is not None and is_live(row, now) else None

    def read_value(self, key: str, now: datetime) -> ValueRow | None:
        row = self.read_any_value(key)
        return row if row is None or row.expires_at is None or row.expires_at > now else None

    def read_any_value(self, key: str) -> ValueRow | None:
        """Return what is to know of the value of *key*, expired or not."""
        database, by_key = self.database, self.database.dialect.finds_by_key
        named = (self.tenant, self.table_name, key) if by_key else (self.entry_id(key),)
        found = database.look_up(database.statements.select_value, named)
        # On the hottest path: what its own __new__ does, in half the time.
        return None if found is None else tuple.__new__(ValueRow, (key, *found))

    def read_many(self, keys: Sequence[str], now: datetime) -> dict[str, EntryRow]:
        rows = self.rows_of([self.entry_id(key) for key in keys], now)
        return {row.key: row for row in rows.values()}

    def read_values(self, keys: Sequence[str], now: datetime) -> dict[str, ValueRow]:
        database, statement = self.database, self.database.statements.select_values
        found: dict[str, ValueRow] = {}
        bound = self.scope_at(now)
        for chunk in in_chunks(keys, VALUES_PER_STATEMENT):
            if database.dialect.finds_by_key:
                bound["keys"] = database.dialect.bind_list(chunk)
            else:
                bound["ids"] = database.dialect.bind_list([*map(self.entry_id, chunk)])
            for row in starmap(ValueRow, database.rows(statement, bound)):
                found[row[0]] = row
        return found

    def rows_by_key(
        self, prefix: str, after: str, limit: int, condition: Filter | None, now: datetime
    ) -> list[EntryRow]:
        from ltm.catalog.sql_listing import list_by_key

        return list_by_key(self.database, prefix, after, limit, condition, self.scope_at(now))

    def rows_newest(self, limit: int, condition: Filter | None, now: datetime) -> list[EntryRow]:
        from ltm.catalog.sql_listing import list_newest

        return list_newest(self.database, limit, condition, self.scope_at(now))

    def values_newest(
        self, limit: int, condition: Filter | None, now: datetime
    ) -> Sequence[AnyRow]:
        from ltm.catalog.sql_listing import list_newest_values

        return list_newest_values(self.database, limit, condition, self.scope_at(now))

    def rows_found(
        self, question: Question, limit: int, condition: Filter | None, now: datetime
    ) -> list[tuple[EntryRow, float]]:
        from ltm.catalog.sql_search import find_rows

        return find_rows(self.database, question, limit, condition, self.scope_at(now))

    def values_found(
        self, question: Question, limit: int, condition: Filter | None, now: datetime
    ) -> Sequence[tuple[AnyRow, float]]:
        from ltm.catalog.sql_search import find_values

        return find_values(self.database, question, limit, condition, self.scope_at(now))

    def count_expired(self, now: datetime) -> int:
        ((count,),) = self.database.rows(self.database.statements.count_expired, self.scope_at(now))
        return int(count)

    def statistics(self, now: datetime) -> CatalogStatistics:
        (row,) = self.database.rows(self.database.statements.select_statistics, self.scope_at(now))
        entries, inlined, total_bytes, inlined_bytes, expired = map(int, row)
        from ltm.catalog.accounts import CatalogStatistics

        return CatalogStatistics(entries, inlined, total_bytes, inlined_bytes, expired)

    # Writes

    def write_plain(self, put: Put, now: datetime) -> PlainWrite:
        self.table()
        return write_plain(self, put, now)

    def write_first(self, put: Put, now: datetime) -> Outcome | None:
        self.table()
        return write_first(self, put, now)

    def write_new(self, puts: Sequence[Put], now: datetime) -> NewWrite:
        from ltm.catalog.sql_batch import write_new

        self.table()
        return write_new(self, puts, now)

    def write(self, changes: Sequence[Put | Removal], now: datetime) -> list[Outcome]:
        from ltm.catalog.sql_writes import write

        self.table()
        return write(self, changes, now)

    def remove_expired(self, limit: int, now: datetime) -> list[Outcome]:
        from ltm.catalog.sql_writes import remove_expired

        self.table()
        return remove_expired(self, limit, now)

    def probe(self, now: datetime) -> None:
        from ltm.catalog.sql_upkeep import probe

        probe(self, now)

    # Indexes

    def indexed(self, rows: Sequence[EntryRow]) -> dict[str, IndexedEntry]:
        from ltm.catalog.sql_indexes import read_indexed

        return read_indexed(self.database, rows)

    def index_again(self, entries: Sequence[tuple[EntryRow, Document | None]]) -> None:
        from ltm.catalog.sql_writes import index_again

        index_again(self, entries)

    def check_search_index(self, *, repair: bool) -> str | None:
        from ltm.catalog.sql_indexes import check_search_index

        return check_search_index(self.database, repair=repair)

    # Payload deletions

    def deletable_payloads(self, uris: Sequence[str]) -> list[str]:
        found = self._payloads_among(uris, self.database.statements.select_deletable)
        return [uri for uri in uris if uri in found]

    def named_payloads(self, uris: Sequence[str]) -> set[str]:
        return self._payloads_among(uris, self.database.statements.select_named)

    def make_durable(self) -> None:
        try:
            self.database.pool.make_durable()
        except OSError as error:
            raise CatalogUnavailableError(f"catalog {self.database.pool.where}: {error}") from error

    def forget_deletions(self, uris: Sequence[str]) -> None:
        from ltm.catalog.sql_upkeep import forget_deletions

        forget_deletions(self.database, uris)

    def move_payloads(self, moves: Mapping[str, str], now: datetime) -> None:
        from ltm.catalog.sql_upkeep import move_payloads

        move_payloads(self, moves, now)

    def scheduled_deletions(self, after: str, limit: int) -> list[str]:
        from ltm.catalog.sql_listing import page_bounds

        bounds = page_bounds(self.table().storage_prefix + "/", after)
        rows = self.database.rows(
            self.database.statements.select_deletions,
            bounds | {"tenant": self.tenant, "limit": limit},
        )
        return [uri for (uri,) in rows]

    def _on(self, database: Database, **changed: Any) -> SQLCatalog:
        binding = {
            "table": self.table_name,
            "tenant": self.tenant,
            "inline_threshold": self.inline_threshold,
            "language": self.language,
            "clock": self.clock,
        }
        return SQLCatalog(database, owns_database=False, **binding | changed)

    def scope_at(self, now: datetime) -> dict[str, Any]:
        """Return the parameters ``tenant``, ``table`` and ``now`` of many statements."""
        return {"tenant": self.tenant, "table": self.table_name, "now": now}

    def _payloads_among(self, uris: Sequence[str], statement: Statement) -> set[str]:
        found: set[str] = set()
        for chunk in in_chunks(uris):
            bound = {"uris": self.database.dialect.bind_list(chunk)}
            found.update(uri for (uri,) in self.database.rows(statement, bound))
        return found

    def _find_table(self) -> LogicalTable | None:
        row = self.database.row(self.database.statements.select_table, {"table": self.table_name})
        if row is None:
            return None
        prefix, *defaults = row
        return LogicalTable(self.table_name, _prefix_of(self.tenant, prefix), *defaults)

    def _make_table(self) -> LogicalTable:
        row = {
            "type": "memory",
            "storage_prefix": mint_storage_prefix(self.table_name),
            "inline_threshold": self.inline_threshold,
            "language": self.language,
            "snapshot_seq": 0,
            "created_at": self.clock(),
        }
        insert_table = self.database.statements.insert_table
        name = {"name": [self.table_name]}
        self.database.write(lambda session: session.write_rows(insert_table, name, row))
        made = self._find_table()
        if made is None:
            raise CatalogUnavailableError(f"catalog {self.database.pool.where}: lost a table")
        return made

    def rows_of(self, ids: Sequence[str], now: datetime) -> dict[str, EntryRow]:
        """Return the live rows among *ids*, by id."""
        found: dict[str, EntryRow] = {}
        for chunk in in_chunks(ids):
            bound = {"ids": self.database.dialect.bind_list(chunk), "now": now}
            for row in self.database.rows(self.database.statements.select_entries, bound):
                found[row[0]] = EntryRow._make(row)
        return found

    def read_current(
        self, session: Session, ids: Sequence[str]
    ) -> tuple[int, int, dict[str, EntryRow]]:
        """Return ``snapshot_seq``, the newest snapshot and the rows of *ids*, expired or not."""
        bound: dict[str, Any] = {"tenant": self.tenant, "table": self.table_name}
        found: dict[str, EntryRow] = {}
        snapshot_seq = newest_snapshot = 0
        for chunk in in_chunks(ids) if ids else [ids]:
            bound["ids"] = self.database.dialect.bind_list(chunk)
            rows = session.rows(self.database.statements.select_current, bound)
            snapshot_seq, newest_snapshot = rows[0][:2]
            found |= {row[2]: EntryRow._make(row[2:]) for row in rows if row[2] is not None}
        return snapshot_seq, newest_snapshot, found


def _prefix_of(tenant: str, prefix: str) -> str:
    """Return where the payloads of *tenant* lie below a table's *prefix*."""
    return f"{prefix}/{hashlib.sha256(tenant.encode()).hexdigest()[:32]}" if tenant else prefix
