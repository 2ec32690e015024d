"""The call that asks in SQL."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ltm.backend.answering import raising
from ltm.backend.parts import BackendCalls
from ltm.payload.base import validate_timeout
from ltm.typed import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from typing import Literal, overload

    from ltm.backend.query_database import QueryDatabase, Statement
    from ltm.catalog.history import Snapshot


class QueryCalls(BackendCalls):
    """SQL over the memory."""

    if TYPE_CHECKING:

        @overload
        def query(
            self,
            sql: str,
            *,
            parameters: Sequence[Any] | Mapping[str, Any] | None = None,
            snapshot: str | None = None,
            as_arrow: Literal[False] = False,
            timeout: float | None = None,
        ) -> list[dict[str, Any]]: ...

        @overload
        def query(
            self,
            sql: str,
            *,
            parameters: Sequence[Any] | Mapping[str, Any] | None = None,
            snapshot: str | None = None,
            as_arrow: bool,
            timeout: float | None = None,
        ) -> Any: ...

    @raising
    def query(
        self,
        sql: str,
        *,
        parameters: Sequence[Any] | Mapping[str, Any] | None = None,
        snapshot: str | None = None,
        as_arrow: bool = False,
        timeout: float | None = None,
    ) -> Any:
        # Here, because most who open a memory never ask it in SQL.
        from ltm.backend.query_database import open_database
        from ltm.fork_gate import forks_wait

        if timeout is not None:
            validate_timeout(timeout)
        backend = self.active()
        backend.require_open()
        with forks_wait(), open_database() as database:
            statement = database.prepare(sql, parameters)
            point = None
            if snapshot is not None:
                with backend.outage.watching():
                    point = backend.catalog.history.find(snapshot)
            backend._fill(database, statement, point)
            with database.within(timeout):
                return database.run_to_arrow(statement) if as_arrow else database.run(statement)

    def _fill(
        self, database: QueryDatabase, statement: Statement, snapshot: Snapshot | None
    ) -> None:
        """Put into *database* what *statement* reads."""
        from ltm.backend.query_bounds import Operands
        from ltm.backend.query_plan import ENTRIES, SNAPSHOTS, read_demand, reads_snapshots
        from ltm.backend.query_source import EntrySource

        demand = read_demand(statement.tree, statement.plan, Operands(statement.parameters))
        if demand is not None:
            with self.outage.watching():
                for batch in EntrySource(self.parts, snapshot).batches(demand):
                    self.require_open()
                    database.fill(ENTRIES, demand.columns, batch)
        if reads_snapshots(statement.plan):
            with self.outage.watching():
                found = self.catalog.history.snapshots()
            if found:
                columns = ("snapshot_id", "name", "entry_count", "total_bytes", "created_at")
                rows = [
                    (each.id, each.name, each.entry_count, each.total_bytes, each.created_at)
                    for each in found
                ]
                database.fill(SNAPSHOTS, columns, rows)
