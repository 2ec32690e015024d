"""A payload store on any file system that fsspec has a driver for.

fsspec, its drivers and tenacity are imported when an operation needs them.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext, suppress
from typing import Any, TypeVar

from ltm.errors import LTMError, PayloadError, PayloadNotFoundError, ValidationError
from ltm.payload.base import (
    DEFAULT_TIMEOUT,
    LOCAL_PROTOCOLS,
    MAX_WORKERS,
    PayloadStore,
    split_uri,
    validate_path,
    validate_timeout,
)
from ltm.payload.breaker import CircuitBreaker, CircuitState, MonotonicClock
from ltm.payload.deadline import Deadline
from ltm.payload.drivers import Connection, connect, disconnect, require_known
from ltm.payload.failures import (
    BucketMissingError,
    is_bucket_missing,
    is_name_taken,
    mask,
    meaning_of,
    presentable,
    secrets_in,
)
from ltm.payload.listing import split_members
from ltm.payload.objects import PayloadObject

_T = TypeVar("_T")

Paths = list[str]
Objects = list[PayloadObject]

_ATTEMPTS = 4
_CLOSING_SECONDS = 5.0

# By process: a forked child could inherit a lock that nobody will release.
_memory_locks: dict[int, threading.Lock] = {}


class FsspecPayloadStore(PayloadStore):
    """Payloads on a file system of fsspec, one request for each verb and object.

    What may pass is tried four times, with a random and exponentially growing pause between, and
    given up at a deadline. An object whose write was given up is not there, or is there whole, as
    nobody's payload: garbage collection finds it. The unseen parts of an upload in parts, from
    100 MiB on S3 and 50 MiB on GCS, stay until the service or a rule of the bucket removes them.

    After three calls in a row that failed so, a circuit breaker opens: for 15 seconds every call
    fails at once, then one is let through and decides. A process has one for each store.

    That an object appears whole and never in place of another is as true as the driver's
    ``pipe_file(mode="create")``: true of S3, GCS, Azure and memory, not of drivers that inherit it
    (SFTP, FTP). :class:`MissingDependencyError` at the first operation means that the driver is
    not installed.

    Args:
        uri: For example ``s3://bucket/folder``.
        storage_options: What the driver takes; never shown in a message.
        timeout: Seconds that a call on one object may take, and one on each directory of a listing.
        sleep: Called with the seconds of each pause.
        clock: Tells seconds for the deadline and the circuit breaker.
    """

    def __init__(
        self,
        uri: str,
        *,
        storage_options: Mapping[str, Any] | None = None,
        max_workers: int = MAX_WORKERS,
        timeout: float = DEFAULT_TIMEOUT,
        sleep: Callable[[float], None] = time.sleep,
        clock: MonotonicClock = time.monotonic,
    ) -> None:
        protocol, rest = split_uri(uri)
        if protocol in LOCAL_PROTOCOLS:
            raise ValidationError(f"payload store URI: {uri!r} is local, open a LocalPayloadStore")
        require_known(protocol)
        super().__init__(f"{protocol}://{rest.rstrip('/')}", max_workers=max_workers)
        self.timeout = validate_timeout(timeout)
        self._protocol = protocol
        self._storage_options = {} if storage_options is None else dict(storage_options)
        self._secrets = secrets_in(self._storage_options)
        self._sleep = sleep
        self._clock = clock
        # By process: connections, event loops and locks don't survive a fork.
        self._connections: dict[int, Connection] = {}
        self._breakers: dict[int, CircuitBreaker] = {}
        self._locks: dict[int, threading.Lock] = {}

    @property
    def circuit(self) -> CircuitState:
        return self._breaker().state

    def end_pause(self) -> None:
        self._breaker().end_pause()

    def write(self, path: str, content: bytes) -> None:
        is_first = True

        def create(deadline: Deadline) -> None:
            nonlocal is_first
            was_first, is_first = is_first, False
            connection, location = self._locate(path, deadline)
            with self._exclusion():
                taken = self._create(connection, location, content, deadline)
            if taken is None:
                return
            # An attempt whose answer was lost may have created the object all the same. The path
            # is nobody else's, so equal bytes are ours.
            was_only = was_first and not connection.repeats
            # As bytes: what is large may be given as a mapped file, which equals none.
            if was_only or self._ask(connection, deadline, "cat_file", location) != bytes(content):
                raise taken

        self._run("write", path, create)

    def read(self, path: str) -> bytes:
        return self._read(path)

    def read_range(self, path: str, start: int, length: int) -> bytes:
        # No range is empty, and a driver may take it for the whole object.
        return self._read(path, start=start, end=start + length) if length else b""

    def _read(self, path: str, **extent: int) -> bytes:
        def fetch(deadline: Deadline) -> bytes:
            connection, location = self._locate(path, deadline)
            try:
                return bytes(self._ask(connection, deadline, "cat_file", location, **extent))
            except FileNotFoundError as error:
                missing = error
            self._require_bucket(connection, missing, deadline)
            message = self.failure_message("read", path, "there is no such object")
            raise PayloadNotFoundError(message) from presentable(missing, self._secrets)

        return self._run("read", path, fetch)

    def delete(self, path: str) -> None:
        def remove(deadline: Deadline) -> None:
            connection, location = self._locate(path, deadline)
            try:
                # Not rm(): it expands patterns and looks before it deletes.
                self._ask(connection, deadline, "rm_file", location)
                return
            except FileNotFoundError as error:
                missing = error
            self._require_bucket(connection, missing, deadline)

        self._run("delete", path, remove)

    def list(self, prefix: str) -> Iterator[PayloadObject]:
        self.require_open()
        return self._walk(validate_path(prefix))

    def close(self) -> None:
        super().close()
        connection = self._connections.pop(os.getpid(), None)
        if connection is not None and self._protocol != "memory":
            with suppress(TimeoutError, RuntimeError):  # RuntimeError: too late for a new thread
                Deadline(_CLOSING_SECONDS, self._clock).bound(lambda: disconnect(connection))

    def _walk(self, prefix: str) -> Iterator[PayloadObject]:
        pending = [prefix]
        while pending:
            # Directory by directory: find() would hold the whole listing.
            here = pending.pop()

            def list_here(deadline: Deadline, here: str = here) -> tuple[Paths, Objects]:
                return self._list_directory(here, deadline)

            directories, objects = self._run("list", here, list_here)
            pending.extend(directories)
            yield from objects

    def _list_directory(self, directory: str, deadline: Deadline) -> tuple[Paths, Objects]:
        connection, location = self._locate(directory, deadline)
        connection.system.invalidate_cache(location)
        try:
            members = self._ask(connection, deadline, "ls", location, detail=True)
        except FileNotFoundError as error:
            missing = error
        else:

            def modified(name: str) -> Any:
                return self._ask(connection, deadline, "modified", name)

            return split_members(members, location, directory, modified)
        self._require_bucket(connection, missing, deadline)
        return [], []

    def _create(
        self, connection: Connection, location: str, content: bytes, deadline: Deadline
    ) -> Exception | None:
        """Create the object; where the name is taken, return the exception that said so."""
        try:
            self._ask(connection, deadline, "pipe_file", location, content, mode="create")
        except Exception as error:  # each driver says in its own way that the name is taken
            if not is_name_taken(error):
                raise
            return error
        return None

    def _require_bucket(
        self, connection: Connection, missing: FileNotFoundError, deadline: Deadline
    ) -> None:
        """Do nothing if *missing* is about the object, and raise if its whole bucket is missing."""
        if is_bucket_missing(missing):
            raise missing
        if connection.hides_buckets:
            bucket = connection.base.partition("/")[0]
            try:
                self._ask(connection, deadline, "ls", bucket, max_results=1)
            except FileNotFoundError as error:
                raise BucketMissingError(bucket) from error
            except Exception as error:  # drivers' exceptions have no common root
                # Who may not list may read and write all the same.
                if meaning_of(error) == "transient":
                    raise

    def _ask(
        self, connection: Connection, deadline: Deadline, verb: str, *arguments: Any, **options: Any
    ) -> Any:
        if self._protocol == "memory":
            return getattr(connection.system, verb)(*arguments, **options)
        return deadline.ask(connection.system, verb, *arguments, **options)

    def _locate(self, path: str, deadline: Deadline) -> tuple[Connection, str]:
        """Return the connection of this process and where on its file system *path* lies."""
        process = os.getpid()
        if process not in self._connections:
            lock = self._locks.setdefault(process, threading.Lock())
            if not lock.acquire(timeout=deadline.seconds_left):
                raise TimeoutError
            try:
                if process not in self._connections:
                    self._connections[process] = self._connect_within(deadline)
            finally:
                lock.release()
        connection = self._connections[process]
        return connection, f"{connection.base}/{path}"

    def _connect_within(self, deadline: Deadline) -> Connection:
        if self._protocol == "memory":
            return self._connect()
        return deadline.bound(self._connect)  # drivers may look for credentials over the network

    def _connect(self) -> Connection:
        return connect(
            self.root,
            self._protocol,
            self._storage_options,
            timeout=self.timeout,
            max_workers=self.max_workers,
        )

    def _exclusion(self) -> AbstractContextManager[object]:
        # fsspec's memory file system looks for the name and then takes it, so two threads could
        # both create an object. Object stores leave the decision to their server.
        if self._protocol != "memory":
            return nullcontext()
        return _memory_locks.setdefault(os.getpid(), threading.Lock())

    def _breaker(self) -> CircuitBreaker:
        process = os.getpid()
        breaker = self._breakers.get(process)
        if breaker is None:
            breaker = self._breakers.setdefault(process, CircuitBreaker(self._clock))
        return breaker

    def _run(self, action: str, path: str, call: Callable[[Deadline], _T]) -> _T:
        """Return what *call* returns, after retries of what may pass.

        Raises:
            PayloadNotFoundError: From *call*.
            PayloadError: The circuit is open, or whatever the driver raised.
        """
        self.require_open()
        validate_path(path)
        breaker = self._breaker()
        if not breaker.admit():
            raise PayloadError(self.failure_message(action, path, _describe_pause(breaker)))
        record = breaker.withdraw
        deadline = Deadline(self.timeout, self._clock)
        try:
            answer = self._persist(call, deadline, breaker)
            record = breaker.succeed
            return answer
        except PayloadNotFoundError:
            record = breaker.succeed
            raise
        except LTMError:
            raise
        except Exception as error:  # noqa: BLE001 drivers' exceptions have no common root
            failure = error
            meaning = meaning_of(error)
            if meaning != "unknown":
                record = breaker.fail if meaning == "transient" else breaker.succeed
        finally:
            record()
        # Out here, so that an exception that tells a secret isn't the context of this one.
        message = self.failure_message(action, path, self._reason(failure, deadline))
        raise PayloadError(message) from presentable(failure, self._secrets)

    def _persist(
        self, call: Callable[[Deadline], _T], deadline: Deadline, breaker: CircuitBreaker
    ) -> _T:
        """Return what *call* returns in one of four attempts, as long as there is time."""
        try:
            return call(deadline)
        except LTMError:
            raise
        except Exception as error:  # as above
            if meaning_of(error) != "transient":
                raise
            failures = [error]
        from tenacity import (
            RetryCallState,
            Retrying,
            retry_if_exception,
            stop_after_attempt,
            wait_random_exponential,
        )

        def attempt() -> _T:
            if failures:  # the attempt already made, so that it counts and a pause follows it
                raise failures.pop()
            return call(deadline)

        enough = stop_after_attempt(_ATTEMPTS)

        def is_over(state: RetryCallState) -> bool:
            is_late = state.upcoming_sleep >= deadline.seconds_left
            return enough(state) or is_late or breaker.state == "open"

        return Retrying(
            stop=is_over,
            wait=wait_random_exponential(multiplier=0.5, max=10),
            retry=retry_if_exception(lambda error: meaning_of(error) == "transient"),
            sleep=self._sleep,
            reraise=True,
        )(attempt)

    def _reason(self, error: Exception, deadline: Deadline) -> str:
        if is_name_taken(error):
            return "the name is taken"
        if is_bucket_missing(error):
            return "there is no such bucket or container"
        if isinstance(error, TimeoutError) and not deadline.seconds_left:
            return f"not done within {self.timeout:g} seconds"
        return mask(f"{type(error).__name__}: {error}", self._secrets)


def _describe_pause(breaker: CircuitBreaker) -> str:
    """Return why *breaker* refuses a call, and when it will not."""
    seconds = breaker.seconds_left
    until = f"in {seconds:.1f} seconds" if seconds else "when the one under way has ended"
    return f"the circuit is open after calls that failed in a row, the next attempt is {until}"
