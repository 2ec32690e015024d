"""What a backend answers, and the one place where exceptions become answers."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Concatenate, NotRequired, ParamSpec, Protocol, TypedDict, TypeVar

from ltm.entry import JSONValue, Metadata
from ltm.errors import LTMError


class Answer(TypedDict):
    """Every answer: ``success`` is true only if what was asked for was done and is durable."""

    success: bool
    error: NotRequired[str]
    """What went wrong, for people; only in a failure."""
    error_type: NotRequired[str]
    """The same for machines; only in a failure."""


class StoreAnswer(Answer, total=False):
    """What ``store`` and ``update`` answer."""

    stored: bool
    """Whether the catalog was written; an unchanged entry is not."""
    created: bool
    """Whether there was no live entry before."""
    key: str
    content_hash: str
    inlined: bool
    byte_size: int
    """Bytes of the value's canonical JSON."""
    deduplicated: bool
    """Whether the entry had this very value already, so that no payload was written."""
    storage_uri: str
    """Address of the payload; only where the value is not inlined."""


class RetrieveAnswer(Answer, total=False):
    """What ``retrieve`` answers."""

    found: bool
    value: JSONValue
    """The default that was asked for where nothing is found."""
    metadata: Metadata | None
    """``{}`` where none was given, None where nothing is found."""
    content_hash: str | None
    inlined: bool


class DeleteAnswer(Answer, total=False):
    """What ``delete`` answers."""

    deleted: bool
    key: str


class SearchResult(TypedDict):
    """One entry that a search found."""

    key: str
    value: JSONValue
    metadata: Metadata
    score: float
    content_hash: str


class KeyFailure(TypedDict):
    """Why one key of many failed."""

    key: str | None
    error: str
    error_type: str


class EntryFailure(KeyFailure):
    """Why one entry of a batch failed."""

    index: int
    """Its position in the batch, from 0."""


class SearchAnswer(Answer, total=False):
    """What ``search`` answers."""

    results: list[SearchResult]
    """Best first."""
    count: int
    errors: list[KeyFailure]
    """Entries that were found but could not be read; not empty only in a failure."""


class StoreBatchAnswer(Answer, total=False):
    """What ``store_batch`` answers."""

    stored: int
    failed: int
    deduplicated: int
    errors: list[EntryFailure]
    """In the order of the batch."""


class BatchEntry(TypedDict):
    """One entry that ``retrieve_batch`` found."""

    value: JSONValue
    metadata: Metadata
    content_hash: str
    inlined: bool


class RetrieveBatchAnswer(Answer, total=False):
    """What ``retrieve_batch`` answers."""

    results: dict[str, JSONValue]
    entries: dict[str, BatchEntry]
    missing: list[str]
    found: int
    errors: list[KeyFailure]
    """Keys that are there but could not be read: they are not missing."""


class CleanupAnswer(Answer, total=False):
    """What ``cleanup_expired`` answers."""

    deleted: int
    remaining: int
    """Expired entries still there."""
    errors: list[KeyFailure]
    """Payloads that could not be deleted yet; they stay scheduled."""


class StatsAnswer(Answer, total=False):
    """What ``stats`` answers; bytes are those of canonical JSON."""

    table: str
    entries: int
    inlined: int
    payloads: int
    total_bytes: int
    inlined_bytes: int
    payload_bytes: int
    expired: int
    """Expired entries that are still to be cleaned up; in none of the other numbers."""


class PartHealth(TypedDict):
    """Whether one part of a backend works."""

    healthy: bool
    error: str | None
    error_type: str | None


class HealthAnswer(Answer, total=False):
    """What ``health_check`` answers."""

    healthy: bool
    catalog: PartHealth
    storage: PartHealth


class _Raises(Protocol):
    raise_errors: bool


_P = ParamSpec("_P")
_S = TypeVar("_S", bound=_Raises)
_A = TypeVar("_A")


def failure(error: LTMError) -> Any:
    """Return the answer that stands for *error*."""
    return {"success": False, "error": str(error), "error_type": error.error_type}


def answering(
    method: Callable[Concatenate[_S, _P], _A],
) -> Callable[Concatenate[_S, _P], _A]:
    """Let a backend's public *method* answer an :class:`LTMError` instead of raising it.

    With ``raise_errors=True`` on the backend it is raised all the same.
    """

    @functools.wraps(method)
    def answer(self: _S, /, *args: _P.args, **kwargs: _P.kwargs) -> _A:
        try:
            return method(self, *args, **kwargs)
        except LTMError as error:
            if self.raise_errors:
                raise
            answered: _A = failure(error)
            return answered

    return answer
