"""What is told of payload objects, and asked for of them."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple


class PayloadObject(NamedTuple):
    """One object as a listing shows it."""

    path: str
    """Relative to the root of the store."""
    byte_size: int
    modified_at: datetime
    """UTC; objects never change, so this is when it was written."""


class ByteRange(NamedTuple):
    """An object, or part of it."""

    path: str
    start: int = 0
    length: int | None = None
    """How many bytes; None for the whole object."""
