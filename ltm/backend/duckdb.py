"""The LTM backend over a catalog and a payload store."""

from __future__ import annotations

from _thread import _local
from collections.abc import Callable, Iterable, Iterator, Mapping

import ltm.duckdb_forks  # noqa: F401 -- before DuckDB: it sees to forks
from ltm import telemetry
from ltm.backend.aftermath import ImmediateAftermath
from ltm.backend.base import LTMBackend
from ltm.backend.entry_calls import EntryCalls
from ltm.backend.many_calls import ManyCalls
from ltm.backend.outage import Outage
from ltm.backend.parts import Parts
from ltm.backend.query_calls import QueryCalls
from ltm.backend.reader import ValueReader
from ltm.backend.snapshot_calls import SnapshotCalls
from ltm.backend.upkeep_calls import UpkeepCalls
from ltm.backend.writer import EntryWriter
from ltm.catalog.base import Catalog
from ltm.catalog.primitives import validate_threshold
from ltm.clock import Clock
from ltm.errors import CatalogUnavailableError, ClosedError, ValidationError
from ltm.payload.base import DEFAULT_TIMEOUT, PayloadStore
from ltm.payload.store import open_payload_store
from ltm.typed import TYPE_CHECKING, AbstractContextManager, Any, Self

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from ltm.backend.aftermath import Aftermath
    from ltm.backend.recall import Recall
    from ltm.backend.transaction import BoundBackend
    from ltm.backend.writer import Attempted
else:
    BoundBackend = LTMBackend
    Connection = object


class _ThreadState(_local):
    """What each thread has of its own."""

    transaction: Any = None
    """The open :class:`BoundBackend`, which has every group of calls that the backend has."""


