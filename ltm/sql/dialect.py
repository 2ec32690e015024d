"""What a database has to say for itself while statements run, and what its errors mean."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

from ltm.errors import CatalogUnavailableError, LTMError
from ltm.typed import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from typing import Any, ClassVar

    from sqlalchemy import Connection


class ContentionError(CatalogUnavailableError):
    """Other transactions got in the way and nothing was written; the same work may be done anew."""


class RefusedError(CatalogUnavailableError):
    """The server has refused a statement, and nothing of it is done; another one may do."""


class BrokenConnectionError(CatalogUnavailableError):
    """The connection is of no more use; what it was in the middle of is not known to be done."""


class ConnectionLostError(BrokenConnectionError):
    """The connection broke, and what was under way is undone; another connection may do better."""


class Gate(NamedTuple):
    """Keeps snapshots of a logical table apart from writes to it, in the order of arrival."""

    table: str
    is_exclusive: bool = False
    """Whether a snapshot goes through rather than a write."""


class SQLDialect(ABC):
    """How one database is talked to; what is said to it is in :mod:`ltm.sql.idiom`."""

    name: ClassVar[str]
    begin_read: ClassVar[str]
    """Begins a transaction whose statements all see one state."""
    makes_own_schema: ClassVar[bool]
    """Whether a catalog makes and upgrades its schema without being told to."""

    finds_by_key: ClassVar[bool]
    """Whether many values are found by their keys rather than by their ids."""

    indexes_within: ClassVar[bool]
    """Whether a plain write indexes in the statement that writes the entry."""

    @abstractmethod
    def gate_number(self, gate: Gate) -> int:
        """Return the number of the lock that stands for *gate*."""

    @abstractmethod
    def begin_write(self, gate: Gate | None) -> str:
        """Return what begins a transaction that may write, and waits at *gate* for its turn."""

    @abstractmethod
    def enter(self, gate: Gate) -> str | None:
        """Return what waits at *gate* within a transaction; None where there is nothing to do."""

    @abstractmethod
    def command(self, connection: Any, text: str) -> None:
        """Run transaction control on a driver's *connection*."""

    @abstractmethod
    def write_rows(self, connection: Any, text: str, columns: Sequence[Sequence[Any]]) -> int:
        """Run the INSERT *text* on a driver's *connection* and return how many rows it wrote.

        Their values are in *columns*, which are in the order of the statement's parameters.
        """

    @abstractmethod
    def bind_list(self, values: Sequence[Any]) -> Any:
        """Return the one parameter that *values* are bound as."""

    @abstractmethod
    def read_list(self, listed: Any) -> list[int]:
        """Return the numbers in what a statement has listed."""

    @abstractmethod
    def bind_words(self, sequences: Sequence[Sequence[str]], *, every: bool) -> str:
        """Return the parameter for ``Idiom.holds_words``: each sequence a phrase of index words."""

    @abstractmethod
    def begin_now(self, connection: Connection) -> None:
        """Begin the transaction of *connection* in the database if only SQLAlchemy has begun."""

    @abstractmethod
    def lock_schema(self, connection: Connection) -> None:
        """Let one process at a time see to the schema, until the transaction ends."""

    check_index: ClassVar[str | None]
    """Fails where the full-text index disagrees with the words; None where it can't."""
    rebuild_index: ClassVar[str | None]
    """Makes the full-text index anew from the words."""

    @abstractmethod
    def is_missing_table(self, error: Exception) -> bool:
        """Return whether a driver's *error* says that a table isn't there."""

    @abstractmethod
    def translate(self, error: Exception, where: str) -> LTMError:
        """Return what a driver's *error* means to a caller; *where* names the catalog."""
