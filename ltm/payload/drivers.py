"""What is known of the drivers of fsspec: their packages, their options, and how they retry.

A driver is made so that it tries everything once, since the store tries again itself: attempts
inside of attempts multiply, and a driver that repeats a conditional create takes its own object for
another's. What has no option for that is set on the made driver, which is the store's own.
"""

from __future__ import annotations

import inspect
import os
import types
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from importlib import import_module
from typing import Any, NamedTuple

from ltm.errors import MissingDependencyError, ValidationError

_Options = dict[str, Any]

# Those that are connected, for a fork.
_systems: weakref.WeakValueDictionary[int, Any] = weakref.WeakValueDictionary()


class Connection(NamedTuple):
    """A file system of fsspec, and what has to be known to use it."""

    system: Any
    base: str
    """The path of the root on it, without a slash at the end."""
    repeats: bool
    """Whether it is one that tries again by itself, so that a create may have been its second."""
    hides_buckets: bool
    """Whether it raises the same for an object and for a bucket that is missing."""


class _Driver(NamedTuple):
    package: str
    extra: str
    options: Callable[[float, int], _Options]
    """Returns its defaults for a deadline in seconds and a number of workers."""
    adapt: Callable[[Any], None]
    """Ends its own retries; raises AttributeError where it is not built as expected."""
    class_path: tuple[str, str] | None = None
    hides_buckets: bool = False


def require_known(protocol: str) -> None:
    """Do nothing, if fsspec has a driver for *protocol* or knows of one.

    Raises:
        ValidationError: It doesn't.
    """
    if protocol == "memory" or protocol in _DRIVERS:
        return
    from fsspec.registry import known_implementations, registry

    if protocol not in registry and protocol not in known_implementations:
        raise ValidationError(f"payload store URI: no driver is known for {protocol!r}")


def package_of(protocol: str) -> tuple[str, str] | None:
    """Return the package of the driver of *protocol* and the extra that brings it.

    None where it comes with fsspec, or is no extra of ltm.
    """
    driver = _DRIVERS.get(protocol)
    return None if driver is None else (driver.package, driver.extra)


def connect(
    root: str, protocol: str, options: Mapping[str, Any], *, timeout: float, max_workers: int
) -> Connection:
    """Return a new connection to *root*; *options* go before the defaults of its driver.

    Raises:
        MissingDependencyError: The driver is not installed.
        ValidationError: It can't be imported, and it is no extra of ltm.
    """
    from fsspec.registry import get_filesystem_class

    driver = _DRIVERS.get(protocol)
    try:
        system_class = get_filesystem_class(protocol)
    except (ImportError, ValueError) as error:  # ValueError: only the driver registers it
        if driver is not None:
            raise MissingDependencyError(driver.package, driver.extra) from error
        raise ValidationError(
            f"payload store URI: the driver of {protocol!r} can't be imported: {error}"
        ) from error
    if driver is not None and driver.class_path is not None:
        module, name = driver.class_path
        system_class = getattr(import_module(module), name)
    defaults: _Options = {"skip_instance_cache": True}
    if driver is not None:
        defaults |= {"use_listings_cache": False, **driver.options(timeout, max_workers)}
    defaults |= system_class._get_kwargs_from_urls(root)
    merged = _merge(defaults, options)
    system = system_class(**merged)
    _systems[id(system)] = system
    repeats = False
    if driver is not None:
        repeats = True
        if merged["skip_instance_cache"]:  # else it may be somebody else's, too
            with suppress(
                AttributeError, KeyError
            ):  # of another release; the store then allows for retries
                driver.adapt(system)
                repeats = False
    return Connection(
        system=system,
        base=system_class._strip_protocol(root).rstrip("/"),
        repeats=repeats,
        hides_buckets=driver is not None and driver.hides_buckets,
    )


def disconnect(connection: Connection) -> None:
    """Close what nothing else would close before the interpreter ends."""
    for finalizer in _late_finalizers(connection.system):
        finalizer()


def _late_finalizers(system: Any) -> Iterator[weakref.finalize[Any, Any]]:
    """Yield those finalizers of *system* that hold it and so keep it alive, as adlfs's do."""
    for reference in weakref.getweakrefs(system):
        finalizer = getattr(reference, "__callback__", None)
        if isinstance(finalizer, weakref.finalize):
            held = finalizer.peek()
            if held is not None and any(each is system for each in held[2]):
                yield finalizer


