"""Where a value lies: in an object of its own, or in part of one that it shares with others.

A location is the path of the object, for a part of it followed by ``#`` and which: ``#120+56`` are
56 bytes from byte 120 on, ``#7`` is row 7 of the table in it.
"""

from __future__ import annotations

from ltm.typed import NamedTuple

PARTS_END = "$"
"""What follows ``#``: the locations of an object and its parts are below its path and this."""


class Location(NamedTuple):
    """A location, taken apart."""

    path: str
    """Of the object."""
    start: int | None = None
    """The first byte, or the row; None for the whole object."""
    length: int | None = None
    """How many bytes; None for a row or the whole object."""


def locate(uri: str) -> Location:
    """Return *uri* taken apart; what has no well-formed part is a whole object."""
    path, _, part = uri.rpartition("#")
    start, plus, length = part.partition("+")
    if not path or not _is_count(start) or (plus and not _is_count(length)):
        return Location(uri)
    return Location(path, int(start), int(length) if plus else None)


def object_path(uri: str) -> str:
    """Return the path of the object in which *uri* lies: all before the first ``#``."""
    return uri.partition("#")[0]


def _is_count(text: str) -> bool:
    """Say whether *text* is 1 to 18 digits."""
    return len(text) <= 18 and text.isascii() and text.isdigit()
