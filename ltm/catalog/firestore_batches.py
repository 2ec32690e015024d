"""Commits that one request can't hold, all or nothing for readers all the same.

The writes are put down where nobody looks. Then one small commit names them in the document of the
logical table, and that is the commit of them all: from then on they are carried out, by the writer
or by whoever comes next, before anything else is read or written. Carried out twice they do no
harm, because nothing else is written in between.
"""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from itertools import groupby
from operator import itemgetter
from typing import Any

from ltm.catalog.document_queries import Query
from ltm.catalog.documents import Scope, Writes, document_bytes
from ltm.catalog.firestore_access import ContentionError
from ltm.catalog.firestore_client import Answer, FirestoreClient, while_contended
from ltm.catalog.firestore_session import Collections, Session
from ltm.errors import CatalogUnavailableError, LTMError, ValidationError

WRITES_PER_COMMIT = 500
BYTES_PER_COMMIT = 3 * 2**20
"""Production takes 10 MiB in a request, the emulator 4."""

MAX_WRITES = 50_000
"""Documents in one commit: the transaction that has read what they replace lasts 270 seconds."""

PARTS_PER_REQUEST = 8
ABANDONED_AFTER = 86_400
"""Seconds."""

PATIENCE_SECONDS = 1.0
"""For which others wait for the writer of a batch before they carry it out themselves."""

_PART_BYTES = 900_000

_log = logging.getLogger(__name__)


def in_commits(writes: Writes) -> Iterator[Writes]:
    """Yield *writes* in portions that one commit takes."""
    portion: Writes = {}
    size = 0
    for path, fields in writes.items():
        own = 0 if fields is None else document_bytes(fields)
        if portion and (len(portion) == WRITES_PER_COMMIT or size + own > BYTES_PER_COMMIT):
            yield portion
            portion, size = {}, 0
        portion[path] = fields
        size += own
    if portion:
        yield portion