class DuckDBLTMBackend(EntryCalls, ManyCalls, QueryCalls, SnapshotCalls, UpkeepCalls):
    """Keeps rows in a catalog and large values as immutable payload objects."""

    def __init__(
        self,
        catalog: Catalog,
        storage_uri: str = "./ltm_data/",
        *,
        storage_options: Mapping[str, Any] | None = None,
        storage_timeout: float = DEFAULT_TIMEOUT,
        payload_format: str = "json",
        inline_threshold: int = 1024,
        enable_fts: bool = True,
        table: str | None = None,
        language: str | None = None,
        verify_reads: bool = True,
        raise_errors: bool = False,
        max_workers: int = 16,
        stale_reads: bool = False,
        stale_reads_entries: int = 10_000,
        stale_reads_bytes: int = 32 * 2**20,
        lazy: bool = True,
        clock: Clock | None = None,
        store: PayloadStore | None = None,
        owns_catalog: bool = False,
    ) -> None:
        """Put a catalog and a payload store together; with *lazy*, nothing is opened yet.

        Args:
            catalog: Where the rows are.
            storage_uri: Where payloads go: a directory or any fsspec URL.
            storage_options: Handed to fsspec.
            storage_timeout: Seconds that a call on one payload may take, retries included; of no
                use to a local directory.
            payload_format: ``json``, or ``parquet`` or ``duckdb``, in which a batch shares objects.
            inline_threshold: Bytes; a value whose canonical JSON is shorter is kept in its row.
            enable_fts: Whether values can be found by their words.
            table: Logical table, made on first use; by default the one *catalog* is bound to.
            language: Language of the search words of a table that is made; by default the one
                *catalog* was given.
            verify_reads: Whether every read checks the content hash.
            raise_errors: Whether failures are raised instead of answered.
            max_workers: Payloads read or written at once; 1 or more.
            stale_reads: Whether :meth:`retrieve` and :meth:`retrieve_batch` answer what was read
                lately, marked as stale, while the catalog is unavailable.
            stale_reads_entries: Entries kept in memory for it; 1 or more.
            stale_reads_bytes: Of the JSON text of their values and metadata; 1 or more.
            lazy: Whether the catalog is opened at the first call rather than now.
            clock: Tells the time; by default the catalog's clock.
            store: A payload store to use instead of *storage_uri*; it is left open.
            owns_catalog: Whether :meth:`close` closes *catalog*.

        Raises:
            ValidationError: A bad argument.
            LTMError: With ``lazy=False``, what opening the catalog raises.
        """
        validate_threshold(inline_threshold)
        self.raise_errors = raise_errors
        bound = catalog.bind(
            catalog.table_name if table is None else table,
            inline_threshold=inline_threshold,
            language=catalog.language if language is None else language,
        )
        if clock is not None:
            bound.clock = clock
        self._closing: list[Callable[[], None]] = [catalog.close] if owns_catalog else []
        if store is None:
            store = open_payload_store(
                storage_uri,
                storage_options=storage_options,
                max_workers=max_workers,
                timeout=storage_timeout,
            )
            self._closing.append(store.close)
        if store.directory is not None:
            bound.use_directory(f"{store.directory}.search")
        self._clock = bound.clock
        self._payload_format = _choose_format(payload_format, store)
        self._inline_threshold = inline_threshold
        self._enable_fts = enable_fts
        self._verify_reads = verify_reads
        recall = None
        if stale_reads:
            from ltm.backend.recall import Recall

            recall = Recall(
                bound.clock, max_entries=stale_reads_entries, max_bytes=stale_reads_bytes
            )
        self._recall = recall
        self._outage = Outage(bound, recalls=stale_reads)
        aftermath = ImmediateAftermath(bound, store)
        self.parts = self._assemble(bound, store, aftermath, self._forget, recall)
        self._is_closed = False
        self._thread = _ThreadState()
        if not lazy:
            bound.table()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.catalog!r}, {self.payloads!r})"

    def transaction(self) -> AbstractContextManager[BoundBackend]:
        from contextlib import contextmanager

        return contextmanager(self._transaction)()

    def _transaction(self) -> Iterator[BoundBackend]:
        self.require_open()
        if self._thread.transaction is not None:
            with self._thread.transaction.transaction() as block:
                yield block
            return
        from ltm.backend.aftermath import DeferredAftermath
        from ltm.backend.transaction import BoundBackend

        aftermath = DeferredAftermath(self.catalog, self.payloads)
        changed: set[str] = set()
        epoch = self.outage.epoch
        is_inside = False
        span = telemetry.span("ltm.transaction", {"ltm.table": self.catalog.table_name})
        try:
            with span, self.catalog.transaction() as catalog:
                parts = self._assemble(catalog, self.payloads, aftermath, changed.update)
                is_inside = True
                with BoundBackend(parts, raise_errors=True) as bound:
                    self._thread.transaction = bound
                    try:
                        yield bound
                    finally:
                        self._thread.transaction = None
                if bound.doomed is not None:
                    raise bound.doomed
                is_inside = False
        except CatalogUnavailableError as error:
            # The commit may have happened all the same: the payloads must stay.
            if not is_inside:
                self.outage.began(error, epoch)
            raise
        except BaseException:
            # An interrupt may come as COMMIT returns: then the payloads must stay, too.
            if is_inside:
                aftermath.undo()
            raise
        finally:
            self._forget(changed)
        aftermath.settle()

    def using(self, connection: Connection) -> BoundBackend:
        """Return this backend on a caller's SQLAlchemy *connection*: it commits with it.

        So memory and an application's own rows commit or roll back together. The transaction is
        begun if it isn't, and the schema made within it where it isn't there. Payloads are uploaded
        at once; those that a commit replaces, or a rollback leaves unnamed, are left to :meth:`gc`.

        Args:
            connection: To the database that holds the catalog; it stays the caller's to end.

        Raises:
            ValidationError: The catalog is in no SQL database.
            CatalogUnavailableError: The transaction could not be begun.
        """
        from ltm.backend.aftermath import LeftToGarbageCollection
        from ltm.backend.transaction import BoundBackend
        from ltm.catalog.sql import SQLCatalog

        self.require_open()
        if not isinstance(self.catalog, SQLCatalog):
            raise ValidationError(f"using: {self.catalog!r} is not in a SQL database")
        epoch = self.outage.epoch
        try:
            catalog = self.catalog.using(connection)
        except CatalogUnavailableError as error:
            self.outage.began(error, epoch)
            raise

        def attempted(keys: Iterable[str]) -> None:
            if self._recall is not None:
                self._recall.forget_while_open(keys, connection.get_transaction())

        parts = self._assemble(catalog, self.payloads, LeftToGarbageCollection(), attempted)
        return BoundBackend(parts, raise_errors=self.raise_errors)

    def active(self) -> Self:
        active: Self = self._thread.transaction or self
        return active

    def close(self) -> None:
        self._is_closed = True
        while self._closing:
            self._closing.pop()()

    def require_open(self) -> None:
        if self._is_closed:
            raise ClosedError("the backend is closed")

    def _forget(self, keys: Iterable[str]) -> None:
        if self._recall is not None:
            self._recall.forget(keys)

    def _assemble(
        self,
        catalog: Catalog,
        payloads: PayloadStore,
        aftermath: Aftermath,
        attempted: Attempted,
        recall: Recall | None = None,
    ) -> Parts:
        clock = self._clock
        return Parts(
            catalog=catalog,
            payloads=payloads,
            clock=clock,
            reader=ValueReader(payloads, catalog.read_many, clock, verify=self._verify_reads),
            writer=EntryWriter(
                catalog,
                payloads,
                self._payload_format,
                clock,
                aftermath,
                attempted,
                inline_threshold=self._inline_threshold,
                enable_fts=self._enable_fts,
            ),
            aftermath=aftermath,
            verify_reads=self._verify_reads,
            outage=self._outage,
            recall=recall,
            attempted=attempted,
        )


def _choose_format(name: str, store: PayloadStore) -> str:
    if name != "json":
        from ltm.payload.formats import validate_format  # few want another

        validate_format(name)
    if not store.keeps_rows:
        # So a URI asks for DuckDB's files wherever it leads.
        return "duckdb" if name == "json" and store.root.endswith(".duckdb") else name
    if name not in ("json", "duckdb"):
        message = f"payload_format: {store!r} keeps rows, so 'json' or 'duckdb', not {name!r}"
        raise ValidationError(message)
    return "json"  # as the text that a row has
