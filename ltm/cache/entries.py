"""Results that are remembered: reading one, and forgetting many."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ltm import telemetry
from ltm.backend.answering import failure
from ltm.cache.keys import agent_prefix
from ltm.cache.memory import find_memory
from ltm.cache.results import CacheAnswer, InvalidateAnswer
from ltm.cache.selection import Selection
from ltm.entry import JSONValue
from ltm.errors import LTMError
from ltm.keys import validate_key


def cache_get(
    backend: object, key: str, default: JSONValue = None, *, agent_name: str | None = None
) -> CacheAnswer:
    """Return the result remembered under *key*, or *default*; no action is run.

    A failure is answered as the backend answers its own.

    Args:
        backend: As for ``cache_wrap``.
        key: The key, as ``_cache_key`` tells it, but for what *agent_name* puts before it.
        default: The result where nothing is remembered.
        agent_name: As for ``cache_wrap``.
    """
    memory = find_memory(backend)
    answer = CacheAnswer(
        success=True,
        result=default,
        _cache_hit=False,
        _cache_key=agent_prefix(agent_name) + key,
        _cache_created_at=None,
        _cached=False,
    )
    try:
        whole = validate_key(answer["_cache_key"])
        with memory.outage.watching():
            row = memory.parts.catalog.read(whole, memory.clock())
            found = memory.parts.reader.read(row)
    except LTMError as error:
        if memory.raise_errors:
            raise
        return {**answer, **failure(error)}
    telemetry.count_cache(found is not None, "get")
    if found is not None:
        answer["result"], answer["_cache_created_at"] = found.value, found.row.updated_at
        answer["_cache_hit"] = answer["_cached"] = True
    return answer


def cache_invalidate(
    backend: object,
    *,
    key: str | None = None,
    prefix: str | None = None,
    pattern: str | None = None,
    metadata_filter: Mapping[str, Any] | None = None,
    agent_name: str | None = None,
) -> InvalidateAnswer:
    """Forget results, however many they are; what several arguments say must hold together.

    Results that are computed at the moment are not remembered either, except where they are to be
    known by *metadata_filter*. Entries are deleted in pages, each in a transaction of its own. A
    failure is answered as the backend answers its own.

    Args:
        backend: As for ``cache_wrap``.
        key: The whole key; it goes with none of the others.
        prefix: What keys begin with, literally; not empty.
        pattern: What keys look like: ``*`` for any characters, ``?`` for one, ``[ab]`` for one of
            these; case counts.
        metadata_filter: What the metadata must fulfil.
        agent_name: What *key*, *prefix* and *pattern* begin with, before a colon; alone it selects
            all that is the agent's. To select nothing at all is an error.
    """
    memory = find_memory(backend)
    try:
        selection = Selection(
            agent_prefix(agent_name),
            key=key,
            prefix=prefix,
            pattern=pattern,
            metadata_filter=metadata_filter,
        )
        with memory.outage.watching():
            deleted = selection.forget(memory)
    except LTMError as error:
        if memory.raise_errors:
            raise
        answered: InvalidateAnswer = failure(error)
        return answered
    return InvalidateAnswer(success=True, deleted=deleted)
