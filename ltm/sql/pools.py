"""Driver connections: how they are lent and given back.

A pool hands out connections in autocommit mode, outside of any transaction. Pools notice a fork: a
child opens connections of its own and leaves its parent's alone.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from datetime import datetime

from ltm.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any

    from sqlalchemy import Engine


Errors = tuple[type[Exception], ...]


class DriverPool(ABC):
    """Hands out driver connections; every method may be called from any thread."""

    error: Errors
    """What the driver's errors are instances of."""
    where: str
    """Names the database in messages, without secrets."""
    pause = 0.001
    """Seconds that a thread sleeps whose write another one does along with its own."""
    patience = 0.0
    """Seconds that a caller tries anew for whom a statement has found the database busy."""
    commits_each = True
    """Whether a statement that runs on its own has committed when it ends, whatever else is up."""

    @abstractmethod
    def acquire(self) -> Any:
        """Return a connection for the caller alone.

        Raises:
            ClosedError: After :meth:`close`.
            CatalogUnavailableError: No connection could be made.
        """

    @abstractmethod
    def release(self, connection: Any) -> None:
        """Take back a *connection* that is outside of any transaction."""

    @abstractmethod
    def discard(self, connection: Any) -> None:
        """Take back a *connection* in an unknown state; what it has begun is rolled back."""

    def reset(self, connection: Any) -> None:
        """Take back a sound *connection*; what it has begun is rolled back."""
        self.discard(connection)

    def take_out(self) -> Any:
        """Return a connection that the caller closes, and the pool knows nothing of any more."""
        return self.acquire()

    def deadline(self, connection: Any) -> datetime | None:  # noqa: ARG002 -- not every pool gives up
        """Return when, by the server's clock, a statement that begins now is given up.

        None where nobody can tell. What a server gets to see later is not to be carried out:
        whoever sent it has been told that it has failed.
        """
        return None

    def has_gone(self, connection: Any) -> bool:  # noqa: ARG002 -- a file does not go
        """Return whether *connection*, idle until now, turns out to be broken."""
        return False

    def has_failed(self, connection: Any) -> bool:  # noqa: ARG002 -- most go on after an error
        """Return whether the transaction of *connection* can only be rolled back."""
        return False

    def make_durable(self) -> None:  # noqa: B027 -- most databases have done it at the commit
        """Let every commit so far survive a crash of the machine."""

    @abstractmethod
    def engine(self) -> Engine:
        """Return a SQLAlchemy engine over the same database, for migrations and the ORM."""

    @abstractmethod
    def close(self) -> None:
        """Close what this pool opened; idempotent."""


def has_news(descriptor: int) -> bool:
    """Return whether there is something to read on a socket of a connection that lies idle.

    It may be that the server has gone: then what is sent is lost, and whether it arrived is not
    known. So that is asked before, which takes a microsecond and no message.
    """
    import select  # here: most never wait for a server

    if not hasattr(select, "poll"):  # on Windows
        return bool(select.select([descriptor], [], [], 0)[0])
    poller = select.poll()
    poller.register(descriptor, select.POLLIN)
    return bool(poller.poll(0))
