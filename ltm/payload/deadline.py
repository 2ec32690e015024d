"""Calls to fsspec that end in time, whatever the driver does."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextvars import copy_context
from typing import Any, TypeVar

from ltm.payload.breaker import MonotonicClock

_T = TypeVar("_T")


class Deadline:
    """So many *seconds* from now."""

    def __init__(self, seconds: float, clock: MonotonicClock) -> None:
        self._clock = clock
        self._ends_at = clock() + seconds

    @property
    def seconds_left(self) -> float:
        """0 or more."""
        return max(0.0, self._ends_at - self._clock())

    def bound(self, call: Callable[[], _T]) -> _T:
        """Return what *call* returns, made in a thread of its own.

        What takes longer goes on in that thread, which no exit of the interpreter waits for.

        Raises:
            TimeoutError: The deadline passed.
        """
        from concurrent.futures import Future

        future: Future[_T] = Future()

        def run() -> None:
            try:
                future.set_result(call())
            except BaseException as error:  # noqa: BLE001 raised to the caller
                future.set_exception(error)

        seconds = self._require_time()
        threading.Thread(
            target=copy_context().run, args=(run,), name="ltm-payload-call", daemon=True
        ).start()
        return future.result(seconds)

    def ask(self, system: Any, verb: str, *arguments: Any, **options: Any) -> Any:
        """Return what method *verb* of the fsspec file system *system* returns.

        A call of an asynchronous driver is cancelled at the deadline, and its connection closed. A
        loop that hangs is given up a second or two later.

        Raises:
            TimeoutError: The deadline passed.
        """
        from asyncio import iscoroutinefunction

        method = getattr(system, f"_{verb}", None) if system.async_impl else None
        if not iscoroutinefunction(method):
            return self.bound(lambda: getattr(system, verb)(*arguments, **options))
        from fsspec.asyn import sync

        async def answer() -> tuple[Any]:
            return (await method(*arguments, **options),)

        found = sync(system.loop, answer, timeout=self._require_time())
        # sync() returns None for a coroutine that somebody else cancelled: as if it were done.
        if found is None:
            raise ConnectionAbortedError("the call was cancelled")
        return found[0]

    def _require_time(self) -> float:
        seconds = self.seconds_left
        if seconds <= 0:
            raise TimeoutError
        return seconds
