"""Calling an action through a cache, and decorating it with one."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import replace
from typing import (
    Any,
    Concatenate,
    ParamSpec,
    Protocol,
    Self,
    TypeVar,
    Unpack,
    cast,
    overload,
)

from ltm.backend.parts import BackendCalls
from ltm.cache.call import CachedCall
from ltm.cache.entries import cache_invalidate
from ltm.cache.keys import Action, make_key
from ltm.cache.memory import find_memory
from ltm.cache.policy import CacheOptions, CachePolicy
from ltm.cache.results import CacheAnswer, InvalidateAnswer
from ltm.cache.steps import go, go_async
from ltm.errors import ValidationError

P = ParamSpec("P")
Q = ParamSpec("Q")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)


@overload
def cache_wrap(
    backend: object,
    action: Callable[..., Coroutine[Any, Any, Any]],
    args: Mapping[str, Any] | None = None,
    **options: Unpack[CacheOptions],
) -> Coroutine[Any, Any, CacheAnswer]: ...


@overload
def cache_wrap(
    backend: object,
    action: Callable[..., Any],
    args: Mapping[str, Any] | None = None,
    **options: Unpack[CacheOptions],
) -> CacheAnswer: ...


def cache_wrap(
    backend: object,
    action: Callable[..., Any],
    args: Mapping[str, Any] | None = None,
    **options: Unpack[CacheOptions],
) -> CacheAnswer | Coroutine[Any, Any, CacheAnswer]:
    """Run ``action(**args)`` once for each key, and answer what it returned then or now.

    Of callers that ask for one key at once, in threads, processes and on machines, one runs the
    action and the others wait for its result. What the action raises is raised; neither that nor
    ``{"success": False}`` is remembered. While the memory can't be used the action is run all the
    same, and the answer says that its result is not remembered: ``_cached`` and ``_cache_error``.
    Within a transaction there is no waiting, and the result is remembered when it commits.

    Args:
        backend: An LTM backend, or an object that has one in its attribute ``_ltm_backend``.
        action: A function that returns JSON, or a coroutine function that does: then this answers
            with a coroutine.
        args: Its keyword arguments.
        **options: Those of :class:`~ltm.cache.policy.CacheOptions`.

    Raises:
        ValidationError: A bad option, or an argument that can't be part of a key; the action is not
            run.
    """
    policy = CachePolicy.of(options)
    named = Action(action, policy.name)
    answer: CacheAnswer = _call(backend, named, action, (), dict(args or {}), policy)
    return answer


class CachedFunction(Protocol[P, R_co]):
    """A function that :func:`cached` has decorated."""

    __wrapped__: Callable[..., Any]
    """The function itself, without a cache."""

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R_co:
        """Return what the function returned, then or now."""

    def answer(self, *args: P.args, **kwargs: P.kwargs) -> Any:
        """Return the same as ``cache_wrap`` answers it; of a coroutine function, awaitable."""

    def cache_key(self, *args: P.args, **kwargs: P.kwargs) -> str:
        """Return the key of a call."""

    def invalidate(self, *args: P.args, **kwargs: P.kwargs) -> InvalidateAnswer:
        """Forget the result of a call."""

    @overload
    def __get__(self, instance: None, owner: type) -> Self: ...

    @overload
    def __get__(
        self: CachedFunction[Concatenate[Any, Q], R_co], instance: object, owner: type
    ) -> Callable[Q, R_co]: ...

    def __get__(self, instance: object, owner: type) -> Any:
        """Return the method of *instance*; what this class adds is got from the class."""


def cached(
    backend: object = None, **options: Unpack[CacheOptions]
) -> Callable[[Callable[P, R]], CachedFunction[P, R]]:
    """Decorate a function so that its results are remembered, as by :func:`cache_wrap`.

    Args:
        backend: As there, or a function without arguments that returns it at each call. None for
            methods: the object's own ``_ltm_backend``; the object itself is not in the key then.
        **options: As there.

    Raises:
        ValidationError: A bad option, or a generator function.
    """
    policy = CachePolicy.of(options)

    def decorate(function: Callable[P, R]) -> CachedFunction[P, R]:
        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            raise ValidationError(f"cached: {function.__qualname__} yields, and returns no JSON")
        action = Action(function, policy.name)

        def memory_of(args: tuple[Any, ...]) -> object:
            if backend is None:
                return args[0] if args else None
            is_found = isinstance(backend, BackendCalls) or hasattr(backend, "_ltm_backend")
            return backend() if callable(backend) and not is_found else backend

        def key_of(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> str:
            return make_key(action, args, kwargs, of_call)

        of_call = policy if backend is not None else _without_owner(policy, function)

        def answer(*args: P.args, **kwargs: P.kwargs) -> Any:
            return _call(memory_of(args), action, function, args, kwargs, of_call)

        def cache_key(*args: P.args, **kwargs: P.kwargs) -> str:
            return key_of(args, kwargs)

        def invalidate(*args: P.args, **kwargs: P.kwargs) -> InvalidateAnswer:
            return cache_invalidate(memory_of(args), key=key_of(args, kwargs))

        wrapper = _wrapper(function, answer)
        wrapper.answer, wrapper.cache_key, wrapper.invalidate = answer, cache_key, invalidate
        return cast(CachedFunction[P, R], wrapper)

    return decorate


def _without_owner(policy: CachePolicy, function: Callable[..., Any]) -> CachePolicy:
    """Return *policy* for a method: whose it is doesn't count."""
    first = next(iter(inspect.signature(function).parameters), "")
    return replace(policy, ignore=(*policy.ignore, first))


def _wrapper(function: Callable[..., Any], answer: Callable[..., Any]) -> Any:
    if inspect.iscoroutinefunction(function):

        @functools.wraps(function)
        async def call_async(*args: Any, **kwargs: Any) -> Any:
            return (await answer(*args, **kwargs))["result"]

        return call_async

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        return answer(*args, **kwargs)["result"]

    return call


def _call(
    backend: object,
    action: Action,
    function: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    policy: CachePolicy,
) -> Any:
    memory = find_memory(backend)
    call = CachedCall(
        memory=memory,
        name=action.name,
        make_key=lambda: make_key(action, args, kwargs, policy),
        policy=policy,
    )
    run = functools.partial(function, *args, **kwargs)
    if _is_async(function):
        return go_async(call.steps(), run, in_place=memory.is_bound)
    return go(call.steps(), run)


def _is_async(function: Callable[..., Any]) -> bool:
    called = getattr(type(function), "__call__", None)  # noqa: B004 -- of an object that is called
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(called)
