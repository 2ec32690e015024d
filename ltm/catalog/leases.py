"""Leases: the right to be the one who computes what a key is to hold.

A lease is a row beside the entries, with the id that the entry has. It is in force until it ends,
or expires because nobody renews it: then the next one takes it over. A write can be bound to a
lease; it ends with that write, and one that was lost lets nothing be written, so that a slow owner
never overwrites what its successor has stored. The clocks are those of the callers: one that is
ahead takes leases over early, which costs a second computation and nothing else.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from ltm.errors import ConflictError


class Lease(NamedTuple):
    """Who computes what the entry of a key is to be, and until when."""

    id: str
    """The id of the entry."""
    key: str
    owner: str
    """A word of its own for each taking: 1 to 64 characters."""
    expires_at: datetime
    """The instant from which on anybody may take it over."""


class LeaseLostError(ConflictError):
    """A write was bound to a lease that has ended, or that somebody else took over."""

    def __init__(self, lease: Lease) -> None:
        super().__init__(lease.key, None, f"lease {lease.owner!r}")

    def __str__(self) -> str:
        return f"the lease of key {self.key!r} has ended or was taken over: nothing is written"


class Leases(ABC):
    """The leases of one logical table of one tenant."""

    @abstractmethod
    def take(self, lease: Lease, now: datetime) -> Lease:
        """Take *lease*, unless another one of its key is in force, and return the one that is.

        Two round trips; one where another is in force.

        Raises:
            CatalogUnavailableError: The catalog could not be reached.
        """

    @abstractmethod
    def renew(self, lease: Lease, now: datetime) -> bool:
        """Put off the expiry of *lease* to its ``expires_at``; return whether it is still there.

        One that has expired can be renewed as long as nobody took it over.
        """

    @abstractmethod
    def end(self, leases: Sequence[Lease]) -> None:
        """End those of *leases* that are still there; without any, nothing is asked."""

    @abstractmethod
    def under(self, prefix: str) -> list[Lease]:
        """Return the leases of keys that begin with *prefix*, expired ones too, in no order."""


def end_expired_leases(leases: Leases, now: datetime) -> None:
    """End what owners that have died left behind, and nobody took over."""
    leases.end([lease for lease in leases.under("") if lease.expires_at <= now])
