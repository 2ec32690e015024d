"""The two ways of going through a cached call: in a thread, and in an event loop.

What is to be done is decided in one place, a generator that yields steps; here each of them is
carried out as the caller's world does it.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import threading
import time
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Ask:
    """Call the memory, which may block."""

    call: Callable[[], Any]


@dataclass(frozen=True, slots=True)
class Pause:
    """Let *seconds* pass."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Act:
    """Run the action, on behalf of the lease of *owner* if there is one."""

    owner: str | None = None


@dataclass(frozen=True, slots=True)
class Begin:
    """Go through other steps in the background; what they raise is logged."""

    steps: Callable[[], Steps]
    what: str


Step = Ask | Pause | Act | Begin
Steps = Generator[Step, Any, Any]

held_leases: contextvars.ContextVar[frozenset[str]] = contextvars.ContextVar(
    "ltm_held_leases", default=frozenset()
)
"""Owners of the leases on whose behalf the running code computes, outer ones too."""

_background: set[asyncio.Task[Any]] = set()


def go(steps: Steps, action: Callable[[], Any]) -> Any:
    """Go through *steps* in this thread and return what they return; *action* is plain."""
    value: Any = None
    failure: BaseException | None = None
    while True:
        try:
            step = steps.send(value) if failure is None else steps.throw(failure)
        except StopIteration as stop:
            return stop.value
        finally:
            value = failure = None
        try:
            value = _do(step, action)
        except BaseException as error:  # noqa: BLE001 -- the steps decide what becomes of it
            failure = error


async def go_async(
    steps: Steps, action: Callable[[], Awaitable[Any]], *, in_place: bool = False
) -> Any:
    """Go through *steps* in an event loop; the memory is asked in threads.

    With *in_place* it is asked in the loop's own thread, as a transaction of that thread needs.
    """
    value: Any = None
    failure: BaseException | None = None
    while True:
        try:
            step = steps.send(value) if failure is None else steps.throw(failure)
        except StopIteration as stop:
            return stop.value
        finally:
            value = failure = None
        try:
            value = await _do_async(step, action, in_place=in_place)
        except GeneratorExit:  # of a coroutine that is dropped, which can do no more
            raise
        except BaseException as error:  # noqa: BLE001 -- the steps decide what becomes of it
            failure = error


def _do(step: Step, action: Callable[[], Any]) -> Any:
    if isinstance(step, Ask):
        return step.call()
    if isinstance(step, Pause):
        return time.sleep(step.seconds)
    if isinstance(step, Act):
        with _on_behalf_of(step.owner):
            return action()
    context = contextvars.copy_context()
    arguments = _refresh, step.what, step.steps(), action
    # A daemon: a process that wants to end is not kept, and a lease that is left expires.
    threading.Thread(target=context.run, args=arguments, name="ltm-refresh", daemon=True).start()
    return None


async def _do_async(step: Step, action: Callable[[], Awaitable[Any]], *, in_place: bool) -> Any:
    if isinstance(step, Ask):
        return step.call() if in_place else await _in_thread(step.call)
    if isinstance(step, Pause):
        return await asyncio.sleep(step.seconds)
    if isinstance(step, Act):
        with _on_behalf_of(step.owner):
            return await action()
    task = asyncio.create_task(_refresh_async(step.what, step.steps(), action))
    _background.add(task)  # the loop itself keeps no hold of it
    task.add_done_callback(_background.discard)
    return None


async def _in_thread(call: Callable[[], Any]) -> Any:
    """Return what *call* returns, and be cancelled only once it has ended.

    So nothing that it takes is left behind: it can't be stopped in the middle.
    """
    running = asyncio.ensure_future(asyncio.to_thread(call))
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        with suppress(Exception):
            await running
        raise


@contextmanager
def _on_behalf_of(owner: str | None) -> Iterator[None]:
    if owner is None:
        yield
        return
    token = held_leases.set(held_leases.get() | {owner})
    try:
        yield
    finally:
        held_leases.reset(token)


def _refresh(what: str, steps: Steps, action: Callable[[], Any]) -> None:
    with _logged(what):
        go(steps, action)


async def _refresh_async(what: str, steps: Steps, action: Callable[[], Awaitable[Any]]) -> None:
    with _logged(what):
        await go_async(steps, action)


@contextmanager
def _logged(what: str) -> Iterator[None]:
    """Log what a block in the background raises."""
    try:
        yield
    except Exception:  # noqa: BLE001 -- nobody else would hear of it
        _log.warning("refreshing %s in the background failed", what, exc_info=True)
