"""Where memories go: each entry is stored, found unchanged or kept, and read back at the end."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Sequence
from datetime import datetime
from itertools import islice
from types import TracebackType
from typing import NamedTuple, Self

from ltm.backend.base import LTMBackend
from ltm.backend.reader import ReadEntry, ValueReader
from ltm.backend.writer import PreparedEntry
from ltm.catalog.commit import is_live, same_metadata
from ltm.clock import BEGINNING
from ltm.entry import EntryRow, Metadata
from ltm.errors import IntegrityError, PayloadError, PayloadNotFoundError
from ltm.transfer.source import PAGE_SIZE, pages, require_calls

_SPOOLED_BYTES = 1024 * 1024


class Delivery:
    """Carries entries to one backend, whatever is newer there kept."""

    def __init__(self, backend: LTMBackend) -> None:
        """Keep note, in a temporary file past 1 MiB, of what is carried.

        Raises:
            ValidationError: *backend* is not one over a catalog and a payload store.
        """
        parts = require_calls(backend, "target").parts
        self._catalog = parts.catalog
        self._writer = parts.writer
        self._clock = parts.clock
        self._reader = ValueReader(
            parts.payloads, parts.catalog.read_many, lambda: BEGINNING, verify=True
        )
        self._ledger = _Ledger()
        self.stored = 0
        self.unchanged = 0
        self.kept = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._ledger.close()

    @property
    def total(self) -> int:
        """How many entries were dealt with."""
        return self.stored + self.unchanged + self.kept

    def select(self, rows: Sequence[EntryRow]) -> list[EntryRow]:
        """Return those of *rows* that are to be stored; the others are counted, and done.

        An entry that differs in the target is kept there if it is live and was updated later.
        """
        found = self._catalog.read_many([row.key for row in rows], BEGINNING)
        now = self._clock()
        chosen: list[EntryRow] = []
        for row in rows:
            there = found.get(row.key)
            if there is None:
                chosen.append(row)
            elif _is_same(there, _Carried.of(row)):
                self.unchanged += 1
                self._ledger.add(_Carried.of(row))
            elif is_live(there, now) and there.updated_at > row.updated_at:
                self.kept += 1
            else:
                chosen.append(row)
        return chosen

    def store(self, entries: Sequence[ReadEntry]) -> None:
        """Store *entries* of distinct keys in one transaction, their times kept.

        Raises:
            IntegrityError: The text of a value is not canonical, so its hash would be another.
            LTMError: They could not be stored; none of them is.
        """
        if not entries:
            return
        self._writer.write_many([self._prepare(entry) for entry in entries])
        self.stored += len(entries)
        for entry in entries:
            self._ledger.add(_Carried.of(entry.row))

    def verify(self) -> int:
        """Read everything that was carried back from the target, and return how many there are.

        Entries that have expired, and are cleaned up already, are not among them.

        Raises:
            IntegrityError: An entry is missing or not equal.
            PayloadError: A payload could not be read.
        """
        return sum(self._verify(page) for page in self._ledger.pages())

    def _prepare(self, entry: ReadEntry) -> PreparedEntry:
        row = entry.row
        prepared = self._writer.prepare(
            row.key,
            entry.value,
            row.metadata,
            # Where none is given, it would be looked for in the metadata.
            expires_at=row.expires_at or BEGINNING,
            created_at=row.created_at,
            updated_at=row.updated_at,
        )
        if prepared.content_hash != row.content_hash:
            raise IntegrityError(f"entry {row.key!r}: its text is not canonical JSON")
        return prepared._replace(expires_at=row.expires_at)

    def _verify(self, carried: Sequence[_Carried]) -> int:
        found = self._catalog.read_many([each.key for each in carried], BEGINNING)
        now = self._clock()
        read: dict[str, EntryRow] = {}
        # Large values are not all in memory at once.
        for page in pages(found.values(), PAGE_SIZE):
            for entry in self._reader.read_rows(page):
                _require_value(entry)
                read[entry.row.key] = entry.row
        verified = 0
        for each in carried:
            row = read.get(each.key)
            if row is None and each.expires_at is not None and each.expires_at <= now:
                continue
            if row is None or not _is_same(row, each):
                raise _mismatch(each.key, "is missing" if row is None else "differs")
            verified += 1
        return verified


class _Carried(NamedTuple):
    """What is to be found in the target."""

    key: str
    content_hash: str
    metadata: Metadata
    expires_at: datetime | None

    @classmethod
    def of(cls, row: EntryRow) -> _Carried:
        return cls(row.key, row.content_hash, row.metadata, row.expires_at)


class _Ledger:
    """Notes of what was carried, out of memory where they are many."""

    def __init__(self) -> None:
        self._file = tempfile.SpooledTemporaryFile(  # noqa: SIM115 -- closed by its owner
            _SPOOLED_BYTES, "w+", encoding="ascii", prefix="ltm-transfer-"
        )

    def add(self, carried: _Carried) -> None:
        expiry = None if carried.expires_at is None else carried.expires_at.isoformat()
        self._file.write(json.dumps([*carried[:3], expiry]) + "\n")

    def pages(self) -> Iterator[list[_Carried]]:
        self._file.seek(0)
        while page := list(islice(self._file, PAGE_SIZE)):
            yield [_noted(line) for line in page]

    def close(self) -> None:
        self._file.close()


def _noted(line: str) -> _Carried:
    key, content_hash, metadata, expiry = json.loads(line)
    instant = None if expiry is None else datetime.fromisoformat(expiry)
    return _Carried(key, content_hash, metadata, instant)


def _require_value(entry: ReadEntry) -> None:
    error = entry.error
    if isinstance(error, PayloadError) and not isinstance(error, PayloadNotFoundError):
        raise error
    if error is not None:
        raise _mismatch(entry.row.key, str(error)) from error


def _mismatch(key: str, reason: str) -> IntegrityError:
    return IntegrityError(
        f"entry {key!r} was carried, and in the target {reason}: "
        "if others write to the same keys, run again"
    )


def _is_same(row: EntryRow, carried: _Carried) -> bool:
    return (
        (row.storage_uri is not None or row.inlined_text is not None)
        and row.content_hash == carried.content_hash
        and row.expires_at == carried.expires_at
        and same_metadata(row.metadata, carried.metadata)
    )
