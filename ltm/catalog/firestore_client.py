"""Requests to one Firestore database: each has a deadline, and each failure a meaning.

Nothing of Google's is imported before the first request.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from ltm import telemetry
from ltm.catalog.document_queries import Found, Query
from ltm.catalog.documents import Fields, Writes
from ltm.catalog.firestore_access import (
    Access,
    ContentionError,
    Place,
    SharedClient,
    UnreachableError,
    given_access,
    share_client,
    translate,
)
from ltm.errors import CatalogUnavailableError, ClosedError
from ltm.fork_gate import forks_wait

if TYPE_CHECKING:
    from tenacity import AttemptManager

DEADLINE_SECONDS = 15.0

CONTENTION_SECONDS = 75.0
"""For how long a transaction is tried anew while others get in its way: the locks of a client that
died stay for 60."""

ROLLBACK_SECONDS = 2.0

_ATTEMPTS = 4
"""Of a request that changes nothing, while the server can't be reached."""

_T = TypeVar("_T")


def while_contended() -> Iterator[AttemptManager]:
    """Return attempts at a transaction, until none gets in its way or its time is over."""
    from tenacity import (
        Retrying,
        retry_if_exception_type,
        stop_after_delay,
        wait_random_exponential,
    )

    return iter(
        Retrying(
            retry=retry_if_exception_type(ContentionError),
            wait=wait_random_exponential(0.02, max=2),
            stop=stop_after_delay(CONTENTION_SECONDS),
            reraise=True,
        )
    )


class Answer(NamedTuple):
    """The documents that one request has read."""

    documents: dict[str, Found]
    """By path; what is not there is absent."""
    read_time: Any
    """The instant of which they all are."""