def _let_child_exit() -> None:
    # At exit they wait for fsspec's thread, which a child doesn't inherit: it would not end.
    for system in list(_systems.values()):
        for finalizer in _late_finalizers(system):
            finalizer.atexit = False


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_let_child_exit)


def _merge(defaults: Mapping[str, Any], options: Mapping[str, Any]) -> _Options:
    """Return both, *options* first, also within mappings that both have."""
    merged = {**defaults, **options}
    for name, value in options.items():
        default = defaults.get(name)
        if isinstance(value, Mapping) and isinstance(default, Mapping):
            merged[name] = {**default, **value}
    return merged


def _silence_limits(timeout: float) -> tuple[float, float]:
    """Return after how many seconds to give up connecting, and waiting for the next bytes.

    They leave time for another attempt: silence is how a connection shows that it is dead.
    """
    return min(10.0, timeout / 4), min(20.0, timeout / 4)


def _s3_options(timeout: float, max_workers: int) -> _Options:
    connecting, reading = _silence_limits(timeout)
    return {
        # A number above 1 costs a HEAD before each GET; of that, a missing bucket can't be told.
        "max_concurrency": 1,
        "config_kwargs": {
            "connect_timeout": connecting,
            "read_timeout": reading,
            "retries": {"total_max_attempts": 1, "mode": "standard"},
            "max_pool_connections": max(10, max_workers),
            **_s3_session(),
        },
    }


def _s3_session() -> _Options:
    """Return the option that keeps aiohttp from sending twice, or none where there is no such."""
    config = import_module("aiobotocore.config").AioConfig
    if not _aiohttp_repeats() or "http_session_cls" not in inspect.signature(config).parameters:
        return {}
    session_class: Any = import_module("aiobotocore.httpsession").AIOHTTPSession

    class OneAttempt(session_class):  # type: ignore[misc]  # its package is optional
        ltm_repeats = False

        async def _get_session(self, *arguments: Any) -> Any:
            session = await super()._get_session(*arguments)
            session._retry_connection = False
            return session

    return {"http_session_cls": OneAttempt}


def _aiohttp_repeats() -> bool:
    """Say whether aiohttp sends a PUT again on its own, when a kept connection turns out dead."""
    return "_retry_connection" in import_module("aiohttp").ClientSession.ATTRS


def _adapt_s3(system: Any) -> None:
    if not isinstance(system.retries, int):
        raise AttributeError("retries")
    system.retries = 1
    if _aiohttp_repeats() and system.config_kwargs["http_session_cls"].ltm_repeats:
        raise AttributeError("http_session_cls")


def _gcs_options(timeout: float, max_workers: int) -> _Options:  # noqa: ARG001
    aiohttp = import_module("aiohttp")
    connecting, reading = _silence_limits(timeout)
    limits = aiohttp.ClientTimeout(total=None, sock_connect=connecting, sock_read=reading)
    return {"requests_timeout": limits}


def _adapt_gcs(system: Any) -> None:
    decorated = type(system)._request
    plain = inspect.unwrap(decorated)
    if plain is decorated:
        raise AttributeError("_request")
    system._request = types.MethodType(plain, system)


def _azure_options(timeout: float, max_workers: int) -> _Options:  # noqa: ARG001
    connecting, reading = _silence_limits(timeout)
    return {"connection_timeout": connecting, "read_timeout": reading}


def _adapt_azure(system: Any) -> None:
    # It takes paths for URLs, and what follows # or ? for no part of a name.
    system._strip_protocol = str
    policy = system.service_client._config.retry_policy
    if not isinstance(policy.total_retries, int):
        raise AttributeError("total_retries")
    policy.total_retries = 0
    transport = system.service_client._pipeline._transport
    open_session = transport.open

    async def open_for_one_attempt() -> None:
        await open_session()
        if _aiohttp_repeats():
            transport.session._retry_connection = False

    transport.open = open_for_one_attempt


_S3 = _Driver("s3fs", "s3", _s3_options, _adapt_s3)
# Not gcsfs.GCSFileSystem: that asks another service for the kind of the bucket first, and for each
# call again where it may not.
_GCS = _Driver(
    "gcsfs", "gcs", _gcs_options, _adapt_gcs, ("gcsfs.core", "GCSFileSystem"), hides_buckets=True
)
_AZURE = _Driver("adlfs", "azure", _azure_options, _adapt_azure)

_DRIVERS = {
    "s3": _S3,
    "s3a": _S3,
    "gs": _GCS,
    "gcs": _GCS,
    "az": _AZURE,
    "abfs": _AZURE,
    "abfss": _AZURE,
}
"""Those that are extras of ltm, by protocol."""
