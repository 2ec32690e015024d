"""Results that are remembered: reading one, and forgetting many."""

from __future__ import annotations

import glob
import re
from collections.abc import Callable, Iterator, Mapping
from fnmatch import translate
from typing import Any

from ltm import telemetry
from ltm.backend.parts import BackendCalls
from ltm.backend.results import failure
from ltm.cache.keys import agent_prefix
from ltm.cache.memory import find_memory
from ltm.cache.results import CacheAnswer, InvalidateAnswer
from ltm.catalog.base import Catalog
from ltm.catalog.commit import Removal
from ltm.catalog.history import PAGE_SIZE
from ltm.clock import BEGINNING
from ltm.entry import EntryRow, JSONValue
from ltm.errors import LTMError, ValidationError
from ltm.keys import validate_key, validate_prefix
from ltm.search.filters import parse_filter


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
        row = memory.parts.catalog.read(validate_key(answer["_cache_key"]), memory.clock())
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
    agent = agent_prefix(agent_name)
    try:
        if not (agent or prefix or pattern or metadata_filter or key is not None):
            raise ValidationError("expected a key, prefix, pattern, metadata_filter or agent_name")
        if key is None:
            deleted = _forget_many(memory, _Selection(agent, prefix, pattern, metadata_filter))
        elif prefix is None and pattern is None and metadata_filter is None:
            deleted = _forget_key(memory, validate_key(agent + key))
        else:
            raise ValidationError("key: goes with none of prefix, pattern and metadata_filter")
    except LTMError as error:
        if memory.raise_errors:
            raise
        answered: InvalidateAnswer = failure(error)
        return answered
    return InvalidateAnswer(success=True, deleted=deleted)


class _Selection:
    """Which keys, and with which metadata."""

    def __init__(
        self,
        agent: str,
        prefix: str | None,
        pattern: str | None,
        metadata_filter: Mapping[str, Any] | None,
    ) -> None:
        start = agent + validate_prefix(prefix)
        self.condition = parse_filter(metadata_filter)
        if pattern is None:
            self.prefix = start
            self.selects: Callable[[str], object] = lambda key: key.startswith(start)
            return
        whole = glob.escape(agent) + validate_prefix(pattern, "pattern")
        is_like = re.compile(translate(whole)).fullmatch
        literal = agent + re.split(r"[*?[]", pattern, maxsplit=1)[0]
        # The longer one selects less.
        self.prefix = max(start, literal, key=len)
        self.selects = lambda key: key.startswith(start) and is_like(key)


def _forget_key(memory: BackendCalls, key: str) -> int:
    catalog = memory.parts.catalog
    _end_leases(catalog, key, lambda each: each == key)
    return _delete(memory, [key])


def _forget_many(memory: BackendCalls, selection: _Selection) -> int:
    # Leases first: what is stored before is deleted below, and afterwards nothing can be stored.
    if selection.condition is None:
        _end_leases(memory.parts.catalog, selection.prefix, selection.selects)
    deleted = 0
    for page in _pages(memory.parts.catalog, selection):
        deleted += _delete(memory, [row.key for row in page if selection.selects(row.key)])
    return deleted


def _pages(catalog: Catalog, selection: _Selection) -> Iterator[list[EntryRow]]:
    after = ""
    while True:
        # Expired ones too, which on_expired may yet answer with.
        page = catalog.rows_by_key(
            selection.prefix, after, PAGE_SIZE, selection.condition, BEGINNING
        )
        yield page
        if len(page) < PAGE_SIZE:
            return
        after = page[-1].key


def _delete(memory: BackendCalls, keys: list[str]) -> int:
    if not keys:
        return 0
    catalog = memory.parts.catalog
    removals = [Removal(id=catalog.entry_id(key), key=key) for key in keys]
    outcomes = catalog.write(removals, memory.clock())
    memory.parts.free(outcomes)
    return sum(outcome.deleted for outcome in outcomes)


def _end_leases(catalog: Catalog, prefix: str, selects: Callable[[str], object]) -> None:
    leases = [lease for lease in catalog.leases.under(prefix) if selects(lease.key)]
    if leases:
        catalog.leases.end(leases)
