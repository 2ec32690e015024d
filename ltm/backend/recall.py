"""What was read lately, for reads while the catalog can't be reached."""

from __future__ import annotations

import json
import os
import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Sequence
from datetime import datetime
from typing import NamedTuple, Protocol

from ltm.backend.reader import ReadEntry
from ltm.backend.results import BatchEntry
from ltm.clock import Clock
from ltm.errors import CatalogUnavailableError, ValidationError
from ltm.hashing import parse, write_json


class OpenTransaction(Protocol):
    """A transaction that somebody else ends."""

    @property
    def is_active(self) -> bool:
        """Whether it may still commit."""


class _Kept(NamedTuple):
    """One entry as text: whoever gets it may change what it got."""

    text: str
    metadata_text: str
    content_hash: str
    inlined: bool
    expires_at: datetime | None

    @property
    def byte_size(self) -> int:
        return len(self.text) + len(self.metadata_text)


class _Reading:
    """A read that is under way."""

    def __init__(self, keys: Collection[str], void: set[str]) -> None:
        self.keys = dict.fromkeys(keys)  # those asked for last are kept longest
        self.void = void
        """Keys of which it may have seen what is no longer there."""


class Recall:
    """The entries that were read last, as long as nothing is known to have changed them.

    An entry that is about to change may be given until the change has been tried, and not once
    after it: neither what was kept before, nor what a read brings that began before.
    """

    def __init__(self, clock: Clock, *, max_entries: int, max_bytes: int) -> None:
        """Keep nothing yet.

        Args:
            clock: Tells what has expired.
            max_entries: How many are kept at most; 1 or more.
            max_bytes: Of the JSON text of their values and metadata, all in all; 1 or more.
        """
        self._clock = clock
        self._max_entries = _validate_count(max_entries, "stale_reads_entries")
        self._max_bytes = _validate_count(max_bytes, "stale_reads_bytes")
        self.begin_anew()
        _RECALLS.add(self)

    def begin_anew(self) -> None:
        """Keep nothing, as a process does that was forked off: it hears of no change elsewhere."""
        self._lock = threading.Lock()
        self._kept: OrderedDict[str, _Kept] = OrderedDict()
        self._byte_size = 0
        self._readings: set[_Reading] = set()
        self._pending: dict[OpenTransaction | None, set[str]] = {}
        """Keys that were changed in transactions of others, which may be open yet."""

    def observe(
        self, keys: Sequence[str], read: Callable[[], Sequence[ReadEntry]]
    ) -> Sequence[ReadEntry]:
        """Return what *read* returns for *keys*, and keep it.

        Raises:
            LTMError: What *read* raises; in an outage of the catalog, what is kept stays.
        """
        reading = self._begin(keys)
        try:
            entries = read()
            self._settle(reading, entries)
        except CatalogUnavailableError:
            raise
        except BaseException:
            # An interrupt, too, tells nothing of the row: it may be another by now.
            self.forget(keys)
            raise
        finally:
            with self._lock:
                self._readings.discard(reading)
        return entries

    def get(self, key: str) -> BatchEntry | None:
        """Return the entry of *key* as it was read last, unless it is not kept or has expired."""
        with self._lock:
            kept = self._kept.get(key)
            if kept is None:
                return None
            if kept.expires_at is not None and kept.expires_at <= self._clock():
                self._drop(key)
                return None
            self._kept.move_to_end(key)
        return BatchEntry(
            value=parse(kept.text, where=f"entry {key!r}"),
            metadata=json.loads(kept.metadata_text),
            content_hash=kept.content_hash,
            inlined=kept.inlined,
        )

    def forget(self, keys: Iterable[str]) -> None:
        """Forget *keys*, also those that are being read; to be called after a change was tried."""
        with self._lock:
            for key in keys:
                self._drop(key)

    def forget_while_open(self, keys: Iterable[str], transaction: OpenTransaction | None) -> None:
        """Forget *keys*, and keep nothing of them that is read before *transaction* has ended.

        None stands for one whose end nobody can tell: the keys are never kept again.
        """
        changed = set(keys)
        with self._lock:
            self._forget_ended()
            self._pending.setdefault(transaction, set()).update(changed)
            for key in changed:
                self._drop(key)

    def _begin(self, keys: Sequence[str]) -> _Reading:
        with self._lock:
            self._forget_ended()
            void = {key for key in keys for pending in self._pending.values() if key in pending}
            reading = _Reading(keys, void)
            self._readings.add(reading)
        return reading

    def _settle(self, reading: _Reading, entries: Iterable[ReadEntry]) -> None:
        """Keep what *reading* has found, and forget what it hasn't."""
        found = {entry.row.key: self._as_text(entry) for entry in entries}
        with self._lock:
            for key in reading.keys:
                kept, read = self._kept.get(key), found.get(key)
                if key not in reading.void and read is not None:
                    self._keep(key, read)
                elif read is None or read != kept:
                    # There is none; or two reads at a time have found two entries, and nobody can
                    # say which is the later one.
                    self._drop(key)

    def _as_text(self, entry: ReadEntry) -> _Kept | None:
        """Return *entry* as it is kept; None where it can't be."""
        row = entry.row
        if entry.error is not None or row.byte_size > self._max_bytes:
            return None
        inlined = row.storage_uri is None
        text = row.inlined_text if inlined else None
        if text is None:
            text = json.dumps(entry.value)
        kept = _Kept(text, write_json(row.metadata), row.content_hash, inlined, row.expires_at)
        return kept if kept.byte_size <= self._max_bytes else None

    def _keep(self, key: str, read: _Kept) -> None:
        self._drop(key)
        self._kept[key] = read
        self._byte_size += read.byte_size
        while len(self._kept) > self._max_entries or self._byte_size > self._max_bytes:
            _, oldest = self._kept.popitem(last=False)
            self._byte_size -= oldest.byte_size

    def _drop(self, key: str) -> None:
        kept = self._kept.pop(key, None)
        if kept is not None:
            self._byte_size -= kept.byte_size
        for reading in self._readings:
            if key in reading.keys:
                reading.void.add(key)

    def _forget_ended(self) -> None:
        for transaction in [*self._pending]:
            if transaction is not None and not transaction.is_active:
                del self._pending[transaction]


def _validate_count(count: object, name: str) -> int:
    if isinstance(count, bool) or not isinstance(count, int) or count < 1:
        raise ValidationError(f"{name}: expected 1 or more, got {count!r}")
    return count


_RECALLS: weakref.WeakSet[Recall] = weakref.WeakSet()


def _begin_anew() -> None:
    for recall in list(_RECALLS):
        recall.begin_anew()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_anew)
