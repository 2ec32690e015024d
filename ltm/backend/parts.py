"""What the calls of a backend work with."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime

from ltm.backend.base import LTMBackend
from ltm.backend.outage import Outage
from ltm.backend.reader import ValueReader
from ltm.backend.writer import EntryWriter
from ltm.catalog.base import Catalog
from ltm.catalog.commit import Outcome
from ltm.clock import Clock
from ltm.entry import EntryRow
from ltm.errors import ClosedError, LTMError
from ltm.payload.base import PayloadStore
from ltm.typed import TYPE_CHECKING, NamedTuple, Self

if TYPE_CHECKING:
    from typing import TypeVar

    from ltm.backend.aftermath import Aftermath
    from ltm.backend.base import RetrieveBatchAnswer, SearchAnswer
    from ltm.backend.recall import Recall
    from ltm.backend.writer import Attempted
    from ltm.catalog.history import Snapshot

    _ManyAnswer = TypeVar("_ManyAnswer", SearchAnswer, RetrieveBatchAnswer)
else:
    _ManyAnswer = dict


class Parts(NamedTuple):
    """A catalog, a payload store, and the reader and writer over both."""

    catalog: Catalog
    payloads: PayloadStore
    clock: Clock
    reader: ValueReader
    writer: EntryWriter
    aftermath: Aftermath
    """Sees to payloads once the catalog has committed."""
    verify_reads: bool
    outage: Outage
    """Is told which calls could not reach the catalog."""
    recall: Recall | None
    """Answers reads during an outage; None where nothing is to be answered so."""
    attempted: Attempted
    """Is told the keys of every change that is not made by the writer, once it was tried."""

    def reader_as_of(self, snapshot: Snapshot) -> ValueReader:
        """Return a reader of the values of rows that *snapshot* sees."""
        history = self.catalog.history

        def read_many(keys: Sequence[str], _now: datetime) -> dict[str, EntryRow]:
            # A payload that is gone may have gone with its snapshot.
            history.find(snapshot.id)
            return history.read_as_of(snapshot, keys)

        return ValueReader(self.payloads, read_many, self.clock, verify=self.verify_reads)

    def free(self, outcomes: Iterable[Outcome]) -> list[tuple[str, LTMError]]:
        """Delete the payloads that *outcomes* freed; return those that stay, with the reason."""
        return self.aftermath.free([each.freed for each in outcomes if each.freed is not None])


class BackendCalls(LTMBackend):
    """The ground of the groups of calls that make up a backend."""

    parts: Parts
    is_bound = False
    """Whether the calls run in a transaction that may yet roll back."""

    @property
    def catalog(self) -> Catalog:
        """Where the rows are, bound to this backend's logical table."""
        return self.parts.catalog

    @property
    def payloads(self) -> PayloadStore:
        """Where the payloads are."""
        return self.parts.payloads

    @property
    def clock(self) -> Clock:
        """Tells the time."""
        return self.parts.clock

    @property
    def outage(self) -> Outage:
        """What is known of an outage of the catalog."""
        return self.parts.outage

    def require_open(self) -> None:
        """Do nothing, unless the backend is closed.

        Raises:
            ClosedError: It is.
        """
        raise ClosedError("the backend is closed")

    def active(self) -> Self:
        """Return the backend of this thread's open transaction, or this one."""
        return self

    def doom(self, error: LTMError) -> None:
        """Take note of a failure that was answered; only a transaction minds."""

    def with_failures(
        self, answer: _ManyAnswer, failed: Sequence[tuple[str, LTMError]]
    ) -> _ManyAnswer:
        """Put the keys that could not be read into *answer*, which then is no success."""
        answer["errors"] = []
        if failed:
            from ltm.backend.health import describe_failure

            answer["errors"] = [describe_failure(key, error) for key, error in failed]
            key, error = failed[0]
            if self.raise_errors:
                raise error
            answer["success"] = False
            answer["error"] = f"{len(failed)} could not be read, the first {key!r}: {error}"
            answer["error_type"] = error.error_type
        return answer
