"""What a local index has in memory: changes that its file doesn't have."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta

from ltm.search.analysis import Document
from ltm.search.duckdb_files import Head

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class Change:
    """The present state of an entry, and what it hides of the file below."""

    __slots__ = ("_counts", "document", "expires_at", "hidden", "stamp")

    def __init__(
        self,
        document: Document | None,
        expires_at: datetime | None,
        stamp: str,
        hidden: Head | None,
    ) -> None:
        self.document = document
        self.expires_at = None if expires_at is None else to_microseconds(expires_at)
        self.stamp = stamp
        self.hidden = hidden
        self._counts: Mapping[str, int] | None = None

    def live_document(self, now: int) -> Document | None:
        """Return the document if it can be found at *now*."""
        return self.document if is_live(self.expires_at, now) else None

    def counts(self, document: Document) -> Mapping[str, int]:
        """Return how often each word occurs in *document*, which is this one's."""
        counts = self._counts
        if counts is None:
            # Not before it is asked for: most of a first feed goes to a file right away. As a dict,
            # which takes less memory than the Counter.
            counts = self._counts = dict(Counter(document.text.split()))
        return counts


def is_live(expires_at: int | None, now: int) -> bool:
    """Return whether what expires then is live at *now*."""
    return expires_at is None or expires_at > now


def holds(text: str, required: Sequence[str], excluded: Sequence[str]) -> bool:
    """Return whether *text* has all padded sequences *required* and none *excluded*."""
    padded = f" {text} "
    return all(words in padded for words in required) and not any(
        words in padded for words in excluded
    )


def to_microseconds(instant: datetime) -> int:
    """Return the microseconds from 1970 to *instant*, which is aware."""
    return (instant - _EPOCH) // _MICROSECOND


def from_microseconds(count: int) -> datetime:
    """Return the instant in UTC that is *count* microseconds after 1970 began."""
    return _EPOCH + count * _MICROSECOND
