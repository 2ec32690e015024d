"""The base of every catalog: the public methods over the primitives of a database.

A catalog for another database subclasses :class:`Catalog`, says the primitives and proves itself
with the conformance suite in :mod:`ltm.testing`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime

from ltm.catalog.commit import Put, Removal
from ltm.catalog.primitives import CatalogPrimitives
from ltm.clock import Clock
from ltm.entry import MISSING, AnyRow, EntryRow, JSONValue
from ltm.errors import ValidationError
from ltm.hashing import parse
from ltm.keys import validate_key, validate_name, validate_prefix
from ltm.search.analysis import get_analyzer
from ltm.typed import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ltm.catalog.protocol import ChangedEntry, Entry, SearchHit, TrackAnswer
    from ltm.search.filters import Filter
    from ltm.search.questions import Question
else:
    ChangedEntry = Entry = SearchHit = TrackAnswer = dict
    Filter = object

PAGE_SIZE = 500
"""So many rows of many are held in memory at once."""


class Catalog(CatalogPrimitives):
    """A catalog bound to one logical table; it satisfies ``CatalogBackend``."""

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
            storage_uri: Path of the payload below the storage root, at most 2,048 bytes; None where
                there is none.
            byte_size: Bytes of the canonical JSON, 0 to 2**50.
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
        return {"success": True, "entry_id": put.id, "created": outcome.created}

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
        from ltm.search.filters import parse_filter

        rows = self.rows_by_key(
            validate_prefix(prefix),
            validate_prefix(after, "after"),
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
            {"success": True, "entry_id": put.id, "created": outcomes[put.id].created}
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
        from ltm.search.filters import parse_filter

        hits = self.find(query, parse_filter(metadata_filter), validate_limit(limit), self.clock())
        return [{**as_entry(row), "score": score} for row, score in hits]

    def find(
        self, query: str | None, condition: Filter | None, limit: int, now: datetime
    ) -> list[tuple[EntryRow, float]]:
        """Return the rows and scores behind :meth:`search`."""
        question = self._parse_question(query)
        if question is None:
            return [(row, 0.0) for row in self.rows_newest(limit, condition, now)]
        return self.rows_found(question, limit, condition, now) if question.has_words else []

    def find_values(
        self, query: str | None, condition: Filter | None, limit: int, now: datetime
    ) -> Sequence[tuple[AnyRow, float]]:
        """Return what :meth:`find` does, or as much of it as a read of the values needs."""
        question = self._parse_question(query)
        if question is None:
            return [(row, 0.0) for row in self.values_newest(limit, condition, now)]
        return self.values_found(question, limit, condition, now) if question.has_words else []

    def _parse_question(self, query: str | None) -> Question | None:
        """Return what *query* asks, None for nothing but the newest entries."""
        if query is None:
            return None
        if not isinstance(query, str):
            raise ValidationError(f"query: expected str, got {type(query).__name__}")
        return get_analyzer(self.table().language).parse_query(query) if query.strip() else None

    def _put(self, now: datetime, fields: Mapping[str, Any]) -> Put:
        from ltm.catalog.tracking import build_put

        return build_put(self.entry_id, self.table().language, now, fields)

    def iterate(self, prefix: str, clock: Clock) -> Iterator[EntryRow]:
        """Yield every live row under *prefix* in key order, read in pages."""
        after = ""
        while True:
            page = self.rows_by_key(prefix, after, PAGE_SIZE, None, clock())
            yield from page
            if len(page) < PAGE_SIZE:
                return
            after = page[-1].key

    def create_snapshot(self, name: str) -> str:
        """Take a snapshot of the table and return its id; two rows are written.

        Args:
            name: 1 to 200 characters; names may repeat.

        Raises:
            ValidationError: A bad name.
            CatalogUnavailableError: The catalog could not be reached.
        """
        return self.history.create(validate_name(name, "name"), self.clock()).id

    def get_changed_entries(
        self, since_snapshot_id: str | None = None, *, include_deleted: bool = False
    ) -> list[ChangedEntry]:
        """Return the live entries that were added or modified since a snapshot, in key order.

        Args:
            since_snapshot_id: The snapshot's id or name; None returns all live entries.
            include_deleted: Whether entries that are gone are in the list too, as they were.

        Raises:
            SnapshotNotFoundError: There is no such snapshot.
            CatalogUnavailableError: The catalog could not be reached.
        """
        history = self.history
        since = None if since_snapshot_id is None else history.find(since_snapshot_id)
        changed: list[ChangedEntry] = []
        for change in history.changes(since, None, self.clock()):
            row = change.later or change.earlier
            if row is not None and (include_deleted or change.later is not None):
                changed.append({**as_entry(row), "op": change.operation})
        return changed


def as_entry(row: EntryRow) -> Entry:
    """Return *row* as the public dictionary, its inlined value parsed."""
    text = row.inlined_text
    return {
        "id": row.id,
        "key": row.key,
        "content_hash": row.content_hash,
        "storage_uri": row.storage_uri,
        "byte_size": row.byte_size,
        "inlined_value": None if text is None else parse(text, where=f"entry {row.key!r}"),
        "metadata": row.metadata,
        "expires_at": row.expires_at,
        "created_at": row.created_at,
        "updated_at": row.updated_at,
    }


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
