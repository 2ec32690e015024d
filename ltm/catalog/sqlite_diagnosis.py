"""What is wrong with a SQLite file, or with the place where it is."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from typing import TYPE_CHECKING

from ltm.catalog.database import Database
from ltm.catalog.schema_diagnosis import describe_schema
from ltm.finding import Finding, ok, problem, skipped, warning
from ltm.sql.execution import Session
from ltm.sql.sqlite_checks import (
    fault_of,
    find_damage,
    missing_features,
    opened_to_read,
    try_directory,
)

if TYPE_CHECKING:
    from ltm.sql.sqlite import Durability

INTEGRITY_SECONDS = 5.0
"""What reading the file through may take; a larger one is read in part."""

NETWORK_FILE_SYSTEMS = frozenset(
    """
    9p afs ceph cifs coda fuse.glusterfs fuse.s3fs fuse.sshfs glusterfs lustre ncpfs nfs nfs4 smb3
    smbfs
    """.split()  # noqa: SIM905
)

_MOUNTS = "/proc/self/mounts"
_UNAVAILABLE = "catalog_unavailable"


def diagnose_sqlite(database: Database, path: str, durability: Durability) -> Iterator[Finding]:
    """Yield what can be said of the file at *path* and its directory; neither is made."""
    yield _describe_library()
    if path == ":memory:":
        yield ok("catalog", "in memory: it ends with the process")
        return
    if not os.path.exists(path):
        yield ok("catalog", f"there is no file {path} yet; the first use makes it")
        yield from _look_at_place(path)
        yield skipped("schema", "there is no schema yet; the first use makes it")
        return
    is_readable = False
    for finding in _look_inside(database, path):
        yield finding
        is_readable = is_readable or (finding.check == "catalog" and finding.state == "ok")
    yield from _look_at_place(path)
    if is_readable:
        kept = "all but the last ones" if durability == "normal" else "every one"
        yield ok("durability", f"{durability}: of the commits, {kept} outlive the machine")


def _describe_library() -> Finding:
    lacking = missing_features()
    if not lacking:
        return ok("extension", f"SQLite {sqlite3.sqlite_version} has FTS5 and JSON")
    return problem(
        "extension",
        f"SQLite {sqlite3.sqlite_version} of this Python lacks {' and '.join(lacking)}",
        "use a Python that is built with a newer SQLite, such as python.org's",
        "dependency_missing",
    )


def _look_inside(database: Database, path: str) -> Iterator[Finding]:
    try:
        with opened_to_read(path) as connection:
            connection.execute("PRAGMA schema_version").fetchone()
            yield ok("catalog", f"{path} is a database of SQLite")
            yield _read_through(connection, path)
            yield _read_revision(database, connection, path)
    except sqlite3.Error as error:
        yield _describe_fault(path, error)


def _read_through(connection: sqlite3.Connection, path: str) -> Finding:
    damage = find_damage(connection, INTEGRITY_SECONDS)
    if damage is None:
        message = f"sound as far as {INTEGRITY_SECONDS:g} seconds of reading went"
        return skipped("integrity", message)
    return _describe_damage(path, "; ".join(damage)) if damage else ok("integrity", "sound")


def _read_revision(database: Database, connection: sqlite3.Connection, path: str) -> Finding:
    try:
        row = Session(connection, database.dialect).row(database.statements.select_revision, {})
    except sqlite3.Error as error:
        if not database.dialect.is_missing_table(error):
            raise
        row = None
    command = f"ltm --catalog {path} db upgrade"
    return describe_schema(None if row is None else row[0], migrates=True, command=command)


def _describe_fault(path: str, error: sqlite3.Error) -> Finding:
    fault = fault_of(error)
    if fault == "damaged":
        return _describe_damage(path, str(error))
    if fault == "foreign":
        return problem(
            "catalog",
            f"{path} is a file of something else, or encrypted",
            "name another file with --catalog or in the settings",
            _UNAVAILABLE,
        )
    what = "is a directory" if os.path.isdir(path) else f"can't be opened: {error}"
    remedy = "name a file that this user may read and write"
    return problem("catalog", f"{path} {what}", remedy, _UNAVAILABLE)


def _describe_damage(path: str, detail: str) -> Finding:
    return problem(
        "integrity",
        f"{path} is damaged: {detail}",
        f"put back a copy, or save what can be read: sqlite3 {path} .recover",
        "integrity_error",
    )


def _look_at_place(path: str) -> Iterator[Finding]:
    directory = os.path.dirname(path)
    while not os.path.lexists(directory):
        directory = os.path.dirname(directory)
    kind = file_system_of(directory)
    if kind in NETWORK_FILE_SYSTEMS:
        yield warning(
            "file_system",
            f"{directory} is on a network file system ({kind}), whose locks SQLite can't rely on",
            "keep the file on a local disk, or use a PostgreSQL catalog for several machines",
        )
    try:
        if os.path.isfile(path) and not os.access(path, os.W_OK):
            raise sqlite3.OperationalError("attempt to write a readonly database")
        mode = try_directory(directory)
    except sqlite3.Error as error:
        yield problem(
            "writable",
            f"nothing can be written to {path}: {error}",
            f"let this user write {path} and {directory}, and see that the disk is not full",
            _UNAVAILABLE,
        )
        return
    if mode == "wal":
        yield ok("writable", f"{directory} can be written, and a write-ahead log kept there")
    else:
        yield warning(
            "writable",
            f"{directory} can be written, but no write-ahead log kept there (journal: {mode}): "
            "readers and writers wait for each other, and every commit is synced",
            "keep the file on a local disk",
        )


def file_system_of(directory: str, mounts: str = _MOUNTS) -> str | None:
    """Return the kind of the file system that *directory* is on, None where that is not told.

    Args:
        directory: An absolute path.
        mounts: The file in which Linux tells what is mounted where.
    """
    try:
        with open(mounts, encoding="utf-8", errors="surrogateescape") as file:
            lines = [line.split() for line in file]
    except OSError:
        return None
    here = os.path.join(os.path.realpath(directory), "")
    # Blanks in a name are written \040; the last mount of a place hides those before.
    places = {
        os.path.join(line[1].replace("\\040", " "), ""): line[2] for line in lines if len(line) > 2
    }
    around = [place for place in places if here.startswith(place)]
    return places[max(around, key=len)] if around else None
