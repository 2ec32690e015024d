"""What the cache answers."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, NotRequired

from ltm.backend.results import Answer


class CacheAnswer(Answer):
    """What ``cache_wrap`` and ``cache_get`` answer."""

    result: Any
    """What the action returned, now or when it was remembered."""
    _cache_hit: bool
    """Whether it was remembered, and the action was not run for this answer."""
    _cache_key: str | None
    """The key; None where the cache was skipped, or no key could be made."""
    _cache_created_at: datetime | None
    """When it was remembered; None where it is not."""
    _cached: bool
    """Whether the memory holds the result."""
    _cache_stale: NotRequired[bool]
    """Present, and true, where a result that has expired is answered."""
    _cache_error: NotRequired[str]
    """Why the result is not remembered, where it should have been."""
    _cache_error_type: NotRequired[str]


class InvalidateAnswer(Answer, total=False):
    """What ``cache_invalidate`` answers."""

    deleted: int
    """Entries that were there."""


def is_failure(result: object) -> bool:
    """Return whether an action says by its *result* that it has failed."""
    return isinstance(result, Mapping) and result.get("success") is False
