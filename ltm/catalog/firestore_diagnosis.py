"""What is wrong with a Firestore database, the way to it, or its indexes."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from ltm.catalog.document_queries import Query
from ltm.catalog.firestore_client import FirestoreClient
from ltm.catalog.firestore_session import Collections
from ltm.catalog.firestore_setup import index_definitions
from ltm.catalog.firestore_table import FirestoreTable
from ltm.clock import Clock
from ltm.errors import (
    CatalogUnavailableError,
    LTMError,
    MissingDependencyError,
    SchemaOutOfDateError,
)
from ltm.finding import Finding, compare_clocks, ok, problem, skipped, warning

EMULATOR_VARIABLE = "FIRESTORE_EMULATOR_HOST"

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SCOPE = ("tenant_id", "table_name")
_SUMMED = "byte_size"
_INSTANTS = ("expires_at", "forget_at", "updated_at")


class Explanation(NamedTuple):
    """What an error of Google's means, and what to do."""

    message: str
    remedy: str


_LOGIN = "gcloud auth application-default login, or let GOOGLE_APPLICATION_CREDENTIALS name a file"

# By the names of the classes, so that nothing of Google's is imported for it.
_EXPLANATIONS = {
    "DefaultCredentialsError": Explanation("no credentials of Google's are to be found", _LOGIN),
    "RefreshError": Explanation("Google no longer takes these credentials", _LOGIN),
    "Unauthenticated": Explanation("Google doesn't take these credentials", _LOGIN),
    "Forbidden": Explanation(
        "these credentials may not use {0}, or its project has no Firestore",
        "grant roles/datastore.user, and enable firestore.googleapis.com in the project",
    ),
    "NotFound": Explanation(
        "there is no database {0}",
        "make it: gcloud firestore databases create --location=LOCATION, in native mode",
    ),
    "ServiceUnavailable": Explanation(
        "nobody answers for {0}",
        f"see that firestore.googleapis.com, or what {EMULATOR_VARIABLE} names, can be reached",
    ),
    "DeadlineExceeded": Explanation(
        "{0} does not answer within the timeout", "see that nothing between holds it back"
    ),
}
_DATASTORE_MODE = Explanation(
    "{0} is in Datastore mode, which has no such documents",
    "make another database of the project in native mode: gcloud firestore databases create",
)


class IndexProbe(NamedTuple):
    """A query that needs one composite index, and finds nothing."""

    collection: str
    fields: str
    """Those of the index, for messages."""
    query: Query
    summed: str | None
    """The field whose sum is asked for."""


def diagnose_firestore(client: FirestoreClient, prefix: str, clock: Clock) -> Iterator[Finding]:
    """Yield what can be said of a database; nothing in it is made or changed.

    Args:
        client: Of the database.
        prefix: What the names of the collections begin with.
        clock: What the database's is compared with.
    """
    emulator = None if client.is_given else os.environ.get(EMULATOR_VARIABLE)
    before = clock()
    try:
        answer = client.get([f"{Collections.of(prefix).tables}/ltm-doctor"])
    except LTMError as error:
        yield _explain(error, client.where)
        return
    after = clock()
    if emulator is None:
        yield ok("catalog", f"{client.where} answers")
    else:
        yield warning(
            "catalog",
            f"the emulator at {emulator} answers for {client.where}, and keeps all in memory",
            f"unset {EMULATOR_VARIABLE} to use Google's Firestore",
        )
    if answer.read_time is not None:
        moment = answer.read_time
        since = timedelta(seconds=moment.seconds, microseconds=moment.nanos // 1000)
        yield compare_clocks("the clock of Firestore", _EPOCH + since, before, after)
    if emulator is not None:
        yield skipped("indexes", "the emulator asks for no indexes, so none is seen to be missing")
    else:
        yield _look_for_indexes(client, prefix, clock())


def probe_documents(documents: FirestoreTable, where: str, now: datetime) -> None:
    """Write, read and delete a document of its own among the deletions.

    Raises:
        CatalogUnavailableError: It did not work.
    """
    path = f"{documents.collections.deletions}/probe-{secrets.token_hex(8)}"
    documents.write([], lambda session: session.put(path, {"probed_at": now}))
    found = documents.look([path]).get([path])
    documents.write([], lambda session: session.delete(path))
    if path not in found or documents.look([path]).get([path]):
        raise CatalogUnavailableError(f"catalog {where}: lost a write")


def index_probes(prefix: str, now: datetime) -> Iterator[IndexProbe]:
    """Yield a query for each index that :func:`index_definitions` has.

    They ask for a tenant that nobody is, so none reads a document.
    """
    nobody = dict.fromkeys(_SCOPE, f"ltm-doctor-{secrets.token_hex(8)}")
    for each in index_definitions(prefix)["indexes"]:
        fields: list[Mapping[str, str]] = each["fields"]
        names = [field["fieldPath"] for field in fields if field["fieldPath"] not in _SCOPE]
        summed = names.pop() if names[-1] == _SUMMED else None
        kinds = {field["fieldPath"]: field for field in fields}
        equal: dict[str, Any] = dict(nobody)
        options: dict[str, Any] = {}
        for name in names:
            if "arrayConfig" in kinds[name]:
                options["contains"] = (name, ["ltm-doctor"])
            elif name != names[-1] or name == "payload_id":
                equal[name] = None if name == "payload_id" else 0
            else:
                options |= {"order": name, "descending": kinds[name]["order"] == "DESCENDING"}
                # A sum has no order, so the field must have a bound.
                options |= {"at_most": now} if name in _INSTANTS and summed else {}
        query = Query(collection=each["collectionGroup"], equal=equal, limit=1, **options)
        yield IndexProbe(query.collection, ", ".join(kinds), query, summed)


def missing_indexes(client: FirestoreClient, prefix: str, now: datetime) -> list[str]:
    """Return which indexes the database lacks, or has not built yet; asks for each.

    Raises:
        CatalogUnavailableError: It can't be told.
    """
    missing = []
    for probe in index_probes(prefix, now):
        try:
            if probe.summed is None:
                client.run(probe.query)
            else:
                client.total(probe.query, probe.summed)
        except SchemaOutOfDateError:
            missing.append(f"{probe.collection} ({probe.fields})")
    return missing


def _look_for_indexes(client: FirestoreClient, prefix: str, now: datetime) -> Finding:
    try:
        missing = missing_indexes(client, prefix, now)
    except CatalogUnavailableError as error:
        return skipped("indexes", f"can't be looked at: {error}")
    if not missing:
        return ok("indexes", "all that the queries need are there")
    return problem(
        "indexes",
        f"{len(missing)} are missing or being built: {'; '.join(missing)}",
        "ltm db indexes > firestore.indexes.json, then firebase deploy --only firestore:indexes",
        "schema_out_of_date",
    )


def _explain(error: LTMError, where: str) -> Finding:
    if isinstance(error, MissingDependencyError):
        return skipped("catalog", "its driver is not installed")
    name = type(error.__cause__).__name__ if error.__cause__ is not None else ""
    known = _EXPLANATIONS.get({"PermissionDenied": "Forbidden"}.get(name, name))
    if "datastore mode" in str(error).lower():
        known = _DATASTORE_MODE
    message = str(error) if known is None else known.message.format(where)
    remedy = "this is what Google's library says" if known is None else known.remedy
    return problem("catalog", message, remedy, error.error_type)
