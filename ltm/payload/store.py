"""A payload store on any file system that fsspec has a driver for, and the choice between stores.

fsspec, its drivers and tenacity are imported when an operation needs them.
"""

from __future__ import annotations

import errno
import os
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext, suppress
from datetime import UTC, datetime
from typing import Any, TypeVar

from ltm.errors import (
    LTMError,
    MissingDependencyError,
    PayloadError,
    PayloadNotFoundError,
    ValidationError,
)
from ltm.payload.base import (
    MAX_WORKERS,
    PayloadObject,
    PayloadStore,
    mask_credentials,
    split_uri,
    validate_path,
)
from ltm.payload.local import LocalPayloadStore

_T = TypeVar("_T")

Paths = list[str]
Objects = list[PayloadObject]

_ATTEMPTS = 4
_LOCAL_PROTOCOLS = ("", "file", "local")

# Protocols whose driver is an extra of ltm: the package and the extra.
_DRIVERS = {
    "s3": ("s3fs", "s3"),
    "s3a": ("s3fs", "s3"),
    "gs": ("gcsfs", "gcs"),
    "gcs": ("gcsfs", "gcs"),
    "az": ("adlfs", "azure"),
    "abfs": ("adlfs", "azure"),
    "abfss": ("adlfs", "azure"),
}

_LASTING_ERRORS = (
    FileExistsError,
    FileNotFoundError,
    IsADirectoryError,
    NotADirectoryError,
    PermissionError,
    LTMError,
)
_LASTING_NUMBERS = {errno.EINVAL, errno.ENAMETOOLONG, errno.ENOSPC, errno.EROFS}

# The names under which drivers list when an object was written. It never changes, so any will do.
_TIMES = ("LastModified", "last_modified", "mtime", "modified", "created")

_SECRET_OPTION = re.compile(r"key|secret|token|pass|credential|connection_string", re.IGNORECASE)

# By process: a forked child could inherit a lock that nobody will release.
_memory_locks: dict[int, threading.Lock] = {}


def open_payload_store(
    uri: str | os.PathLike[str],
    *,
    storage_options: Mapping[str, Any] | None = None,
    max_workers: int = MAX_WORKERS,
) -> PayloadStore:
    """Return the payload store at *uri*, without I/O: a wrong address shows at the first operation.

    Args:
        uri: A path or ``file://`` URL for a local directory, else a URL that fsspec knows.
        storage_options: What the fsspec driver takes; of no use to a local directory.
        max_workers: At most so many objects of all batches are under way at once; 1 or more.

    Raises:
        ValidationError: No driver is known for the protocol of *uri*, or an argument is not valid.
    """
    if split_uri(uri)[0] in _LOCAL_PROTOCOLS:
        return LocalPayloadStore(uri, max_workers=max_workers)
    return FsspecPayloadStore(
        os.fspath(uri), storage_options=storage_options, max_workers=max_workers
    )


