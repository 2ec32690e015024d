"""The commit protocol: payload first, one catalog transaction, deletions after it.

A crash between any two steps leaves the old value or the new one, and at most an object that no row
names.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import datetime

from ltm.backend.aftermath import drop_written
from ltm.catalog.base import Catalog
from ltm.catalog.commit import (
    Outcome,
    Put,
    Removal,
    StaleEntryError,
    require_conditions,
    same_terms,
)
from ltm.clock import Clock, require_utc
from ltm.entry import AnyRow, EntryRow, JSONValue, Metadata, resolve_expiry, validate_metadata
from ltm.errors import CatalogUnavailableError, LTMError
from ltm.hashing import canonical_json, hash_text
from ltm.keys import validate_key
from ltm.payload.base import PayloadStore, payload_path
from ltm.search.analysis import Document, get_analyzer
from ltm.typed import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from typing import Any

    from ltm.backend.aftermath import Aftermath
    from ltm.catalog.leases import Lease
    from ltm.payload.codecs import Codec, Record

    Attempted = Callable[[Iterable[str]], None]
    """Is told the keys of a change that was tried, whatever has become of it."""


class PreparedEntry(NamedTuple):
    """A write that is validated, serialised and hashed; nothing is written yet."""

    key: str
    text: str
    """The value as canonical JSON."""
    byte_size: int
    """Bytes of the text, which is ASCII."""
    content_hash: str
    metadata: Metadata
    expires_at: datetime | None
    analyze: Callable[[], Document] | None
    created_at: datetime | None = None
    updated_at: datetime | None = None

    @property
    def record(self) -> Record:
        """What a payload object keeps of it."""
        from ltm.payload.codecs import Record

        return Record(self.key, self.text, self.metadata, self.content_hash)


class Condition(NamedTuple):
    """What must hold at the commit."""

    if_match: str | None = None
    if_absent: bool = False
    based_on: AnyRow | None = None
    lease: Lease | None = None


_UNCONDITIONAL = Condition()


class EntryWriter:
    """Writes entries to a catalog and a payload store so that both always agree."""

    def __init__(
        self,
        catalog: Catalog,
        store: PayloadStore,
        payload_format: str,
        clock: Clock,
        aftermath: Aftermath,
        attempted: Attempted,
        *,
        inline_threshold: int,
        enable_fts: bool,
    ) -> None:
        self._catalog = catalog
        self._store = store
        self._payload_format = payload_format
        self._clock = clock
        self._aftermath = aftermath
        self._attempted = attempted
        self._inline_threshold = inline_threshold
        self._enable_fts = enable_fts

    def prepare(
        self,
        key: object,
        value: JSONValue,
        metadata: Mapping[str, Any] | None = None,
        *,
        ttl: object = None,
        expires_at: object = None,
        created_at: object = None,
        updated_at: object = None,
    ) -> PreparedEntry:
        """Validate, serialise and hash; nothing is written.

        Raises:
            ValidationError: A bad key, metadata or expiry.
            SerializationError: *value* is not JSON.
        """
        name = validate_key(key)
        kept = validate_metadata(metadata)
        expiry = None
        if kept or ttl is not None or expires_at is not None:
            expiry = resolve_expiry(self._clock(), ttl=ttl, expires_at=expires_at, metadata=kept)
        text = canonical_json(value)
        return PreparedEntry(
            name,
            text,
            len(text),
            hash_text(text),
            kept,
            expiry,
            self.read_document(name, value),
            created_at=None if created_at is None else require_utc(created_at, "created_at"),
            updated_at=None if updated_at is None else require_utc(updated_at, "updated_at"),
        )

    def write(self, entry: PreparedEntry, given: Condition | None = None) -> Outcome:
        """Write one entry, on the condition that is *given*.

        Raises:
            ConflictError: The condition does not hold.
            PayloadError: The payload could not be written; the old value is as it was.
            CatalogUnavailableError: The catalog could not be reached.
        """
        condition = given or _UNCONDITIONAL
        try:
            if given is None and self._is_inlined(entry):
                put = self._put_inlined(entry)
                outcome, found = self._catalog.write_plain(put, self._clock())
                if outcome is not None:
                    self._attempted([entry.key])
                    return outcome
                if found is not None and _is_equal(found, entry):
                    return Outcome(entry.key, deduplicated=True)
            else:
                found = self._catalog.read(entry.key, self._clock())
                # Spare the upload of a write that can't win; the transaction decides the others.
                require_conditions(
                    entry.key, found, if_match=condition.if_match, if_absent=condition.if_absent
                )
            return self._write([entry], {entry.key: found} if found else {}, condition)[0]
        except BaseException:
            # An interrupt, too: before the commit perhaps, but for the caller it was tried.
            self._attempted([entry.key])
            raise

    def write_many(self, entries: Sequence[PreparedEntry]) -> list[Outcome]:
        """Write entries of distinct keys in one transaction, all or none, outcomes in order.

        Raises:
            PayloadError: A payload could not be written; nothing is stored.
            CatalogUnavailableError: The catalog could not be reached.
        """
        if not entries:
            return []
        keys = [entry.key for entry in entries]
        if not all(map(self._is_inlined, entries)):
            found = self._catalog.read_many(keys, self._clock())
            return self._write(entries, found, _UNCONDITIONAL)
        try:
            puts = [*map(self._put_inlined, entries)]
            outcomes, found = self._catalog.write_new(puts, self._clock())
        finally:
            self._attempted(keys)
        return self._write(entries, found, _UNCONDITIONAL) if outcomes is None else outcomes

    def _write(
        self,
        entries: Sequence[PreparedEntry],
        found: Mapping[str, AnyRow],
        condition: Condition,
    ) -> list[Outcome]:
        """Commit those *entries* that differ from the rows in *found*."""
        equal: dict[str, AnyRow] = {}
        if found:
            from ltm.backend.equality import find_equal

            equal = find_equal(self._store, entries, found)
        outcomes: dict[str, Outcome] = {}
        changed: list[PreparedEntry] = []
        for entry in entries:
            row = equal.get(entry.key)
            if (
                row is not None
                and condition.based_on is None
                and condition.lease is None
                and same_terms(row, entry.metadata, entry.expires_at)
            ):
                outcomes[entry.key] = Outcome(
                    entry.key, deduplicated=True, storage_uri=row.storage_uri
                )
            else:
                changed.append(entry)
        if changed:
            damaged = {
                key
                for entry in changed
                if (key := entry.key) in found
                and key not in equal
                and found[key].content_hash == entry.content_hash
            }
            is_first = not found and condition is _UNCONDITIONAL
            for outcome in self._commit(changed, equal, damaged, condition, is_first=is_first):
                outcomes[outcome.key] = outcome
        return [outcomes[entry.key] for entry in entries]

    def upload(self, entries: Sequence[PreparedEntry]) -> list[str | LTMError | None]:
        """Write the payloads of *entries* in parallel.

        Returns:
            For each its location, None where it is inlined, or why it could not be written.
        """
        outside = [index for index, entry in enumerate(entries) if not self._is_inlined(entry)]
        if not outside:
            return [None] * len(entries)
        from ltm.payload.formats import get_codec

        records = [entries[index].record for index in outside]
        places: list[str | LTMError | None] = [None] * len(entries)
        written = self.write_records(records, get_codec(self._payload_format))
        for index, place in zip(outside, written, strict=True):
            places[index] = place
        return places

    def write_records(self, records: Sequence[Record], codec: Codec) -> list[str | LTMError]:
        """Write *records* into fresh objects; return their locations, or why there is none."""
        from ltm.payload.values import write_records

        prefix = self._catalog.table().storage_prefix

        def name(first: Record) -> str:
            identity = self._catalog.entry_id(first.key), first.content_hash
            return payload_path(prefix, *identity, codec.extension)

        return write_records(self._store, codec, records, name)

    def _is_inlined(self, entry: PreparedEntry) -> bool:
        return entry.byte_size < self._inline_threshold and self._catalog.can_inline(
            entry.metadata, entry.byte_size
        )

    def put_back(self, row: EntryRow, value: JSONValue) -> Put:
        """Return a new write of a *row* that was: the same terms and place, indexed again."""
        return Put(
            id=row.id,
            key=row.key,
            content_hash=row.content_hash,
            byte_size=row.byte_size,
            metadata=row.metadata,
            storage_uri=row.storage_uri,
            inlined_text=row.inlined_text,
            analyze=self.read_document(row.key, value),
            expires_at=row.expires_at,
        )

    def read_document(self, key: str, value: JSONValue) -> Callable[[], Document] | None:
        """Return what gives the words of *value*, or None if it isn't to be found by them."""
        if not self._enable_fts:
            return None
        return get_analyzer(self._catalog.table().language).read_document(key, value)

    def _commit(
        self,
        entries: Sequence[PreparedEntry],
        equal: Mapping[str, AnyRow],
        damaged: Collection[str],
        condition: Condition,
        *,
        is_first: bool = False,
    ) -> list[Outcome]:
        """Commit *entries*, with the payloads of rows in *equal*; *is_first* if none was found."""
        reused = {
            entry.key: equal[entry.key]
            for entry in entries
            if entry.key in equal and equal[entry.key].storage_uri is not None
        }
        fresh = [entry for entry in entries if entry.key not in reused]
        paths = self.upload(fresh)
        written = [path for path in paths if isinstance(path, str)]
        for error in paths:
            if isinstance(error, LTMError):
                drop_written(self._store, written)
                raise error
        places = {entry.key: path for entry, path in zip(fresh, paths, strict=True)}
        puts = [
            self._put(
                entry,
                reused.get(entry.key),
                places.get(entry.key),
                condition,
                mends=entry.key in damaged,
            )
            for entry in entries
        ]
        try:
            outcomes = self._commit_first(puts) if is_first else self.commit(puts)
        except StaleEntryError:
            drop_written(self._store, written)
            if condition.based_on is not None:
                raise
            # A row whose payload was to be reused has changed: this time bring every payload.
            return self._commit(entries, {}, damaged, condition)
        except CatalogUnavailableError:
            # The commit may have happened all the same: the payloads must stay.
            raise
        except LTMError:
            drop_written(self._store, written)
            raise
        from ltm.locations import object_path

        kept = {object_path(each.storage_uri) for each in outcomes if each.storage_uri is not None}
        drop_written(self._store, [path for path in written if object_path(path) not in kept])
        self._aftermath.wrote([path for path in written if object_path(path) in kept])
        self._aftermath.free([each.freed for each in outcomes if each.freed is not None])
        return outcomes

    def _commit_first(self, puts: Sequence[Put]) -> list[Outcome]:
        """Commit *puts* of keys that were not there, one alone by the shortest way."""
        if len(puts) == 1:
            outcome = self._catalog.write_first(puts[0], self._clock())
            if outcome is not None:
                self._attempted([outcome.key])
                return [outcome]
        return self.commit(puts)

    def commit(self, changes: Sequence[Put | Removal]) -> list[Outcome]:
        """Carry out *changes* of distinct keys in one transaction, and tell that it was tried.

        Outcomes are in the order of *changes*.

        Raises:
            ConflictError: A condition of one of them does not hold.
            CatalogUnavailableError: Nothing is known to be written.
        """
        try:
            return self._catalog.write(changes, self._clock())
        finally:
            self._attempted([change.key for change in changes])

    def _put_inlined(self, entry: PreparedEntry) -> Put:
        """Return an unconditional write; made of many, it is made quickly."""
        return Put(
            self._catalog.entry_id(entry.key),
            entry.key,
            entry.content_hash,
            entry.byte_size,
            entry.metadata,
            None,
            entry.text,
            entry.analyze,
            entry.expires_at,
            created_at=entry.created_at,
            updated_at=entry.updated_at,
        )

    def _put(
        self,
        entry: PreparedEntry,
        reused: AnyRow | None,
        path: str | LTMError | None,
        condition: Condition,
        *,
        mends: bool,
    ) -> Put:
        uri = reused.storage_uri if reused is not None else path
        return self._put_inlined(entry)._replace(
            storage_uri=uri if isinstance(uri, str) else None,
            inlined_text=entry.text if uri is None else None,
            if_match=condition.if_match,
            if_absent=condition.if_absent,
            based_on=condition.based_on or reused,
            mends=mends,
            lease=condition.lease,
        )


def _is_equal(row: AnyRow, entry: PreparedEntry) -> bool:
    """Return whether *row* has the very text of *entry*, and the same terms."""
    return row.inlined_text == entry.text and same_terms(row, entry.metadata, entry.expires_at)
