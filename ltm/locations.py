"""Where a value lies: in an object of its own, or in part of one that it shares with others.

A location is the path of the object, for a part of it followed by ``#`` and which: ``#120+56`` are
56 bytes from byte 120 on, ``#7`` is row 7 of the table in it.
"""

from __future__ import annotations

import re
from typing import NamedTuple

_PART = re.compile(r"(.+)#(\d{1,18})(?:\+(\d{1,18}))?", re.DOTALL | re.ASCII)

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
    found = _PART.fullmatch(uri)
    if found is None:
        return Location(uri)
    path, start, length = found.groups()
    return Location(path, int(start), None if length is None else int(length))


def object_path(uri: str) -> str:
    """Return the path of the object in which *uri* lies: all before the first ``#``."""
    return uri.partition("#")[0]
