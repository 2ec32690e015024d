"""Batches: many entries prepared one by one, committed together."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ltm.backend.results import EntryFailure, StoreBatchAnswer
from ltm.backend.writer import EntryWriter, PreparedEntry
from ltm.errors import CatalogUnavailableError, LTMError, ValidationError

_FIELDS = {"key", "value", "metadata", "ttl", "expires_at", "created_at", "updated_at"}


class BatchWriter:
    """Stores the entries of one batch and keeps count."""

    def __init__(self, writer: EntryWriter, entries: Iterable[Any]) -> None:
        """Validate, serialise and hash all *entries*; nothing is written.

        Raises:
            ValidationError: *entries* is not an iterable of entries.
        """
        self._writer = writer
        self._failures: dict[int, tuple[str | None, LTMError]] = {}
        self._prepared: dict[str, tuple[int, PreparedEntry]] = {}
        self._stored = 0
        self._deduplicated = 0
        if isinstance(entries, str | bytes | Mapping) or not isinstance(entries, Iterable):
            raise ValidationError(
                f"entries: expected a list of entries, got {type(entries).__name__}"
            )
        for index, entry in enumerate(entries):
            try:
                if isinstance(entry, tuple) and 2 <= len(entry) <= 3:
                    prepared = writer.prepare(*entry)
                else:
                    prepared = writer.prepare(**_fields_of(entry))
            except LTMError as error:
                self._failures[index] = _key_of(entry), error
            else:
                # The last entry of a key counts, at its place in the order.
                if prepared.key in self._prepared:
                    del self._prepared[prepared.key]
                self._prepared[prepared.key] = index, prepared

    def first_error(self) -> LTMError | None:
        """Return the failure that comes first in the batch."""
        return self._failures[min(self._failures)][1] if self._failures else None

    def failures(self) -> list[tuple[str | None, LTMError]]:
        """Return the keys that failed, None where there was none, and why; in no order."""
        return [*self._failures.values()]

    def store_all(self) -> None:
        """Store every entry in one transaction, or none."""
        if self._failures:
            return
        try:
            self._store([entry for _, entry in self._prepared.values()])
        except LTMError as error:
            for index, entry in self._prepared.values():
                self._failures[index] = entry.key, error

    def store_each(self, batch_size: int) -> None:
        """Store whatever can be stored, *batch_size* entries in a transaction."""
        pending = list(self._prepared.values())
        for start in range(0, len(pending), batch_size):
            chunk = pending[start : start + batch_size]
            try:
                self._store([entry for _, entry in chunk])
            except CatalogUnavailableError as error:
                # The others would only wait for the same outage.
                for index, entry in pending[start:]:
                    self._failures[index] = entry.key, error
                return
            except LTMError as error:
                self._store_alone(chunk, error)

    def answer(self) -> StoreBatchAnswer:
        """Return the counts, and a failure if any entry failed."""
        answer = StoreBatchAnswer(
            success=not self._failures,
            stored=self._stored,
            failed=len(self._failures),
            deduplicated=self._deduplicated,
            errors=[
                EntryFailure(index=index, key=key, error=str(error), error_type=error.error_type)
                for index, (key, error) in sorted(self._failures.items())
            ],
        )
        first = self.first_error()
        if first is not None:
            answer["error"] = f"entries[{min(self._failures)}]: {first}"
            answer["error_type"] = first.error_type
        return answer

    def _store(self, entries: Sequence[PreparedEntry]) -> None:
        outcomes = self._writer.write_many(entries)
        self._stored += sum(outcome.stored for outcome in outcomes)
        self._deduplicated += sum(outcome.deduplicated for outcome in outcomes)

    def _store_alone(self, chunk: Sequence[tuple[int, PreparedEntry]], error: LTMError) -> None:
        """Store entries one by one, after the *error* of one kept all from being stored."""
        if len(chunk) == 1:
            index, entry = chunk[0]
            self._failures[index] = entry.key, error
            return
        for index, entry in chunk:
            try:
                self._store([entry])
            except LTMError as own:
                self._failures[index] = entry.key, own


def _fields_of(entry: object) -> dict[str, Any]:
    if not isinstance(entry, Mapping):
        raise ValidationError(
            f"expected a mapping or (key, value[, metadata]), got {type(entry).__name__}"
        )
    unknown = [name for name in entry if name not in _FIELDS]
    if unknown:
        raise ValidationError(f"unknown field {unknown[0]!r}: expected {sorted(_FIELDS)}")
    fields = dict(entry)
    for name in ("key", "value"):
        if name not in fields:
            raise ValidationError(f"{name}: is missing")
    return fields


def _key_of(entry: object) -> str | None:
    key = entry.get("key") if isinstance(entry, Mapping) else None
    if isinstance(entry, tuple) and entry:
        key = entry[0]
    return str.__str__(key) if isinstance(key, str) else None
