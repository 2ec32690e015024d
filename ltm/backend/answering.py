"""The one place where exceptions become answers."""

from __future__ import annotations

import functools
from collections.abc import Callable
from sys import modules

from ltm import telemetry
from ltm.backend.observed import observed
from ltm.errors import ConflictError, LTMError
from ltm.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any, Concatenate, ParamSpec, Protocol, Self, TypeVar

    from ltm.backend.outage import Outage

    class Answering(Protocol):
        """What :func:`answering` needs to know of a backend."""

        raise_errors: bool

        @property
        def outage(self) -> Outage:
            """What is known of an outage of the catalog."""

        def active(self) -> Self:
            """Return whom a call is for: the open transaction of this thread, or the backend."""

        def doom(self, error: LTMError) -> None:
            """Take note of a failure that was answered, so that a transaction can't commit."""

    _P = ParamSpec("_P")
    _S = TypeVar("_S", bound=Answering)
    _A = TypeVar("_A")


def failure(error: LTMError) -> Any:
    """Return the answer that stands for *error*."""
    answer = {"success": False, "error": str(error), "error_type": error.error_type}
    if isinstance(error, ConflictError):
        return {**answer, "current_hash": error.current_hash}
    return answer


def answering(
    method: Callable[Concatenate[_S, _P], _A],
) -> Callable[Concatenate[_S, _P], _A]:
    """Let a backend's public *method* answer an :class:`LTMError` instead of raising it.

    With ``raise_errors=True`` on the backend it is raised all the same.
    """
    return _answering(method, observed(_answering(method)))


def _answering(
    method: Callable[Concatenate[_S, _P], _A],
    observing: Callable[Concatenate[_S, _P], _A] | None = None,
) -> Callable[Concatenate[_S, _P], _A]:
    """Do it, by way of *observing* where OpenTelemetry is used: elsewhere no call is added."""

    @functools.wraps(method)
    def answer(self: _S, /, *args: _P.args, **kwargs: _P.kwargs) -> _A:
        if observing is not None and telemetry.API in modules and telemetry.notice():
            return observing(self, *args, **kwargs)
        target = self.active()
        epoch = target.outage.epoch
        try:
            answered = method(target, *args, **kwargs)
        except LTMError as error:
            target.outage.began(error, epoch)
            if self.raise_errors:
                raise
            target.doom(error)
            failed: _A = failure(error)
            return failed
        if epoch % 2 and _has_reached_catalog(answered):
            target.outage.ended(epoch)
        return answered

    return answer


_WITHOUT_CATALOG = (
    {"success": True, "stored": 0, "failed": 0, "deduplicated": 0, "errors": []},
    {"success": True, "results": {}, "entries": {}, "missing": [], "found": 0, "errors": []},
    {"success": True, "results": [], "count": 0, "errors": []},
)
"""Answers to batches of nothing and to a search for no word."""


def _has_reached_catalog(answer: Any) -> bool:
    return answer["success"] and not answer.get("stale") and answer not in _WITHOUT_CATALOG
