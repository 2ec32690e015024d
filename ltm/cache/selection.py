"""Which results are to be forgotten, and forgetting them."""

from __future__ import annotations

import glob
import re
from collections.abc import Callable, Iterator, Mapping
from fnmatch import translate
from typing import Any

from ltm.backend.parts import BackendCalls
from ltm.catalog.base import PAGE_SIZE, Catalog
from ltm.catalog.commit import Removal
from ltm.clock import BEGINNING
from ltm.entry import EntryRow
from ltm.errors import ValidationError
from ltm.keys import validate_key, validate_prefix
from ltm.search.filters import parse_filter


class Selection:
    """Keys, and what their metadata must fulfil."""

    def __init__(
        self,
        agent: str,
        *,
        key: str | None,
        prefix: str | None,
        pattern: str | None,
        metadata_filter: Mapping[str, Any] | None,
    ) -> None:
        """Select what all of these say together; *agent* is what all keys begin with.

        Raises:
            ValidationError: They say nothing, or one of them is not what it should be.
        """
        if not (agent or prefix or pattern or metadata_filter or key is not None):
            raise ValidationError("expected a key, prefix, pattern, metadata_filter or agent_name")
        self._condition = parse_filter(metadata_filter)
        self._key: str | None = None
        if key is not None:
            if not (prefix is None and pattern is None and metadata_filter is None):
                raise ValidationError("key: goes with none of prefix, pattern and metadata_filter")
            self._key = self._prefix = validate_key(agent + key)
            self._selects: Callable[[str], object] = self._key.__eq__
            return
        start = self._prefix = agent + validate_prefix(prefix)
        self._selects = lambda key: key.startswith(start)
        if pattern is not None:
            whole = glob.escape(agent) + validate_prefix(pattern, "pattern")
            is_like = re.compile(translate(whole)).match
            self._selects = lambda key: key.startswith(start) and is_like(key)
            literal = agent + re.split(r"[*?[]", pattern, maxsplit=1)[0]
            # The longer one selects less.
            self._prefix = max(start, literal, key=len)

    def forget(self, memory: BackendCalls) -> int:
        """Delete what is selected, and return how many entries were there.

        Raises:
            CatalogUnavailableError: Some of them may be deleted.
        """
        catalog = memory.parts.catalog
        # Leases first: what is stored before is deleted below, and afterwards nothing can be. What
        # is computed at the moment has no metadata yet.
        if self._condition is None:
            leases = [
                each for each in catalog.leases.under(self._prefix) if self._selects(each.key)
            ]
            if leases:
                catalog.leases.end(leases)
        if self._key is not None:
            return _delete(memory, [self._key])
        return sum(
            _delete(memory, [row.key for row in page if self._selects(row.key)])
            for page in self._pages(catalog)
        )

    def _pages(self, catalog: Catalog) -> Iterator[list[EntryRow]]:
        after = ""
        while True:
            # Expired ones too, which on_expired may yet answer with.
            page = catalog.rows_by_key(self._prefix, after, PAGE_SIZE, self._condition, BEGINNING)
            yield page
            if len(page) < PAGE_SIZE:
                return
            after = page[-1].key


def _delete(memory: BackendCalls, keys: list[str]) -> int:
    if not keys:
        return 0
    removals = [Removal(id=memory.catalog.entry_id(key), key=key) for key in keys]
    outcomes = memory.parts.writer.commit(removals)
    memory.parts.free(outcomes)
    return sum(outcome.deleted for outcome in outcomes)
