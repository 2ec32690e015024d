"""Doing work anew that other transactions got in the way of."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic

from ltm.errors import CatalogUnavailableError
from ltm.sql.dialects import BusyError, ConnectionLostError, ContentionError
from ltm.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import TypeVar

    T = TypeVar("T")

CONTENTION_SECONDS = 30.0
"""For how long a write is tried anew while others get in its way."""


def try_anew(call: Callable[[], T], error: CatalogUnavailableError, patience: float) -> T:
    """Return what *call* returns in the end, which does all or nothing.

    Args:
        call: It has failed by *error*.
        error: What got in its way, or took its connection.
        patience: For how many seconds it is tried anew while the database is busy.

    Raises:
        CatalogUnavailableError: It has failed again, or the time is over.
    """
    deadline = monotonic() + patience
    while isinstance(error, BusyError):
        if monotonic() >= deadline:
            raise CatalogUnavailableError(str(error)) from error
        try:
            return call()
        except (ConnectionLostError, ContentionError) as failure:
            error = failure
    if isinstance(error, ConnectionLostError):
        try:
            return call()
        except ContentionError:
            pass
    return _after_pauses(call)


def _after_pauses(call: Callable[[], T]) -> T:
    from tenacity import (
        Retrying,
        retry_if_exception_type,
        stop_after_delay,
        wait_random_exponential,
    )

    retrying = Retrying(
        retry=retry_if_exception_type(ContentionError),
        wait=wait_random_exponential(0.01, max=1),
        stop=stop_after_delay(CONTENTION_SECONDS),
        reraise=True,
    )
    result: T = retrying(_once_more, call)
    return result


def _once_more(call: Callable[[], T]) -> T:
    """Return what *call* returns, on a fresh connection if its own one turns out to be broken."""
    try:
        return call()
    except ConnectionLostError:
        return call()
