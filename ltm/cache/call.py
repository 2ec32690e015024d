"""One cached call, step by step: look, take the lease, compute, remember.

A result is written in the transaction that ends its lease, so whoever sees the lease gone sees the
result, and an owner that was too slow writes nothing. Whatever the memory fails to do, the action
is run, and the answer says what was not done.
"""

from __future__ import annotations

import logging
import random
import secrets
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any, NamedTuple

from ltm import telemetry
from ltm.backend.parts import BackendCalls
from ltm.backend.writer import Condition
from ltm.cache.heartbeat import renewing
from ltm.cache.policy import CachePolicy
from ltm.cache.results import CacheAnswer, is_failure
from ltm.cache.steps import Act, Ask, Begin, Pause, Steps, held_leases
from ltm.cache.waiting import WaitedInVainError, Waiting
from ltm.catalog.commit import is_live
from ltm.catalog.leases import Lease
from ltm.clock import BEGINNING
from ltm.errors import (
    CatalogUnavailableError,
    IntegrityError,
    LTMError,
    PayloadNotFoundError,
    SerializationError,
    ValidationError,
)

_log = logging.getLogger(__name__)

SHORTEST_PAUSE = 0.02
LONGEST_PAUSE = 1.0
"""Seconds between two looks at what another caller computes."""


_told: set[str] = set()
"""Actions of which it is logged already that their results are no JSON."""


