"""The contract of an LTM backend: what an agent may call, and what it is answered."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from types import TracebackType

from ltm.entry import JSONValue, Metadata
from ltm.typed import TYPE_CHECKING, AbstractContextManager, Any, Self

if TYPE_CHECKING:
    from typing import Literal, overload

    from ltm.backend.results import CleanupAnswer as CleanupAnswer
    from ltm.backend.results import DeleteAnswer as DeleteAnswer
    from ltm.backend.results import ExpireAnswer as ExpireAnswer
    from ltm.backend.results import GarbageAnswer as GarbageAnswer
    from ltm.backend.results import HealthAnswer as HealthAnswer
    from ltm.backend.results import RestoreAnswer as RestoreAnswer
    from ltm.backend.results import RetrieveAnswer as RetrieveAnswer
    from ltm.backend.results import RetrieveBatchAnswer as RetrieveBatchAnswer
    from ltm.backend.results import SearchAnswer as SearchAnswer
    from ltm.backend.results import SnapshotAnswer as SnapshotAnswer
    from ltm.backend.results import SnapshotsAnswer as SnapshotsAnswer
    from ltm.backend.results import StatsAnswer as StatsAnswer
    from ltm.backend.results import StoreAnswer as StoreAnswer
    from ltm.backend.results import StoreBatchAnswer as StoreBatchAnswer
    from ltm.backend.results import VerifyAnswer as VerifyAnswer
    from ltm.catalog.history import EntryChange as EntryChange
else:
    CleanupAnswer = DeleteAnswer = ExpireAnswer = GarbageAnswer = HealthAnswer = dict
    RestoreAnswer = RetrieveAnswer = RetrieveBatchAnswer = SearchAnswer = SnapshotAnswer = dict
    SnapshotsAnswer = StatsAnswer = StoreAnswer = StoreBatchAnswer = VerifyAnswer = dict
    EntryChange = dict


class LTMBackend(ABC):
    """Remembers JSON values by key, with metadata, and finds them again.

    Methods answer with dictionaries. A failure is ``{"success": False, "error": ...,
    "error_type": ...}``, where ``error_type`` is that of an exception in :mod:`ltm.errors`;
    iterators and :meth:`query` raise the exception instead. Methods may be called from any thread.
    """

    raise_errors: bool
    """Whether failures are raised instead of answered."""

    @abstractmethod
    def store(
        self,
        key: str,
        value: JSONValue,
        metadata: Mapping[str, Any] | None = None,
        *,
        ttl: float | None = None,
        expires_at: datetime | None = None,
        if_match: str | None = None,
        if_absent: bool = False,
    ) -> StoreAnswer:
        """Remember *value* under *key*, replacing what is there; durable when it succeeds.

        Args:
            key: 1 to 1,024 bytes of UTF-8 without NUL.
            value: Any JSON value, None included; it comes back type for type.
            metadata: A JSON object to find it by.
            ttl: Seconds until the entry ceases to exist, above 0.
            expires_at: The instant at which it does, as an aware datetime. Where neither is given,
                ``_cache_expires_at``, ``expires_at`` or ``ttl`` in *metadata* count.
            if_match: The content hash that the live entry must have, or else ``conflict``.
            if_absent: Whether there must be no live entry, or else ``conflict``.
        """

    @abstractmethod
    def retrieve(
        self, key: str, default: JSONValue = None, *, snapshot: str | None = None
    ) -> RetrieveAnswer:
        """Return the value of *key*, its hash verified; *default* where there is no live entry.

        With the id or name of a *snapshot*, as it was then.
        """

    @abstractmethod
    def delete(self, key: str, *, if_match: str | None = None) -> DeleteAnswer:
        """Forget *key*; ``deleted`` says whether there was a live entry."""

    @abstractmethod
    def update(
        self,
        key: str,
        fn: Callable[[JSONValue], JSONValue],
        *,
        default: JSONValue = None,
        retries: int = 10,
    ) -> StoreAnswer:
        """Replace the value of *key* by ``fn(value)``, losing no other writer's change.

        Metadata and expiry stay. What *fn* raises is raised here, and nothing is written.

        Args:
            key: The key.
            fn: Gets the present value, or a copy of *default* where there is none; it is called
                again when another writer came first.
            default: The value to start from.
            retries: How many more attempts there are before the answer is ``conflict``; 0 or more.
        """

    @abstractmethod
    def search(
        self,
        query: str | None = None,
        metadata_filter: Mapping[str, Any] | None = None,
        limit: int = 10,
        *,
        snapshot: str | None = None,
    ) -> SearchAnswer:
        """Find entries by asking in plain words, by metadata, or both; best first.

        Args:
            query: Words, of which any may occur; ``"a phrase"`` must occur, ``-word`` must not.
                No text is an error. Empty or None lists the newest entries, with score 0.
            metadata_filter: For example ``{"type": "note", "score": {"$gt": 3}}``; all must hold.
            limit: At most this many, counted after filtering; 1 or more.
            snapshot: Id or name of a snapshot to search instead of the present, by
                *metadata_filter* only; it reads every entry of the snapshot.
        """

    @abstractmethod
    def store_batch(
        self, entries: Iterable[Any], *, atomic: bool = True, batch_size: int = 500
    ) -> StoreBatchAnswer:
        """Remember many values; of entries with one key the last counts.

        Args:
            entries: Mappings with ``key``, ``value`` and perhaps ``metadata``, ``ttl`` and
                ``expires_at``, or tuples ``(key, value)`` and ``(key, value, metadata)``. Where
                entries come from elsewhere, ``created_at`` and ``updated_at`` keep their times.
            atomic: Whether all are stored or none. Otherwise each stands alone, and the answer is
                a success only if none failed.
            batch_size: Entries in one transaction where not atomic; 1 or more.
        """

    @abstractmethod
    def retrieve_batch(self, keys: Iterable[str]) -> RetrieveBatchAnswer:
        """Return the values of *keys*, in the order asked; it is a success if none failed."""

    @abstractmethod
    def cleanup_expired(self, limit: int = 100, *, batch_size: int | None = None) -> CleanupAnswer:
        """Remove up to *limit* expired entries, which nobody sees any more, and their payloads.

        *batch_size* is another name for *limit*.
        """

    @abstractmethod
    def iterate_all(
        self, prefix: str | None = None, *, snapshot: str | None = None
    ) -> Iterator[tuple[str, JSONValue, Metadata]]:
        """Yield key, value and metadata of every live entry in bytewise key order.

        Entries are read in pages, and memory does not grow with how many there are. Each is as it
        was when its page was read, or, with the id or name of a *snapshot*, as it was then. Raises
        what the other methods answer.
        """

    @abstractmethod
    def transaction(self) -> AbstractContextManager[LTMBackend]:
        """Let the calls in a ``with`` block commit together at its end, or not at all.

        The block gets a backend whose calls see what the block has written and raise their errors.
        Calls of this backend in the same thread join in; a failure that one of them answers keeps
        the block from committing: it is raised at the end. An exception rolls everything back,
        payloads included. Writers elsewhere wait for the block on SQLite.
        """

    @abstractmethod
    def create_snapshot(self, name: str) -> SnapshotAnswer:
        """Take a snapshot, to which reads can go back; its cost doesn't grow with what is kept.

        Args:
            name: 1 to 200 characters. Where a snapshot is asked for by name, the newest counts.
        """

    @abstractmethod
    def list_snapshots(self) -> SnapshotsAnswer:
        """List the snapshots in the order in which they were taken."""

    @abstractmethod
    def expire_snapshot(self, snapshot: str) -> ExpireAnswer:
        """Forget a snapshot, and the values and payloads that only it still saw."""

    @abstractmethod
    def restore(self, snapshot: str) -> RestoreAnswer:
        """Make the present equal to a snapshot, in one transaction of new writes.

        So snapshots stay as they are, and one that is taken before can undo it. What has expired
        since the snapshot stays gone.
        """

    @abstractmethod
    def diff(self, a: str, b: str) -> Iterator[EntryChange]:
        """Yield how snapshot *b* differs from snapshot *a*, in key order; raises its errors."""

    @abstractmethod
    def changes(self, since: str | None) -> Iterator[EntryChange]:
        """Yield how the present differs from a snapshot, in key order; raises its errors.

        Additions, modifications of value, metadata or expiry, and deletions, expired entries among
        them. Since None, everything is added.
        """

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

    @abstractmethod
    def query(
        self,
        sql: str,
        *,
        parameters: Sequence[Any] | Mapping[str, Any] | None = None,
        snapshot: str | None = None,
        as_arrow: bool = False,
        timeout: float | None = None,
    ) -> Any:
        """Return the result of one SELECT statement of DuckDB's SQL over the memory.

        It sees ``entries(key, value, metadata, content_hash, byte_size, expires_at, created_at,
        updated_at)``, the live ones, where value and metadata are of DuckDB's type JSON, and
        ``snapshots(snapshot_id, name, entry_count, total_bytes, created_at)``. Entries are read in
        pages, each as it was when its page was read; then the statement runs in memory, at most 1
        GiB of it, and in temporary files. Only the columns that it uses are read: payloads if it
        uses ``value``. Of a SELECT from ``entries`` alone, the catalog is asked for no other rows
        than ``key = ...``, ``IN``, ``LIKE 'begin%'``, ``starts_with`` and comparisons of the key
        let through, and ``metadata->>'type' = 'note'``, ``IN`` and ``IS NOT NULL``.

        Args:
            sql: The statement. It reaches no file, network, extension or setting.
            parameters: A list for ``?`` and ``$1``, or an object for ``$name``.
            snapshot: Id or name of a snapshot, to see the entries as of it.
            as_arrow: Whether the answer is a ``pyarrow.Table``; JSON is text in it.
            timeout: Seconds that the statement may take once the entries are read, above 0; None
                for as long as it takes.

        Returns:
            One dictionary for each row, in the order of the result. A column of type JSON is the
            value it holds, instants are in UTC, a second column ``a`` is ``a_1``.

        Raises:
            ValidationError: Not one SELECT statement, one that DuckDB refuses, in its words, or one
                that reaches for something else.
            SnapshotNotFoundError: There is no such snapshot, or it was expired meanwhile.
            CatalogUnavailableError: The catalog could not be reached.
            PayloadError: A value could not be read; IntegrityError: it is not what was written.
            MissingDependencyError: The extra ``duckdb`` is not installed.
            LTMError: DuckDB has no room for it, in memory and temporary files together, or it took
                longer than *timeout*.
        """

    @abstractmethod
    def gc(
        self,
        dry_run: bool = False,
        *,
        grace: float | timedelta = 86_400,
        compact: bool = False,
    ) -> GarbageAnswer:
        """Delete payloads that nothing names: those scheduled, then what crashes have left.

        Not within a transaction, which may yet roll back.

        Args:
            dry_run: Whether only to say what would be deleted.
            grace: Seconds, or a timedelta, for which an object no row names is spared, counted from
                its modification; longer than any write takes from its upload to its commit.
            compact: Whether to rewrite objects that many values shared and few still do, where that
                at least halves their bytes.
        """

    @abstractmethod
    def verify(self, repair: bool = False) -> VerifyAnswer:
        """Check every row against its payload, its hash and its place in the indexes.

        Args:
            repair: Whether to index anew what is not indexed right. A lost or corrupted value can't
                be repaired; it is reported either way.
        """

    @abstractmethod
    def stats(self) -> StatsAnswer:
        """Count entries and bytes; reads every row of the table once."""

    @abstractmethod
    def health_check(self) -> HealthAnswer:
        """Write, read and delete a probe in the catalog and in the payload store."""

    @abstractmethod
    def close(self) -> None:
        """Close what this backend opened, and leave what was handed in; idempotent."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
