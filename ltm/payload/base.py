"""What a payload store promises, and how its objects are named.

An object is written once under a name that is never used again, read whole, and deleted. A store
knows nothing of entries: the catalog says which objects count.
"""

from __future__ import annotations

import os
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence

from ltm.errors import ClosedError, PayloadError, ValidationError
from ltm.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor
    from typing import TypeVar

    from ltm.payload.objects import ByteRange, PayloadObject

    _T = TypeVar("_T")
    _R = TypeVar("_R")
    _Results = list[_R]  # as below

MAX_WORKERS = 16

LOCAL_PROTOCOLS = ("", "file", "local")

DEFAULT_TIMEOUT = 120.0
"""Seconds that a remote store may take over one object: 50 MiB at 3.5 Mbit/s."""

# A class that has a method `list` can't name the type in its signatures.
Outcomes = list[PayloadError | None]
"""For each item in order: None where it was done, else why not."""

Contents = list[bytes | PayloadError]
"""For each path in order: the bytes of the object, or why they could not be read."""

_HEX_16 = "[0-9a-f]{16}"
_OBJECT_NAME = rf"([0-9a-f]{{2}})/\1[0-9a-f]{{62}}(-{_HEX_16}){{2}}(\.[a-z0-9]+)+"
_TEMPORARY_NAME = rf"(.*/)?\.([^/]+)\.{_HEX_16}\.tmp"