class Remembered(NamedTuple):
    """A result that the memory holds."""

    result: Any
    created_at: datetime
    is_expired: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class CachedCall:
    """What one call of an action asks of a memory."""

    memory: BackendCalls
    name: str
    """Stands for the action in messages and metadata."""
    make_key: Callable[[], str]
    policy: CachePolicy

    def steps(self) -> Steps:
        """Return the steps, which end with the answer."""
        if self.policy.skip_cache or not self.policy.cache_enabled:
            return self._alone(None, None)
        return self._observed()

    def _observed(self) -> Steps:
        table = {"ltm.table": self.memory.catalog.table_name}
        with telemetry.span("ltm.cache_wrap", table) as span:
            answer = yield from self._with_memory()
            span.set({"ltm.hit": answer["_cache_hit"], "ltm.cached": answer["_cached"]})
        telemetry.count_cache(answer["_cache_hit"], "wrap")
        return answer

    def _with_memory(self) -> Steps:
        key: str | None = None
        try:
            key = made = yield Ask(self.make_key)
            expired_too = self.policy.on_expired != "block"
            found = yield self._ask(lambda: self._look(made, expired_too=expired_too))
        except ValidationError:
            raise
        except LTMError as error:
            return (yield from self._alone(key, error))
        if found is not None and not found.is_expired:
            return _hit(made, found)
        if self.memory.is_bound:
            # Nobody else sees what a transaction writes before it commits: no lease would help.
            return (yield from self._compute(made, None))
        return (yield from self._share(made, found))

    def _share(self, key: str, expired: Remembered | None) -> Steps:
        """Compute the result of *key*, or wait for whoever does."""
        waiting = Waiting(self.policy.timeout, held_leases.get())
        owner = secrets.token_hex(16)
        while True:
            lease = self._new_lease(key, owner)
            take = partial(self._take_or_find, lease, looks_first=waiting.has_waited)
            try:
                held, found = yield self._ask(take)
            except LTMError as error:
                return (yield from self._alone(key, error))
            except BaseException as error:
                yield from self._let_go(lease, error)
                raise
            if found is not None:
                return _hit(key, found)
            if held.owner == owner:
                break
            if expired is not None:
                return _hit(key, expired)
            if waiting.is_for_itself(held.owner):
                return (yield from self._alone(key, None))
            if waiting.is_over:
                return (yield from self._alone(key, WaitedInVainError(key, self.policy.timeout)))
            with waiting.on(held.owner):
                yield Pause(waiting.pause(SHORTEST_PAUSE, LONGEST_PAUSE))
        if expired is not None and self.policy.on_expired == "refresh":
            yield Begin(lambda: self._compute_under(lease), f"{self.name} for key {key!r}")
            return _hit(key, expired)
        return (yield from self._compute_under(lease))

    def _compute_under(self, lease: Lease) -> Steps:
        """Compute and remember a result while *lease* is kept in force."""
        try:
            with renewing(self.memory.catalog, lease, self.policy.lease_seconds):
                return (yield from self._compute(lease.key, lease))
        except BaseException as error:
            yield from self._let_go(lease, error)
            raise

    def _let_go(self, lease: Lease, error: BaseException) -> Steps:
        """End *lease* after an *error*, unless nothing can be done any more."""
        if not isinstance(error, GeneratorExit):
            yield Ask(lambda: self._end(lease))

    def _compute(self, key: str, lease: Lease | None) -> Steps:
        result = yield Act(None if lease is None else lease.owner)
        if not self._is_worth_remembering(result):
            if lease is not None:
                yield Ask(lambda: self._end(lease))
            return _answer(key, result)
        try:
            created_at = yield self._ask(lambda: self._remember(key, result, lease))
        except LTMError as error:
            # In an outage it would only wait again, and the lease expires by itself.
            if lease is not None and not isinstance(error, CatalogUnavailableError):
                yield Ask(lambda: self._end(lease))
            return self._unremembered(key, result, error)
        return _answer(key, result, created_at)

    def _alone(self, key: str | None, error: LTMError | None) -> Steps:
        """Run the action, and leave the memory alone."""
        result = yield Act()
        return _answer(key, result) if error is None else self._unremembered(key, result, error)

    def _is_worth_remembering(self, result: Any) -> bool:
        if is_failure(result):
            return False
        return self.policy.should_cache is None or bool(self.policy.should_cache(result))

    # Calls of the memory

    def _ask(self, call: Callable[[], Any]) -> Ask:
        """Return the step of a *call* that reaches the catalog, and tells whether it is there."""

        def ask() -> Any:
            with self.memory.outage.watching():
                return call()

        return Ask(ask)

    def _look(self, key: str, *, expired_too: bool = False) -> Remembered | None:
        """Return what is remembered under *key*; a lost value is none."""
        parts = self.memory.parts
        row = parts.catalog.read(key, BEGINNING)
        is_expired = row is not None and not is_live(row, parts.clock())
        if row is None or (is_expired and not expired_too):
            return None
        try:
            entry = parts.reader.read(row)
        except (PayloadNotFoundError, IntegrityError) as error:
            _log.warning("%s is computed again: %s", self.name, error)
            return None
        if entry is None:
            return None
        return Remembered(entry.value, entry.row.updated_at, is_expired)

    def _new_lease(self, key: str, owner: str) -> Lease:
        catalog = self.memory.catalog
        until = catalog.clock() + timedelta(seconds=self.policy.lease_seconds)
        return Lease(catalog.entry_id(key), key, owner, until)

    def _take_or_find(self, lease: Lease, *, looks_first: bool) -> tuple[Lease, Remembered | None]:
        """Take *lease*, unless another is in force or a result is remembered.

        Returns:
            The lease that is in force, and the result, if one is there by now.
        """
        found = self._look(lease.key) if looks_first else None
        if found is not None:
            return lease, found
        held = self.memory.catalog.leases.take(lease, self.memory.clock())
        if held.owner != lease.owner:
            return held, None
        try:
            # Another owner may have come and gone since the last look.
            found = self._look(lease.key)
        except BaseException:  # an interrupt, too, would leave the lease behind
            self._end(lease)
            raise
        if found is not None:
            self._end(lease)
        return held, found

    def _end(self, lease: Lease) -> None:
        """End *lease*, best effort: failing that, it expires."""
        with suppress(LTMError):
            self.memory.catalog.leases.end([lease])

    def _remember(self, key: str, result: Any, lease: Lease | None) -> datetime:
        """Store *result*, and return when that was."""
        parts, now = self.memory.parts, self.memory.clock()
        metadata = {"_cache_action": self.name} | dict(self.policy.metadata or {})
        if self.policy.agent_name:
            metadata["_cache_agent"] = self.policy.agent_name
        entry = parts.writer.prepare(
            key, result, metadata, ttl=self.policy.seconds, created_at=now, updated_at=now
        )
        parts.writer.write(entry, Condition(lease=lease))
        if not self.memory.is_bound and random.random() < self.policy.cleanup_probability:
            with suppress(LTMError):
                self.memory.cleanup_expired(self.policy.cleanup_limit)
        return now

    def _unremembered(self, key: str | None, result: Any, error: LTMError) -> CacheAnswer:
        if isinstance(error, SerializationError) and self.name not in _told:
            _told.add(self.name)
            _log.warning("what %s returns can't be remembered: %s", self.name, error)
        answer = _answer(key, result)
        answer["_cache_error"] = str(error)
        answer["_cache_error_type"] = error.error_type
        return answer


def _hit(key: str, found: Remembered) -> CacheAnswer:
    answer = _answer(key, found.result, found.created_at)
    answer["_cache_hit"] = True
    if found.is_expired:
        answer["_cached"], answer["_cache_stale"] = False, True
    return answer


def _answer(key: str | None, result: Any, created_at: datetime | None = None) -> CacheAnswer:
    return CacheAnswer(
        success=not is_failure(result),
        result=result,
        _cache_hit=False,
        _cache_key=key,
        _cache_created_at=created_at,
        _cached=created_at is not None,
    )
