"""What catalogs ask of Firestore, and the documents that come back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from ltm.catalog.document_queries import Found, Query
from ltm.catalog.firestore_client import FirestoreClient

REQUESTS = ("begin", "get", "run", "total", "commit", "commit_encoded", "roll_back")
"""The methods of a client that send a request, and one each."""


class Traffic:
    """Requests in the order in which they were sent, with the documents that queries returned."""

    def __init__(self) -> None:
        self.requests: list[str] = []
        self.queries: list[Query] = []
        self.queried: list[Found] = []
        """What queries have returned."""
        self.gotten: list[Found] = []
        """What was read by its path."""

    def forget(self) -> None:
        """Begin anew."""
        for each in (self.requests, self.queries, self.queried, self.gotten):
            each.clear()

    def queried_in(self, collection: str) -> list[str]:
        """Return the ids of the documents of *collection* that queries have returned."""
        return [each.id for each in self.queried if each.path.split("/")[0] == collection]

    def requests_of(self, call: Callable[[], Any]) -> list[str]:
        """Return the requests that *call* sends; what it answers is a success."""
        self.forget()
        answer = call()
        assert not isinstance(answer, dict) or answer["success"], answer
        return list(self.requests)

    def noting(self, name: str) -> Callable[..., Any]:
        """Return the method *name* of a client, whose calls are noted here."""
        method = getattr(FirestoreClient, name)

        def note(client: FirestoreClient, *arguments: Any, **options: Any) -> Any:
            answer = method(client, *arguments, **options)
            self.requests.append(name)
            if name == "run":
                self.queries.append(arguments[0])
                self.queried += answer
            if name == "get":
                self.gotten += answer.documents.values()
            return answer

        return note


@contextmanager
def watched() -> Iterator[Traffic]:
    """Give the traffic of all Firestore catalogs for the length of a block."""
    traffic = Traffic()
    with pytest.MonkeyPatch.context() as patch:
        for name in REQUESTS:
            patch.setattr(FirestoreClient, name, traffic.noting(name))
        yield traffic
