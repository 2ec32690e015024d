"""A catalog that fails on command, for tests of what stands on catalogs."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from datetime import datetime
from typing import Literal, NamedTuple, TypeVar

from ltm.catalog.accounts import CatalogStatistics, IndexedEntry
from ltm.catalog.base import Catalog
from ltm.catalog.commit import Outcome, Put, Removal
from ltm.catalog.history import History
from ltm.catalog.leases import Leases
from ltm.catalog.primitives import LogicalTable
from ltm.entry import EntryRow, Metadata
from ltm.errors import CatalogUnavailableError
from ltm.search.analysis import Document
from ltm.search.filters import Filter
from ltm.search.questions import Question

CatalogOperation = Literal[
    "table",
    "read",
    "read_many",
    "write",
    "rows_by_key",
    "rows_newest",
    "rows_found",
    "remove_expired",
    "count_expired",
    "statistics",
    "make_durable",
    "deletable_payloads",
    "forget_deletions",
    "scheduled_deletions",
    "probe",
    "move_payloads",
    "named_payloads",
    "indexed",
    "index_again",
    "check_search_index",
    "history",
    "leases",
    "transaction",
    "commit",
]

_T = TypeVar("_T")


class FailingCatalog(Catalog):
    """Pass everything on to *catalog*, and fail where :meth:`fail` says so.

    A catalog that :meth:`bind` or :meth:`transaction` gives fails with this one: they share faults
    and calls. The end of a transaction is the operation ``commit``.
    """

    def __init__(self, catalog: Catalog) -> None:
        super().__init__(
            table=catalog.table_name,
            tenant=catalog.tenant,
            inline_threshold=catalog.inline_threshold,
            language=catalog.language,
            clock=catalog.clock,
        )
        self._catalog = catalog
        self._switches = _Switches()

    @property
    def calls(self) -> list[CatalogOperation]:
        """Each operation called so far, those that failed among them."""
        return self._switches.calls

    def fail(
        self, operation: CatalogOperation, *, times: int | None = None, after_effect: bool = False
    ) -> None:
        """Let calls of *operation* raise :class:`CatalogUnavailableError` from now on.

        Args:
            operation: A fault that was set for it before is replaced.
            times: So many calls fail, the ones after them work; None means until :meth:`heal`.
            after_effect: The call takes effect and fails then, like an answer lost on its way.
        """
        self._switches.set_fault(operation, _Fault(times, after_effect))

    def heal(self) -> None:
        """Let every operation work again."""
        self._switches.clear()

    def bind(self, table: str, *, inline_threshold: int, language: str) -> FailingCatalog:
        return self._sharing(
            self._catalog.bind(table, inline_threshold=inline_threshold, language=language)
        )

    def use_directory(self, directory: str) -> None:
        self._catalog.use_directory(directory)

    def can_inline(self, metadata: Metadata, byte_size: int) -> bool:
        return self._catalog.can_inline(metadata, byte_size)

    def table(self) -> LogicalTable:
        return self._switches.run("table", self._catalog.table)

    def read(self, key: str, now: datetime) -> EntryRow | None:
        return self._switches.run("read", lambda: self._catalog.read(key, now))

    def read_many(self, keys: Sequence[str], now: datetime) -> dict[str, EntryRow]:
        return self._switches.run("read_many", lambda: self._catalog.read_many(keys, now))

    def write(self, changes: Sequence[Put | Removal], now: datetime) -> list[Outcome]:
        return self._switches.run("write", lambda: self._catalog.write(changes, now))

    def rows_by_key(
        self, prefix: str, after: str, limit: int, condition: Filter | None, now: datetime
    ) -> list[EntryRow]:
        return self._switches.run(
            "rows_by_key", lambda: self._catalog.rows_by_key(prefix, after, limit, condition, now)
        )

    def rows_newest(self, limit: int, condition: Filter | None, now: datetime) -> list[EntryRow]:
        return self._switches.run(
            "rows_newest", lambda: self._catalog.rows_newest(limit, condition, now)
        )

    def rows_found(
        self, question: Question, limit: int, condition: Filter | None, now: datetime
    ) -> list[tuple[EntryRow, float]]:
        return self._switches.run(
            "rows_found", lambda: self._catalog.rows_found(question, limit, condition, now)
        )

    def remove_expired(self, limit: int, now: datetime) -> list[Outcome]:
        return self._switches.run(
            "remove_expired", lambda: self._catalog.remove_expired(limit, now)
        )

    def count_expired(self, now: datetime) -> int:
        return self._switches.run("count_expired", lambda: self._catalog.count_expired(now))

    def statistics(self, now: datetime) -> CatalogStatistics:
        return self._switches.run("statistics", lambda: self._catalog.statistics(now))

    def make_durable(self) -> None:
        self._switches.run("make_durable", self._catalog.make_durable)

    def deletable_payloads(self, uris: Sequence[str]) -> list[str]:
        return self._switches.run(
            "deletable_payloads", lambda: self._catalog.deletable_payloads(uris)
        )

    def forget_deletions(self, uris: Sequence[str]) -> None:
        self._switches.run("forget_deletions", lambda: self._catalog.forget_deletions(uris))

    def move_payloads(self, moves: Mapping[str, str], now: datetime) -> None:
        self._switches.run("move_payloads", lambda: self._catalog.move_payloads(moves, now))

    def scheduled_deletions(self, after: str, limit: int) -> list[str]:
        return self._switches.run(
            "scheduled_deletions", lambda: self._catalog.scheduled_deletions(after, limit)
        )

    def probe(self, now: datetime) -> None:
        self._switches.run("probe", lambda: self._catalog.probe(now))

    def named_payloads(self, uris: Sequence[str]) -> set[str]:
        return self._switches.run("named_payloads", lambda: self._catalog.named_payloads(uris))

    def indexed(self, rows: Sequence[EntryRow]) -> dict[str, IndexedEntry]:
        return self._switches.run("indexed", lambda: self._catalog.indexed(rows))

    def index_again(self, entries: Sequence[tuple[EntryRow, Document | None]]) -> None:
        self._switches.run("index_again", lambda: self._catalog.index_again(entries))

    def check_search_index(self, *, repair: bool) -> str | None:
        return self._switches.run(
            "check_search_index", lambda: self._catalog.check_search_index(repair=repair)
        )

    @property
    def history(self) -> History:
        return self._switches.run("history", lambda: self._catalog.history)

    @property
    def leases(self) -> Leases:
        return self._switches.run("leases", lambda: self._catalog.leases)

    @contextmanager
    def transaction(self) -> Iterator[FailingCatalog]:
        with ExitStack() as stack:
            catalog = self._switches.run(
                "transaction", lambda: stack.enter_context(self._catalog.transaction())
            )
            yield self._sharing(catalog)
            self._switches.run("commit", stack.close)

    def close(self) -> None:
        self._catalog.close()

    def _sharing(self, catalog: Catalog) -> FailingCatalog:
        """Return a catalog that fails with this one."""
        failing = FailingCatalog(catalog)
        failing._switches = self._switches
        return failing


class _Fault(NamedTuple):
    times: int | None
    after_effect: bool


class _Switches:
    """What fails, and what was called; shared by the catalogs of one database."""

    def __init__(self) -> None:
        self.calls: list[CatalogOperation] = []
        self._faults: dict[CatalogOperation, _Fault] = {}
        self._lock = threading.Lock()

    def set_fault(self, operation: CatalogOperation, fault: _Fault) -> None:
        with self._lock:
            self._faults[operation] = fault

    def clear(self) -> None:
        with self._lock:
            self._faults.clear()

    def run(self, operation: CatalogOperation, call: Callable[[], _T]) -> _T:
        """Note the call, carry it out, and fail before or after it where that was asked for."""
        fault = self._begin(operation)
        if fault is not None and not fault.after_effect:
            raise _failure(operation)
        answer = call()
        if fault is not None:
            raise _failure(operation)
        return answer

    def _begin(self, operation: CatalogOperation) -> _Fault | None:
        with self._lock:
            self.calls.append(operation)
            fault = self._faults.get(operation)
            if fault is not None and fault.times is not None:
                if fault.times == 1:
                    del self._faults[operation]
                else:
                    self._faults[operation] = fault._replace(times=fault.times - 1)
            return fault


def _failure(operation: CatalogOperation) -> CatalogUnavailableError:
    return CatalogUnavailableError(f"catalog: {operation} failed on command")
