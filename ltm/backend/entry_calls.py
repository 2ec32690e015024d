"""The calls on one key: store, retrieve, delete, update."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime

from ltm import telemetry
from ltm.backend.answering import answering
from ltm.backend.base import DeleteAnswer, RetrieveAnswer, StoreAnswer
from ltm.backend.parts import BackendCalls
from ltm.backend.reader import ReadEntry
from ltm.backend.writer import Condition, PreparedEntry
from ltm.catalog.commit import Outcome, Removal
from ltm.entry import AnyRow, JSONValue
from ltm.errors import CatalogUnavailableError, ConflictError, LTMError, ValidationError
from ltm.keys import validate_key
from ltm.typed import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ltm.backend.recall import Recall


class EntryCalls(BackendCalls):
    """Values stored, read, updated and forgotten."""

    @answering
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
        self.require_open()
        if if_match is not None and if_absent:
            raise ValidationError("if_match and if_absent: give one, not both")
        entry = self.parts.writer.prepare(key, value, metadata, ttl=ttl, expires_at=expires_at)
        condition = None
        if if_match is not None or if_absent:
            condition = Condition(if_match=if_match, if_absent=if_absent)
        return self._stored(entry, self.parts.writer.write(entry, condition))

    @answering
    def retrieve(
        self, key: str, default: JSONValue = None, *, snapshot: str | None = None
    ) -> RetrieveAnswer:
        self.require_open()
        key, parts = validate_key(key), self.parts
        if snapshot is not None:
            return _retrieved(self._read_as_of(key, snapshot), default)
        if parts.recall is not None:
            return self._retrieve_or_recall(key, default, parts.recall)
        row = parts.catalog.read_value(key, parts.clock())
        read = None if row is None else parts.reader.read_value(row)
        return _absent(default) if read is None else _found(*read)

    @answering
    def delete(self, key: str, *, if_match: str | None = None) -> DeleteAnswer:
        self.require_open()
        key = validate_key(key)
        removal = Removal(id=self.parts.catalog.entry_id(key), key=key, if_match=if_match)
        (outcome,) = self.parts.writer.commit([removal])
        self.parts.free([outcome])
        return {"success": True, "deleted": outcome.deleted, "key": key}

    @answering
    def update(
        self,
        key: str,
        fn: Callable[[JSONValue], JSONValue],
        *,
        default: JSONValue = None,
        retries: int = 10,
    ) -> StoreAnswer:
        self.require_open()
        if isinstance(retries, bool) or not isinstance(retries, int) or retries < 0:
            raise ValidationError(f"retries: expected 0 or more, got {retries!r}")
        from tenacity import (
            Retrying,
            retry_if_exception_type,
            stop_after_attempt,
            wait_random_exponential,
        )

        retrying = Retrying(
            stop=stop_after_attempt(retries + 1),
            wait=wait_random_exponential(multiplier=0.002, max=0.5),
            retry=retry_if_exception_type(ConflictError),
            reraise=True,
        )
        key = validate_key(key)
        try:
            return retrying(self._update_once, key, fn, default)
        except LTMError:
            self.parts.attempted([key])  # also where reading it failed
            raise

    def _read_as_of(self, key: str, snapshot: str) -> ReadEntry | None:
        history = self.catalog.history
        point = history.find(snapshot)
        row = history.read_as_of(point, [key]).get(key)
        if row is None:
            history.find(point.id)  # it may have gone with its snapshot
        return self.parts.reader_as_of(point).read(row)

    def _read(self, key: str) -> ReadEntry | None:
        return self.parts.reader.read(self.parts.catalog.read(key, self.parts.clock()))

    def _retrieve_or_recall(self, key: str, default: JSONValue, recall: Recall) -> RetrieveAnswer:
        def read() -> list[ReadEntry]:
            entry = self._read(key)
            return [] if entry is None else [entry]

        epoch = self.outage.epoch
        try:
            found = recall.observe([key], read)
        except CatalogUnavailableError as error:
            kept = recall.get(key)
            if kept is None:
                raise
            self.outage.began(error, epoch)
            return {
                "success": True,
                "found": True,
                "value": kept["value"],
                "metadata": kept["metadata"],
                "content_hash": kept["content_hash"],
                "inlined": kept["inlined"],
                "stale": True,
            }
        return _retrieved(found[0] if found else None, default)

    def _update_once(
        self, key: str, fn: Callable[[JSONValue], JSONValue], default: JSONValue
    ) -> StoreAnswer:
        found = self._read(key)
        if found is None:
            import copy

            entry = self.parts.writer.prepare(key, fn(copy.deepcopy(default)))
            return self._stored(entry, self.parts.writer.write(entry, Condition(if_absent=True)))
        row = found.row
        prepared = self.parts.writer.prepare(key, fn(found.value))
        entry = prepared._replace(metadata=row.metadata, expires_at=row.expires_at)
        return self._stored(entry, self.parts.writer.write(entry, Condition(based_on=row)))

    def _stored(self, entry: PreparedEntry, outcome: Outcome) -> StoreAnswer:
        answer: StoreAnswer = {
            "success": True,
            "stored": outcome.stored,
            "created": outcome.created,
            "key": entry.key,
            "content_hash": entry.content_hash,
            "inlined": outcome.storage_uri is None,
            "byte_size": entry.byte_size,
            "deduplicated": outcome.deduplicated,
        }
        if outcome.storage_uri is not None:
            answer["storage_uri"] = self.parts.payloads.uri(outcome.storage_uri)
        return answer


def _retrieved(entry: ReadEntry | None, default: JSONValue) -> RetrieveAnswer:
    return _absent(default) if entry is None else _found(entry.row, entry.value)


def _absent(default: JSONValue) -> RetrieveAnswer:
    return {
        "success": True,
        "found": False,
        "value": default,
        "metadata": None,
        "content_hash": None,
        "inlined": False,
    }


def _found(row: AnyRow, value: JSONValue) -> RetrieveAnswer:
    inlined = row.storage_uri is None
    if telemetry.is_on:
        telemetry.count_value("retrieve", row.byte_size, inlined=inlined)
    return {
        "success": True,
        "found": True,
        "value": value,
        "metadata": row.metadata,
        "content_hash": row.content_hash,
        "inlined": inlined,
    }