class Batches:
    """The batches of one logical table."""

    def __init__(
        self, client: FirestoreClient, collections: Collections, table_path: str, scope: Scope
    ) -> None:
        """Keep them beside the document at *table_path*; *scope* are the fields of the table."""
        self._client = client
        self._collection = collections.batches
        self._table_path = table_path
        self._scope = scope
        self.carried_out: str | None = None
        """A batch whose writes are all there, even if that is not on record yet."""

    def pending(self, answer: Answer) -> Any:
        """Return the batch that is to be carried out, by an *answer* about the table, or None."""
        found = answer.documents.get(self._table_path)
        return None if found is None else found.fields["pending"]

    def commit(self, session: Session, transaction: bytes, portions: Sequence[Writes]) -> None:
        """Commit *portions* of writes as one, in the *transaction* that *session* has read in.

        Raises:
            ValidationError: They are over 50,000 documents.
            ContentionError: Another transaction got in the way; nothing is written.
            CatalogUnavailableError: It failed; the message says so where that is not known.
        """
        count = sum(map(len, portions))
        if count > MAX_WRITES:
            raise ValidationError(
                f"catalog {self._client.where}: {count} documents are to be written at once, "
                f"at most {MAX_WRITES} are allowed"
            )
        batch = secrets.token_hex(16)
        table = session.get([self._table_path])[self._table_path].fields
        for number, portion in enumerate(portions):
            # The document of the table is written by the commit itself.
            rest = {path: fields for path, fields in portion.items() if path != self._table_path}
            self._put_down(batch, number, rest)
        try:
            flip: Writes = {self._table_path: {**table, "pending": batch}}
            self._client.commit(flip, transaction=transaction)
        except ContentionError:
            self._clear(batch)
            raise
        try:
            self.carry_out(batch)
        except ContentionError as error:
            _log.debug("committed batch %s is still to be ended: %s", batch, error)
        except LTMError as error:
            _log.warning("committed batch %s is still to be carried out: %s", batch, error)

    def settle(self, batch: str) -> None:
        """Return when the committed *batch* is carried out, by its writer or else by this call.

        Raises:
            CatalogUnavailableError: It is not.
        """
        end = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < end:
            time.sleep(0.05)
            if self.pending(self._client.get([self._table_path])) != batch:
                return
        self.carry_out(batch)

    def carry_out(self, batch: str) -> None:
        """Do what is left to do of a committed *batch*; no effect once that is nothing.

        Raises:
            CatalogUnavailableError: There is more to do.
        """
        answer = self._client.get([self._table_path])
        if self.pending(answer) != batch:
            return
        if self.carried_out != batch:
            # As of this instant nobody has begun to clear the parts away.
            session = Session(self._client, self._table_path, read_time=answer.read_time)
            pages = session.pages(self._parts(batch), PARTS_PER_REQUEST)
            parts = (part.fields for page in pages for part in page)
            for _, of_one in groupby(parts, key=itemgetter("number")):
                content = b"".join(each["content"] for each in of_one)  # type: ignore[misc] # written below
                if not self._commit_if_pending(batch, content):
                    return
            self.carried_out = batch
        if self._commit_if_pending(batch, None):
            self._clear(batch)

    def sweep(self, limit: int) -> None:
        """Clear away up to *limit* parts that a writer has left a day ago without its commit."""
        answer = self._client.get([self._table_path])
        pending = self.pending(answer)
        parts = self._client.run(
            Query(collection=self._collection, equal=self._scope, limit=limit),
            read_time=answer.read_time,
        )
        # Both instants are the server's: no clock of ours can take a writer's parts away from it.
        latest = answer.read_time.seconds - ABANDONED_AFTER
        self._delete(
            [
                part.path
                for part in parts
                if part.fields["batch"] != pending and float(part.stamp) < latest
            ]
        )

    def _put_down(self, batch: str, number: int, portion: Writes) -> None:
        content = self._client.encode_commit(portion)
        for part, start in enumerate(range(0, len(content), _PART_BYTES)):
            fields = dict(self._scope) | {
                "batch": batch,
                "number": number,
                "content": content[start : start + _PART_BYTES],
            }
            path = f"{self._collection}/{batch}-{number:06}-{part:06}"
            self._client.commit({path: fields})

    def _commit_if_pending(self, batch: str, content: bytes | None) -> bool:
        """Carry out *content* while *batch* is pending, or with None end that; say if it was."""
        # A dead client's lock on the table stands in the way of the end alone, for a minute. To end
        # is tried once: readers need not wait for it, and writers come again.
        attempts: Iterable[AbstractContextManager[object]] = (
            [nullcontext()] if content is None else while_contended()
        )
        for attempt in attempts:
            with attempt:
                transaction = self._client.begin()
                try:
                    answer = self._client.get([self._table_path], transaction=transaction)
                    if self.pending(answer) != batch:
                        self._client.roll_back(transaction)
                        return False
                    if content is not None:
                        self._client.commit_encoded(content, transaction=transaction)
                        return True
                    table = answer.documents[self._table_path].fields
                    settled: Writes = {self._table_path: {**table, "pending": None}}
                    self._client.commit(settled, transaction=transaction)
                except BaseException:  # an interrupt, too, would leave its locks behind
                    self._client.roll_back(transaction)
                    raise
        return True

    def _parts(self, batch: str) -> Query:
        return Query(collection=self._collection, equal={"batch": batch})

    def _clear(self, batch: str) -> None:
        """Delete the parts of *batch*, best effort: what stays is swept later."""
        session = Session(self._client, self._table_path)
        try:
            for page in list(session.pages(self._parts(batch), PARTS_PER_REQUEST)):
                self._delete([part.path for part in page])
        except CatalogUnavailableError as error:
            _log.debug("parts of batch %s stay: %s", batch, error)

    def _delete(self, paths: Sequence[str]) -> None:
        for start in range(0, len(paths), WRITES_PER_COMMIT):
            self._client.commit(dict.fromkeys(paths[start : start + WRITES_PER_COMMIT]))
