"""What a database has to say to be a catalog: a few typed primitives."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from types import TracebackType

from ltm.catalog.commit import NewWrite, Outcome, PlainWrite, Put, Removal
from ltm.clock import Clock, utc_now
from ltm.entry import AnyRow, EntryRow, Metadata, ValueRow
from ltm.errors import ValidationError
from ltm.keys import DEFAULT_TABLE, hash_key, id_prefix, validate_name
from ltm.search.analysis import get_analyzer
from ltm.typed import TYPE_CHECKING, AbstractContextManager, NamedTuple, Self

if TYPE_CHECKING:
    from ltm.catalog.accounts import CatalogStatistics, IndexedEntry
    from ltm.catalog.base import Catalog
    from ltm.catalog.history import History
    from ltm.catalog.leases import Leases
    from ltm.finding import Finding
    from ltm.search.analysis import Document
    from ltm.search.filters import Filter
    from ltm.search.questions import Question
else:
    Catalog = CatalogStatistics = Filter = Finding = History = IndexedEntry = object
    Document = Leases = Question = object


def validate_threshold(inline_threshold: object) -> int:
    """Return *inline_threshold* if a logical table can have it.

    Raises:
        ValidationError: It is no whole number of bytes from 0 to 2,147,483,647.
    """
    if isinstance(inline_threshold, bool) or not isinstance(inline_threshold, int):
        raise ValidationError(f"inline_threshold: expected bytes, got {inline_threshold!r}")
    if not 0 <= inline_threshold < 2**31:
        raise ValidationError(f"inline_threshold: {inline_threshold} is not from 0 to {2**31 - 1}")
    return inline_threshold


def mint_storage_prefix(table_name: str) -> str:
    """Return the first segment of the paths of a new table's payloads, which no other has."""
    import re
    import secrets

    words = re.sub(r"[^A-Za-z0-9_-]", "_", table_name)[:64]
    return f"{words}-{secrets.token_hex(6)}"


class LogicalTable(NamedTuple):
    """The defaults of a logical table, fixed when it was made."""

    name: str
    storage_prefix: str
    """First segment of the path of every payload of this table, shared with no other."""
    inline_threshold: int
    language: str


