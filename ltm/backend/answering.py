"""The one place where exceptions become answers."""

from __future__ import annotations

import functools
from collections.abc import Callable
from sys import modules

from ltm import telemetry
from ltm.errors import ConflictError, LTMError
from ltm.typed import TYPE_CHECKING, cast

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
    _C = TypeVar("_C", bound=Callable[..., Any])


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
    return _answering(method, is_observed=True)


def _answering(
    method: Callable[Concatenate[_S, _P], _A], *, is_observed: bool = False
) -> Callable[Concatenate[_S, _P], _A]:
    """Do it, observed only where OpenTelemetry is used: elsewhere no call is added."""

    @functools.wraps(method)
    def answer(self: _S, /, *args: _P.args, **kwargs: _P.kwargs) -> _A:
        if is_observed and telemetry.API in modules and telemetry.notice():
            observed: _A = _observed(method, answers=True)(self, *args, **kwargs)
            return observed
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


def raising(method: _C) -> _C:
    """Let a backend's public *method* be observed that raises its errors."""

    @functools.wraps(method)
    def call(self: Any, /, *args: Any, **kwargs: Any) -> Any:
        if telemetry.API in modules and telemetry.notice():
            return _observed(method, answers=False)(self, *args, **kwargs)
        return method(self, *args, **kwargs)

    return cast("_C", call)


@functools.cache
def _observed(method: Callable[..., Any], *, answers: bool) -> Callable[..., Any]:
    from ltm.backend.observed import observed  # here: most processes have nobody who collects

    return observed(_answering(method) if answers else method)


_WITHOUT_CATALOG = (
    {"success": True, "stored": 0, "failed": 0, "deduplicated": 0, "errors": []},
    {"success": True, "results": {}, "entries": {}, "missing": [], "found": 0, "errors": []},
    {"success": True, "results": [], "count": 0, "errors": []},
)
"""Answers to batches of nothing and to a search for no word."""


def _has_reached_catalog(answer: Any) -> bool:
    return answer["success"] and not answer.get("stale") and answer not in _WITHOUT_CATALOG
