"""What fsspec drivers list, as objects of a payload store."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from ltm.payload.objects import PayloadObject

# The names under which drivers list when an object was written. It never changes, so any will do.
_TIMES = ("LastModified", "last_modified", "mtime", "modified", "created")


def split_members(
    members: Iterable[Mapping[str, Any]],
    location: str,
    directory: str,
    modified: Callable[[str], Any],
) -> tuple[list[str], list[PayloadObject]]:
    """Return the directories and the objects among *members* of *directory*.

    Args:
        members: What the driver lists, in detail.
        location: Where *directory* is on the driver's file system.
        directory: Relative to the root of the store.
        modified: Asks the driver for the time of an object by its name there.
    """
    directories: list[str] = []
    objects: list[PayloadObject] = []
    for member in members:
        parent, _, name = member["name"].strip("/").rpartition("/")
        if parent != location.strip("/"):
            continue  # the directory's own marker, or the object that *directory* is
        path = f"{directory}/{name}"
        if member["type"] == "directory":
            directories.append(path)
        elif member["type"] == "file":
            written_at = _instant(member, modified)
            objects.append(PayloadObject(path, member["size"], written_at))
    return directories, objects


def _instant(member: Mapping[str, Any], modified: Callable[[str], Any]) -> datetime:
    known = (member[name] for name in _TIMES if member.get(name) is not None)
    instant = next(known, None)
    if instant is None:
        instant = modified(member["name"])
    if not isinstance(instant, datetime):
        return datetime.fromtimestamp(instant, UTC)
    return instant.replace(tzinfo=UTC) if instant.tzinfo is None else instant.astimezone(UTC)
