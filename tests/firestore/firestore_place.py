"""A project and a directory, as the tests see them from outside."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from google.auth.credentials import AnonymousCredentials
from google.cloud.firestore import Client

from ltm.backend.duckdb import DuckDBLTMBackend
from ltm.catalog.firestore import FirestoreCatalog
from ltm.clock import Clock, utc_now

Documents = dict[str, dict[str, Any]]


class FirestorePlace:
    """Opens memories on one project and one directory, and looks at both."""

    def __init__(self, project: str, directory: str | os.PathLike[str]) -> None:
        self.project = project
        self.directory = Path(directory)
        self.storage = self.directory / "payloads"

    def catalog(self, *, clock: Clock = utc_now, **options: Any) -> FirestoreCatalog:
        """Return a catalog with its index of words in the directory."""
        options = {"index_directory": self.directory / "index"} | options
        return FirestoreCatalog(self.project, clock=clock, **options)

    def memory(self, catalog: FirestoreCatalog, **options: Any) -> DuckDBLTMBackend:
        return DuckDBLTMBackend(catalog, str(self.storage), owns_catalog=True, **options)

    def open(self, **options: Any) -> DuckDBLTMBackend:
        return self.memory(self.catalog(**options))

    def documents(self, collection: str) -> Documents:
        """Return the documents of a *collection* by id, read with Google's own client."""
        with self._client() as client:
            found = client.collection(collection).stream()
            return {each.id: each.to_dict() or {} for each in found}

    def files(self) -> set[str]:
        """Return the paths of all payload files, relative to the storage directory."""
        paths = self.storage.rglob("*")
        return {path.relative_to(self.storage).as_posix() for path in paths if path.is_file()}

    def referenced(self) -> set[str]:
        """Return the payloads that entries and versions name."""
        return {
            each["storage_uri"]
            for collection in ("ltm_entries", "ltm_entry_versions")
            for each in self.documents(collection).values()
            if each["storage_uri"] is not None
        }

    def scheduled(self) -> set[str]:
        """Return the payloads that are scheduled for deletion."""
        return {each["storage_uri"] for each in self.documents("ltm_payload_deletions").values()}

    def pending(self, table: str = "default") -> Any:
        """Return the batch that is committed and not carried out, None for none."""
        tables = {each["table_name"]: each for each in self.documents("ltm_tables").values()}
        return tables[table]["pending"]

    def faults(self) -> list[str]:
        """Return what is wrong between documents and files; [] if all is well."""
        referenced = self.referenced()
        found = [f"no file for {uri}" for uri in sorted(referenced - self.files())]
        return found + [f"named but scheduled: {uri}" for uri in referenced & self.scheduled()]

    def expect_sound(self) -> None:
        """Collect all garbage: documents, files and the schedule fit, and all values are whole."""
        with self.open() as memory:
            collected = memory.gc(grace=0)
            assert collected["success"], collected
            verified = memory.verify()
            assert verified["success"], verified
            assert verified["unreferenced"] == 0
        assert self.faults() == []
        assert self.files() == self.referenced()
        assert self.scheduled() == set()
        assert self.documents("ltm_batches") == {}

    @contextmanager
    def _client(self) -> Iterator[Client]:
        client = Client(self.project, credentials=AnonymousCredentials())  # type: ignore[no-untyped-call]
        try:
            yield client
        finally:
            client.close()
