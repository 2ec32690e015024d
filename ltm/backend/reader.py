"""From catalog rows to verified values."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime

from ltm.clock import Clock
from ltm.entry import AnyRow, EntryRow, JSONValue
from ltm.errors import IntegrityError, LTMError, PayloadNotFoundError
from ltm.hashing import parse, parse_verified
from ltm.payload.base import PayloadStore
from ltm.typed import NamedTuple, cast

MAX_WINDOW = 500
"""How many rows are read together at most."""

MAX_WINDOW_BYTES = 32 * 2**20
"""Of values in payloads after which no more are read together."""

MAX_PURSUITS = 100
"""How often a reader follows a row that writers keep replacing under it."""


ReadMany = Callable[[Sequence[str], datetime], dict[str, EntryRow]]
"""Returns the rows of keys that are there at an instant, by key."""


class ReadEntry(NamedTuple):
    """A row with its value, or with the reason why there is none."""

    row: EntryRow
    value: JSONValue
    error: LTMError | None = None


class ValueReader:
    """Reads the values that rows name, at most one object each, hashes verified."""

    def __init__(
        self, store: PayloadStore, read_many: ReadMany, clock: Clock, *, verify: bool
    ) -> None:
        """Read payloads from *store*, and rows that changed meanwhile with *read_many*."""
        self._store = store
        self._read_many = read_many
        self._clock = clock
        self._verify = verify

    def read(self, row: EntryRow | None) -> ReadEntry | None:
        """Return *row* with its value; None for none, or if its key was deleted meanwhile.

        Raises:
            PayloadError: The payload could not be read; PayloadNotFoundError: it is gone.
            IntegrityError: What was read is not what was written.
        """
        if row is None:
            return None
        (entry,) = self.read_rows([row]) or (None,)
        if entry is not None and entry.error is not None:
            raise entry.error
        return entry

    def read_value(self, row: AnyRow) -> tuple[AnyRow, JSONValue] | None:
        """Do the same for whom the value is enough; return the row that it is of, too."""
        if row.storage_uri is None and isinstance(row.inlined_text, str) and self._verify:
            try:
                value = parse_verified(row.inlined_text, row.content_hash, where="its row")
            except IntegrityError as error:  # on the hottest path messages are made on demand
                raise IntegrityError(f"entry {row.key!r}: {error}") from error
            return row, value
        # Of a row that is not replaced no more is looked at than there is here.
        entry = self.read(cast(EntryRow, row))
        return None if entry is None else (entry.row, entry.value)

    def read_values(self, rows: Sequence[AnyRow]) -> list[ReadEntry]:
        """Do the same as :meth:`read_rows` for whom the values are enough."""
        return self.read_rows(cast("Sequence[EntryRow]", rows))

    def read_rows(self, rows: Sequence[EntryRow]) -> list[ReadEntry]:
        """Return *rows* with their values, payloads read in parallel, in the same order.

        A row whose payload is gone is read again: if it was replaced meanwhile the new one counts,
        if it was deleted it is left out. A failure stands beside its row and hides no other.
        """
        if all(row.storage_uri is None for row in rows):
            return [self._read_inlined(row) for row in rows]
        found: dict[str, ReadEntry] = {}
        pending = list(rows)
        for _ in range(MAX_PURSUITS):
            missing = self._read_once(pending, found)
            if not missing:
                break
            pending = self._read_again(missing, found)
        else:
            for row in pending:
                found[row.key] = ReadEntry(row, None, _gone(row))
        return [found[row.key] for row in rows if row.key in found]

    def stream(self, rows: Iterable[EntryRow]) -> Iterator[ReadEntry]:
        """Yield *rows* with their values, few payloads in memory at a time.

        Raises:
            LTMError: A value could not be read.
        """
        for window in _windows(rows, self._store.max_workers):
            for entry in self.read_rows(window):
                if entry.error is not None:
                    raise entry.error
                yield entry

    def _read_once(self, rows: Sequence[EntryRow], found: dict[str, ReadEntry]) -> list[EntryRow]:
        """Read each row's value into *found*; return the rows whose payload is gone."""
        missing: list[EntryRow] = []
        outside: list[tuple[EntryRow, str]] = []
        for row in rows:
            if row.storage_uri is None:
                found[row.key] = self._read_inlined(row)
            else:
                outside.append((row, row.storage_uri))
        if not outside:
            return missing
        from ltm.payload.values import read_texts

        texts = read_texts(self._store, [uri for _, uri in outside])
        for (row, uri), text in zip(outside, texts, strict=True):
            if isinstance(text, PayloadNotFoundError):
                missing.append(row)
            elif isinstance(text, IntegrityError):
                named = IntegrityError(f"entry {row.key!r} in {text}")
                found[row.key] = ReadEntry(row, None, named)
            elif isinstance(text, LTMError):
                found[row.key] = ReadEntry(row, None, text)
            else:
                found[row.key] = self._attempt(row, text, uri)
        return missing

    def _read_again(
        self, missing: Sequence[EntryRow], found: dict[str, ReadEntry]
    ) -> list[EntryRow]:
        """Return the rows that replaced the *missing* ones; the others are lost or deleted."""
        present = self._read_many([row.key for row in missing], self._clock())
        replaced: list[EntryRow] = []
        for row in missing:
            current = present.get(row.key)
            if current is None:
                continue
            if current.storage_uri == row.storage_uri:
                found[row.key] = ReadEntry(row, None, _gone(row))
            else:
                replaced.append(current)
        return replaced

    def _read_inlined(self, row: EntryRow) -> ReadEntry:
        text = row.inlined_text
        if not (self._verify and isinstance(text, str)):
            return self._attempt(row, text)
        try:
            return ReadEntry(row, parse_verified(text, row.content_hash, where="its row"))
        except IntegrityError as error:  # on a hot path messages are made on demand
            return ReadEntry(row, None, IntegrityError(f"entry {row.key!r}: {error}"))

    def _attempt(self, row: EntryRow, text: object, uri: str | None = None) -> ReadEntry:
        try:
            return ReadEntry(row, self._parse(row, text, uri))
        except LTMError as error:
            return ReadEntry(row, None, error)

    def _parse(self, row: EntryRow, text: object, uri: str | None) -> JSONValue:
        if text is None:
            raise PayloadNotFoundError(f"entry {row.key!r} is tracked without a value")
        where = f"entry {row.key!r}"
        if uri is not None:
            where = f"{where} in {self._store.uri(uri)}"
        if not isinstance(text, str):  # SQLite keeps what it is given, whatever the column's type
            raise IntegrityError(f"{where}: is not text")
        if self._verify:
            return parse_verified(text, row.content_hash, where=where)
        return parse(text, where=where)


def _gone(row: EntryRow) -> PayloadNotFoundError:
    return PayloadNotFoundError(f"entry {row.key!r}: payload {row.storage_uri!r} is gone")


def _windows(rows: Iterable[EntryRow], size: int) -> Iterator[list[EntryRow]]:
    """Yield *rows* in runs whose values are in at most *size* payload objects."""
    from ltm.locations import object_path

    window: list[EntryRow] = []
    objects: set[str] = set()
    total = 0
    for row in rows:
        window.append(row)
        if row.storage_uri is not None:
            objects.add(object_path(row.storage_uri))
            total += row.byte_size
        if len(objects) >= size or total >= MAX_WINDOW_BYTES or len(window) >= MAX_WINDOW:
            yield window
            window, objects, total = [], set(), 0
    if window:
        yield window