class CatalogPrimitives(ABC):
    """A catalog bound to one logical table of one tenant: what a database has to say."""

    def __init__(
        self,
        *,
        table: str = DEFAULT_TABLE,
        tenant: str = "",
        inline_threshold: int = 1024,
        language: str = "english",
        clock: Clock = utc_now,
    ) -> None:
        """Bind to *table*; nothing is opened until first use.

        Args:
            table: Logical table, made on first use.
            tenant: Name of the tenant, empty for none.
            inline_threshold: For a table that is made: values below this many bytes are inlined.
            language: For a table that is made: the language of its search words.
            clock: Tells the time.
        """
        self.table_name = validate_name(table, "table")
        self.tenant = validate_name(tenant, "tenant") if tenant else ""
        self.language = get_analyzer(language).language
        self.inline_threshold = validate_threshold(inline_threshold)
        self.clock = clock
        self._id_prefix = id_prefix(table=self.table_name, tenant=self.tenant)

    @abstractmethod
    def bind(self, table: str, *, inline_threshold: int, language: str) -> Catalog:
        """Return a catalog of another logical *table* in the same database.

        It shares connections with this one; closing it closes nothing.
        """

    def use_directory(self, directory: str) -> None:  # noqa: B027 -- nothing to keep where the database has all
        """Keep files that can be made anew in *directory*, unless told otherwise at the making."""

    @abstractmethod
    def table(self) -> LogicalTable:
        """Return the logical table, made now if it isn't there; remembered afterwards."""

    @abstractmethod
    def read(self, key: str, now: datetime) -> EntryRow | None:
        """Return the row of *key* that is live at *now*, or None, in one round trip."""

    def read_value(self, key: str, now: datetime) -> AnyRow | None:
        """Return what :meth:`read` does, or as much of it as a read of the value needs."""
        return self.read(key, now)

    @abstractmethod
    def read_many(self, keys: Sequence[str], now: datetime) -> dict[str, EntryRow]:
        """Return the live rows of *keys* by key; one round trip for every 500."""

    def read_values(
        self, keys: Sequence[str], now: datetime
    ) -> Mapping[str, EntryRow] | Mapping[str, ValueRow]:
        """Return what :meth:`read_many` does, or as much of it as a read of the values needs.

        It takes no more round trips.
        """
        return self.read_many(keys, now)

    def can_inline(self, metadata: Metadata, byte_size: int) -> bool:  # noqa: ARG002 -- most can
        """Return whether a row has room for a value of *byte_size* bytes beside *metadata*."""
        return True

    @abstractmethod
    def write(self, changes: Sequence[Put | Removal], now: datetime) -> list[Outcome]:
        """Carry out *changes* of distinct keys in one transaction; all or none.

        The rules are those of :mod:`ltm.catalog.commit`. Outcomes are in the order of *changes*.

        Raises:
            ConflictError: A condition of one of them does not hold; LeaseLostError: the lease that
                it is bound to is not there any more.
            CatalogUnavailableError: Nothing is known to be written.
        """

    def write_plain(self, put: Put, now: datetime) -> PlainWrite:
        """Carry out a *put* at once if it needs no more than to be written; or else, read its key.

        It is for writes of an inlined value without a condition. Where the row that is there is
        equal, has a payload or is seen by a snapshot, where the write has times to keep, and
        wherever in doubt, nothing is written.

        Raises:
            CatalogUnavailableError: Nothing is known to be written.
        """
        return None, self.read(put.key, now)

    def write_first(self, put: Put, now: datetime) -> Outcome | None:  # noqa: ARG002 -- not every catalog can
        """Carry out a *put* at once if there is no row under its key, or write nothing.

        It is for writes without a condition, of a value that is inlined or has its payload. None
        says that nothing is written, which needs no reason.

        Raises:
            CatalogUnavailableError: Nothing is known to be written.
        """
        return None

    def write_new(self, puts: Sequence[Put], now: datetime) -> NewWrite:
        """Carry out *puts* of distinct keys at once if no row is there; or else, read their keys.

        It is for writes of inlined values without a condition. All are carried out in one
        transaction, or none; outcomes are in the order of *puts*.

        Raises:
            CatalogUnavailableError: Nothing is known to be written.
        """
        return None, self.read_many([put.key for put in puts], now)

    @abstractmethod
    def rows_by_key(
        self, prefix: str, after: str, limit: int, condition: Filter | None, now: datetime
    ) -> list[EntryRow]:
        """Return up to *limit* live rows that begin with *prefix*, above *after*, in key order."""

    @abstractmethod
    def rows_newest(self, limit: int, condition: Filter | None, now: datetime) -> list[EntryRow]:
        """Return up to *limit* live rows by ``updated_at``, then id, both descending."""

    def values_newest(
        self, limit: int, condition: Filter | None, now: datetime
    ) -> Sequence[AnyRow]:
        """Return what :meth:`rows_newest` does, or as much of it as a read of values needs."""
        return self.rows_newest(limit, condition, now)

    @abstractmethod
    def rows_found(
        self, question: Question, limit: int, condition: Filter | None, now: datetime
    ) -> list[tuple[EntryRow, float]]:
        """Return up to *limit* live rows that answer *question*, with scores, best first."""

    def values_found(
        self, question: Question, limit: int, condition: Filter | None, now: datetime
    ) -> Sequence[tuple[AnyRow, float]]:
        """Return what :meth:`rows_found` does, or as much of it as a read of values needs."""
        return self.rows_found(question, limit, condition, now)

    @abstractmethod
    def remove_expired(self, limit: int, now: datetime) -> list[Outcome]:
        """Delete up to *limit* expired rows in one transaction, the earliest expired first."""

    @abstractmethod
    def count_expired(self, now: datetime) -> int:
        """Return how many expired rows are still to be cleaned up; reads no other rows."""

    @abstractmethod
    def statistics(self, now: datetime) -> CatalogStatistics:
        """Return the counts of the logical table."""

    def make_durable(self) -> None:  # noqa: B027 -- nothing to do where a commit is durable
        """Let every commit so far survive a crash of the machine.

        What a commit replaced may be deleted only afterwards.

        Raises:
            CatalogUnavailableError: It is not known to be so.
        """

    @abstractmethod
    def deletable_payloads(self, uris: Sequence[str]) -> list[str]:
        """Return those *uris* that are scheduled, in their order, if no row names their object.

        As long as a row or a version names any part of it, an object stays.
        """

    @abstractmethod
    def named_payloads(self, uris: Sequence[str]) -> set[str]:
        """Return those *uris* that a row, expired or not, or a version names, whole or in part."""

    @abstractmethod
    def forget_deletions(self, uris: Sequence[str]) -> None:
        """Strike objects that are deleted off the schedule, and all their parts.

        Args:
            uris: Paths of whole objects.
        """

    @abstractmethod
    def move_payloads(self, moves: Mapping[str, str], now: datetime) -> None:
        """Let rows and versions name where their payloads are now, the old places scheduled.

        Nothing else of them changes, and they are not written anew. Each move is atomic.

        Args:
            moves: The new location by the old one, of the same value.
        """

    @abstractmethod
    def scheduled_deletions(self, after: str, limit: int) -> list[str]:
        """Return up to *limit* payloads of this table scheduled for deletion, above *after*."""

    @abstractmethod
    def transaction(self) -> AbstractContextManager[Catalog]:
        """Give this catalog with all its verbs in one transaction, for the length of a block.

        It commits at the end of the block and rolls back if the block raises. The catalog given is
        for the thread that opened it.
        """

    @abstractmethod
    def indexed(self, rows: Sequence[EntryRow]) -> dict[str, IndexedEntry]:
        """Return what the indexes hold of *rows*, by id."""

    @abstractmethod
    def index_again(self, entries: Sequence[tuple[EntryRow, Document | None]]) -> None:
        """Index rows anew, each with the words it is to be found by; in one transaction.

        A row that has changed meanwhile is left as it is.
        """

    @abstractmethod
    def check_search_index(self, *, repair: bool) -> str | None:
        """Return what is wrong with the full-text index as a whole, or None.

        With *repair* it is made anew from the words if it is wrong.
        """

    @property
    @abstractmethod
    def history(self) -> History:
        """The snapshots of the logical table."""

    @property
    @abstractmethod
    def leases(self) -> Leases:
        """The leases of the logical table."""

    @abstractmethod
    def probe(self, now: datetime) -> None:
        """Write, read and delete a row in one committed transaction that nobody else sees.

        Raises:
            CatalogUnavailableError: It did not work.
        """

    def diagnose(self) -> Iterator[Finding]:
        """Yield what can be said of the way to the database, its set-up and its schema.

        Nothing is made or changed. What fails is a finding, in the time that a connection may take,
        and what comes after it is looked at where that can still say something.
        """
        return iter(())

    @abstractmethod
    def close(self) -> None:
        """Close what this catalog opened; idempotent."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def entry_id(self, key: str) -> str:
        """Return the id of *key* in this table."""
        return hash_key(self._id_prefix + key)