class FirestoreClient:
    """The requests that catalogs make of one Firestore database; safe to share by threads."""

    def __init__(
        self, place: Place, *, client: Any = None, deadline: float = DEADLINE_SECONDS
    ) -> None:
        """Name the database; nothing is opened.

        Args:
            place: The database.
            client: A ``google.cloud.firestore.Client`` to use instead; it is left open.
            deadline: Seconds for one request with its repetitions.
        """
        self._place = place
        self._given = client
        self._deadline = deadline
        self._shared: SharedClient | None = None
        self._is_closed = False

    @property
    def is_given(self) -> bool:
        """Whether Google's client was handed in."""
        return self._given is not None

    @property
    def where(self) -> str:
        """The database, for messages."""
        if self._given is not None:
            return f"firestore://{self._given.project}"
        return f"firestore://{self._place.project or ''}/{self._place.database}"

    def begin(self) -> bytes:
        """Return the id of a new transaction.

        Not begun by its first read, though that would spare a request: if the answer to that is
        lost, nobody can end the transaction, and what it has read stays locked for a minute.
        """

        def begin(call: _Call) -> bytes:
            request = call.messages.begin_request(call.database)
            return bytes(call.send("begin_transaction", request).transaction)

        return self._repeatedly(begin)

    def get(
        self, paths: Sequence[str], *, transaction: bytes = b"", read_time: Any = None
    ) -> Answer:
        """Return the documents at *paths*, of which there is at least one.

        Args:
            paths: Of documents.
            transaction: The transaction to read in; it locks what it reads until it ends.
            read_time: Or the instant to read as of.
        """

        def get(call: _Call) -> Answer:
            request = call.messages.get_request(
                call.database, paths, transaction=transaction, read_time=read_time
            )
            root = call.messages.document_root(call.database)
            documents, instant = {}, None
            for message in call.stream("batch_get_documents", request):
                if message.HasField("read_time"):
                    instant = message.read_time
                if message.HasField("found"):
                    found = call.messages.read_document(root, message.found)
                    documents[found.path] = found
            return Answer(documents, instant)

        return self._repeatedly(get)

    def run(self, query: Query, *, transaction: bytes = b"", read_time: Any = None) -> list[Found]:
        """Return the documents that *query* selects, in its order."""

        def run(call: _Call) -> list[Found]:
            request = call.messages.query_request(
                call.database, query, transaction=transaction, read_time=read_time
            )
            root = call.messages.document_root(call.database)
            return [
                call.messages.read_document(root, message.document)
                for message in call.stream("run_query", request)
                if message.HasField("document")
            ]

        return self._repeatedly(run)

    def total(
        self, query: Query, field: str, *, transaction: bytes = b"", read_time: Any = None
    ) -> tuple[int, int]:
        """Return how many documents *query* selects, and the sum of their *field*."""

        def total(call: _Call) -> tuple[int, int]:
            request = call.messages.total_request(
                call.database, query, field, transaction=transaction, read_time=read_time
            )
            for message in call.stream("run_aggregation_query", request):
                if message.HasField("result"):
                    found = message.result.aggregate_fields
                    return found["count"].integer_value, found["sum"].integer_value
            raise CatalogUnavailableError(f"catalog {self.where}: a count was not answered")

        return self._repeatedly(total)

    def commit(self, writes: Writes, *, transaction: bytes = b"") -> None:
        """Write whole documents and delete others, all or nothing; ends *transaction*.

        Raises:
            ContentionError: Another transaction got in the way; nothing is written.
            CatalogUnavailableError: It failed; the message says so where that is not known.
        """
        with self._calling(is_commit=True) as call:
            request = call.messages.commit_request(call.database, writes, transaction=transaction)
            call.send("commit", request)

    def replace(self, path: str, fields: Fields, seen: Found | None) -> bool:
        """Write one whole document, in no transaction, and return whether it was written.

        It is not if the document is another than it was *seen*; None for one that was not there.
        """
        from google.api_core.exceptions import Aborted, AlreadyExists, FailedPrecondition, NotFound

        with self._calling(is_commit=True) as call:
            request = call.messages.replace_request(call.database, path, fields, seen)
            try:
                call.send("commit", request)
            except (Aborted, AlreadyExists, FailedPrecondition, NotFound):
                return False
        return True

    def encode_commit(self, writes: Writes) -> bytes:
        """Return the *writes* of a :meth:`commit` to be carried out later."""
        with self._calling() as call:
            request = call.messages.commit_request(call.database, writes)
            return bytes(type(request).serialize(request))

    def commit_encoded(self, content: bytes, *, transaction: bytes) -> None:
        """Carry out what :meth:`encode_commit` returned, all or nothing; ends *transaction*."""
        with self._calling(is_commit=True) as call:
            call.send("commit", call.messages.decode_commit(content, transaction))

    def roll_back(self, transaction: bytes) -> None:
        """End *transaction* without its writes, and so free what it has locked; best effort.

        Failing that, the server ends it when it has been idle for a minute.
        """

        def roll_back(call: _Call) -> None:
            call.send("rollback", call.messages.rollback_request(call.database, transaction))

        with suppress(CatalogUnavailableError):
            self._repeatedly(roll_back, min(self._deadline, ROLLBACK_SECONDS))

    def close(self) -> None:
        """Give the client up; idempotent."""
        self._is_closed = True
        if self._shared is not None:
            self._shared.release(self)
            self._shared = None

    def _repeatedly(self, request: Callable[[_Call], _T], seconds: float | None = None) -> _T:
        """Return what a *request* answers, sent again where that may help and can't harm."""
        end = time.monotonic() + (self._deadline if seconds is None else seconds)
        attempt = 1
        while True:
            try:
                with self._calling(end) as call:
                    return request(call)
            except UnreachableError:
                pause = 0.02 * 4**attempt
                if attempt == _ATTEMPTS or time.monotonic() + pause > end:
                    raise
                attempt += 1
                time.sleep(pause)

    @contextmanager
    def _calling(self, end: float | None = None, *, is_commit: bool = False) -> Iterator[_Call]:
        """Give what a request is made with, and raise what its failure means."""
        if self._is_closed:
            raise ClosedError(f"catalog {self.where}: is closed")
        with forks_wait():
            access = self._access()
            from ltm.catalog import firestore_messages

            seconds = self._deadline if end is None else max(end - time.monotonic(), 0.05)
            with self._translating(is_commit=is_commit):
                yield _Call(access, firestore_messages, seconds)

    @contextmanager
    def _translating(self, *, is_commit: bool) -> Iterator[None]:
        from google.api_core.exceptions import GoogleAPIError
        from google.auth.exceptions import GoogleAuthError
        from grpc import RpcError

        try:
            yield
        except (GoogleAPIError, GoogleAuthError, RpcError) as error:
            raise translate(error, self.where, is_commit=is_commit) from error
        except ValueError as error:
            # What gRPC raises when another thread closed the channel.
            if "closed channel" not in str(error):
                raise
            raise UnreachableError(f"catalog {self.where}: {error}") from error

    def _access(self) -> Access:
        if self._given is not None:
            return given_access(self._given)
        if self._shared is None or self._shared.pid != os.getpid():
            self._shared = share_client(self._place, self)
        return self._shared.access()


class _Call(NamedTuple):
    """What one request is made with."""

    access: Access
    messages: ModuleType
    seconds: float

    @property
    def database(self) -> str:
        """The resource name of the database."""
        return self.access.database

    def send(self, method: str, request: Any) -> Any:
        """Send *request*, give it up after its seconds, and return the answer."""
        with telemetry.statement("gcp.firestore", method):
            return self._request(method, request)

    def stream(self, method: str, request: Any) -> Iterator[Any]:
        """Send *request* and yield the messages of the answer."""
        with telemetry.statement("gcp.firestore", method, is_parent=False):
            for answer in self._request(method, request):
                yield type(answer).pb(answer)

    def _request(self, method: str, request: Any) -> Any:
        return getattr(self.access.api, method)(
            request=request, metadata=self.access.metadata, retry=None, timeout=self.seconds
        )