class FsspecPayloadStore(PayloadStore):
    """Payloads on a file system of fsspec, one request for each verb and object.

    What may pass is tried four times, with a random and exponentially growing pause between.
    That an object appears whole and never in place of another is as true as the driver's
    ``pipe_file(mode="create")``: true of S3, GCS, Azure and memory, not of drivers that inherit it
    (SFTP, FTP). :class:`MissingDependencyError` at the first operation means that the driver is
    not installed.

    Args:
        uri: For example ``s3://bucket/folder``.
        storage_options: What the driver takes; never shown in a message.
        sleep: Called with the seconds of each pause.
    """

    def __init__(
        self,
        uri: str,
        *,
        storage_options: Mapping[str, Any] | None = None,
        max_workers: int = MAX_WORKERS,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        protocol, rest = split_uri(uri)
        if protocol in _LOCAL_PROTOCOLS:
            raise ValidationError(f"payload store URI: {uri!r} is local, open a LocalPayloadStore")
        _require_known(protocol)
        super().__init__(f"{protocol}://{rest.rstrip('/')}", max_workers=max_workers)
        self._protocol = protocol
        self._storage_options = {} if storage_options is None else dict(storage_options)
        self._sleep = sleep
        # By process: connections and event loops don't survive a fork.
        self._connections: dict[int, tuple[Any, str]] = {}

    def write(self, path: str, content: bytes) -> None:
        is_first = True

        def create() -> None:
            nonlocal is_first
            was_first, is_first = is_first, False
            system, location = self._locate(path)
            try:
                with self._exclusion():
                    system.pipe_file(location, content, mode="create")
            except FileExistsError:
                # An attempt whose answer was lost may have created the object all the same.
                if was_first or system.cat_file(location) != content:
                    raise

        self._run("write", path, create)

    def read(self, path: str) -> bytes:
        def fetch() -> bytes:
            system, location = self._locate(path)
            return bytes(system.cat_file(location))

        return self._run("read", path, fetch)

    def delete(self, path: str) -> None:
        def remove() -> None:
            system, location = self._locate(path)
            # Not rm(): it expands patterns and looks before it deletes.
            with suppress(FileNotFoundError):
                system.rm_file(location)

        self._run("delete", path, remove)

    def list(self, prefix: str) -> Iterator[PayloadObject]:
        self.require_open()
        return self._walk(validate_path(prefix))

    def close(self) -> None:
        super().close()
        self._connections.clear()

    def _walk(self, prefix: str) -> Iterator[PayloadObject]:
        pending = [prefix]
        while pending:
            # Directory by directory: find() would hold the whole listing.
            here = pending.pop()

            def list_here(here: str = here) -> tuple[Paths, Objects]:
                return _list_directory(*self._locate(here), here)

            directories, objects = self._run("list", here, list_here)
            pending.extend(directories)
            yield from objects

    def _locate(self, path: str) -> tuple[Any, str]:
        """Return the file system of this process and where on it *path* lies."""
        validate_path(path)
        process = os.getpid()
        connection = self._connections.get(process)
        if connection is None:
            # No lock, as a forked child would inherit it locked. The loser of a race goes unused.
            connection = self._connections.setdefault(process, self._connect())
        system, base = connection
        return system, f"{base}/{path}"

    def _connect(self) -> tuple[Any, str]:
        from fsspec.core import url_to_fs
        from fsspec.registry import get_filesystem_class

        try:
            get_filesystem_class(self._protocol)
        except (ImportError, ValueError) as error:  # ValueError: only the driver registers it
            if self._protocol in _DRIVERS:
                raise MissingDependencyError(*_DRIVERS[self._protocol]) from error
            raise ValidationError(
                f"payload store URI: the driver of {self._protocol!r} can't be imported: {error}"
            ) from error
        options = {"skip_instance_cache": True}
        if self._protocol in _DRIVERS:  # others may pass what they don't know on to their client
            options["use_listings_cache"] = False
        system, base = url_to_fs(self.root, **(options | self._storage_options))
        return system, base.rstrip("/")

    def _exclusion(self) -> AbstractContextManager[object]:
        # fsspec's memory file system looks for the name and then takes it, so two threads could
        # both create an object. Object stores leave the decision to their server.
        if self._protocol != "memory":
            return nullcontext()
        return _memory_locks.setdefault(os.getpid(), threading.Lock())

    def _run(self, action: str, path: str, call: Callable[[], _T]) -> _T:
        """Return what *call* returns, after retries of transient errors.

        Raises:
            PayloadNotFoundError: *action* is ``read`` and there is nothing to read.
            PayloadError: Whatever else the driver raised.
        """
        self.require_open()
        try:
            try:
                return call()
            except OSError as error:
                if not _is_transient(error):
                    raise
                return self._retry(call, error)
        except LTMError:
            raise
        except Exception as error:  # drivers have exceptions of their own, without a common root
            raise self._translate(action, path, error) from error

    def _retry(self, call: Callable[[], _T], error: OSError) -> _T:
        """Return what *call* returns in one of the attempts left after one that raised *error*."""
        from tenacity import (
            Retrying,
            retry_if_exception,
            stop_after_attempt,
            wait_random_exponential,
        )

        failures = [error]

        def attempt() -> _T:
            if failures:  # the attempt already made, so that it counts and a pause follows it
                raise failures.pop()
            return call()

        return Retrying(
            stop=stop_after_attempt(_ATTEMPTS),
            wait=wait_random_exponential(multiplier=0.5, max=10),
            retry=retry_if_exception(_is_transient),
            sleep=self._sleep,
            reraise=True,
        )(attempt)

    def _translate(self, action: str, path: str, error: Exception) -> PayloadError:
        if isinstance(error, FileNotFoundError) and action == "read":
            message = self.failure_message(action, path, "there is no such object")
            return PayloadNotFoundError(message)
        if isinstance(error, FileExistsError):
            reason = "the name is taken"
        else:
            reason = mask_credentials(f"{type(error).__name__}: {error}")
            for secret in _secrets(self._storage_options):
                reason = reason.replace(secret, "***")
        return PayloadError(self.failure_message(action, path, reason))


def _require_known(protocol: str) -> None:
    if protocol == "memory" or protocol in _DRIVERS:
        return
    from fsspec.registry import known_implementations, registry

    if protocol not in registry and protocol not in known_implementations:
        raise ValidationError(f"payload store URI: no driver is known for {protocol!r}")


def _is_transient(error: BaseException) -> bool:
    return (
        isinstance(error, OSError)
        and not isinstance(error, _LASTING_ERRORS)
        and error.errno not in _LASTING_NUMBERS
    )


def _list_directory(system: Any, location: str, directory: str) -> tuple[Paths, Objects]:
    """Return the directories and the objects directly in *directory*, which is at *location*."""
    system.invalidate_cache(location)
    try:
        members = system.ls(location, detail=True)
    except FileNotFoundError:
        return [], []
    directories: Paths = []
    objects: Objects = []
    for member in members:
        parent, _, name = member["name"].strip("/").rpartition("/")
        if parent != location.strip("/"):
            continue  # the directory's own marker, or the object that *directory* is
        path = f"{directory}/{name}"
        if member["type"] == "directory":
            directories.append(path)
        elif member["type"] == "file":
            objects.append(PayloadObject(path, member["size"], _modified_at(system, member)))
    return directories, objects


def _modified_at(system: Any, member: Mapping[str, Any]) -> datetime:
    known = (member[name] for name in _TIMES if member.get(name) is not None)
    instant = next(known, None)
    if instant is None:
        instant = system.modified(member["name"])
    if not isinstance(instant, datetime):
        return datetime.fromtimestamp(instant, UTC)
    return instant.replace(tzinfo=UTC) if instant.tzinfo is None else instant.astimezone(UTC)


def _secrets(options: Mapping[str, Any]) -> Iterator[str]:
    for name, value in options.items():
        if isinstance(value, Mapping):
            yield from _secrets(value)
        elif isinstance(value, str) and value and _SECRET_OPTION.search(str(name)):
            yield value
