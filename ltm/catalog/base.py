"""The base of every catalog: the public methods over a few typed primitives.

A catalog for another database subclasses :class:`Catalog`, says the primitives and proves itself
with the conformance suite in :mod:`ltm.testing`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from types import TracebackType
from typing import Any, NamedTuple, Self

from ltm.catalog.commit import Outcome, Put, Removal
from ltm.catalog.protocol import SearchHit, TrackAnswer
from ltm.catalog.tracking import build_put
from ltm.clock import Clock, utc_now
from ltm.entry import MISSING, Entry, EntryRow, JSONValue
from ltm.errors import ValidationError
from ltm.hashing import parse
from ltm.keys import (
    DEFAULT_TABLE,
    generate_entry_id,
    validate_key,
    validate_name,
    validate_prefix,
)
from ltm.search.analysis import Question, get_analyzer
from ltm.search.filters import Filter, parse_filter


class LogicalTable(NamedTuple):
    """The defaults of a logical table, fixed when it was made."""

    name: str
    storage_prefix: str
    """First segment of the path of every payload of this table, shared with no other."""
    inline_threshold: int
    language: str


class CatalogStatistics(NamedTuple):
    """Counts over one logical table at one instant."""

    entries: int
    inlined: int
    total_bytes: int
    inlined_bytes: int
    expired: int
    """Expired entries that are still to be cleaned up; in none of the other numbers."""


class Catalog(ABC):
    """A catalog bound to one logical table of one tenant."""

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
        self.inline_threshold = inline_threshold
        self.clock = clock

    # What a catalog says

    @abstractmethod
    def bind(self, table: str, *, inline_threshold: int, language: str) -> Catalog:
        """Return a catalog of another logical *table* in the same database.

        It shares connections with this one; closing it closes nothing.
        """

    @abstractmethod
    def table(self) -> LogicalTable:
        """Return the logical table, made now if it isn't there; remembered afterwards."""

    @abstractmethod
    def read(self, key: str, now: datetime) -> EntryRow | None:
        """Return the row of *key* that is live at *now*, or None, in one round trip."""

    @abstractmethod
    def read_many(self, keys: Sequence[str], now: datetime) -> dict[str, EntryRow]:
        """Return the live rows of *keys* by key; one round trip for every 500."""

    @abstractmethod
    def write(self, changes: Sequence[Put | Removal], now: datetime) -> list[Outcome]:
        """Carry out *changes* of distinct keys in one transaction; all or none.

        The rules are those of :mod:`ltm.catalog.commit`. Outcomes are in the order of *changes*.

        Raises:
            ConflictError: A condition of one of them does not hold.
            CatalogUnavailableError: Nothing is known to be written.
        """

    @abstractmethod
    def rows_by_key(
        self, prefix: str, after: str, limit: int, condition: Filter | None, now: datetime
    ) -> list[EntryRow]:
        """Return up to *limit* live rows that begin with *prefix*, above *after*, in key order."""

    @abstractmethod
    def rows_newest(self, limit: int, condition: Filter | None, now: datetime) -> list[EntryRow]:
        """Return up to *limit* live rows by ``updated_at``, then id, both descending."""

    @abstractmethod
    def rows_found(
        self, question: Question, limit: int, condition: Filter | None, now: datetime
    ) -> list[tuple[EntryRow, float]]:
        """Return up to *limit* live rows that answer *question*, with scores, best first."""

    @abstractmethod
    def remove_expired(self, limit: int, now: datetime) -> list[Outcome]:
        """Delete up to *limit* expired rows in one transaction, the earliest expired first."""

    @abstractmethod
    def statistics(self, now: datetime) -> CatalogStatistics:
        """Return the counts of the logical table."""

    @abstractmethod
    def deletable_payloads(self, uris: Sequence[str]) -> list[str]:
        """Return those scheduled payloads among *uris* that no row and no version names."""

    @abstractmethod
    def forget_deletions(self, uris: Sequence[str]) -> None:
        """Strike payloads that are deleted off the schedule."""

    @abstractmethod
    def scheduled_deletions(self, after: str, limit: int) -> list[str]:
        """Return up to *limit* payloads of this table scheduled for deletion, above *after*."""

    @abstractmethod
    def probe(self, now: datetime) -> None:
        """Write, read and delete a row in one committed transaction that nobody else sees.

        Raises:
            CatalogUnavailableError: It did not work.
        """

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

    # What people call

    def track_entry(
        self,
        key: str,
        content_hash: str,
        storage_uri: str | None,
        byte_size: int,
        metadata: Mapping[str, Any] | None,
        inlined_value: JSONValue = MISSING,
        expires_at: datetime | None = None,
        *,
        if_match: str | None = None,
        if_absent: bool = False,
    ) -> TrackAnswer:
        """Insert or replace the row of *key*.

        Args:
            key: 1 to 1,024 bytes of UTF-8.
            content_hash: ``sha256:`` and 64 hexadecimal digits of the value.
            storage_uri: Path of the payload below the storage root, None where there is none.
            byte_size: Bytes of the canonical JSON, 0 or more.
            metadata: A JSON object; None is an empty one.
            inlined_value: The value, where it is kept in the row. With neither this nor
                *storage_uri* the entry is tracked without a value.
            expires_at: The instant at which the entry ceases to exist; None for never.
            if_match: The content hash that the live entry must have.
            if_absent: Whether there must be no live entry.

        Raises:
            ValidationError: A bad argument.
            SerializationError: *inlined_value* is not JSON.
            ConflictError: A condition does not hold.
            CatalogUnavailableError: The catalog could not be reached.
        """
        now = self.clock()
        put = self._put(
            now,
            {
                "key": key,
                "content_hash": content_hash,
                "storage_uri": storage_uri,
                "byte_size": byte_size,
                "metadata": metadata,
                "inlined_value": inlined_value,
                "expires_at": expires_at,
                "if_match": if_match,
                "if_absent": if_absent,
            },
        )
        (outcome,) = self.write([put], now)
        return TrackAnswer(success=True, entry_id=put.id, created=outcome.created)

    def get_entry(self, key: str) -> Entry | None:
        """Return the live entry of *key*, or None; one round trip.

        Raises:
            ValidationError: A bad key.
            CatalogUnavailableError: The catalog could not be reached, which says nothing of *key*.
        """
        row = self.read(validate_key(key), self.clock())
        return None if row is None else as_entry(row)

    def list_entries(
        self,
        prefix: str | None = None,
        metadata_filter: Mapping[str, Any] | None = None,
        limit: int = 100,
        after: str | None = None,
    ) -> list[Entry]:
        """Return live entries whose key begins with *prefix*, in bytewise key order.

        Args:
            prefix: Matched literally and with case; ``%`` and ``_`` are ordinary characters.
            metadata_filter: What the metadata must fulfil.
            limit: At most this many entries, counted after filtering; 1 or more.
            after: Only keys above this one: pass the last key of a page to get the next.

        Raises:
            ValidationError: A bad prefix, filter or limit.
            CatalogUnavailableError: The catalog could not be reached.
        """
        rows = self.rows_by_key(
            validate_prefix(prefix),
            validate_prefix(after),
            validate_limit(limit),
            parse_filter(metadata_filter),
            self.clock(),
        )
        return [as_entry(row) for row in rows]

    def delete_entry(self, key: str, *, if_match: str | None = None) -> bool:
        """Delete the entry of *key* and return whether there was one.

        Raises:
            ValidationError: A bad key.
            ConflictError: The live entry has another content hash than *if_match*, or is absent.
            CatalogUnavailableError: The catalog could not be reached.
        """
        removal = Removal(id=self.entry_id(validate_key(key)), key=key, if_match=if_match)
        (outcome,) = self.write([removal], self.clock())
        return outcome.deleted

    def store_batch(self, entries: Iterable[Mapping[str, Any]]) -> list[TrackAnswer]:
        """Track many entries in one transaction, all or none; of one key the last counts.

        Args:
            entries: Mappings of the arguments of :meth:`track_entry`.

        Raises:
            ValidationError: A bad entry; the message gives its index.
            CatalogUnavailableError: The catalog could not be reached.
        """
        now = self.clock()
        puts: list[Put] = []
        for index, fields in enumerate(entries):
            try:
                puts.append(self._put(now, fields))
            except ValidationError as error:
                raise ValidationError(f"entries[{index}]: {error}") from error
        distinct = {put.id: put for put in puts}
        outcomes = dict(
            zip(distinct, self.write(list(distinct.values()), now) if distinct else [], strict=True)
        )
        return [
            TrackAnswer(success=True, entry_id=put.id, created=outcomes[put.id].created)
            for put in puts
        ]

    def retrieve_batch(self, keys: Iterable[str]) -> dict[str, Entry]:
        """Return the live entries among *keys*, by key in the order asked, without the absent.

        Raises:
            ValidationError: A bad key.
            CatalogUnavailableError: The catalog could not be reached.
        """
        wanted = list(dict.fromkeys(validate_key(key) for key in keys))
        rows = self.read_many(wanted, self.clock())
        return {key: as_entry(rows[key]) for key in wanted if key in rows}

    def cleanup_expired(self, limit: int = 100) -> int:
        """Delete up to *limit* expired entries and return how many; payloads are scheduled.

        Raises:
            ValidationError: *limit* is below 1.
            CatalogUnavailableError: The catalog could not be reached.
        """
        return len(self.remove_expired(validate_limit(limit), self.clock()))

    def search(
        self,
        query: str | None = None,
        metadata_filter: Mapping[str, Any] | None = None,
        limit: int = 10,
    ) -> list[SearchHit]:
        """Return the entries that answer a plain-language *query* best, best first.

        Args:
            query: Words, of which any may occur; ``"a phrase"`` must occur, ``-word`` must not.
                Nothing in it is a syntax error. Empty or None: the newest entries, with score 0.
            metadata_filter: What the metadata must fulfil, applied before *limit*.
            limit: At most this many; 1 or more.

        Raises:
            ValidationError: A bad filter or limit.
            CatalogUnavailableError: The catalog could not be reached.
        """
        hits = self.find(query, parse_filter(metadata_filter), validate_limit(limit), self.clock())
        return [SearchHit(**as_entry(row), score=score) for row, score in hits]

    def find(
        self, query: str | None, condition: Filter | None, limit: int, now: datetime
    ) -> list[tuple[EntryRow, float]]:
        """Return the rows and scores behind :meth:`search`."""
        if query is not None and not isinstance(query, str):
            raise ValidationError(f"query: expected str, got {type(query).__name__}")
        if query is None or not query.strip():
            return [(row, 0.0) for row in self.rows_newest(limit, condition, now)]
        question = get_analyzer(self.table().language).parse_query(query)
        return self.rows_found(question, limit, condition, now) if question.has_words else []

    def _put(self, now: datetime, fields: Mapping[str, Any]) -> Put:
        return build_put(self.entry_id, self.table().language, now, fields)

    def entry_id(self, key: str) -> str:
        """Return the id of *key* in this table."""
        return generate_entry_id(key, table=self.table_name, tenant=self.tenant)


def as_entry(row: EntryRow) -> Entry:
    """Return *row* as the public dictionary, its inlined value parsed."""
    text = row.inlined_text
    return Entry(
        id=row.id,
        key=row.key,
        content_hash=row.content_hash,
        storage_uri=row.storage_uri,
        byte_size=row.byte_size,
        inlined_value=None if text is None else parse(text, where=f"entry {row.key!r}"),
        metadata=row.metadata,
        expires_at=row.expires_at,
        created_at=row.created_at,
        updated_at=row.updated_at,
    )


def validate_limit(limit: object, name: str = "limit") -> int:
    """Return *limit* if it is a whole number of 1 or more.

    Raises:
        ValidationError: It isn't.
    """
    if isinstance(limit, bool) or not isinstance(limit, int):
        raise ValidationError(f"{name}: expected int, got {limit!r}")
    if limit < 1:
        raise ValidationError(f"{name}: expected 1 or more, got {limit}")
    return min(limit, 2**63 - 1)