class PayloadStore(ABC):
    """Immutable objects under one root, addressed by relative paths with ``/`` between segments.

    Threads share a store. A process forked off one that used it may go on using it. Every verb
    raises :class:`ClosedError` after :meth:`close`, and :class:`PayloadError` for a path that
    :func:`validate_path` refuses.

    Args:
        root: The absolute address under which all objects lie, without a slash at the end.
        max_workers: At most so many objects of all batches are under way at once; 1 or more.
    """

    directory: str | None = None
    """The local directory in which payloads are; None where they are elsewhere."""
    keeps_rows: bool = False
    """Whether payloads are rows of a database already, so that a file format is of no use."""

    def __init__(self, root: str, *, max_workers: int = MAX_WORKERS) -> None:
        if isinstance(max_workers, bool) or not isinstance(max_workers, int) or max_workers < 1:
            raise ValidationError(f"max_workers: expected an int of 1 or more, got {max_workers!r}")
        self.root = root
        self.max_workers = max_workers
        self._is_closed = False
        self._executors: dict[int, ThreadPoolExecutor] = {}

    def __repr__(self) -> str:
        return f"{type(self).__name__}({mask_credentials(self.root)!r})"

    @property
    def protocol(self) -> str:
        """What the root begins with, such as ``s3``; ``file`` for a local path."""
        protocol, separator, _ = self.root.partition("://")
        return protocol if separator and "/" not in protocol else "file"

    def uri(self, path: str) -> str:
        """Return the full address of the object at *path*.

        Under a root that is a plain path it is one too, so ``open()`` takes it.
        """
        separator = "" if self.root.endswith("/") else "/"
        return self.root + separator + validate_path(path)

    @abstractmethod
    def write(self, path: str, content: bytes) -> None:
        """Create the object at *path*; once this returns, it survives a crash of the machine.

        Nobody ever sees part of it: the object appears whole or not at all.

        Raises:
            PayloadError: The store failed, or *path* is taken; what lies there is as it was.
        """

    @abstractmethod
    def read(self, path: str) -> bytes:
        """Return the bytes of the object at *path*.

        Raises:
            PayloadNotFoundError: There is no such object.
            PayloadError: The store failed; whether the object is there is not known.
        """

    def read_range(self, path: str, start: int, length: int) -> bytes:
        """Return *length* bytes of the object at *path* from *start* on, fewer where it ends.

        Raises:
            PayloadNotFoundError: There is no such object.
            PayloadError: The store failed, or refuses a range that lies beyond the object.
        """
        return self.read(path)[start : start + length]

    @abstractmethod
    def delete(self, path: str) -> None:
        """Delete the object at *path*; where there is none, do nothing.

        Raises:
            PayloadError: The store failed; the object may still be there.
        """

    @abstractmethod
    def list(self, prefix: str) -> Iterator[PayloadObject]:
        """Return an iterator over the objects whose path begins with *prefix* and a slash.

        The order is not defined. Objects come as the store lists them, one directory held in memory
        at most. What is written or deleted meanwhile may be there or not. Files that a killed
        writer left behind are objects too. Symbolic links are neither shown nor followed.

        Raises:
            PayloadError: The store failed; raised by the iterator, too.
        """

    def write_many(self, items: Sequence[tuple[str, bytes]]) -> Outcomes:
        """Write each path and content of *items* in parallel; the outcomes are in their order."""

        def write(item: tuple[str, bytes]) -> PayloadError | None:
            try:
                self.write(*item)
            except PayloadError as error:
                return error
            return None

        return self._in_parallel(write, items)

    def read_many(self, paths: Sequence[str]) -> Contents:
        """Read the objects at *paths* in parallel; the contents are in their order."""

        def read(path: str) -> bytes | PayloadError:
            try:
                return self.read(path)
            except PayloadError as error:
                return error

        return self._in_parallel(read, paths)

    def read_ranges(self, ranges: Sequence[ByteRange]) -> Contents:
        """Read objects and parts of objects in parallel; the contents are in their order."""
        if all(each.length is None for each in ranges):
            return self.read_many([each.path for each in ranges])

        def read(each: ByteRange) -> bytes | PayloadError:
            try:
                if each.length is None:
                    return self.read(each.path)
                return self.read_range(each.path, each.start, each.length)
            except PayloadError as error:
                return error

        return self._in_parallel(read, ranges)

    def delete_many(self, paths: Sequence[str]) -> Outcomes:
        """Delete the objects at *paths* in parallel; the outcomes are in their order."""

        def delete(path: str) -> PayloadError | None:
            try:
                self.delete(path)
            except PayloadError as error:
                return error
            return None

        return self._in_parallel(delete, paths)

    @property
    def circuit(self) -> str | None:
        """``closed``, ``open`` or ``half_open``; None for a store without a circuit breaker.

        While it is open, every call fails at once. Half open, it lets one call through at a time.
        """
        return None

    def end_pause(self) -> None:  # noqa: B027 most stores have no circuit breaker
        """Let the next call through although the circuit is open; it decides how to go on."""

    def close(self) -> None:
        """End the threads of this process, after the batches under way; idempotent."""
        self._is_closed = True
        executor = self._executors.pop(os.getpid(), None)
        if executor is not None:
            executor.shutdown()

    def require_open(self) -> None:
        """Do nothing, unless the store is closed.

        Raises:
            ClosedError: It is.
        """
        if self._is_closed:
            raise ClosedError(f"payload store {mask_credentials(self.root)!r} is closed")

    def failure_message(self, action: str, path: str, reason: str) -> str:
        """Return the message of an error: which store could not do what to which path, and why."""
        return f"payload store {mask_credentials(self.root)!r}: cannot {action} {path!r}: {reason}"

    def _in_parallel(self, call: Callable[[_T], _R], arguments: Sequence[_T]) -> _Results[_R]:
        self.require_open()
        if len(arguments) < 2 or self.max_workers == 1:
            return [call(argument) for argument in arguments]
        from contextvars import copy_context

        # Whoever traces the driver sees in its threads what this call is a part of.
        context = copy_context()
        try:
            return [*self._executor().map(lambda each: context.copy().run(call, each), arguments)]
        except RuntimeError:
            self.require_open()  # another thread closed the store, and with it the executor
            raise

    def _executor(self) -> ThreadPoolExecutor:
        # Threads don't survive a fork, so a child must not wait for those of its parent. No lock
        # guards this: the child would inherit it as another thread of the parent held it. An
        # executor that lost the race has no threads yet.
        process = os.getpid()
        executor = self._executors.get(process)
        if executor is None:
            from concurrent.futures import ThreadPoolExecutor

            executor = self._executors.setdefault(
                process, ThreadPoolExecutor(self.max_workers, "ltm-payload")
            )
        return executor


def payload_path(storage_prefix: str, entry_id: str, content_hash: str, extension: str) -> str:
    """Return a path that no object has or had: 64 random bits tell it from all others.

    It is ``<storage_prefix>/<id[:2]>/<id>-<first 16 digits of the hash>-<random>.<extension>``.

    Raises:
        ValidationError: :func:`is_payload_path` would not know the result again.
    """
    hash_digits = content_hash.removeprefix("sha256:")[:16]
    name = f"{entry_id}-{hash_digits}-{os.urandom(8).hex()}.{extension}"
    path = f"{storage_prefix}/{entry_id[:2]}/{name}"
    if not is_payload_path(path, storage_prefix):
        raise ValidationError(f"payload path: {path!r} is not well formed")
    return path


def is_payload_path(path: str, storage_prefix: str) -> bool:
    """Say whether *path* is one that :func:`payload_path` makes for *storage_prefix*."""
    if not path.startswith(f"{storage_prefix}/") or _path_fault(path) is not None:
        return False
    return re.fullmatch(_OBJECT_NAME, path[len(storage_prefix) + 1 :]) is not None


def temporary_path(path: str) -> str:
    """Return a fresh path beside *path*, for its content until it is complete."""
    directory, slash, name = path.rpartition("/")
    return f"{directory}{slash}.{name}.{os.urandom(8).hex()}.tmp"


def is_temporary_path(path: str, storage_prefix: str) -> bool:
    """Say whether *path* is what a killed writer of a payload of *storage_prefix* leaves behind."""
    match = re.fullmatch(_TEMPORARY_NAME, path)
    return match is not None and is_payload_path(f"{match[1] or ''}{match[2]}", storage_prefix)


def validate_path(path: str) -> str:
    """Return *path* if it stays under any root.

    Raises:
        PayloadError: It is empty, absolute, or holds an empty segment, ``.``, ``..``, a backslash,
            NUL or a lone surrogate. Paths come from catalog rows, and a damaged row must not reach
            outside the root.
    """
    fault = _path_fault(path)
    if fault is not None:
        raise PayloadError(f"payload path {path!r}: {fault}")
    return path


def validate_timeout(timeout: object) -> float:
    """Return *timeout* if it is a number of seconds above 0, of at most a year.

    Raises:
        ValidationError: It isn't.
    """
    if isinstance(timeout, bool) or not isinstance(timeout, int | float):
        raise ValidationError(f"timeout: expected seconds, got {type(timeout).__name__}")
    if not 0 < timeout <= 31_536_000:
        raise ValidationError(f"timeout: expected seconds above 0 up to a year, got {timeout!r}")
    return timeout


def split_uri(uri: str | os.PathLike[str]) -> tuple[str, str]:
    """Return the protocol of *uri* in lower case, ``""`` for a plain path, and what follows it.

    Raises:
        ValidationError: Empty, with NUL in it, or a chain of protocols (``simplecache::s3://``).
    """
    text = os.fspath(uri)
    if not isinstance(text, str) or not text or "\0" in text:
        raise ValidationError(f"payload store URI: expected a path or a URL, got {text!r}")
    protocol, separator, rest = text.partition("://")
    if not separator or "/" in protocol:
        return "", text
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9+.-]*", protocol):
        raise ValidationError(
            f"payload store URI: {mask_credentials(text)!r} does not begin with one protocol"
        )
    return protocol.lower(), rest


def mask_credentials(text: str) -> str:
    """Return *text* with ``***`` for what stands before the host of each URL in it."""
    return re.sub(r"://[^/\s]*@", "://***@", text)


def _path_fault(path: object) -> str | None:
    if not isinstance(path, str):
        return f"expected str, got {type(path).__name__}"
    if "\0" in path or "\\" in path:
        return "holds NUL or a backslash"
    if not path.isascii():
        try:
            path.encode()
        except UnicodeEncodeError:
            return "holds a lone surrogate"
    if any(segment in ("", ".", "..") for segment in path.split("/")):
        return "expected a relative path without empty segments, '.' and '..'"
    return None
